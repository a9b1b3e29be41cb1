"""What the relaxed Bernoulli and one-hot distributions have in common."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from .base import Parametric, _as_tensors
from .held_score import HeldScore

Score = Literal["relaxed", "discrete"]


class RelaxedDiscrete(HeldScore, Parametric):
    """A distribution of a temperature and logits, with two ways to score a value.

    A subclass says how logits come from ``probs`` (:meth:`_logits_of`), the form in which it keeps
    logits (:meth:`_normalized`), and the two scores (:meth:`_density`, :meth:`_linear`).
    """

    has_rsample = True
    temperature: Tensor
    score: Score
    _probs_constraint: constraints.Constraint

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        *,
        score: Score = "relaxed",
        validate_args: bool | None = None,
    ) -> None:
        name = type(self).__name__
        given = logits if probs is None else probs
        if given is None or (probs is not None and logits is not None):
            raise ValueError(f"{name}: expected one of probs and logits, was given both or none.")
        if score not in get_args(Score):
            raise ValueError(f"{name}: score must be 'relaxed' or 'discrete', was given {score!r}.")
        self.score = score
        self._given_probs = logits is None
        tensors = _as_tensors({"temperature": temperature, "logits": given})
        if self._given_probs:
            validate = self._validate_args if validate_args is None else validate_args
            if validate and not torch._is_all_true(self._probs_constraint.check(tensors["logits"])):
                raise ValueError(
                    f"{name}: expected probs to satisfy {self._probs_constraint}, was given {probs}."
                )
        event_dim = self.arg_constraints["logits"].event_dim
        param = tensors["logits"]
        super().__init__({**tensors}, param.shape[param.dim() - event_dim :], validate_args)

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        new.score, new._given_probs = self.score, self._given_probs
        new.temperature = self.temperature.expand(batch_shape)
        new._param = self._param.expand(batch_shape + self.event_shape)

    @property
    def logits(self) -> Tensor:
        """By a graph of their own: losses of one object are differentiated apart."""
        param = self._param
        return self._normalized(self._logits_of(param) if self._given_probs else param)

    @logits.setter
    def logits(self, param: Tensor) -> None:
        self._param = param

    def _logits_of(self, probs: Tensor) -> Tensor:
        raise NotImplementedError

    def _normalized(self, logits: Tensor) -> Tensor:
        raise NotImplementedError

    def _density(self, value: Tensor) -> Tensor:
        """The log density of the censored value, with respect to the values that are not."""
        raise NotImplementedError

    @property
    def _holds(self) -> bool:  # type: ignore[override]
        return self.score == "discrete"

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if self.score == "discrete":
            return self._linear(self.logits, value)
        return self._density(value)


def same_score(p: RelaxedDiscrete, q: RelaxedDiscrete) -> Score:
    """The one by which both are scored."""
    if p.score != q.score:
        raise ValueError(
            f"KL divergence between {type(p).__name__} of score {p.score!r} and one of score"
            f" {q.score!r}: give both the same score."
        )
    return p.score


def where_equal(p: RelaxedDiscrete, q: RelaxedDiscrete, divergence: Tensor) -> Tensor:
    """The divergence where the temperatures are equal; else NaN, and an error with validation on."""
    equal = p.temperature == q.temperature
    if (p._validate_args or q._validate_args) and not torch._is_all_true(equal):
        raise ValueError(
            f"KL divergence between {type(p).__name__} of temperatures {p.temperature} and"
            f" {q.temperature}: expected equal ones."
        )
    return torch.where(equal, divergence, torch.nan)

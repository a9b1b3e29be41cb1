"""The base of the relaxed Bernoulli and one-hot distributions."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Size, Tensor

from ..rules.copies import unchecked
from ..rules.known_defects import is_hard_but_relaxed
from ..rules.logits import parameter_of
from ..rules.temperatures import batch_temperature
from .held_score import HeldScore
from .probs_or_logits import ProbsOrLogits

Score = Literal["relaxed", "discrete"]


class RelaxedDiscrete(HeldScore, ProbsOrLogits):
    """A relaxed value, with two ways to score it: :meth:`_density` and :meth:`_linear`."""

    has_rsample = True
    score: Score

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        validate_args: bool | None = None,
        *,
        score: Score = "relaxed",
    ) -> None:
        if score not in get_args(Score):
            raise ValueError(
                f"{type(self).__name__}: score must be 'relaxed' or 'discrete', was given {score!r}."
            )
        self.score = score
        super().__init__(temperature, probs, logits, validate_args=validate_args)

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        super()._expand_into(new, batch_shape)
        new.score = self.score

    @property
    def holds_score(self) -> bool:  # type: ignore[override]
        return self.score == "discrete"

    def log_prob(self, value: Tensor) -> Tensor:
        if self.score == "relaxed":
            return ProbsOrLogits.log_prob(self, value)
        return super().log_prob(value)


def same_score(p: RelaxedDiscrete, q: RelaxedDiscrete) -> Score:
    """The one by which both are scored."""
    if p.score != q.score:
        raise ValueError(
            f"KL divergence between {type(p).__name__} of score {p.score!r} and one of score"
            f" {q.score!r}: give both the same score."
        )
    return p.score


def relaxed_twin(fn: Any, cls: Any) -> Any:
    """``cls``, of this package, of the law of a relaxed distribution of torch or Pyro.

    Raises:
        NotImplementedError: values of ``fn`` are hard, and scored by a relaxed density: it has no law.
    """
    if is_hard_but_relaxed(fn):
        raise NotImplementedError(
            f"KL divergence between {type(fn).__name__} and {cls.__name__}: the values of the former"
            f" are hard and scored as relaxed ones. Take pre.distributions.StraightThroughBernoulli or"
            f" StraightThroughOneHotCategorical in its place."
        )
    return unchecked(fn, cls, temperature=batch_temperature(fn), **parameter_of(fn.base_dist))


def where_equal(p: RelaxedDiscrete, q: RelaxedDiscrete, divergence: Tensor) -> Tensor:
    """The divergence where the temperatures are equal; else NaN, and an error with validation on."""
    equal = p.temperature == q.temperature
    if (p._validate_args or q._validate_args) and not torch._is_all_true(equal):
        raise ValueError(
            f"KL divergence between {type(p).__name__} of temperatures {p.temperature} and"
            f" {q.temperature}: expected equal ones."
        )
    return torch.where(equal, divergence, torch.nan)

"""Parameters of a discrete law, given as probabilities or as logits."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ...numerics.relaxation import floating
from ..rules.coupling import Parameters, register_parameters
from ..rules.on_support import on_support
from ..rules.temperatures import in_batch
from .parametric import Parametric, as_tensors

_CATEGORICAL = (torch.distributions.Categorical, torch.distributions.OneHotCategorical)


class ProbsOrLogits(Parametric):
    """A distribution of a temperature and logits, which may be given as probabilities.

    A subclass says how logits come from ``probs`` (:meth:`_logits_of`), the form in which it keeps
    logits (:meth:`_normalized`), and the log density of a value (:meth:`_density`).
    """

    in_own_precision = True
    temperature: Tensor
    _probs_constraint: constraints.Constraint

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        name, given = one_of(type(self).__name__, probs, logits)
        self._given_probs = name == "probs"
        tensors = as_tensors({"temperature": temperature, "logits": given})
        param = tensors["logits"]
        if self._validate_args if validate_args is None else validate_args:
            self._check(param, given)
        event_dim = self.arg_constraints["logits"].event_dim
        tensors["temperature"] = in_batch(
            type(self).__name__, tensors["temperature"], param.shape, event_dim
        )
        super().__init__({**tensors}, param.shape[param.dim() - event_dim :], validate_args)

    def _check(self, param: Tensor, given: Tensor | float) -> None:
        """Raises where the probabilities or logits that were given are out of range.

        Normalised logits are NaN where one of them is not finite.
        """
        if self._given_probs:
            name, valid = "probs", self._probs_constraint.check(param)
            expected = f"to satisfy {self._probs_constraint}"
        else:
            name, valid = "logits", ~self._normalized(param).isnan()
            expected = "that aren't NaN, and not all minus infinity or one infinite"
        if not torch._is_all_true(valid):
            raise ValueError(f"{type(self).__name__}: expected {name} {expected}, was given {given}.")

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        new._given_probs = self._given_probs
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

    def log_prob(self, value: Tensor) -> Tensor:
        value = floating(value, self._param)
        if self._validate_args:
            self._validate_sample(value)
        return on_support(self, value, lambda fn, x: fn._density(x))

    def _logits_of(self, probs: Tensor) -> Tensor:
        raise NotImplementedError

    def _normalized(self, logits: Tensor) -> Tensor:
        raise NotImplementedError

    def _density(self, value: Tensor) -> Tensor:
        raise NotImplementedError


class ProbOrLogit(ProbsOrLogits):
    """That of a number, by the probability or the logit of a Bernoulli variable."""

    arg_constraints = {"temperature": constraints.positive, "logits": constraints.real}
    _probs_constraint = constraints.unit_interval

    def _logits_of(self, probs: Tensor) -> Tensor:
        finfo = torch.finfo(probs.dtype)
        probs = probs.clamp(finfo.tiny, 1 - finfo.eps / 2)
        return probs.log() - (-probs).log1p()

    def _normalized(self, logits: Tensor) -> Tensor:
        bound = -math.log(torch.finfo(logits.dtype).tiny)
        return logits.clamp(-bound, bound)


def one_of(
    owner: str, probs: Tensor | float | None, logits: Tensor | float | None
) -> tuple[str, Tensor | float]:
    """The one that is given, with its name."""
    given = {k: x for k, x in {"probs": probs, "logits": logits}.items() if x is not None}
    if len(given) != 1:
        names = "both" if given else "neither"
        raise ValueError(f"{owner}: expected exactly one of probs and logits, was given {names}.")
    ((name, x),) = given.items()
    return name, x


@register_parameters(ProbsOrLogits)
def _parameters(fn: ProbsOrLogits) -> Parameters:
    return [(fn.temperature, 0), (fn.logits, len(fn.event_shape))]

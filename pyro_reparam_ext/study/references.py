"""Programs whose gradient a study takes as true: exact ones, and score functions to check them by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pyro.distributions import Delta, TorchDistribution, TransformedDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions.constraints import Constraint

from ..distributions.rules.wrappers import innermost
from ..distributions.supports.real import is_real
from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..estimators.base import Estimator
from ..estimators.enumeration import Enumeration
from ..estimators.score_function import ScoreFunction
from .elbo_call import ElboCall


def exact_call(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
) -> ElboCall:
    """All discrete sites enumerated jointly, whatever estimators the guide has."""

    def estimator(message: dict[str, Any]) -> Estimator | None:
        fn = message["fn"]
        if Enumeration().supports(fn):
            return Enumeration()
        if is_discrete(fn):
            raise EstimatorError(
                f"site '{message['name']}': reference='exact' enumerates every discrete site, which "
                f"{type(innermost(fn)).__name__} doesn't admit; expected a site that Enumeration "
                f"serves. Give an ELBO with an unbiased estimator as the reference, for example "
                f"TraceEstimator_ELBO(num_particles=10), or None for the pooled mean of the unbiased "
                f"estimators of the study."
            )
        return None

    return ElboCall(_elbo(estimator), model, _Free()(guide), args, kwargs)


def _elbo(estimator: Callable[[dict[str, Any]], Estimator | None]) -> TraceEstimator_ELBO:
    """Whatever the program does with its shapes: under ``vmap`` it need not broadcast."""
    return TraceEstimator_ELBO(estimator, vectorize_particles="vmap")


def score_function_call(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    enumerate_discrete: bool,
) -> ElboCall:
    """The score function at every site that has one, discrete sites enumerated or not.

    No jump of the cost makes it biased. Where the support of a site moves with its parameters, the
    score function misses the edge; such a site stays pathwise.
    """

    def estimator(message: dict[str, Any]) -> Estimator | None:
        fn = message["fn"]
        if enumerate_discrete and Enumeration().supports(fn):
            return Enumeration()
        if isinstance(innermost(fn), Delta) or (fn.has_rsample and support_moves(fn)):
            return None
        return ScoreFunction("ema")

    return ElboCall(_elbo(estimator), model, _Free()(guide), args, kwargs)


class _Free(Messenger):
    """Takes the estimators off the sites of a guide."""

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        message["infer"] = {k: x for k, x in message["infer"].items() if k != "estimator"}


def is_discrete(fn: TorchDistribution) -> bool:
    """Whether the values of a site are discrete; False where its distribution doesn't say."""
    try:
        return bool(fn.support.is_discrete)
    except (AttributeError, NotImplementedError):
        return False


def support_moves(fn: TorchDistribution) -> bool:
    """Whether the support of ``fn`` depends on parameters, or may."""
    base = innermost(fn)
    if type(base) is TransformedDistribution:  # says nothing of the edges of what it transforms
        return not is_real(innermost(base.base_dist).support) or support_moves(base.base_dist)
    try:
        return any(bound.requires_grad for bound in _bounds(base.support))
    except (AttributeError, NotImplementedError):
        return True


def _bounds(constraint: Constraint) -> Iterator[Tensor]:
    """The tensors that a constraint is made of."""
    for value in vars(constraint).values():
        if isinstance(value, Constraint):
            yield from _bounds(value)
        elif isinstance(value, Tensor):
            yield value

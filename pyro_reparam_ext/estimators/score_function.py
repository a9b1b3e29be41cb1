"""The score-function estimator, without a baseline or with one."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ..errors import EstimatorError
from .base import Estimator
from .baselines import MovingAverage, Network, SiteBaseline, fitted
from .protocol import Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class ScoreFunction(Estimator):
    r"""The score-function (log-derivative, REINFORCE) estimator.

    .. math::
        \nabla_\phi E_{q_\phi}[f(z)] = E_{q_\phi}\big[(f(z) - b)\,\nabla_\phi \log q_\phi(z)\big]

    where the baseline :math:`b` does not depend on :math:`z`. Serves every distribution with a
    ``log_prob``. One evaluation of the program. Costs stay unsummed over the plates of the site, and
    costs that don't depend on the site are left out.

    Args:
        baseline: ``None``; ``"ema"``, a decaying average of the costs of *past* steps (a buffer of the
            ELBO: the parameter store does not save it); or an
            ``nn.Module``, trained by squared error on the costs (NVIL). The module is called with
            ``infer["baseline_input"]`` of the site (a tensor or a tuple of them), or where none is
            given with the arguments of the guide, and returns a tensor of the site's batch shape
            or one that broadcasts to it, with or without a last dim of 1, with or without a first
            one of the particles.

    Raises:
        EstimatorError: ``baseline`` is none of these, or returns another shape.

    References:
        Williams, 1992, Simple statistical gradient-following algorithms; Mnih, Gregor, 2014, Neural
        Variational Inference and Learning in Belief Networks, https://arxiv.org/abs/1402.0030

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pre.ScoreFunction(baseline="ema")
        ScoreFunction(baseline='ema')
    """

    baseline: Literal["ema"] | nn.Module | SiteBaseline | None = None

    unbiased = True
    paper = Paper(
        "Mnih, Gregor",
        "Neural Variational Inference and Learning in Belief Networks",
        2014,
        "1402.0030",
    )

    uses_cost = True

    def __post_init__(self) -> None:
        known = isinstance(self.baseline, (nn.Module, SiteBaseline))
        if not (known or self.baseline is None or self.baseline == "ema"):
            raise EstimatorError(
                f"ScoreFunction: baseline must be None, 'ema' or an nn.Module, was given "
                f"{self.baseline!r}."
            )

    def new_state(self, site: Site) -> nn.Module | None:
        if isinstance(self.baseline, nn.Module):
            return Network(self.baseline)
        return None if self._decay is None else MovingAverage(self._decay)

    def owns(self, state: nn.Module) -> bool:
        if isinstance(state, Network):
            return state.network is self.baseline
        return isinstance(state, MovingAverage) and state.decay == self._decay

    @property
    def _decay(self) -> float | None:
        """The decay of the average of past costs, if one is asked for."""
        if isinstance(self.baseline, SiteBaseline):
            return self.baseline.average
        return MovingAverage.decay if self.baseline == "ema" else None

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, cost = evaluations.site, evaluations.cost
        if isinstance(site.state, MovingAverage):
            cost = cost - site.state()
        elif isinstance(site.state, Network):
            cost = cost - _predict(site.state.network, evaluations).detach()
        if isinstance(self.baseline, SiteBaseline):
            predicted = self.baseline.predict(evaluations)
            if predicted is not None:
                cost = cost - predicted
        surrogate = site.log_prob * cost.detach()
        if not cost.requires_grad:
            return surrogate
        loss = cost.square()  # of a site's own baseline, whose parameters are in the user's hands
        return surrogate + (loss - loss.detach())

    def learning_loss(self, evaluations: Evaluations) -> Tensor | None:
        state = evaluations.site.state
        if not isinstance(state, Network):
            return None
        return (evaluations.cost - _predict(state.network, evaluations)).square().sum()

    def update(self, evaluations: Evaluations) -> None:
        if isinstance(evaluations.site.state, MovingAverage):
            evaluations.site.state.update(evaluations.cost)


def _predict(network: nn.Module, evaluations: Evaluations) -> Tensor:
    """The baseline, which must not learn anything but itself: its inputs are detached."""
    inputs = (x.detach() if isinstance(x, Tensor) else x for x in evaluations.inputs)
    site = evaluations.site
    try:
        prediction = network(*inputs)
    except TypeError as error:
        if _was_entered(network, error):
            raise
        raise EstimatorError(
            f"site '{site.name}': the baseline network could not be called with "
            f"{len(evaluations.inputs)} inputs: {error}. Give what it takes as "
            f"infer={{'baseline_input': ...}} of the site, a tensor or a tuple; where none is given it "
            f"gets the arguments of the guide."
        ) from error
    return fitted(prediction, evaluations)


def _was_entered(network: nn.Module, error: TypeError) -> bool:
    """Whether the network's own code failed, and not the call of it."""
    entry = getattr(network.forward, "__code__", None)
    return any(frame.f_code is entry for frame, _ in traceback.walk_tb(error.__traceback__))

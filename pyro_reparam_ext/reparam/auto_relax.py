"""RelaxReparam wherever it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pyro.infer.reparam.reparam import Reparam

from ..estimators.hard_forward import HardForward
from ..temperature import Temperature
from .relax import RelaxReparam, is_relaxable
from .strategy import PerRunStrategy
from .watch import watch


class AutoRelax(PerRunStrategy):
    r"""Relaxes every latent site that is Bernoulli or OneHotCategorical.

    .. math::
        y = \mathrm{softmax}\big((l + G) / T\big),\ G_k \sim \mathrm{Gumbel}
        \qquad\text{or}\qquad y = \sigma\big((l + L) / T\big),\ L \sim \mathrm{Logistic}

    That is :class:`RelaxReparam` for each of them, in guide and model, so that both score a relaxed
    value alike. Observed sites are left alone, and so are discrete ones that can't be relaxed
    (Categorical, Binomial, Poisson) and those that say in ``infer`` how they are treated, by
    ``"enumerate"`` or ``"estimator"``. Autoguides and MCMC start from values of the relaxed sites.
    Condition a model first and relax it then, as :class:`RelaxReparam` says.

    For programs that compute with the value differentiably. One that indexes by it or branches on it
    loses the gradient, hard or soft: the first run by an ELBO raises or warns, as :class:`RelaxReparam`
    says.

    See also:
        :class:`RelaxReparam` for what the options mean for the ELBO;
        :class:`~pyro_reparam_ext.LocalExpectation`, :class:`~pyro_reparam_ext.DisARM` and
        :class:`~pyro_reparam_ext.LeaveOneOut` for programs that index or branch.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2016,
        https://arxiv.org/abs/1611.01144. Gorinova, Moore, Hoffman, *Automatic Reparameterisation of
        Probabilistic Programs*, 2019, https://arxiv.org/abs/1906.03028.

    Args:
        temperature: as :class:`RelaxReparam` takes it.
        straight_through: whether values are hard; what is done with them is to be differentiable still.
            Or the estimator whose gradient they take, such as :class:`~pyro_reparam_ext.ReinMax`, in
            place of the temperature.
        score: ``"relaxed"`` (the default) or ``"discrete"``, not with ``straight_through``.

    Raises:
        EstimatorError: as :class:`RelaxReparam`.

    Warns:
        UserWarning: as :class:`RelaxReparam`.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> @pre.reparam.AutoRelax(temperature=0.5)
        ... def model():
        ...     pyro.sample("x", dist.Bernoulli(0.3).expand([2]).to_event(1))
        ...     pyro.sample("k", dist.Poisson(4.0))
        >>> trace = pyro.poutine.trace(model).get_trace()
        >>> [type(trace.nodes["x"]["fn"].base_dist).__name__, type(trace.nodes["k"]["fn"]).__name__]
        ['RelaxedBernoulli', 'Poisson']
    """

    def __init__(
        self,
        temperature: Temperature | None = None,
        *,
        straight_through: bool | HardForward = False,
        score: Literal["relaxed", "discrete"] | None = None,
    ) -> None:
        super().__init__()
        self.reparam = RelaxReparam(temperature, straight_through=straight_through, score=score)

    def configure(self, msg: dict[str, Any]) -> Reparam | None:
        treated = "enumerate" in msg["infer"] or "estimator" in msg["infer"]
        return None if msg["is_observed"] or treated or not is_relaxable(msg["fn"]) else self.reparam

    def __call__(self, msg_or_fn: dict[str, Any] | Callable[..., Any]) -> Any:
        decided = super().__call__(msg_or_fn)
        if not isinstance(msg_or_fn, dict):
            return decided
        if decided is not None:
            # Here, not by ``apply``: initialisers come in between, and none serves a discrete site.
            msg_or_fn["fn"] = self.reparam.relaxed(msg_or_fn["name"], msg_or_fn["fn"])
            watch("AutoRelax")
        return None

"""REBAR: the score function with a relaxed control variate, coupled through the noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..distributions.rules.relaxation import RELAXABLE
from .base import Estimator, require_positive
from .protocol import Paper, Site
from .relaxed_pair import RelaxedControlVariate, RelaxedPairs


@dataclass(frozen=True, eq=False)
class REBAR(RelaxedPairs, Estimator):
    r"""The score function with a Gumbel-Softmax control variate that keeps it unbiased.

    With :math:`b = H(z)` the value, :math:`\tilde z \sim q(z \mid b)` and :math:`\sigma_T` the
    relaxation at temperature :math:`T`,

    .. math::
        \big(f(b) - \eta f(\sigma_T(\tilde z))\big)\,\nabla_\phi \log q_\phi(b)
        + \eta \nabla_\phi f(\sigma_T(z)) - \eta \nabla_\phi f(\sigma_T(\tilde z))

    The gradients of the relaxed costs reach the site's own logits only; model parameters learn from
    the hard value alone. :math:`\eta` and :math:`T` are trained, per site, on the variance of the
    gradient with respect to the logits, and nothing else is trained on it. ``SVI`` trains them with
    the optimiser it has; ``elbo(model, guide).parameters()`` contains them after a first call.

    Serves Bernoulli and one-hot sites; three evaluations. Discrete sites downstream of this one are
    relaxed too in its two relaxed evaluations (section 3.3 of the paper).

    Unbiased if the cost, continued to values between the support points, is continuous: the two relaxed
    terms cancel in the mean because each differentiates it. Where it jumps, as by ``z > 0.5``,
    ``round``, ``argmax`` or an index, they miss the jump: of its gradient only the part
    :math:`1 - \eta` is left. Use :class:`DisARM`, :class:`LocalExpectation` or
    :class:`LeaveOneOut` there; :func:`gradient_study` measures it.

    Args:
        temperature: the temperature at which learning starts.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, or a site downstream of it can
            neither be relaxed nor sampled pathwise, or has a pathwise sampler that can't be
            differentiated twice, as those of torch for Gamma, Beta, Dirichlet and StudentT.

    References:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, 2017, REBAR: Low-variance, unbiased gradient
        estimates for discrete latent variable models, https://arxiv.org/abs/1703.07370

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.REBAR()})
    """

    temperature: float = 0.5

    unbiased = True
    condition = "the cost is continuous in the relaxed value"
    paper = Paper(
        "Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein",
        "REBAR: Low-variance, unbiased gradient estimates for discrete latent variable models",
        2017,
        "1703.07370",
    )
    supported = RELAXABLE

    def __post_init__(self) -> None:
        require_positive("REBAR", temperature=self.temperature)

    def new_state(self, site: Site) -> nn.Module:
        return RelaxedControlVariate(self.temperature)

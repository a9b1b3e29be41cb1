"""REBAR: the score function with a relaxed control variate, coupled through the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.discrete_noise import noise_given, noisy_logits_given
from ..distributions.rules.relaxation import (
    RELAXABLE,
    coordinate,
    noisy_logits,
    probabilities,
    to_value,
)
from ..distributions.rules.wrappers import sum_rightmost
from .base import Estimator, require_positive
from .protocol import Branch, Evaluations, Paper, Site
from .relaxed import RelaxedAt, integer_remedy


class RelaxedControlVariate(nn.Module):
    """The parameters that REBAR learns at a site: scale and temperature of the control variate."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Relaxed(Branch):
    """REBAR's pair of relaxed values, and what they were made of.

    ``z``, shape ``(2, ...)``: the noisy logits behind the value, and a second draw of them given the
    value; both differentiable in ``logits``.
    """

    logits: Tensor
    z: Tensor


@dataclass(frozen=True, eq=False)
class REBAR(Estimator):
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

    def remedy(self, fn: TorchDistribution) -> str:
        return integer_remedy(fn)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 3

    def new_state(self, site: Site) -> nn.Module:
        return RelaxedControlVariate(self.temperature)

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        base, temperature = site.base, _control(site).log_temperature.exp()
        # The noise behind the value is fixed: z moves with the logits one to one. z given the value
        # is a function of the logits and of a second uniform.
        z = noisy_logits(base, noise_given(base, site.value))
        pair = torch.stack([z, noisy_logits_given(base, site.value)])  # shape: (2, *logits.shape)
        values = to_value(base, coordinate(base, pair, temperature))
        relaxed = _Relaxed(
            count=2,
            values=lambda start, stop: values[start:stop],
            order=1,
            tensor=values,
            downstream=RelaxedAt(site, temperature),
            logits=base.logits,
            z=pair,
        )
        return (relaxed,)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, control, pair = _parts(evaluations)
        scale, temperature = control.scale.detach(), control.log_temperature.detach().exp()
        relaxed = evaluations.gradient().detach() * to_value(
            site.base, coordinate(site.base, pair.z, temperature)
        )
        relaxed = sum_rightmost(relaxed[0] - relaxed[1], len(site.fn.event_shape))  # shape: batch
        score = (evaluations.cost - scale * evaluations.costs[2]) * site.log_prob
        return score + scale * relaxed

    def learning_loss(self, evaluations: Evaluations) -> Tensor:
        """The expected square of the gradient in the logits: its variance up to a constant."""
        site, control, pair = _parts(evaluations)
        assert pair.tensor is not None
        base, gradients, values = site.base, evaluations.gradient(), pair.tensor
        (relaxed,) = torch.autograd.grad(
            values, pair.logits, torch.stack([gradients[0], -gradients[1]]), create_graph=True
        )
        probs = probabilities(base).detach()
        if base.event_shape:  # from normalised to free logits
            relaxed = relaxed - probs * relaxed.sum(-1, keepdim=True)
        # The cost of the second value moves with the temperature, to first order.
        moved = gradients[1].detach() * (values[1] - values[1].detach())
        relaxed_cost = evaluations.costs[2] + sum_rightmost(moved, len(site.fn.event_shape))
        remainder = evaluations.cost - control.scale * relaxed_cost
        remainder = remainder.reshape(remainder.shape + (1,) * len(site.fn.event_shape))
        gradient = remainder * (site.value.detach() - probs) + control.scale * relaxed
        return gradient.square().sum()


def _control(site: Site) -> RelaxedControlVariate:
    assert isinstance(site.state, RelaxedControlVariate)
    return site.state


def _parts(evaluations: Evaluations) -> tuple[Site, RelaxedControlVariate, _Relaxed]:
    (pair,) = evaluations.branches
    assert isinstance(pair, _Relaxed)
    return evaluations.site, _control(evaluations.site), pair

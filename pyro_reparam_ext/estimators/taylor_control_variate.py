"""The pathwise gradient less its Taylor expansion around the mean of the guide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.wrappers import innermost, sum_rightmost
from ..numerics.leaf import leaf
from .base import require_positive
from .control_variates import dot
from .fitted import FittedCoefficients
from .gaussian_factor import Factor, factor_of
from .pathwise import Pathwise
from .protocol import Branch, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False, kw_only=True)
class _Mean(Branch):
    """The mean of the site; and random signs, shape ``(probes, *value.shape)``, in groups."""

    probes: Tensor


@dataclass(frozen=True, eq=False)
class TaylorControlVariate(Pathwise):
    r"""The pathwise gradient less what a quadratic expansion of the costs says of its noise.

    For :math:`z = \mu + L \epsilon`, with the gradient g and the Hessian H of the costs at the means of
    all sites, the gradient at z is :math:`g + H (z - \mu)` and a rest. What noise the first two bring
    into the gradient of the parameters has a mean that is known:

    .. math::
        \nabla_\mu:\; \nabla f(z) - c\, H (z - \mu), \qquad
        \nabla_L:\; \nabla f(z)\, \epsilon^\top - c_1\, g\, \epsilon^\top
            - c_2 \big(H (z - \mu)\, \epsilon^\top - H L\big)

    and likewise for the guide's own log density. The coefficients are fitted at each site to what past
    steps have measured, so that far from the optimum, where an expansion around the mean says little,
    the gradient is not noisier for it. The guide's parameters are held in its log density, as in
    :class:`StickingTheLanding`.

    Serves ``Normal`` sites, also under ``to_event``, ``expand`` and ``mask``, and
    ``MultivariateNormal`` ones, and with them the autoguides of these. Two evaluations of the program,
    one of them of order 2: the means of all sites together, where the ELBO is vectorised and one does
    not depend on the other; and as many products with the Hessian as there are probes, and one.
    Costs have to have second derivatives. Other sites take any estimator; those that move with their
    parameters get :class:`StickingTheLanding` for :class:`Pathwise`. The model then learns from the
    ordinary evaluation alone, not from antithetic ones too.

    Args:
        num_probes: products with random signs, by which the mean of the quadratic term, :math:`H L`, is
            found: exactly with as many as an event has coordinates, and without bias for any number.

    Raises:
        EstimatorError: the site has another distribution.

    References:
        Miller, Foti, D'Amour, Adams, 2017, Reducing Reparameterization Gradient Variance,
        https://arxiv.org/abs/1705.07880; Geffner, Domke, 2020, Approximation Based Variance Reduction
        for Reparameterization Gradients, https://arxiv.org/abs/2007.14634

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(pre.TaylorControlVariate(), num_particles=8)
    """

    num_probes: int = 1

    unbiased = True
    paper = Paper(
        "Miller, Foti, D'Amour, Adams",
        "Reducing Reparameterization Gradient Variance",
        2017,
        "1705.07880",
    )
    supported = (torch.distributions.Normal, torch.distributions.MultivariateNormal)
    holds_guide_parameters = True
    scored_at_copy = True
    needs_mean = True

    def __post_init__(self) -> None:
        require_positive("TaylorControlVariate", num_probes=self.num_probes)

    def supports(self, fn: TorchDistribution) -> bool:
        return isinstance(innermost(fn), self.supported) and not isinstance(innermost(fn), Delta)

    def remedy(self, fn: TorchDistribution) -> str:
        return "TaylorControlVariate needs a Normal or a MultivariateNormal."

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        return False

    def contributes(self, fn: TorchDistribution) -> bool:
        return True

    def evaluations(self, fn: TorchDistribution) -> int:
        return 2

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        if site.draw.noise is None:  # the value does not move with any parameter
            return ()
        mean = leaf(site.base.loc, site.value).expand(site.value.shape)[None]
        branch = _Mean(1, lambda a, b: mean[a:b], None, 2, mean, joint=True, probes=self._probes(site))
        return Branch.at_ordinary(site.value, order=1), branch

    def _probes(self, site: Site) -> Tensor:
        """Random signs at every ``num_probes``-th coordinate of an event, and 0 between them."""
        value, events = site.value, site.fn.event_shape
        groups = min(self.num_probes, max(events.numel(), 1))
        signs = torch.randint(0, 2, value.shape, device=value.device).to(value.dtype) * 2 - 1
        group = (torch.arange(events.numel(), device=value.device) % groups).reshape(events)
        number = torch.arange(groups, device=value.device).reshape((-1,) + (1,) * value.dim())
        return torch.where(group == number, signs, 0.0)

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        if not evaluations.branches:
            return None
        site, factor = evaluations.site, factor_of(evaluations.site.base)
        found = _variates(evaluations, factor.held)
        evaluations.kept.update(found)
        state = site.state
        assert isinstance(state, _Learned)
        gradient = evaluations.gradient(0).detach()
        in_loc = _mixed(state.of_loc(), found["loc"])
        in_factor = _mixed(state.of_factor(), found["factor"])
        dims = len(site.fn.event_shape) + factor.event_dims
        term = dot(site, gradient, site.noise) - dot(site, in_loc, site.base.loc)
        return term - sum_rightmost(in_factor * factor.parameter, dims)

    def new_state(self, site: Site) -> nn.Module:
        return _Learned(site.value.detach())

    def owns(self, state: nn.Module) -> bool:
        return isinstance(state, _Learned)

    def update(self, evaluations: Evaluations) -> None:
        if not evaluations.branches:
            return
        site, found, dim = evaluations.site, evaluations.kept, evaluations.particle_dim
        factor, events = factor_of(site.base).held, len(site.fn.event_shape)
        gradient, state = evaluations.gradient(0).detach(), site.state
        assert isinstance(state, _Learned)
        _note(state.of_loc, found["loc"], gradient, None if dim is None else dim - events)
        in_factor = factor.outer(gradient, _noise(site, factor))
        dims = events + factor.event_dims
        _note(state.of_factor, found["factor"], in_factor, None if dim is None else dim - dims)


class _Learned(nn.Module):
    """The coefficients of the control variates at a site."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.of_loc, self.of_factor = FittedCoefficients(2, like), FittedCoefficients(3, like)


def _note(fitted: FittedCoefficients, variates: list[Tensor], target: Tensor, dim: int | None) -> None:
    """Lets coefficients learn; ``dim``: that of particles, which have one mean."""

    def centred(x: Tensor) -> Tensor:
        x = x.expand_as(target)
        return (x if dim is None else x - x.mean(dim, keepdim=True)).flatten()

    fitted.update(torch.stack([centred(x) for x in variates]), centred(target))


def _mixed(coefficients: Tensor, variates: list[Tensor]) -> Tensor:
    first, *rest = (c * x for c, x in zip(coefficients, variates, strict=True))
    return reduce(torch.add, rest, first)


def _noise(site: Site, factor: Factor) -> Tensor:
    """The standard noise behind the value of a site."""
    return factor.whitened(site.value.detach() - site.base.loc.detach())


def _variates(evaluations: Evaluations, factor: Factor) -> dict[str, list[Tensor]]:
    """Control variates of mean zero, for the gradients in the mean and in the factor."""
    site, joint, branch = evaluations.site, evaluations.joint, evaluations.branches[1]
    assert joint is not None and isinstance(branch, _Mean)
    moved, gradient = joint.moved[site.name], evaluations.gradient(1)[0].detach()
    noise = _noise(site, factor)
    means = []
    for probe in branch.probes:
        product = evaluations.hessian_product(factor.colored(probe)[None], branch=1)[0]
        means.append(factor.outer(product, probe))
    own = factor.pulled_back(noise)  # minus the slope of the guide's own log density
    return {
        "loc": [moved, own],
        "factor": [
            factor.outer(gradient, noise),
            factor.outer(moved, noise) - reduce(torch.add, means),
            factor.outer(own, noise) - factor.inverse(),
        ],
    }

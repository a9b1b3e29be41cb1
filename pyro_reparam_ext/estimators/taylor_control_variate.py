"""The pathwise gradient less its Taylor expansion around the mean of the guide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from ..distributions.rules.wrappers import sum_rightmost
from ..noise import signs_like
from ..numerics.leaf import leaf
from .base import require_positive
from .control_variates import dot
from .fitted import FittedCoefficients
from .gaussian_factor import Factor, factor_of
from .gaussian_pathwise import GaussianPathwise
from .protocol import Branch, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False, kw_only=True)
class _Mean(Branch):
    """The mean of the site and the factor of its covariance, which may be those of all particles."""

    factor: Factor

    @property
    def alternative(self) -> Tensor:
        return self.values(0, 1)[0]


@dataclass(frozen=True, eq=False)
class TaylorControlVariate(GaussianPathwise):
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
    ``MultivariateNormal`` ones, and with them the autoguides of these. One evaluation of the program
    more, at the means of all sites together, where the ELBO is vectorised and one does not depend on
    the other, and for all particles at once, where their means are the same; then two products with the
    Hessian, and as many as there are probes. Costs have to have second derivatives. Other sites take
    any estimator; those that move with their parameters get :class:`StickingTheLanding` for
    :class:`Pathwise`, and the model learns from the ordinary evaluation alone, not from those of the
    others.

    Args:
        num_probes: products with random signs, by which the Hessian within a site is sketched for the
            gradient in L: exact with as many as an event has coordinates, and without bias for any
            number.
        per_particle: whether the expansion is evaluated for each particle by itself. The noise that
            other coordinates and sites bring into the gradient in L is taken, too, for about the cost
            of three times as many particles.

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
    per_particle: bool = False

    unbiased = True
    paper = Paper(
        "Miller, Foti, D'Amour, Adams",
        "Reducing Reparameterization Gradient Variance",
        2017,
        "1705.07880",
    )
    holds_guide_parameters = True
    scored_at_copy = True

    def __post_init__(self) -> None:
        require_positive("TaylorControlVariate", num_probes=self.num_probes)

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        if site.draw.noise is None:  # the value does not move with any parameter
            return ()
        base, factor = site.base, factor_of(site.base)
        loc, parameter = base.loc, factor.parameter
        events = len(site.fn.event_shape)
        dims = events + factor.event_dims
        shared = _is_shared(site, loc, events) and _is_shared(site, parameter, dims)
        if shared and not self.per_particle:
            loc = _first(site, loc, events)
            factor = type(factor)(_first(site, parameter, dims))
        mean = leaf(loc, loc if loc.requires_grad else site.value)[None]
        return (
            Branch.at_ordinary(site.value, order=1),
            _Mean(1, lambda a, b: mean[a:b], None, 2, mean, joint=True, factor=factor.held),
        )

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        if not evaluations.branches:
            return None
        site, factor = evaluations.site, factor_of(evaluations.site.base)
        found = self._variates(evaluations, factor.held)
        evaluations.kept["variates"] = found
        state = site.state
        assert isinstance(state, _Learned)
        gradient = evaluations.gradient(0).detach()
        in_loc, in_factor = _mixed(state.of_loc(), found.loc), _mixed(state.of_factor(), found.factor)
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
        site, joint = evaluations.site, evaluations.joint
        found, state = evaluations.kept["variates"], site.state
        assert joint is not None and isinstance(state, _Learned)
        part, gradient = joint.parts[site.name], evaluations.gradient(0).detach()
        # The means take the particles' mean: what is fitted is how one half differs from the other.
        halves = [part.averaged(part.between(x)) for x in (found.loc[1], gradient)]
        state.of_loc.note([joint.between[site.name], halves[0]], halves[1])
        dim = part.particle_dim
        in_factor = found.held.outer(gradient, found.noise)
        over = None if dim is None else dim - found.held.event_dims
        state.of_factor.note(
            [_centred(x, in_factor, over) for x in found.factor], _centred(in_factor, in_factor, over)
        )

    def _variates(self, evaluations: Evaluations, factor: Factor) -> _Variates:
        site, joint, branch = evaluations.site, evaluations.joint, evaluations.branches[1]
        assert joint is not None and isinstance(branch, _Mean)
        noise = factor.whitened(site.value.detach() - site.base.loc.detach())
        own = factor.pulled_back(noise)  # minus the slope of the guide's own log density
        moved, events = joint.moved[site.name], len(site.fn.event_shape)
        curvature, sketched, mean = torch.zeros(()), torch.zeros(()), torch.zeros(())
        for probe in self._probes(branch.alternative, site.fn.event_shape):
            product = joint.product(site.name, branch.factor.colored(probe))
            curvature = curvature + product * branch.factor.pulled_back(probe)
            along = (
                (probe * noise).sum(tuple(range(-events, 0)), keepdim=True) if events else probe * noise
            )
            sketched = sketched + product * along
            mean = mean + branch.factor.outer(product, probe)
        return _Variates(
            factor,
            noise,
            loc=[moved, own],
            factor=[
                factor.outer(joint.slope(site.name), noise),
                factor.outer(curvature * factor.colored(noise), noise)
                - branch.factor.beside(curvature),
                factor.outer(moved if joint.parts[site.name].count == 1 else sketched, noise) - mean,
                factor.outer(own, noise) - factor.inverse(),
            ],
        )

    def _probes(self, like: Tensor, events: torch.Size) -> Iterator[Tensor]:
        """Random signs at every ``num_probes``-th coordinate of an event, and 0 between them."""
        groups = min(self.num_probes, max(events.numel(), 1))
        signs = signs_like(like, like.shape)
        group = (torch.arange(events.numel(), device=like.device) % groups).reshape(events)
        for number in range(groups):
            yield torch.where(group == number, signs, 0.0)


@dataclass(frozen=True, eq=False)
class _Variates:
    """Control variates of mean zero, for the gradients in the mean and in the factor; and the noise."""

    held: Factor
    noise: Tensor
    loc: list[Tensor]
    factor: list[Tensor]


class _Learned(nn.Module):
    """The coefficients of the control variates at a site."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.of_loc, self.of_factor = FittedCoefficients(2, like), FittedCoefficients(4, like)


def _is_shared(site: Site, x: Tensor, events: int) -> bool:
    """Whether all particles have the same of it, as its layout tells: one number stands for them."""
    dim = site.particle_dim
    return dim is None or x.shape[dim - events] == 1 or x.stride(dim - events) == 0


def _first(site: Site, x: Tensor, events: int) -> Tensor:
    """That of the first particle."""
    return x if site.particle_dim is None else x.narrow(site.particle_dim - events, 0, 1)


def _centred(x: Tensor, like: Tensor, dim: int | None) -> Tensor:
    """``x`` in the shape of another tensor, less its mean over particles."""
    x = x.expand_as(like)
    return x if dim is None else x - x.mean(dim, keepdim=True)


def _mixed(coefficients: Tensor, variates: list[Tensor]) -> Tensor:
    first, *rest = (c * x for c, x in zip(coefficients, variates, strict=True))
    return reduce(torch.add, rest, first)

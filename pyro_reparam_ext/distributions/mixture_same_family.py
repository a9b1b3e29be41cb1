"""Mixtures of components of one family."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, constraints

from ..numerics import normal_mixture
from ..numerics.implicit import implicit_joint, once
from ..numerics.mixture_transform import (
    adjoint,
    choose,
    joint_adjoint,
    nearer,
    spread,
    to_back,
    to_front,
)
from ..numerics.shapes import broadcast_shapes
from .rules.known_defects import register_differentiable_once
from .rules.log_density_slope import log_density_slope
from .rules.pathwise import has_pathwise, pathwise_at, register_pathwise
from .rules.tails import has_tails, register_tails, tails
from .supports.bounds import BOUNDS, bounds, bounds_differ, varies


class MixtureSameFamily(dist.MixtureSameFamily):
    r"""A mixture whose components differ in their parameters, with a gradient in every parameter.

    .. math::
        f(x) = \sum_k w_k f_k(x), \qquad F(x) = \sum_k w_k F_k(x), \qquad
        \frac{dx}{d\theta} = -\frac{\partial_\theta F(x)}{f(x)}

    A draw is that of one component; it moves with all of them so that :math:`F(x)` stays as it is.
    With several coordinates, which have to be independent within a component, the conditional CDF of
    each one given those before it stays as it is.

    Components of torch, of Pyro and of this package. With several coordinates their density has to be
    continuous on the whole space, or their support the same for all of them. Between components that
    are far apart :math:`1 / f(x)` is large: then so is the variance of the gradient in the weights.
    Every component is evaluated at every draw. The gradient of a sample can be differentiated no
    second time, and raises if it is.

    See also:
        :class:`MixtureOfDiagNormals`, for normal components.

    References:
        Graves, *Stochastic Backpropagation through Mixture Density Distributions*, 2016,
        https://arxiv.org/abs/1607.05690. Figurnov, Mohamed, Mnih, *Implicit Reparameterization
        Gradients*, 2018, https://arxiv.org/abs/1805.08498.

    Args:
        mixture_distribution: a ``Categorical``, the weights; its batch shape broadcasts with that of
            the components without their last dim.
        component_distribution: a univariate distribution, or an ``Independent`` one; its last batch
            dim is that of the components.
        validate_args: whether to check values.

    Raises:
        ValueError: the weights are no ``Categorical``; numbers of components or batch shapes do not
            match; several coordinates, and bounds of the support that differ between components.
        NotImplementedError: coordinates of a component depend on each other, or its CDF or pathwise
            gradient is not known.

    Example:
        >>> import pyro.distributions as dist, pyro_reparam_ext as pre, torch
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> components = dist.Normal(torch.tensor([0.0, 2.0]), 1.0)
        >>> fn = pre.distributions.MixtureSameFamily(dist.Categorical(logits=logits), components)
        >>> fn.rsample((100_000,)).mean().backward()  # w_k (E_k[x] - E[x])
        >>> print([round(x, 1) for x in logits.grad.tolist()])
        [-0.5, 0.5]
    """

    has_rsample = True

    def __init__(
        self,
        mixture_distribution: torch.distributions.Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        if isinstance(component_distribution, Distribution):
            _check(component_distribution)
            if isinstance(mixture_distribution, torch.distributions.Categorical):
                mixture_distribution, component_distribution = _aligned(
                    mixture_distribution, component_distribution
                )
        super().__init__(mixture_distribution, component_distribution, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(type(self), _instance))

    @constraints.dependent_property
    def support(self) -> Any:
        """That of the components, where it is one; otherwise the union."""
        fn = self.component_distribution
        base, events = _univariate(fn), len(fn.event_shape)
        ends = dict(zip(BOUNDS, bounds(base), strict=True))
        tensors = {name: x for name, x in ends.items() if isinstance(x, Tensor)}
        if not tensors:
            return fn.support
        if any(varies(x, events) for x in tensors.values()):
            return _Union(fn.support)
        support = copy.copy(base.support)
        for name, x in tensors.items():
            setattr(support, name, x.select(-1 - events, 0) if x.dim() > events else x)
        return constraints.independent(support, events) if events else support

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        events = self._event_ndims
        component = _unchecked(_univariate(self.component_distribution))
        log_density = _log_density(component, self._pad(value))
        if events:
            log_density = log_density.sum(tuple(range(-events, 0)))
        return (log_density + self._log_weights).logsumexp(-1)

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        component, x = _unchecked(self.component_distribution), self._pad(value)
        below, above, inside = _split(component, x)
        cdf = torch.where(above, 1.0, component.cdf(inside))
        return (self.mixture_distribution.probs * torch.where(below, 0.0, cdf)).sum(-1)

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        return self._at(self.sample(sample_shape))

    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            normal = self._normal
            if normal is not None:
                return normal_mixture.draw(shape, self._log_weights, normal.loc, normal.scale)
            lead = len(shape) - self._event_ndims
            draws = self.component_distribution.sample(torch.Size(sample_shape))
            index = choose(self._log_weights, shape[:lead])
            index = index.reshape(index.shape + (1,) * (self._event_ndims + 1))
            index = index.expand(shape[:lead] + (1,) + self.event_shape)
            return draws.gather(lead, index).squeeze(lead)

    @property
    def _log_weights(self) -> Tensor:
        return self.mixture_distribution.logits.log_softmax(-1)

    @property
    def _normal(self) -> Any:
        """The components where they are normal: their gradient is a closed form."""
        base = _univariate(self.component_distribution)
        return base if type(base) in (torch.distributions.Normal, dist.Normal) else None

    def _at(self, value: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return value
        events = self._event_ndims
        value, shape = value.detach(), value.shape
        log_weights, normal = self._log_weights, self._normal
        if not events:
            if normal is not None:
                return normal_mixture.at(value, log_weights, normal.loc, normal.scale)
            return self._univariate_at(value, log_weights)
        value = value.flatten(-events)
        if normal is not None:
            loc, scale = normal.loc.flatten(-events), normal.scale.flatten(-events)
            return normal_mixture.at(value, log_weights, loc, scale).reshape(shape)
        component = _unchecked(_univariate(self.component_distribution))
        x = spread(value.reshape(shape), self._num_component, events)
        tensors = (pathwise_at(component, x), component.log_prob(x), log_density_slope(component, x))
        with torch.no_grad():
            below, above = tails(component, x)
        flat = (y.flatten(-events) for y in (*tensors, below, above))
        return implicit_joint(value, _joint_pull_back, log_weights, *flat).reshape(shape)

    def _univariate_at(self, value: Tensor, log_weights: Tensor) -> Tensor:
        component = _unchecked(self.component_distribution)
        x = spread(value, self._num_component, 0)
        with torch.no_grad():
            below, above, inside = split = _split(component, x)
            log_density = torch.where(below | above, -torch.inf, component.log_prob(inside))
            given = (log_density, *_both_tails(component, split))
        return implicit_joint(value, _pull_back, log_weights, pathwise_at(component, inside), *given)


class _Union(constraints.MixtureSameFamilyConstraint):
    """Values that some component can take."""

    def check(self, value: Tensor) -> Tensor:
        return self.base_constraint.check(value.unsqueeze(-1 - self.event_dim)).any(-1)


def _pull_back(
    gradient: Tensor, value: Tensor, log_weights: Tensor, moved: Tensor, *given: Tensor
) -> tuple[Tensor | None, ...]:
    gradient, log_weights = once(gradient, value), log_weights.detach()
    log_weights, log_density, below, above = (
        to_front(x, 1, value.dim()) for x in (log_weights, *given)
    )
    to = adjoint(gradient, log_weights, log_density, partial(nearer, below, above))
    to_moved, to_log_weights = (to_back(x, 1) for x in to)
    return to_log_weights, to_moved, None, None, None


def _joint_pull_back(
    gradient: Tensor,
    value: Tensor,
    log_weights: Tensor,
    moved: Tensor,
    log_density: Tensor,
    *given: Tensor,
) -> tuple[Tensor | None, ...]:
    draws = value.dim() - 1
    gradient = to_front(once(gradient, value), 1, draws)
    log_weights = to_front(log_weights.detach(), 1, draws)
    log_density, slope, below, above = (to_front(x, 2, draws) for x in (log_density.detach(), *given))
    tail = partial(nearer, below, above)
    to = joint_adjoint(gradient, log_weights, log_density, slope, tail)
    to_density = to_back(to.log_density, 2)
    return to_back(to.log_weights, 1), to_back(to.moved, 2), to_density, None, None, None


register_differentiable_once(MixtureSameFamily)(False)


@register_pathwise(MixtureSameFamily)
def _pathwise(fn: MixtureSameFamily, value: Tensor) -> Tensor:
    shape = broadcast_shapes(value.shape, fn.batch_shape + fn.event_shape)
    return fn._at(value.expand(shape))


@register_tails(torch.distributions.MixtureSameFamily)
def _tails(fn: torch.distributions.MixtureSameFamily, value: Tensor) -> tuple[Tensor, Tensor]:
    component = _unchecked(fn.component_distribution)
    below, above = _both_tails(component, _split(component, value.unsqueeze(-1)))
    weights = fn.mixture_distribution.probs
    return (weights * below).sum(-1), (weights * above).sum(-1)


def _univariate(fn: Distribution) -> Distribution:
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def _unchecked(fn: Any) -> Any:
    """Without the check of values: one component's draws may be outside of another's support."""
    base = fn.base_dist if isinstance(fn, TransformedDistribution) else None
    inner = None if base is None else _unchecked(base)
    if not fn._validate_args and inner is base:
        return fn
    fn = copy.copy(fn)
    fn._validate_args = False
    if inner is not None:
        fn.base_dist = inner
    return fn


def _split(fn: Any, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether the value is below or above the support, and a value inside of it where it is."""
    if not any(isinstance(x, Tensor) for x in bounds(fn)):
        none = torch.zeros_like(value, dtype=torch.bool)
        return none, none, value
    low, high = (
        value.new_tensor(end) if x is None else torch.as_tensor(x).to(value).detach()
        for x, end in zip(bounds(fn), (-torch.inf, torch.inf), strict=True)
    )
    # Not a bound itself: there the density may have no gradient.
    from_low = torch.where(low.isfinite(), low + (1 + low.abs()), 0.0)
    one_sided = torch.where(high.isfinite(), high - (1 + high.abs()), from_low)
    both = low.isfinite() & high.isfinite()
    middle = torch.where(both, 0.5 * low + 0.5 * high, one_sided)
    outside = ~fn.support.check(value) & ~value.isnan()
    below = outside & (value < middle)
    return below, outside & ~below, torch.where(outside, middle, value)


def _both_tails(fn: Any, split: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    under, over, inside = split
    below, above = tails(fn, inside)
    below = torch.where(under, 0.0, torch.where(over, 1.0, below))
    return below, torch.where(under, 1.0, torch.where(over, 0.0, above))


def _log_density(fn: Any, value: Tensor) -> Tensor:
    below, above, inside = _split(fn, value)
    return torch.where(below | above, -torch.inf, fn.log_prob(inside))


def _aligned(
    weights: torch.distributions.Categorical, component: Distribution
) -> tuple[torch.distributions.Categorical, Distribution]:
    """Both with the batch shape of the mixture."""
    if not component.batch_shape:
        raise ValueError(f"The last batch dim of {component} has to be that of the components.")
    shape, count = component.batch_shape[:-1], component.batch_shape[-1:]
    batch_shape = broadcast_shapes(weights.batch_shape, shape)
    if weights.batch_shape != batch_shape:
        weights = weights.expand(batch_shape)
    if shape != batch_shape:
        component = component.expand(batch_shape + count)
    return weights, component


def _check(component: Distribution) -> None:
    base = _univariate(component)
    name = type(base).__name__
    if base.event_shape:
        raise NotImplementedError(
            f"MixtureSameFamily needs components with independent coordinates, and those of {name} are"
            " not known to be: use a univariate distribution and .to_event(n)."
        )
    if not has_tails(base):
        raise NotImplementedError(
            f"MixtureSameFamily needs the CDF of its components, and {name} has none: give it a method"
            " cdf(value) that is differentiable in its parameters, or take"
            " ImplicitUnivariate(parameters, log_density=...), which finds the CDF by itself."
        )
    if not has_pathwise(base):
        raise NotImplementedError(
            f"MixtureSameFamily needs the pathwise gradient of its components, and {name} has neither a"
            " rule for it nor a method cdf(value) that is differentiable in its parameters: register a"
            " rule with pathwise.register_pathwise, or take the class of that name in this package, or"
            " ImplicitUnivariate."
        )
    if component.event_shape and bounds_differ(base, len(component.event_shape)):
        raise ValueError(
            f"The support of {name} differs between components: the later coordinates would jump when"
            " an earlier one crosses a bound, and there is no pathwise gradient. Give the bounds one"
            " value for all components, as a number."
        )

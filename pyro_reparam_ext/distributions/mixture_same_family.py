"""Mixtures of components of one family."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

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
from ..numerics.relaxation import floating
from ..numerics.shapes import broadcast_shapes
from .mixins.searched_quantile import SearchedQuantile
from .rules.copies import without_validation
from .rules.half_precision import drawn_in_single, scored
from .rules.inverse_cdf import register_inverted
from .rules.known_defects import register_differentiable_once
from .rules.log_density_slope import log_density_slope
from .rules.mixture_components import (
    both_tails,
    cdf,
    log_density,
    obstacle,
    split,
    univariate,
)
from .rules.mixture_parts import mixture_same_family, register_mixture_parts
from .rules.pathwise import pathwise_at, register_pathwise
from .rules.tails import register_tails, tails
from .supports.bounds import BOUNDS, bounds, varies


class MixtureSameFamily(SearchedQuantile, dist.MixtureSameFamily):
    r"""A mixture whose components differ in their parameters, with a gradient in every parameter.

    .. math::
        f(x) = \sum_k w_k f_k(x), \qquad F(x) = \sum_k w_k F_k(x), \qquad
        \frac{dx}{d\theta} = -\frac{\partial_\theta F(x)}{f(x)}

    A draw is that of one component; it moves with all of them so that :math:`F(x)` stays as it is.
    With several coordinates, which have to be independent within a component, the conditional CDF of
    each one given those before it stays as it is.

    Components of torch, of Pyro and of this package. With several coordinates their density has to be
    continuous on the whole space, or their support the same for all of them. Mixtures of discrete
    components, of vectors whose coordinates depend on each other, and of what has no known CDF, are
    scored and sampled: ``has_rsample`` is false then, and :meth:`rsample` says why.

    Between components that are far apart :math:`1 / f(x)` is large: then so is the variance of the
    gradient in the weights. Every component is evaluated at every draw. The gradient of a sample can be
    differentiated no second time, and raises if it is.

    See also:
        :class:`MixtureOfDiagNormals`, for normal components.

    References:
        Graves, *Stochastic Backpropagation through Mixture Density Distributions*, 2016,
        https://arxiv.org/abs/1607.05690. Figurnov, Mohamed, Mnih, *Implicit Reparameterization
        Gradients*, 2018, https://arxiv.org/abs/1805.08498.

    Args:
        mixture_distribution: a ``Categorical``, the weights; its batch shape broadcasts with that of
            the components without their last dim.
        component_distribution: a distribution whose last batch dim is that of the components. For a
            pathwise gradient, a univariate one, or an ``Independent`` one.
        validate_args: whether to check values.

    Raises:
        ValueError: the weights are no ``Categorical``; numbers of components or batch shapes do not
            match.
        NotImplementedError: by :meth:`rsample`, where ``has_rsample`` is false; by :meth:`cdf`, where
            that of the components is not known.

    Example:
        >>> import pyro.distributions as dist, pyro_reparam_ext as pre, torch
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> components = dist.Normal(torch.tensor([0.0, 2.0]), 1.0)
        >>> fn = pre.distributions.MixtureSameFamily(dist.Categorical(logits=logits), components)
        >>> fn.rsample((100_000,)).mean().backward()  # w_k (E_k[x] - E[x])
        >>> print([round(x, 1) for x in logits.grad.tolist()])
        [-0.5, 0.5]
    """

    def __init__(
        self,
        mixture_distribution: torch.distributions.Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        if isinstance(component_distribution, Distribution):
            if isinstance(mixture_distribution, torch.distributions.Categorical):
                mixture_distribution, component_distribution = _aligned(
                    mixture_distribution, component_distribution
                )
        super().__init__(mixture_distribution, component_distribution, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether every component has a pathwise gradient that a mixture can use."""
        return obstacle(self.component_distribution) is None

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        return super().expand(batch_shape, self._get_checked_instance(MixtureSameFamily, _instance))

    @constraints.dependent_property
    def support(self) -> Any:
        """That of the components, where it is one; otherwise the union."""
        fn = self.component_distribution
        base, events = univariate(fn), len(fn.event_shape)
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
        return scored(self, value, MixtureSameFamily._log_prob)

    def _log_prob(self, value: Tensor) -> Tensor:
        component = without_validation(univariate(self.component_distribution))
        joint = log_density(component, self._pad(floating(value, self._log_weights)))
        coordinates = self._event_ndims - len(component.event_shape)
        if coordinates:
            joint = joint.sum(tuple(range(-coordinates, 0)))
        joint = joint + self._log_weights
        # Where no component has a density, it is no sum of exponentials that has a gradient.
        nowhere = joint.amax(-1) == -torch.inf
        mixed = joint.masked_fill(nowhere.unsqueeze(-1), 0.0).logsumexp(-1)
        return mixed.masked_fill(nowhere, -torch.inf)

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        x = self._pad(floating(value, self._log_weights))
        below, above = cdf(without_validation(self.component_distribution), x)
        total = (self.mixture_distribution.probs * below).sum(-1)
        return torch.where(above.all(-1), 1.0, total.clamp(max=1.0))

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile, by a search on the CDF, with a gradient in the parameters and in the share.

        Raises:
            NotImplementedError: values are vectors, or integers.
        """
        if self.event_shape or self.support.is_discrete:
            raise NotImplementedError("MixtureSameFamily: quantiles are known of real variables.")
        return super().icdf(value)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        self._refuse_without_gradient()
        return self._at(self.sample(sample_shape))

    def _refuse_without_gradient(self) -> None:
        hindrance = obstacle(self.component_distribution)
        if hindrance is not None:
            raise NotImplementedError(
                f"MixtureSameFamily: rsample and pathwise_at need the pathwise gradient of the"
                f" components, and {hindrance}. Draw by sample(); as estimator of a guide's site take"
                f" ScoreFunction or LeaveOneOut, or Stratified where the components have an rsample."
            )

    @drawn_in_single
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
        base = univariate(self.component_distribution)
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
        component = without_validation(univariate(self.component_distribution))
        x = spread(value.reshape(shape), self._num_component, events)
        tensors = (pathwise_at(component, x), component.log_prob(x), log_density_slope(component, x))
        with torch.no_grad():
            below, above = tails(component, x)
        flat = (y.flatten(-events) for y in (*tensors, below, above))
        return implicit_joint(value, _joint_pull_back, log_weights, *flat).reshape(shape)

    def _univariate_at(self, value: Tensor, log_weights: Tensor) -> Tensor:
        component = without_validation(self.component_distribution)
        x = spread(value, self._num_component, 0)
        with torch.no_grad():
            below, above, inside = parts = split(component, x)
            density = torch.where(below | above, -torch.inf, component.log_prob(inside))
            given = (density, *both_tails(component, parts))
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
register_mixture_parts(MixtureSameFamily)(mixture_same_family)


@register_pathwise(MixtureSameFamily)
def _pathwise(fn: MixtureSameFamily, value: Tensor) -> Tensor:
    shape = broadcast_shapes(value.shape, fn.batch_shape + fn.event_shape)
    fn._refuse_without_gradient()
    return fn._at(value.expand(shape))


@register_tails(MixtureSameFamily)
@register_tails(torch.distributions.MixtureSameFamily)
def _tails(fn: torch.distributions.MixtureSameFamily, value: Tensor) -> tuple[Tensor, Tensor]:
    component = without_validation(fn.component_distribution)
    below, above = both_tails(component, split(component, value.unsqueeze(-1)))
    weights = fn.mixture_distribution.probs
    return (weights * below).sum(-1), (weights * above).sum(-1)


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


register_inverted(MixtureSameFamily)

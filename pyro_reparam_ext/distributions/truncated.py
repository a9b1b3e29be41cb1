"""Any univariate distribution, conditioned on an interval."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import Distribution

from ..numerics.implicit import implicit_joint, once
from ..numerics.log1mexp import log1mexp
from ..numerics.shapes import broadcast_shapes
from .mixins.parametric import Parametric
from .rules.copies import mapped
from .rules.coupling import Parameters, parameters, register_parameters
from .rules.half_precision import scored
from .rules.known_defects import register_differentiable_once
from .rules.log_tails import LogTails, log_tails, wide
from .rules.near_ends import near_ends
from .rules.on_support import floating, on_support
from .rules.pathwise import pathwise_at
from .rules.peak import mode_of
from .rules.quantile import has, implicit_quantile, like, register_quantile
from .rules.quantile_quadrature import LogEnds, expected, is_light, kink_of, quantiles, shares
from .rules.tails import register_tails
from .supports.bounds import beyond, bounds
from .supports.interval import ExtendedInterval, check_order, check_resolved


class Truncated(Parametric):
    r"""A distribution with CDF :math:`F` and density :math:`f`, conditioned on an interval.

    .. math::
        f(x; \theta, l, h) = \frac{f_\theta(x)}{F_\theta(h) - F_\theta(l)}, \qquad l \le x \le h

    Sampled by the inverse CDF, from the end of the line that is nearer in probability, in logarithms
    for the families that have them in closed form (normal, Laplace, logistic, Cauchy, Gumbel,
    exponential, half-normal, half-Cauchy) and for transforms of these; to masses of 1e-300 where
    ``icdf`` is a search on both tails. For other bases quantiles of the upper tail are those of one
    less a probability: there an interval of a mass below 32 times the precision of the dtype has NaN
    for log density and samples, which raises with validation on, as has any interval of no mass at all.
    With :math:`u` the CDF at x, :math:`w_l = (1 - u) f(l) / f(x)`,
    :math:`w_h = u f(h) / f(x)` and the velocity :math:`v = -\partial_\theta F / f` of the base,

    .. math::
        \frac{dx}{d\theta} = v(x) - w_l v(l) - w_h v(h), \quad
        \frac{dx}{dl} = w_l, \quad \frac{dx}{dh} = w_h.

    Mean, variance and entropy are integrals over quantiles, in float64 and to 1e-9, with a gradient.
    They are NaN where they do not exist, and where the density has a kink that is not known (that of
    :class:`pyro.distributions.Laplace` and of :class:`Triangular` is).

    See also:
        :class:`TruncatedNormal`, which is faster.

    References:
        Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018,
        https://arxiv.org/abs/1805.08498.

    Args:
        base: a univariate distribution, or a batch of them, with ``cdf`` and ``icdf``.
        low: the lower bound; ``-inf``, or below the support of the base, for none.
        high: the upper bound, above ``low``; ``inf``, or above the support of the base, for none.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: the base is not univariate; with validation on, ``low`` is not below ``high``, or
            draws are asked for where the base does not tell the mass between them.
        NotImplementedError: the base has no ``cdf`` or no ``icdf``.

    Example:
        >>> import pyro.distributions as dist
        >>> import pyro_reparam_ext as pre, torch
        >>> loc = torch.tensor(0.0, requires_grad=True)
        >>> fn = pre.distributions.Truncated(dist.Logistic(loc, 1.0), 0.0, 1.0)
        >>> x = fn.rsample((10_000,))
        >>> x.mean().backward()
        >>> print(f"{x.mean().item():.1f}, {loc.grad.item():.2f}")
        0.5, 0.04
    """

    arg_constraints = {"low": constraints.real, "high": constraints.real}
    has_rsample = True

    def __init__(
        self,
        base: Distribution,
        low: Tensor | float,
        high: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        if base.event_shape:
            raise ValueError(f"Truncated needs a univariate base; got event_shape {base.event_shape}.")
        for method in ("cdf", "icdf"):
            if not has(base, method):
                name = type(base).__name__
                raise NotImplementedError(
                    f"Truncated needs {method} of its base, which {name} does not have. Write it in a "
                    f"subclass of {name}, or truncate another distribution."
                )
        low, high = like(base, low), like(base, high)
        shape = broadcast_shapes(base.batch_shape, low.shape, high.shape)
        self.base = base if base.batch_shape == shape else base.expand(shape)
        parameters: dict[str, Tensor | float] = {"low": low.expand(shape), "high": high.expand(shape)}
        super().__init__(parameters, validate_args=validate_args)
        if self._validate_args:
            check_order(self.low, self.high)

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        super()._expand_into(new, batch_shape)
        new.base = self.base.expand(batch_shape)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        below, above = bounds(self.base)
        low = self.low if below is None else torch.maximum(self.low, _as(below, self.low))
        high = self.high if above is None else torch.minimum(self.high, _as(above, self.high))
        return ExtendedInterval(low, high)

    def _draw(self, shape: Size) -> Tensor:
        uniform = torch.rand(shape, dtype=self.low.dtype, device=self.low.device)
        draws = self.icdf(uniform.clamp(min=torch.finfo(uniform.dtype).eps / 4))
        return check_resolved(draws) if self._validate_args else draws

    def _at(self, value: Tensor) -> Tensor:
        with torch.no_grad():
            bounds = self._bounds()
            below, above = self._shares(value, bounds)
            log_density = self.base.log_prob(value)
            at_low = (self.base.log_prob(bounds.low) - log_density).exp()
            at_high = (self.base.log_prob(bounds.high) - log_density).exp()
            w_low = torch.where(bounds.has_low, above * at_low, 0.0)
            w_high = torch.where(bounds.has_high, below * at_high, 0.0)
        moving = [pathwise_at(self.base, x) for x in (value, bounds.low, bounds.high)]
        return implicit_joint(value, _pull_back, *moving, self.low, self.high, w_low, w_high)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return scored(self, value, Truncated._log_prob)

    def _log_prob(self, value: Tensor) -> Tensor:
        bounds = self._bounds()

        def inside(fn: Truncated, x: Tensor) -> Tensor:
            return fn.base.log_prob(x) - fn._log_mass(bounds)

        return on_support(self, value, inside, bounds.middle)

    def cdf(self, value: Tensor) -> Tensor:
        value = floating(value)
        if self._validate_args:
            self._validate_sample(value)
        bounds, support = self._bounds(), self.support
        below, above = beyond(support, value)
        # At an end of the base, where its own logarithms may be infinite.
        below = below | (~bounds.has_low & (value == support.lower_bound))
        above = above | (~bounds.has_high & (value == support.upper_bound))
        safe = torch.where(below | above, bounds.middle, value)
        cdf = torch.where(above, 1.0, self._shares(safe, bounds)[0])
        return torch.where(below, 0.0, cdf)

    def icdf(self, value: Tensor) -> Tensor:
        """Without a gradient."""
        with torch.no_grad():
            bounds, tails = self._bounds(), log_tails(self.base)
            (cdf_low, cdf_high), (survival_low, survival_high) = self._log_ends(bounds)
            upper = survival_low < cdf_high
            whole = _resolved(tails, torch.where(upper, survival_low, cdf_high), upper)
            rest = torch.where(upper, survival_high, cdf_low) - whole
            share = torch.where(upper, value, 1 - value) * torch.expm1(rest)
            log_p = whole + torch.log1p(share)
            log_half = -math.log(2)
            from_upper = tails.from_log_survival(self.base, torch.where(upper, log_p, log_half))
            from_lower = tails.from_log_cdf(self.base, torch.where(upper, log_half, log_p))
            x = torch.where(whole.isnan(), math.nan, torch.where(upper, from_upper, from_lower))
            low, high = self.support.lower_bound, self.support.upper_bound
            x = torch.where(value <= 0, low, torch.where(value >= 1, high, x))
            return torch.minimum(torch.maximum(x, low), high)

    @property
    def mean(self) -> Tensor:
        """The mean; NaN where an infinite end has a tail of an index above 0.92, or unresolved."""
        x, weights, start, known = self._quantiles(order=1)
        away = weights * (x - start)
        mean = start + expected(away, weights, away.detach().abs().sum(0))
        return torch.where(known, mean, math.nan).to(self.low.dtype)

    @property
    def variance(self) -> Tensor:
        """The variance; NaN where an infinite end has a tail of an index above 0.46, or unresolved."""
        x, weights, start, known = self._quantiles(order=2)
        away = x - start
        # By roots of the weights: the square of a node far out may overflow.
        square = (weights.sqrt() * (away - (weights * away).sum(0) / weights.sum(0))).square()
        variance = expected(square, weights, square.detach().sum(0))
        return torch.where(known, variance, math.nan).to(self.low.dtype)

    @property
    def mode(self) -> Tensor:
        """The mode, of a base whose density has one peak, or falls from both ends."""
        support = self.support
        low, high = support.lower_bound, support.upper_bound
        peak = torch.minimum(torch.maximum(mode_of(self.base), low), high)
        for end, side in ((low, 1), (high, -1)):
            with torch.no_grad():
                inside = _beside(torch.where(end.isfinite(), end, peak), side)
                higher = self.base.log_prob(inside) > self.base.log_prob(_within(peak, low, high))
            peak = torch.where(higher & end.isfinite(), end, peak)
        return peak

    def entropy(self) -> Tensor:
        """The entropy; NaN where it is not resolved."""
        x, weights, _, known = self._quantiles(order=0)
        fn = mapped(self, wide)
        terms = weights * (fn._log_mass(fn._bounds()) - fn.base.log_prob(x))
        return torch.where(known, expected(terms, weights, 1.0), math.nan).to(self.low.dtype)

    def _quantiles(self, order: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In float64, on the leftmost dim and moving as samples do; their weights, one in the middle.

        The last tensor says where they serve for a moment of this order.
        """
        fn = mapped(self, wide)
        with torch.no_grad():
            bounds, support, tails = fn._bounds(), fn.support, log_tails(fn.base)
            cdfs, survivals = fn._log_ends(bounds)
            ends, kink = LogEnds(*cdfs, *survivals), kink_of(fn.base)
            nodes = shares(fn.low, None if kink is None else fn._shares(kink, bounds))
            infinite = support.lower_bound.isinf(), support.upper_bound.isinf()
            known = is_light(fn.base, tails, ends, infinite, order) & ~fn._log_mass(bounds).isnan()
            x = torch.where(known, quantiles(fn.base, tails, ends, nodes), bounds.middle)
            x = _within(x, support.lower_bound, support.upper_bound)
        return fn._at(x), nodes.weights, bounds.middle, known

    def _bounds(self) -> _Bounds:
        """Bounds that matter; at the others, the median of the base as a safe point."""
        below, above = bounds(self.base)
        has_low = self.low > (-math.inf if below is None else below)
        has_high = self.high < (math.inf if above is None else above)
        with torch.no_grad():
            half = torch.full_like(self.low, -math.log(2))
            middle = log_tails(self.base).from_log_cdf(self.base, half)
        low, high = torch.where(has_low, self.low, middle), torch.where(has_high, self.high, middle)
        support = self.support
        middle = torch.minimum(torch.maximum(middle, support.lower_bound), support.upper_bound).detach()
        return _Bounds(low, high, has_low, has_high, middle)

    def _log_ends(self, bounds: _Bounds) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """log F and log (1 - F), each at the lower and at the upper bound."""
        tails = log_tails(self.base)
        low, high, has_low, has_high, _ = bounds
        return (
            torch.where(has_low, tails.log_cdf(self.base, low), -math.inf),
            torch.where(has_high, tails.log_cdf(self.base, high), 0.0),
        ), (
            torch.where(has_low, tails.log_survival(self.base, low), 0.0),
            torch.where(has_high, tails.log_survival(self.base, high), -math.inf),
        )

    def _log_mass(self, bounds: _Bounds) -> Tensor:
        (cdf_low, cdf_high), (survival_low, survival_high) = self._log_ends(bounds)
        upper = survival_low < cdf_high
        tails = log_tails(self.base)
        whole = _resolved(tails, torch.where(upper, survival_low, cdf_high), upper)
        rest = torch.where(upper, survival_high, cdf_low) - whole
        return whole + log1mexp(torch.where(rest < 0, rest, math.nan))

    def _shares(self, value: Tensor, bounds: _Bounds) -> tuple[Tensor, Tensor]:
        """The CDF and the survival function, each to its own relative precision."""
        tails = log_tails(self.base)
        (cdf_low, cdf_high), (survival_low, survival_high) = self._log_ends(bounds)
        upper = survival_low < cdf_high
        # From the lower end, on the scale of the mass beyond it; and the mirror image of that.
        far = tails.log_survival(self.base, value) - survival_low
        end = survival_high - survival_low
        whole = torch.expm1(end)
        below, above = torch.expm1(far) / whole, far.exp() * torch.expm1(end - far) / whole
        far = tails.log_cdf(self.base, value) - cdf_high
        end = cdf_low - cdf_high
        whole = torch.expm1(end)
        below = torch.where(upper, below, far.exp() * torch.expm1(end - far) / whole)
        above = torch.where(upper, above, torch.expm1(far) / whole)
        return below.clamp(0.0, 1.0), above.clamp(0.0, 1.0)


class _Bounds(NamedTuple):
    low: Tensor
    high: Tensor
    has_low: Tensor
    has_high: Tensor
    middle: Tensor


def _resolved(tails: LogTails, log_mass: Tensor, upper: Tensor) -> Tensor:
    """NaN where quantiles of the base have no precision left."""
    lost = log_mass == -math.inf
    if not tails.exact:
        lost = lost | (upper & (log_mass < math.log(32 * torch.finfo(log_mass.dtype).eps)))
    return torch.where(lost, math.nan, log_mass)


register_quantile(Truncated)(implicit_quantile)
register_differentiable_once(Truncated)(False)


@register_parameters(Truncated)
def _parameters(fn: Truncated) -> Parameters | None:
    given = parameters(fn.base)
    return None if given is None else [*given, (fn.low, 0), (fn.high, 0)]


@register_tails(Truncated)
def _tails(fn: Truncated, value: Tensor) -> tuple[Tensor, Tensor]:
    return near_ends(fn, value, *fn._shares(value, fn._bounds()))


def _beside(end: Tensor, side: int) -> Tensor:
    """The next number inside, where a density may be infinite at the end."""
    info = torch.finfo(end.dtype)
    inside = end + side * (info.eps * end.abs()).clamp(min=info.tiny)
    return torch.where(end.isfinite(), inside, end)


def _within(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, _beside(low, 1)), _beside(high, -1))


def _as(x: Any, like: Tensor) -> Tensor:
    return x if isinstance(x, Tensor) else torch.full_like(like, x)


def _pull_back(
    gradient: Tensor,
    value: Tensor,
    at_value: Tensor,
    at_low: Tensor,
    at_high: Tensor,
    low: Tensor,
    high: Tensor,
    w_low: Tensor,
    w_high: Tensor,
) -> tuple[Tensor | None, ...]:
    to_low = once((gradient * w_low).sum_to_size(low.shape), value)
    to_high = once((gradient * w_high).sum_to_size(high.shape), value)
    return once(gradient, value), -to_low, -to_high, to_low, to_high, None, None

"""The normal distribution between two bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.chunked import chunked
from ..numerics.chunked_sums import chunked_sums
from ..numerics.implicit import implicit_joint, once
from ..numerics.interpolated_quantile import is_worth_it, point_at, polynomial_terms
from ..numerics.normal_tail import log_ndtr
from ..numerics.truncated_standard_normal import (
    Frame,
    cdf_of,
    frame_of,
    log_mass,
    position_at,
    quadrature,
    quantile,
    quantile_terms,
)
from .mixins.parametric import Parametric
from .rules.half_precision import drawn_in_single
from .rules.known_defects import register_differentiable_once
from .rules.near_ends import near_ends
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.quantile import implicit_quantile, register_quantile
from .rules.tails import register_tails
from .supports.interval import ExtendedInterval, check_order

_LOG_2 = math.log(2)


class TruncatedNormal(Parametric):
    r"""A normal distribution, conditioned on an interval.

    .. math::
        f(x; \mu, \sigma, l, h) = \frac{\phi(z)}{\sigma\,(\Phi(b) - \Phi(a))}, \qquad
        z = \frac{x - \mu}{\sigma},\; a = \frac{l - \mu}{\sigma},\; b = \frac{h - \mu}{\sigma}

    Sampled by the inverse CDF: in the bulk through the error function; in a tail through the
    logarithm of the survival function, solved for the distance to the nearer bound; in a very narrow
    interval as an exponential density. With :math:`u = F(x)`, :math:`w_l = (1 - u) f(l) / f(x)` and
    :math:`w_h = u f(h) / f(x)`, the gradients are

    .. math::
        \frac{dx}{d\mu} = 1 - w_l - w_h, \quad \frac{dx}{d\sigma} = z - a w_l - b w_h, \quad
        \frac{dx}{dl} = w_l, \quad \frac{dx}{dh} = w_h.

    See also:
        :class:`Truncated` for other distributions. ``scipy.stats.truncnorm(a, b, loc, scale)``, whose
        ``a`` and ``b`` are standardised.

    References:
        Robert, *Simulation of truncated normal variables*, 1995, https://arxiv.org/abs/0907.4010.
        Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018,
        https://arxiv.org/abs/1805.08498.

    Args:
        loc: the mean before truncation.
        scale: the standard deviation before truncation, positive.
        low: the lower bound, in the unit of ``loc``; may be ``-inf``.
        high: the upper bound, above ``low``; may be ``inf``.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is invalid, or ``low`` is not below ``high``, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> loc = torch.tensor(0.0, requires_grad=True)
        >>> fn = pre.distributions.TruncatedNormal(loc, 1.0, 10.0, float("inf"))
        >>> fn.rsample((10_000,)).mean().backward()
        >>> print(f"{fn.mean.item():.4f}, {fn.stddev.item():.3f}, {loc.grad.item():.3f}")
        10.0981, 0.097, 0.009
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "low": constraints.real,
        "high": constraints.real,
    }
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        low: Tensor | float,
        high: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"loc": loc, "scale": scale, "low": low, "high": high}
        super().__init__(parameters, validate_args=validate_args)
        if self._validate_args:
            check_order(self.low, self.high)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        return ExtendedInterval(self.low, self.high)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            frame = frame_of(self.loc, self.scale, self.low, self.high)
            uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
            # Inside (0, 1): a multiple of eps / 2 below 1 before.
            eps = torch.finfo(uniform.dtype).eps
            uniform.mul_(1 - eps).add_(eps / 4)
            if is_worth_it(uniform, self.loc):
                terms = self.low, self.high, *polynomial_terms(frame)
                value = chunked(_draw_many, uniform, *terms)
            else:
                terms = frame.origin, frame.unit, self.low, self.high, *quantile_terms(frame)
                value = chunked(_draw, uniform, *terms)
        return self._moving(value, uniform, frame)

    def _at(self, value: Tensor) -> Tensor:
        with torch.no_grad():
            frame = frame_of(self.loc, self.scale, self.low, self.high)
            uniform = cdf_of(frame, (value - frame.origin) / frame.unit)
        return self._moving(value, uniform, frame)

    def _moving(self, value: Tensor, uniform: Tensor, frame: Frame) -> Tensor:
        parameters = (self.loc, self.scale, self.low, self.high)
        return implicit_joint(value.expand(uniform.shape), _pull_back, *parameters, uniform, *frame)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_density(value)

    @property
    def _interior(self) -> Tensor:
        return self.mode

    def _log_density(self, value: Tensor) -> Tensor:
        """Continued beyond the bounds."""
        frame = frame_of(self.loc, self.scale, self.low, self.high)
        position = (value - frame.origin) / frame.unit
        energy = position * (0.5 * position + frame.reference)
        return -energy - (log_mass(frame) + self.scale.log())

    def _expected(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        frame = frame_of(self.loc, self.scale, self.low, self.high)
        position, weights = quadrature(frame)
        return (weights * function(frame.origin + frame.unit * position)).sum(0)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        frame = frame_of(self.loc, self.scale, self.low, self.high)
        fraction = cdf_of(frame, (value - frame.origin) / frame.unit)
        return torch.where(frame.unit < 0, 1 - fraction, fraction)

    def icdf(self, value: Tensor) -> Tensor:
        """Differentiable in the parameters by the gradient of a sample, not in ``value``."""
        with torch.no_grad():
            frame = frame_of(self.loc, self.scale, self.low, self.high)
            mirrored = frame.unit < 0
            uniform = torch.where(mirrored, 1 - value, value)
            rest = torch.where(mirrored, value, 1 - value)
            position = quantile(frame, uniform, rest)
            x = _between(position, frame.origin, frame.unit, self.low, self.high)
        return self._moving(x, uniform.expand(x.shape), frame)

    @property
    def mean(self) -> Tensor:
        frame = frame_of(self.loc, self.scale, self.low, self.high)
        position, weights = quadrature(frame)
        return frame.origin + frame.unit * (weights * position).sum(0)

    @property
    def variance(self) -> Tensor:
        frame = frame_of(self.loc, self.scale, self.low, self.high)
        position, weights = quadrature(frame)
        centred = position - (weights * position).sum(0)
        return self.scale.square() * (weights * centred.square()).sum(0)

    @property
    def mode(self) -> Tensor:
        return torch.minimum(torch.maximum(self.loc, self.low), self.high)

    def entropy(self) -> Tensor:
        frame = frame_of(self.loc, self.scale, self.low, self.high)
        position, weights = quadrature(frame)
        energy = (weights * position * (0.5 * position + frame.reference)).sum(0)
        return energy + log_mass(frame) + self.scale.log()


def _draw(
    uniform: Tensor, origin: Tensor, unit: Tensor, low: Tensor, high: Tensor, *terms: Tensor
) -> Tensor:
    return _between(position_at(uniform, *terms), origin, unit, low, high)


def _draw_many(uniform: Tensor, low: Tensor, high: Tensor, *terms: Tensor) -> Tensor:
    return _within(point_at(uniform, *terms), low, high)


def _between(position: Tensor, origin: Tensor, unit: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return _within((position * unit).add_(origin), low, high)


def _within(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, low), high)


def _pull_back(
    gradient: Tensor,
    value: Tensor,
    loc: Tensor,
    scale: Tensor,
    low: Tensor,
    high: Tensor,
    uniform: Tensor,
    *constants: Tensor,
) -> tuple[Tensor | None, ...]:
    """Sums to the batch shape as early as it can."""
    frame = Frame(*constants)
    a, b, reference = frame.a, frame.b, frame.reference
    mirrored = frame.unit < 0
    at_a = (0.5 * (reference.square() - a.square())).exp()
    at_b = torch.where(
        frame.tail | frame.narrow,
        (-frame.width * (0.5 * frame.width + reference)).exp(),
        (-0.5 * b.square()).exp(),
    )
    at_a = torch.where(frame.tail | frame.narrow, 1.0, at_a)
    terms = gradient, value, uniform, frame.origin, frame.unit, reference
    total, moved, weight_a, weight_b = chunked_sums(_weights, loc.shape, *terms)
    d_a, d_b = at_a * weight_a, at_b * weight_b
    d_loc = total - d_a - d_b
    # Positions count from the reference, and so do the bounds: no difference of large numbers.
    to_a = torch.where(a.isfinite(), a - reference, 0.0)
    to_b = torch.where(b.isfinite(), b - reference, 0.0)
    d_scale = reference * d_loc + moved - to_a * d_a - to_b * d_b
    d_scale = torch.where(mirrored, -d_scale, d_scale)
    d_low, d_high = torch.where(mirrored, d_b, d_a), torch.where(mirrored, d_a, d_b)
    gradients = (once(x, value) for x in (d_loc, d_scale, d_low, d_high))
    return *gradients, None, *(None for _ in constants)


def _weights(
    gradient: Tensor,
    value: Tensor,
    uniform: Tensor,
    origin: Tensor,
    unit: Tensor,
    reference: Tensor,
) -> tuple[Tensor, ...]:
    position = (value - origin).div_(unit)
    # By powers of 2, which take a third of the time of exp.
    exponent = (position * (0.5 / _LOG_2)).add_(reference / _LOG_2).mul_(position)
    weight = exponent.exp2_() * gradient
    return gradient, position * gradient, weight * (1 - uniform), weight.mul_(uniform)


@register_tails(TruncatedNormal)
def _tails(fn: TruncatedNormal, value: Tensor) -> tuple[Tensor, Tensor]:
    frame = frame_of(fn.loc, fn.scale, fn.low, fn.high)
    position = (value - frame.origin) / frame.unit
    fraction = cdf_of(frame, position)
    a, b, z = frame.a, frame.b, frame.reference + position
    # cdf_of has relative precision from the end of a tail on; elsewhere by logarithms.
    below = torch.where(frame.tail | frame.narrow, fraction, _share(-b, -z, -a))
    above = torch.where(frame.narrow, 1 - fraction, _share(a, z, b))
    small = fraction < 0.5
    below, above = torch.where(small, below, 1 - above), torch.where(small, 1 - below, above)
    mirrored = frame.unit < 0
    below, above = torch.where(mirrored, above, below), torch.where(mirrored, below, above)
    return near_ends(fn, value, below, above)


def _share(low: Tensor, value: Tensor, high: Tensor) -> Tensor:
    """The mass above ``value`` of the standard normal between the bounds."""
    log_low, log_value, log_high = (log_ndtr(-x) for x in (low, value, high))
    whole = torch.expm1(log_high - log_low)
    return (log_value - log_low).exp() * torch.expm1(log_high - log_value) / whole


@register_kl(TruncatedNormal, TruncatedNormal)
def _kl(p: TruncatedNormal, q: TruncatedNormal) -> Tensor:
    within = (p.low >= q.low) & (p.high <= q.high)
    kl = p._expected(lambda x: p._log_density(x) - q._log_density(x))
    return torch.where(within, kl, math.inf)


@register_kl(TruncatedNormal, torch.distributions.Normal)
def _kl_to_normal(p: TruncatedNormal, q: torch.distributions.Normal) -> Tensor:
    return p._expected(lambda x: p._log_density(x) - q.log_prob(x))


@register_kl(TruncatedNormal, torch.distributions.Uniform)
def _kl_to_uniform(p: TruncatedNormal, q: torch.distributions.Uniform) -> Tensor:
    within = (p.low >= q.low) & (p.high <= q.high)
    return torch.where(within, (q.high - q.low).log() - p.entropy(), math.inf)


register_quantile(TruncatedNormal)(implicit_quantile)
register_differentiable_once(TruncatedNormal)(False)

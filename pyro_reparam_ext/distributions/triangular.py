"""The triangular distribution."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ..noise import standard_uniform
from ..numerics.implicit import implicit
from ..numerics.select import select
from .mixins.parametric import Parametric
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.quantile_quadrature import register_kink
from .rules.tails import register_tails


class Triangular(Parametric):
    r"""A density that rises linearly from ``low`` to ``peak`` and falls linearly to ``high``.

    .. math::
        f(x; a, b, c) = \frac{2}{b - a} \times \begin{cases}
            (x - a) / (c - a) & a \le x < c \\ (b - x) / (b - c) & c \le x \le b \end{cases}

    Sampled by the inverse CDF. On the rising side

    .. math::
        \frac{dx}{da} = 1 - \frac{x - a}{2} \Big(\frac{1}{b - a} + \frac{1}{c - a}\Big), \qquad
        \frac{dx}{db} = \frac{x - a}{2 (b - a)}, \qquad
        \frac{dx}{dc} = \frac{x - a}{2 (c - a)},

    and on the falling side its mirror image. Where the peak lies at an end, the gradient is that from
    within. A draw is never at an end of density 0, as far as the floats beside it go.

    See also:
        ``scipy.stats.triang(c=(peak - low) / (high - low), loc=low, scale=high - low)``.

    References:
        Kotz, van Dorp, *Beyond Beta: Other Continuous Families of Distributions with Bounded Support
        and Applications*, 2004, chapter 1, https://doi.org/10.1142/5720.

    Args:
        low: the lower end :math:`a`.
        high: the upper end :math:`b > a`, in the unit of ``low``.
        peak: the mode :math:`c`, :math:`a \le c \le b`; may equal either end.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: ``low < high`` or ``low <= peak <= high`` does not hold, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> peak = torch.tensor(0.5, requires_grad=True)
        >>> x = pre.distributions.Triangular(0.0, 2.0, peak).rsample((100_000,))
        >>> x.mean().backward()  # E[x] = (low + high + peak) / 3
        >>> print(f"{x.mean().item():.2f}, {peak.grad.item():.2f}")
        0.83, 0.33
    """

    arg_constraints = {"low": constraints.real, "high": constraints.real, "peak": constraints.real}
    has_rsample = True

    def __init__(
        self,
        low: Tensor | float = 0.0,
        high: Tensor | float = 1.0,
        peak: Tensor | float = 0.5,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__({"low": low, "high": high, "peak": peak}, validate_args=validate_args)
        if self._validate_args:
            if not (self.low < self.high).all():
                raise ValueError("Triangular takes low < high.")
            if not ((self.low <= self.peak) & (self.peak <= self.high)).all():
                raise ValueError("Triangular takes low <= peak <= high.")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        return constraints.interval(self.low, self.high)

    def _draw(self, shape: Size) -> Tensor:
        low, high, peak = self.low, self.high, self.peak
        left, right = (peak - low) / (high - low), (high - peak) / (high - low)
        u = standard_uniform(shape, low)
        rising = u < left
        root = (high - low) * select(rising, u * left, (1 - u) * right).sqrt()
        value = select(rising, low + root, high - root)
        first = torch.where(peak > low, torch.nextafter(low, high), low)
        last = torch.where(peak < high, torch.nextafter(high, low), high)
        return torch.clamp(value, first, last)

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity, self.low, self.high, self.peak)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        low, high, peak = self.low, self.high, self.peak
        rising = value < peak
        apart = torch.where(rising, value - low, high - value)
        side = torch.where(rising, peak - low, high - peak)
        at_corner = side == 0  # there the quotient is 1
        one = torch.ones_like(apart)
        at_zero = ~at_corner & (apart == 0)
        at_corner = at_corner | at_zero
        ratio = torch.where(at_corner, one, apart) / torch.where(at_corner, one, side)
        log_prob = math.log(2) - (high - low).log() + ratio.log()
        return torch.where(at_zero, -math.inf, log_prob)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        low, high, peak = self.low, self.high, self.peak
        below, above = _ratio(value - low, peak - low), _ratio(high - value, high - peak)
        falling = 1 - (high - peak) / (high - low) * above.square()
        return torch.where(value < peak, (peak - low) / (high - low) * below.square(), falling)

    def icdf(self, value: Tensor) -> Tensor:
        return _quantile(value, self.low, self.high, self.peak)

    @property
    def mean(self) -> Tensor:
        return self.low + ((self.high - self.low) + (self.peak - self.low)) / 3

    @property
    def mode(self) -> Tensor:
        return self.peak

    @property
    def variance(self) -> Tensor:
        left, right = self.peak - self.low, self.high - self.peak
        return (left.square() + left * right + right.square()) / 18

    def entropy(self) -> Tensor:
        return 0.5 + (0.5 * (self.high - self.low)).log()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole`` between 0 and 1; 1 where there is no whole."""
    empty = whole == 0
    part = torch.where(empty, torch.ones_like(part), part)
    return (part / torch.where(empty, torch.ones_like(whole), whole)).clamp(0, 1)


def _quantile(u: Tensor, low: Tensor, high: Tensor, peak: Tensor) -> Tensor:
    width, left, right = high - low, peak - low, high - peak
    rising = u * width < left
    # The root of 0 has no derivative: an end's quantile moves with the end alone.
    part = torch.where(rising, u * width * left, (1 - u) * width * right)
    positive = part > 0
    root = torch.where(positive, torch.where(positive, part, torch.ones_like(part)).sqrt(), 0.0)
    return torch.where(rising, low + root, high - root)


def _velocity(value: Tensor, low: Tensor, high: Tensor, peak: Tensor) -> tuple[Tensor, ...]:
    rising = value < peak
    left, right = peak - low, high - peak
    # A side of no width is met at the peak alone, where all sides meet: there the ratio is 1.
    left_share, right_share = (
        torch.where(x > 0, 0.5 / torch.where(x > 0, x, 1.0), 0.0) for x in (left, right)
    )
    apart = select(rising, value - low, high - value)
    d_peak = apart * select(rising, left_share, right_share)
    d_far = apart * (0.5 / (high - low))
    d_low = select(rising, 1 - d_far - d_peak, d_far)
    return d_low, 1 - d_peak - d_low, d_peak


@register_kink(Triangular)
def _kink(fn: Triangular) -> Tensor:
    return fn.peak


@register_tails(Triangular)
def _tails(fn: Triangular, value: Tensor) -> tuple[Tensor, Tensor]:
    low, high, peak = fn.low, fn.high, fn.peak
    rising, falling = _ratio(value - low, peak - low), _ratio(high - value, high - peak)
    lower = (peak - low) / (high - low) * rising.square()
    upper = (high - peak) / (high - low) * falling.square()
    below = value < peak
    return torch.where(below, lower, 1 - upper), torch.where(below, 1 - lower, upper)

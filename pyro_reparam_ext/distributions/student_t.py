"""Student's t-distribution."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions.distribution import Distribution
from torch.distributions.utils import broadcast_all

from ..numerics.beta_quantile import logit_beta_quantile
from ..numerics.implicit import implicit_joint
from ..numerics.log1mexp import log1mexp
from ..numerics.log1p_series import NEAR, log1p_ratio
from ..numerics.log_gamma_ratio import log_gamma_half_step
from ..numerics.normal_tail import HALF_LOG_2PI
from ..numerics.select import select
from ..numerics.standardised import standardised
from ..numerics.student_tails import student_tails
from .mixins.searched_quantile import SearchedQuantile
from .rules.half_precision import drawn_in_single
from .rules.inverse_cdf import register_inverted
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.pathwise import register_pathwise
from .rules.tails import register_tails, student_t_tails

NEAR_T = 0.5
"""Below it, the velocity by its series."""


class StudentT(SearchedQuantile, dist.StudentT):
    r"""Student's t, with any number of degrees of freedom.

    .. math::
        f(x; \nu, \mu, \sigma) \propto \frac1\sigma \Big(1 + \frac{y^2}{\nu}\Big)^{-(\nu + 1) / 2},
        \qquad y = \frac{x - \mu}{\sigma}

    A draw is a polar transformation of two standard normals (Bailey), with which it moves:

    .. math::
        y = z_1 \sqrt{\frac{e^t - 1}{t}}, \quad t = \frac{z_1^2 + z_2^2}{\nu}, \qquad
        \frac{dx}{d\nu} = -\frac{\sigma y}{2 \nu} \Big(\frac{t}{1 - e^{-t}} - 1\Big), \quad
        \frac{dx}{d\mu} = 1, \quad \frac{dx}{d\sigma} = y.

    The gradient in :math:`\nu` is an unbiased estimate of the implicit one, which
    :func:`~pyro_reparam_ext.distributions.pathwise_at` gives. Draws beyond the largest number of the
    dtype are cut to it, and gradients are cut to a magnitude at which they can be summed.

    See also:
        ``scipy.stats.t(df, loc, scale)``; :class:`pyro.distributions.StudentT`, from which it derives.

    References:
        Bailey, *Polar Generation of Random Variates with the t-Distribution*, 1994,
        https://doi.org/10.1090/S0025-5718-1994-1203736-0.

    Args:
        df: degrees of freedom :math:`\nu > 0`. The mean exists for :math:`\nu > 1`, a finite variance
            for :math:`\nu > 2`.
        loc: :math:`\mu`.
        scale: :math:`\sigma > 0`, in the unit of ``loc``.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: ``df`` or ``scale`` is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> df = torch.tensor(4.0, requires_grad=True)
        >>> x = pre.distributions.StudentT(df, 1.0, 2.0).rsample((100_000,))
        >>> (x - 1).abs().log().mean().backward()  # (1 / df - d/df digamma(df / 2)) / 2
        >>> print(f"{x.mean().item():.1f}, {df.grad.item():.3f}")
        1.0, -0.036
    """

    def __init__(
        self,
        df: Tensor | float,
        loc: Tensor | float = 0.0,
        scale: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        Distribution.__init__(self, self.df.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = self._get_checked_instance(StudentT, _instance)
        batch_shape = torch.Size(batch_shape)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        Distribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            info = torch.finfo(self.df.dtype)
            normal = torch.randn(shape, dtype=self.df.dtype, device=self.df.device)
            other = torch.randn(shape, dtype=self.df.dtype, device=self.df.device)
            t = ((normal.square() + other.square()) / self.df).clamp(info.tiny, info.max)
            # sqrt((exp(t) - 1) / t), which overflows only where the draw does.
            stretch = (0.5 * t).exp() * ((-t).expm1() / -t).sqrt()
            standard = normal * stretch.clamp(max=info.max)
            value = (self.loc + self.scale * standard).clamp(-info.max, info.max)
        return implicit_joint(value, _pull_back, self.df, self.loc, self.scale, standard, t)

    @property
    def _interior(self) -> Tensor:
        return self.loc

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        df = self.df
        info = torch.finfo(value.dtype)
        half_step, _ = log_gamma_half_step(0.5 * df)
        y = (value - self.loc) * (1 / self.scale)  # the derivative of a quotient overflows with it
        # Beyond, the square overflows and the logarithm is taken of the factors.
        s = y.clamp(-(info.max**0.25), info.max**0.25).square() / df
        near, far = s.abs() < NEAR, s > 1 / info.eps
        s_near = torch.where(near, s, torch.zeros_like(s))
        y_near = torch.where(near, y, torch.zeros_like(y))
        series = 0.5 * y_near.square() * (1 + 1 / df) * log1p_ratio(s_near)
        middle = torch.where(near | far, torch.ones_like(s), s).log1p()
        apart = torch.where(far, (value - self.loc).abs(), torch.ones_like(s))
        logarithm = torch.where(far, 2 * (apart.log() - self.scale.log()) - df.log(), middle)
        power = torch.where(near, series, 0.5 * (df + 1) * logarithm)
        return half_step - HALF_LOG_2PI - self.scale.log() - power

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        with torch.no_grad():
            below, _ = student_tails((value.double() - self.loc) / self.scale, self.df)
            cdf = below.to(self.df.dtype)
        return implicit_joint(cdf, _pull_back_cdf, value, self.df, self.loc, self.scale)

    @property
    def mean(self) -> Tensor:
        return torch.where(self.df > 1, self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        finite = self.df > 2
        df = torch.where(finite, self.df, 3.0)
        infinite = torch.where(self.df > 1, math.inf, math.nan).to(df.dtype)
        return torch.where(finite, self.scale.square() * (df / (df - 2)), infinite)

    def entropy(self) -> Tensor:
        half_step, slope = log_gamma_half_step(0.5 * self.df)
        spread = 0.5 * (1 + 1 / self.df) * (1 + self.df * slope)
        return self.scale.log() + HALF_LOG_2PI - half_step + spread


def _pull_back(
    gradient: Tensor, value: Tensor, df: Tensor, loc: Tensor, scale: Tensor, standard: Tensor, t: Tensor
) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        # For a second derivative: the noise is what stays, not what was made of it.
        largest = torch.finfo(standard.dtype).max
        standard = standardised(standard.clamp(-largest, largest), value, loc, scale)
        t = t * (df.detach() / df)
    return *_moved(gradient, df, scale, standard, _shrinkage(t)), None, None


def _pull_back_implicit(
    gradient: Tensor, value: Tensor, df: Tensor, loc: Tensor, scale: Tensor
) -> tuple[Tensor, ...]:
    """The mean of the gradients of all pairs of normals that lead to the value.

    Given the draw, t exceeds log(1 + y^2 / df) by some r of density exp(-df r / 2) / sqrt(exp(r) - 1),
    whatever the draw: by the trapezoidal rule in sqrt(r), where the density is smooth and even.
    """
    info = torch.finfo(value.dtype)
    y = ((value - loc) / scale).clamp(-info.max, info.max)
    ratio = y.abs() / df.sqrt()
    large = info.max**0.25  # whose square is not too large
    lowest = ratio.clamp(max=large).square().log1p() + 2 * (ratio / large).clamp(min=1).log()
    step = 0.55 / (df + 1).sqrt()
    total, weighted = torch.full_like(df, 0.5), 0.5 * _shrinkage(lowest)
    for k in range(1, 15):
        r = (k * step).square()
        weight = (-0.5 * df * r).exp() * (r / r.expm1()).sqrt()
        total, weighted = total + weight, weighted + weight * _shrinkage(lowest + r)
    return _moved(gradient, df, scale, y, weighted / total)


def _pull_back_cdf(
    gradient: Tensor, cdf: Tensor, value: Tensor, df: Tensor, loc: Tensor, scale: Tensor
) -> tuple[Tensor, ...]:
    density = StudentT(df, loc, scale, validate_args=False).log_prob(value).exp()
    weight = gradient * density
    # Constant along the motion of a draw.
    return weight, *_pull_back_implicit(-weight, value, df, loc, scale)


def _moved(
    gradient: Tensor, df: Tensor, scale: Tensor, standard: Tensor, shrinkage: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    # Cut so that the gradients of all draws can be summed.
    bound = torch.finfo(standard.dtype).max * torch.finfo(standard.dtype).eps
    standard = standard.clamp(-bound, bound)
    d_df = ((-0.5 * scale / df) * standard * shrinkage).clamp(-bound, bound)
    return gradient * d_df, gradient, gradient * standard


def _shrinkage(t: Tensor) -> Tensor:
    """t / (1 - exp(-t)) - 1, which is t / 2 + h^2 / 3 - h^4 / 45 + ... with h = t / 2."""
    square = (0.5 * t.clamp(max=NEAR_T)).square()
    series = square * (2 / 93555) - 1 / 4725
    for c in (2 / 945, -1 / 45, 1 / 3):
        series = (series * square).add_(c)
    far = t / -(-t.clamp(min=NEAR_T)).expm1() - 1
    return select(t < NEAR_T, 0.5 * t + series * square, far)


register_tails(StudentT)(student_t_tails)


@register_pathwise(torch.distributions.StudentT)
def _at(fn: torch.distributions.StudentT, value: Tensor) -> Tensor:
    return implicit_joint(value, _pull_back_implicit, fn.df, fn.loc, fn.scale)


def _of_tail(fn: StudentT, log_mass: Tensor, upper: Tensor) -> Tensor:
    # The square over (df + square) is Beta(1/2, df/2), with both tails above it.
    both = log_mass + math.log(2)
    middle = both > -math.log(2)
    within = log1mexp(torch.where(middle, both, -1.0).clamp(max=-torch.finfo(both.dtype).tiny))
    half = torch.full_like(both, 0.5)
    logit = logit_beta_quantile(torch.where(middle, within, both), ~middle, half, 0.5 * fn.df)
    far = torch.where(both < 0, (0.5 * logit).exp() * fn.df.sqrt(), 0.0)
    return fn.loc + fn.scale * torch.where(upper, far, -far)


register_inverted(StudentT, rule=_of_tail)

"""The generalised Pareto distribution."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ..noise import standard_exponential
from ..numerics.chunked import chunked
from ..numerics.chunked_sums import chunked_sums
from ..numerics.implicit import implicit, implicit_joint
from ..numerics.log1mexp import log1mexp
from ..numerics.log1p_series import NEAR, log1p_ratio
from ..numerics.select import select
from ..numerics.standardised import standardised
from .mixins.parametric import Parametric
from .rules.copies import mapped, unchecked
from .rules.half_precision import drawn_in_single
from .rules.log_tails import LogTails, register_log_tails, wide
from .rules.noise_map import NoiseMap, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.quantile import register_quantile
from .rules.standard import Standard, register_standard
from .rules.tails import register_tails
from .supports.interval import ExtendedInterval


class GeneralizedPareto(Parametric):
    r"""The limit law of what exceeds a high threshold.

    .. math::
        F(x; \mu, \sigma, c) = 1 - (1 + c z)^{-1/c}, \qquad z = \frac{x - \mu}{\sigma} \ge 0,

    which is :math:`1 - e^{-z}` at :math:`c = 0`. For :math:`c < 0` the support ends at
    :math:`\mu - \sigma / c`. A draw is :math:`z = (e^{c \varepsilon} - 1) / c` with a standard
    exponential :math:`\varepsilon`, and moves by

    .. math::
        \frac{dx}{d\mu} = 1, \qquad \frac{dx}{d\sigma} = z, \qquad
        \frac{dx}{dc} = \sigma\, \frac{(1 + c z) \log(1 + c z) - c z}{c^2}
            \;\xrightarrow{c \to 0}\; \frac{\sigma z^2}{2}.

    All quotients are by their series about :math:`c z = 0`, so that values and gradients are continuous
    there. Draws beyond the largest number of the dtype are cut to it, and gradients are cut to a
    magnitude at which they can be summed. At an upper end ``log_prob`` is that of the nearest point
    inside.

    See also:
        ``scipy.stats.genpareto(c=concentration, loc=loc, scale=scale)``.

    References:
        Hosking, Wallis, *Parameter and Quantile Estimation for the Generalized Pareto Distribution*,
        1987, https://doi.org/10.1080/00401706.1987.10488243.

    Args:
        loc: the lower end :math:`\mu`.
        scale: :math:`\sigma > 0`, in the unit of ``loc``.
        concentration: the shape :math:`c`, real, without unit. The mean is finite for :math:`c < 1`,
            the variance for :math:`c < 1/2`.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: ``scale`` is not positive or a parameter is NaN, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> c = torch.tensor(0.0, requires_grad=True)
        >>> x = pre.distributions.GeneralizedPareto(0.0, 1.0, c).rsample((100_000,))
        >>> x.tanh().mean().backward()
        >>> print(f"{c.grad.item():.2f}")
        0.11
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        concentration: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"loc": loc, "scale": scale, "concentration": concentration}
        super().__init__(parameters, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        return ExtendedInterval(self.loc, self._upper)

    @property
    def _upper(self) -> Tensor:
        bounded = self.concentration < 0
        c = torch.where(bounded, self.concentration, -torch.ones_like(self.concentration))
        return torch.where(bounded, self.loc - self.scale / c, math.inf)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            exponential = standard_exponential(shape, self.loc)
            upper = self._upper.clamp(max=torch.finfo(exponential.dtype).max)
            parameters = self.loc, self.scale, _nonzero(self.concentration), upper
            value, excess = chunked(_value, exponential, *parameters)
        return self._moving(value, exponential, excess)

    def _at(self, value: Tensor) -> Tensor:
        with torch.no_grad():
            exponential, _ = self._exponential(value)
            excess = _excess(exponential, self.concentration)
        return self._moving(value, exponential, excess)

    def _moving(self, value: Tensor, exponential: Tensor, excess: Tensor) -> Tensor:
        parameters = self.loc, self.scale, self.concentration
        return implicit_joint(value, _pull_back, *parameters, exponential, excess)

    def _exponential(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The standard exponential draw that gives the value, and c z, inside the support."""
        info = torch.finfo(value.dtype)
        with torch.no_grad():
            z = ((value - self.loc) / self.scale).clamp(max=info.max)
        z = standardised(z, value, self.loc, self.scale)
        s = self.concentration * z
        # Inside whatever was rounded, with the gradient of the point outside.
        s = implicit_joint(s.detach().clamp(info.eps - 1, info.max), _as_it_is, s)
        near = s.abs() < NEAR
        series = z * log1p_ratio(torch.where(near, s, torch.zeros_like(s)))
        s_far = torch.where(near, torch.ones_like(s), s)
        c_far = torch.where(near, torch.ones_like(s), self.concentration)
        return torch.where(near, series, s_far.log1p() / c_far), s

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        exponential, s = self._exponential(value)
        return -self.scale.log() - s.log1p() - exponential

    @property
    def _interior(self) -> Tensor:
        return self.loc

    def log_survival_function(self, value: Tensor) -> Tensor:
        """The logarithm of the mass above the value, computed in float64."""
        if self._validate_args:
            self._validate_sample(value)
        fn, x = mapped(self, wide), value.double()
        return fn._log_survival(torch.maximum(x, fn.loc)).to(value.dtype)

    def _log_survival(self, value: Tensor) -> Tensor:
        return torch.where(value < self._upper, -self._exponential(value)[0], -math.inf)

    def log_cdf(self, value: Tensor) -> Tensor:
        """The logarithm of the mass up to the value, computed in float64."""
        if self._validate_args:
            self._validate_sample(value)
        fn, x = mapped(self, wide), value.double()
        above = x > fn.loc
        log_rest = fn._log_survival(torch.where(above, x, fn.loc + fn.scale))
        return torch.where(above, log1mexp(log_rest), -math.inf).to(value.dtype)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        return -self._log_survival(value).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        c = self.concentration.detach()
        last = value == 1
        exponential = -torch.log1p(-torch.where(last, 0.0, value))
        excess = _excess(torch.where(last, math.inf, exponential.detach()), c)
        # The last quantile moves with the upper end alone: exp(c e) is 0 beside 1 from here on.
        exponential = torch.where(last, 40 / c.abs().clamp(min=1e-15), exponential)
        excess = implicit(excess, _excess_velocity, self.concentration, exponential)
        return self.loc + self.scale * excess

    @property
    def mean(self) -> Tensor:
        finite = self.concentration < 1
        c = torch.where(finite, self.concentration, torch.zeros_like(self.concentration))
        return torch.where(finite, self.loc + self.scale / (1 - c), math.inf)

    @property
    def mode(self) -> Tensor:
        return torch.where(self.concentration >= -1, self.loc, self._upper)

    @property
    def variance(self) -> Tensor:
        finite = self.concentration < 0.5
        c = torch.where(finite, self.concentration, torch.zeros_like(self.concentration))
        return torch.where(finite, (self.scale / (1 - c)).square() / (1 - 2 * c), math.inf)

    def entropy(self) -> Tensor:
        return 1 + self.concentration + self.scale.log()


def _excess(exponential: Tensor, concentration: Tensor) -> Tensor:
    c = _nonzero(concentration)
    return ((c * exponential).expm1() / c).clamp(max=torch.finfo(exponential.dtype).max)


def _value(
    exponential: Tensor, loc: Tensor, scale: Tensor, c: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """A draw, and the excess that it was made of; ``c``: the concentration, not 0."""
    excess = (exponential * c).expm1_().div_(c).clamp(max=torch.finfo(c.dtype).max)
    return torch.minimum((excess * scale).add_(loc), upper), excess


def _nonzero(c: Tensor) -> Tensor:
    """Where c is 0, so little that draws and logarithms are as at 0, yet a divisor."""
    return torch.where(c.abs() < 1e-20, c + (1e-20 - c).detach(), c)


def _as_it_is(gradient: Tensor, value: Tensor, s: Tensor) -> tuple[Tensor]:
    return (gradient,)


def _pull_back(
    gradient: Tensor,
    value: Tensor,
    loc: Tensor,
    scale: Tensor,
    concentration: Tensor,
    exponential: Tensor,
    excess: Tensor,
) -> tuple[Tensor | None, ...]:
    info = torch.finfo(value.dtype)
    # Cut so that the gradients of all draws can be summed.
    bound = torch.full_like(loc, info.max * info.eps)
    bound_of_slope = bound / scale.detach().clamp(min=1)
    terms = _nonzero(concentration), bound, bound_of_slope
    moved, bent = chunked_sums(_pulled, loc.shape, gradient, exponential, excess, *terms)
    return gradient, moved, scale * bent, None, None


def _pulled(
    gradient: Tensor,
    exponential: Tensor,
    excess: Tensor,
    c: Tensor,
    bound: Tensor,
    bound_of_slope: Tensor,
) -> tuple[Tensor, Tensor]:
    t = c * exponential
    z = torch.minimum(excess, bound)
    if torch.is_grad_enabled():
        z = implicit(z.detach(), _excess_velocity, c, exponential)
    return gradient * z, gradient * torch.minimum(_excess_slope(z, exponential, t, c), bound_of_slope)


def _excess_velocity(
    excess: Tensor, concentration: Tensor, exponential: Tensor
) -> tuple[Tensor, Tensor]:
    c = _nonzero(concentration)
    slope = _excess_slope(excess, exponential, c * exponential, c)
    return slope, 1 + concentration * excess


def _excess_slope(excess: Tensor, exponential: Tensor, t: Tensor, c: Tensor) -> Tensor:
    r"""The derivative of :math:`z = (e^t - 1) / c` in c, :math:`t = c \varepsilon`."""
    count, radius = (11, 0.25) if t.dtype == torch.float64 else (4, 0.06)
    near = t.clamp(-radius, radius)
    # e^2 (t exp(t) - exp(t) + 1) / t^2
    first, *others = (1 / (math.factorial(k) * (k + 2)) for k in reversed(range(count)))
    series = (near * first).add_(others[0])
    for coefficient in others[1:]:
        series = series.mul_(near).add_(coefficient)
    beyond = (t - near).detach().sign_().abs_()
    # Where the graph is recorded, the quotient must have a derivative even if it is not taken.
    divisor = torch.where(beyond == 0, 1.0, c) if torch.is_grad_enabled() else c
    bound = torch.finfo(t.dtype).max * torch.finfo(t.dtype).eps
    far = torch.addcmul(exponential, t, excess).sub_(excess).div_(divisor).clamp(-bound, bound)
    return select(beyond, far, series.mul_(exponential).mul_(exponential))


@register_tails(GeneralizedPareto)
def _tails(fn: GeneralizedPareto, value: Tensor) -> tuple[Tensor, Tensor]:
    log_survival = fn.log_survival_function(value)
    return -log_survival.expm1(), log_survival.exp()


def _from_exponential(fn: GeneralizedPareto, exponential: Tensor) -> Tensor:
    return fn.loc + fn.scale * _excess(exponential, fn.concentration)


register_log_tails(GeneralizedPareto)(
    LogTails(
        lambda fn, x: fn.log_cdf(x),
        lambda fn, x: fn.log_survival_function(x),
        lambda fn, p: _from_exponential(fn, -log1mexp(p.clamp(max=-torch.finfo(p.dtype).tiny))),
        lambda fn, p: _from_exponential(fn, -p),
    )
)


@register_standard(torch.distributions.GeneralizedPareto, GeneralizedPareto)
def _standard(fn: Any) -> Standard:
    kept = {"loc": torch.zeros_like(fn.loc), "scale": torch.ones_like(fn.scale)}
    noise = unchecked(fn, GeneralizedPareto, **kept, concentration=fn.concentration)
    return Standard(fn.loc, fn.scale, noise)


@register_quantile(torch.distributions.GeneralizedPareto)
def _quantile(fn: Any, u: Tensor) -> Tensor:
    names = ("loc", "scale", "concentration")
    return unchecked(fn, GeneralizedPareto, **{name: getattr(fn, name) for name in names}).icdf(u)


def _forward(fn: GeneralizedPareto, noise: Tensor) -> Tensor:
    with torch.no_grad():
        upper = fn._upper.clamp(max=torch.finfo(noise.dtype).max)
        value, excess = _value(noise, fn.loc, fn.scale, _nonzero(fn.concentration), upper)
    return fn._moving(value, noise, excess)


@torch.no_grad()
def _inverse(fn: GeneralizedPareto, value: Tensor) -> Tensor:
    noise, s = fn._exponential(value)
    # At the upper end, which stands for all noise beyond.
    beyond = standard_exponential(noise.shape, noise)
    return noise + torch.where(s <= 2 * torch.finfo(s.dtype).eps - 1, beyond, 0.0)


register_noise_map(GeneralizedPareto)(
    NoiseMap(lambda fn: dist.Exponential(torch.ones_like(fn.loc)), _forward, _inverse)
)

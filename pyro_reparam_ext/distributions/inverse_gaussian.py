"""The inverse Gaussian (Wald) distribution."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.nn.functional import logsigmoid

from ..noise import signs_like, standard_exponential
from ..numerics.implicit import implicit, implicit_joint
from ..numerics.normal_tail import HALF_LOG_2PI, excess_hazard, normal_cdf, normal_quantile
from .mixins.parametric import Parametric
from .mixins.searched_quantile import SearchedQuantile
from .rules.inverse_cdf import register_inverted
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.tails import register_tails


class InverseGaussian(SearchedQuantile, Parametric):
    r"""The first time at which a Brownian motion with drift reaches a level.

    .. math::
        f(x; \mu, \lambda) = \sqrt{\frac{\lambda}{2 \pi x^3}}
            \exp\Big(-\frac{\lambda (x - \mu)^2}{2 \mu^2 x}\Big), \qquad x > 0

    Sampled from one normal and one uniform (Michael et al.), with the implicit gradient, which is
    closed: with :math:`b = \sqrt{\lambda / x}\,(x / \mu + 1)` and the hazard h of the standard normal,

    .. math::
        \frac{dx}{d\mu} = \frac{2 \sqrt{\lambda x^3}}{\mu^2\, h(b)}, \qquad
        \lambda \frac{dx}{d\lambda} = x - \mu \frac{dx}{d\mu}.

    See also:
        ``scipy.stats.invgauss(mu=loc / concentration, scale=concentration)``.

    References:
        Michael, Schucany, Haas, *Generating Random Variates Using Transformations with Multiple Roots*,
        1976. Giner, Smyth, *statmod: Probability Calculations for the Inverse Gaussian Distribution*,
        2016, https://arxiv.org/abs/1603.06687.

    Args:
        loc: the mean :math:`\mu > 0`.
        concentration: :math:`\lambda > 0`, in the unit of ``loc``; the variance is
            :math:`\mu^3 / \lambda`.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> loc = torch.tensor(2.0, requires_grad=True)
        >>> x = pre.distributions.InverseGaussian(loc, 3.0).rsample((10_000,))
        >>> x.mean().backward()  # d E[x] / d loc = 1
        >>> print(f"{x.mean().item():.1f}, {loc.grad.item():.1f}")
        2.0, 1.0
    """

    arg_constraints = {"loc": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(
        self, loc: Tensor | float, concentration: Tensor | float, *, validate_args: bool | None = None
    ) -> None:
        super().__init__({"loc": loc, "concentration": concentration}, validate_args=validate_args)

    def _draw(self, shape: Size) -> Tensor:
        """Both roots in logarithms: they are exp(+-e), and the smaller has probability sigmoid(e)."""
        options = {"dtype": self.loc.dtype, "device": self.loc.device}
        half = 0.5 * (self.loc / self.concentration).sqrt()
        slope = torch.randn(shape, **options).abs_() * half
        # Twice the inverse hyperbolic sine, whose kernel in torch is slow.
        exponent = slope.square().add_(1).sqrt_().add_(slope).log_().mul_(2)
        sign = torch.rand(shape, **options) - exponent.sigmoid()
        value = self.loc * exponent.copysign(sign).exp_()
        info = torch.finfo(value.dtype)
        return value.clamp(info.tiny, info.max)

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity, self.loc, self.concentration)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        with torch.no_grad():
            energy = _energy(value, self.loc, self.concentration)
        energy = implicit_joint(energy, _pull_back_energy, value, self.loc, self.concentration)
        return 0.5 * (self.concentration.log() - energy) - 1.5 * value.log() - HALF_LOG_2PI

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        root = (self.concentration / value).sqrt()
        lower, upper = root * (value / self.loc - 1), root * (value / self.loc + 1)
        # exp(2 concentration / loc) Q(upper), where the factors overflow and underflow.
        reflected = (-0.5 * lower.square() - HALF_LOG_2PI).exp() / (upper + excess_hazard(upper))
        return normal_cdf(lower) + reflected

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        ratio = 1.5 * self.loc / self.concentration
        return self.loc / (torch.hypot(torch.ones_like(ratio), ratio) + ratio)

    @property
    def variance(self) -> Tensor:
        return self.loc**3 / self.concentration


def _energy(value: Tensor, loc: Tensor, concentration: Tensor) -> Tensor:
    """concentration (value - loc)^2 / (loc^2 value), in an order in which only the result overflows."""
    deviation = value - loc
    return concentration / loc * deviation / loc * (deviation / value)


def _pull_back_energy(
    gradient: Tensor, energy: Tensor, value: Tensor, loc: Tensor, concentration: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    # In closed form: by parts, terms as large as the energy cancel.
    bound = torch.finfo(energy.dtype).max
    ratio, deviation = concentration / loc, value - loc
    d_value = ratio * (deviation / value) * (1 / loc + 1 / value)
    d_loc = -2 * (ratio * (deviation / loc) / loc)
    by_each = d_value, d_loc, energy / concentration
    d_value, d_loc, d_concentration = (x.clamp(-bound, bound) for x in by_each)
    return gradient * d_value, gradient * d_loc, gradient * d_concentration


def _velocity(value: Tensor, loc: Tensor, concentration: Tensor) -> tuple[Tensor, Tensor]:
    ratio, root = value / loc, (concentration / value).sqrt()
    upper = root * (ratio + 1)
    excess = excess_hazard(upper)
    mills = ratio / (upper + excess)
    d_loc = 2 * root * ratio * mills
    d_concentration = (root * (1 - ratio) + excess) * mills * loc / concentration
    return d_loc, d_concentration


@register_kl(InverseGaussian, InverseGaussian)
def _kl(p: InverseGaussian, q: InverseGaussian) -> Tensor:
    ratio = q.concentration / p.concentration
    shift = q.concentration / p.loc * (p.loc / q.loc - 1).square()
    return 0.5 * (ratio - 1 - ratio.log() + shift)


@register_tails(InverseGaussian)
def _tails(fn: InverseGaussian, value: Tensor) -> tuple[Tensor, Tensor]:
    root = (fn.concentration / value).sqrt()
    lower, upper = root * (value / fn.loc - 1), root * (value / fn.loc + 1)
    density = (-0.5 * lower.square()).exp()
    reflected = 0.5 * density * torch.special.erfcx(upper * math.sqrt(0.5))
    # The difference of two tails: erfcx takes their common factor out.
    beyond = 0.5 * density * torch.special.erfcx(lower.clamp(min=0) * math.sqrt(0.5)) - reflected
    below = normal_cdf(lower) + reflected
    return below, torch.where(lower > 0, beyond.clamp(min=0), 1 - below)


@torch.no_grad()
def _value(fn: InverseGaussian, noise: Tensor) -> Tensor:
    """The larger root where the second number says so, by the probability of the smaller."""
    normal, choice = noise.unbind(-1)
    exponent = 2 * torch.asinh(0.5 * (fn.loc / fn.concentration).sqrt() * normal.abs())
    value = fn.loc * exponent.copysign(normal_cdf(choice) - exponent.sigmoid()).exp()
    info = torch.finfo(value.dtype)
    return value.clamp(info.tiny, info.max)


@torch.no_grad()
def _inverse(fn: InverseGaussian, value: Tensor) -> Tensor:
    log_ratio = (value / fn.loc).log()
    exponent = log_ratio.abs()
    normal = torch.sinh(0.5 * exponent) * 2 * (fn.concentration / fn.loc).sqrt()
    # Of the choices that lead to this root.
    log_share = -standard_exponential(exponent.shape, exponent)
    lower, upper = logsigmoid(exponent) + log_share, logsigmoid(-exponent) + log_share
    choice = torch.where(log_ratio < 0, normal_quantile(lower), -normal_quantile(upper))
    return torch.stack([normal * signs_like(normal, normal.shape), choice], -1)


register_noise_map(InverseGaussian)(
    NoiseMap(lambda fn: normals(fn.loc, 2), lambda fn, noise: fn._at(_value(fn, noise)), _inverse)
)


register_inverted(InverseGaussian)

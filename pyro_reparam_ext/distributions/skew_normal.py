"""The skew normal distribution."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ..noise import signs_like, standard_exponential
from ..numerics.hazard_root import skewed_mode
from ..numerics.implicit import implicit, implicit_joint
from ..numerics.normal_tail import (
    HALF_LOG_2PI,
    hazard_and_excess,
    log_ndtr,
    normal_cdf,
    normal_quantile,
)
from ..numerics.owens_t import owens_t
from ..numerics.tail_integral import log_tail
from .mixins.parametric import Parametric
from .mixins.searched_quantile import SearchedQuantile
from .rules.inverse_cdf import register_inverted
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.tails import register_tails


class SkewNormal(SearchedQuantile, Parametric):
    r"""Azzalini's skew normal distribution.

    .. math::
        f(x; \xi, \omega, \alpha) = \frac{2}{\omega} \phi(z) \Phi(\alpha z), \qquad
        z = \frac{x - \xi}{\omega}

    Sampled as :math:`z = (\alpha |z_0| + z_1) / \sqrt{1 + \alpha^2}` of two normals, with the implicit
    gradient, which is closed:

    .. math::
        \frac{dz}{d\alpha} = \frac{1}{1 + \alpha^2} \frac{\phi(\alpha z)}{\Phi(\alpha z)}.

    See also:
        ``scipy.stats.skewnorm(a=skewness, loc, scale)``.

    References:
        Azzalini, *A Class of Distributions Which Includes the Normal Ones*, 1985,
        https://www.jstor.org/stable/4615982.

    Args:
        loc: the location :math:`\xi`, which is not the mean.
        scale: the scale :math:`\omega > 0`, which is not the standard deviation.
        skewness: :math:`\alpha`, any real number; 0 is the normal distribution, and the half-normal one
            is the limit at infinity.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is invalid, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> skewness = torch.tensor(0.0, requires_grad=True)
        >>> x = pre.distributions.SkewNormal(0.0, 1.0, skewness).rsample((10_000,))
        >>> x.mean().backward()  # the square root of 2 / pi
        >>> print(f"{skewness.grad.item():.3f}")
        0.798
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "skewness": constraints.real,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        skewness: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"loc": loc, "scale": scale, "skewness": skewness}
        super().__init__(parameters, validate_args=validate_args)

    def _draw(self, shape: Size) -> Tensor:
        options = {"dtype": self.loc.dtype, "device": self.loc.device}
        common, own = torch.randn(shape, **options), torch.randn(shape, **options)
        norm = _norm(self.skewness)
        return self.loc + self.scale * (self.skewness / norm * common.abs() + own / norm)

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity, self.loc, self.scale, self.skewness)

    @property
    def _interior(self) -> Tensor:
        return self.loc

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        constant = math.log(2) - HALF_LOG_2PI - self.scale.log()
        return constant - 0.5 * z * z + log_ndtr(self.skewness * z)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        below, _ = _tails(self, value)
        return implicit_joint(below, _pull_back_cdf, value, self.loc, self.scale, self.skewness)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * math.sqrt(2 / math.pi) * self.skewness / _norm(self.skewness)

    @property
    def mode(self) -> Tensor:
        return self.loc + self.scale * skewed_mode(self.skewness)

    @property
    def variance(self) -> Tensor:
        delta = self.skewness / _norm(self.skewness)
        return self.scale.square() * (1 - 2 / math.pi * delta.square())


def _norm(skewness: Tensor) -> Tensor:
    """The root of 1 + skewness**2, without overflow."""
    return torch.hypot(torch.ones_like(skewness), skewness)


def _velocity(
    value: Tensor, loc: Tensor, scale: Tensor, skewness: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    z = (value - loc) / scale
    ratio, _ = hazard_and_excess(-skewness * z)
    return torch.ones_like(z), z, ratio * (scale / _norm(skewness) / _norm(skewness))


def _forward(fn: SkewNormal, noise: Tensor) -> Tensor:
    common, own = noise.unbind(-1)
    norm = _norm(fn.skewness)
    return fn._at((fn.loc + fn.scale * (fn.skewness / norm * common.abs() + own / norm)).detach())


@torch.no_grad()
def _inverse(fn: SkewNormal, value: Tensor) -> Tensor:
    """Given z, the common part is a normal about z alpha / norm, of scale 1 / norm, above 0."""
    z, alpha, norm = (value - fn.loc) / fn.scale, fn.skewness, _norm(fn.skewness)
    log_above = log_ndtr(alpha * z)
    apart = -normal_quantile(log_above - standard_exponential(log_above.shape, log_above))
    common = ((alpha * z + apart) / norm).clamp(min=0)
    own = (z - alpha * apart) / norm
    return torch.stack([common * signs_like(common, common.shape), own], -1)


register_noise_map(SkewNormal)(NoiseMap(lambda fn: normals(fn.loc, 2), _forward, _inverse))


@register_tails(SkewNormal)
@torch.no_grad()
def _tails(fn: SkewNormal, value: Tensor) -> tuple[Tensor, Tensor]:
    """The smaller one by quadrature, since the terms of the closed form cancel."""
    z = (value - fn.loc) / fn.scale
    dtype = (z + fn.skewness).dtype
    z, alpha = torch.broadcast_tensors(z.double(), fn.skewness.double())
    side = torch.where(normal_cdf(z) - 2 * owens_t(z, alpha) < 0.5, -1.0, 1.0)
    slope = alpha * hazard_and_excess(-alpha * z)[0] - z
    tail = log_tail(lambda z: log_ndtr(alpha * z) - 0.5 * z * z, z, side, slope)
    tail = (tail + math.log(2) - HALF_LOG_2PI).exp()
    below, above = torch.where(side < 0, tail, 1 - tail), torch.where(side < 0, 1 - tail, tail)
    return below.to(dtype), above.to(dtype)


def _pull_back_cdf(
    gradient: Tensor, cdf: Tensor, value: Tensor, loc: Tensor, scale: Tensor, skewness: Tensor
) -> tuple[Tensor, ...]:
    fn = SkewNormal(loc, scale, skewness, validate_args=False)
    weight = gradient * fn.log_prob(value).exp()
    return weight, *(-weight * v for v in _velocity(value, loc, scale, skewness))


register_inverted(SkewNormal)

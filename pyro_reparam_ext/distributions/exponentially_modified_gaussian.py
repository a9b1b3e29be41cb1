"""The sum of a normal and an exponential variable."""

from __future__ import annotations

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ..noise import standard_exponential
from ..numerics.hazard_root import excess_at_hazard
from ..numerics.implicit import implicit, implicit_joint
from ..numerics.normal_tail import (
    HALF_LOG_2PI,
    excess_hazard,
    hazard_and_excess,
    log_ndtr,
    normal_cdf,
    normal_quantile,
)
from .mixins.parametric import Parametric
from .mixins.searched_quantile import SearchedQuantile
from .rules.copies import unchecked
from .rules.inverse_cdf import register_inverted
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.standard import Standard, register_standard
from .rules.tails import register_tails
from .supports.real import line


class ExponentiallyModifiedGaussian(SearchedQuantile, Parametric):
    r"""The sum of a normal and an independent exponential variable (ex-Gaussian).

    With :math:`z = (x - \mu) / \sigma`, :math:`k = \lambda \sigma`, :math:`w = k - z` and the hazard
    :math:`h(w) = \phi(w) / (1 - \Phi(w))` of the standard normal,

    .. math::
        f(x; \mu, \sigma, \lambda) = \lambda\, e^{k^2 / 2 - k z}\, \Phi(z - k)
            = \lambda\, \frac{\phi(z)}{h(w)}.

    Sampled as the sum, with the implicit gradient, which is closed and has less variance than that of
    the sum:

    .. math::
        \frac{dx}{d\mu} = 1, \qquad \frac{dx}{d\sigma} = k - h(w), \qquad
        \frac{dx}{d\lambda} = -\frac{\sigma}{\lambda} (h(w) - w).

    See also:
        ``scipy.stats.exponnorm(K=1 / (scale * rate), loc, scale)``.

    References:
        Grushka, *Characterization of Exponentially Modified Gaussian Peaks in Chromatography*, 1972,
        https://doi.org/10.1021/ac60319a011.

    Args:
        loc: the mean :math:`\mu` of the normal.
        scale: the standard deviation :math:`\sigma > 0` of the normal.
        rate: the rate :math:`\lambda > 0` of the exponential, in the inverse unit of ``scale``.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is invalid, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> rate = torch.tensor(0.5, requires_grad=True)
        >>> x = pre.distributions.ExponentiallyModifiedGaussian(0.0, 1.0, rate).rsample((100_000,))
        >>> x.mean().backward()  # -1 / rate**2
        >>> print(f"{rate.grad.item():.1f}")
        -4.0
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "rate": constraints.positive,
    }
    support = line  # the rate is not without unit, as a parameter of shape is
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        rate: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"loc": loc, "scale": scale, "rate": rate}
        super().__init__(parameters, validate_args=validate_args)

    def _draw(self, shape: Size) -> Tensor:
        normal = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * normal + standard_exponential(shape, self.loc) / self.rate

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity, self.loc, self.scale, self.rate)

    @property
    def _interior(self) -> Tensor:
        return self.loc

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        z, k = (value - self.loc) / self.scale, self.scale * self.rate
        w = k - z
        inner = w > 0
        safe = torch.where(inner, w, 1.0)
        by_hazard = -0.5 * z.square() - HALF_LOG_2PI - (safe + excess_hazard(safe)).log()
        by_tail = k * (0.5 * k - torch.where(inner, k, z)) + log_ndtr(torch.where(inner, 1.0, -w))
        return self.rate.log() + torch.where(inner, by_hazard, by_tail)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        below, _ = _tails(self, value)
        return implicit_joint(below, _pull_back_cdf, value, self.loc, self.scale, self.rate)

    @property
    def mean(self) -> Tensor:
        return self.loc + 1 / self.rate

    @property
    def mode(self) -> Tensor:
        return self.loc + self.scale * excess_at_hazard(self.scale * self.rate)

    @property
    def variance(self) -> Tensor:
        return self.scale.square() + 1 / self.rate.square()


def _cdf(z: Tensor, k: Tensor, tail: Tensor) -> Tensor:
    r""":math:`\Phi(z)` without the ``tail`` that the exponential carries beyond.

    The share that is left of :math:`\Phi(z)` is :math:`1 - M(w + k) / M(w)` with :math:`w = -z` and the
    Mills ratio :math:`M = 1 / h`: by its series in k, of which :math:`M^{(n + 1)} = n M^{(n - 1)} +
    w M^{(n)}`, or by :math:`(h(w + k) - h(w)) / h(w + k)`, where the hazard is w and its excess.
    """
    w = -z
    hazard, excess = hazard_and_excess(w)
    near = k * (hazard + excess) < 0.2
    step = torch.where(near, k, 0.0)
    # k^n / n! times the n-th derivative over M.
    last, term = torch.ones_like(z), -step * excess
    series = -term
    for n in range(1, 14 if z.dtype == torch.float64 else 7):
        last, term = term, (step * step * last + step * w * term) / (n + 1)
        series = series - term
    start = w.clamp(min=0.0)
    beyond = excess_hazard(start + k)
    far = (k + beyond - excess) / (start + k + beyond)
    below = normal_cdf(z)
    return torch.where(near, below * series, torch.where(z < 0, below * far, below - tail))


def _pull_back_cdf(
    gradient: Tensor, cdf: Tensor, value: Tensor, loc: Tensor, scale: Tensor, rate: Tensor
) -> tuple[Tensor, ...]:
    fn = ExponentiallyModifiedGaussian(loc, scale, rate, validate_args=False)
    weight = gradient * fn.log_prob(value).exp()
    return weight, *(-weight * v for v in _velocity(value, loc, scale, rate))


def _velocity(value: Tensor, loc: Tensor, scale: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z, k = (value - loc) / scale, scale * rate
    hazard, excess = hazard_and_excess(k - z)
    # Two forms of one number: the difference of nearly equal ones is taken by neither.
    d_scale = torch.where(z < k, z - excess, k - hazard)
    return torch.ones_like(z), d_scale, -scale / rate * excess


@register_standard(ExponentiallyModifiedGaussian)
def _standard(fn: ExponentiallyModifiedGaussian) -> Standard:
    # The rate is one over a length, too.
    zero, one = torch.zeros_like(fn.loc), torch.ones_like(fn.scale)
    noise = unchecked(fn, type(fn), loc=zero, scale=one, rate=fn.rate * fn.scale)
    return Standard(fn.loc, fn.scale, noise)


def _forward(fn: ExponentiallyModifiedGaussian, noise: Tensor) -> Tensor:
    normal, other = noise.unbind(-1)
    return fn._at((fn.loc + fn.scale * normal - log_ndtr(other) / fn.rate).detach())


@torch.no_grad()
def _inverse(fn: ExponentiallyModifiedGaussian, value: Tensor) -> Tensor:
    """Given the sum, the normal is one of mean k that lies below z."""
    z, k = (value - fn.loc) / fn.scale, fn.scale * fn.rate
    log_below = log_ndtr(z - k)
    apart = normal_quantile(log_below - standard_exponential(log_below.shape, log_below))
    normal = torch.minimum(k + apart, z)
    exponential = k * (z - normal)
    return torch.stack([normal, normal_quantile(-exponential)], -1)


register_noise_map(ExponentiallyModifiedGaussian)(
    NoiseMap(lambda fn: normals(fn.loc, 2), _forward, _inverse)
)


@register_tails(ExponentiallyModifiedGaussian)
@torch.no_grad()
def _tails(fn: ExponentiallyModifiedGaussian, value: Tensor) -> tuple[Tensor, Tensor]:
    z = (value - fn.loc) / fn.scale
    tail = (fn.log_prob(value) - fn.rate.log()).exp()
    return _cdf(z, fn.scale * fn.rate, tail), normal_cdf(-z) + tail


register_inverted(ExponentiallyModifiedGaussian)

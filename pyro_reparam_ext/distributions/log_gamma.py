"""The logarithm of a Gamma variable."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..noise import standard_uniform
from ..numerics.chunked import chunked
from ..numerics.gamma_cdf import gamma_cdf, log_gamma_density, log_gamma_tails
from ..numerics.gamma_divergence import gamma_divergence, log_ratio
from ..numerics.gamma_quantile import gamma_noise, log_gamma_quantile, log_gamma_quantile_of_tail
from ..numerics.implicit import implicit
from ..numerics.log_gamma_velocity import log_gamma_velocity
from ..numerics.stirling import stirling_rest
from .mixins.parametric import Parametric
from .mixins.searched_quantile import SearchedQuantile
from .rules.inverse_cdf import register_inverted
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.tails import register_tails


class LogGamma(SearchedQuantile, Parametric):
    r"""The law of :math:`\log x` for :math:`x \sim \mathrm{Gamma}(a, \beta)`.

    .. math::
        f(y; a, \beta) = \frac{\beta^a}{\Gamma(a)} \exp(a y - \beta e^y)

    It keeps its precision where :math:`x` itself underflows, which it does for small concentrations:
    a draw is :math:`\log x' + \log(u) / a` with :math:`x' \sim \mathrm{Gamma}(a + 1, \beta)` for
    :math:`a < 1`. It moves with the implicit gradient

    .. math::
        \frac{dy}{da} = -\frac{\partial_a P(a, \beta e^y)}{f(y; a, \beta)}, \qquad
        \frac{dy}{d\beta} = -\frac1\beta,

    where :math:`P` is the regularised incomplete gamma function.

    See also:
        ``scipy.stats.loggamma(c=concentration, loc=-log(rate))``.

    References:
        Marsaglia, Tsang, *A Simple Method for Generating Gamma Variables*, 2000,
        https://doi.org/10.1145/358407.358414. Figurnov, Mohamed, Mnih, *Implicit Reparameterization
        Gradients*, 2018, https://arxiv.org/abs/1805.08498.

    Args:
        concentration: :math:`a > 0`, without unit.
        rate: :math:`\beta > 0`, in the inverse unit of :math:`x`.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> a = torch.tensor(0.01, requires_grad=True)
        >>> y = pre.distributions.LogGamma(a, 1.0).rsample((100_000,))
        >>> y.mean().backward()  # trigamma(a) = 10001.6
        >>> print(f"{y.mean().item() / 100:.1f}, {a.grad.item() / 1e4:.1f}")
        -1.0, 1.0
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        concentration: Tensor | float,
        rate: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__({"concentration": concentration, "rate": rate}, validate_args=validate_args)

    def _draw(self, shape: Size) -> Tensor:
        return chunked(_draw, *raised(self.concentration, shape), self.rate.log())

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity, self.concentration, self.rate)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        return log_gamma_density(value + self.rate.log(), self.concentration)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        return gamma_cdf(value + self.rate.log(), self.concentration)

    @property
    def mean(self) -> Tensor:
        _, slope = stirling_rest(self.concentration)
        return slope + self.mode

    @property
    def mode(self) -> Tensor:
        return self.concentration.log() - self.rate.log()

    @property
    def variance(self) -> Tensor:
        return torch.polygamma(1, self.concentration)

    def entropy(self) -> Tensor:
        rest, slope = stirling_rest(self.concentration)
        return rest - self.concentration * slope


def standard_gamma(concentration: Tensor, shape: Size) -> tuple[Tensor, Tensor]:
    """A draw of Gamma(concentration, 1) as ``value * exp(log_scale)``, without a gradient.

    The value is of a concentration of at least 1, so that it does not underflow.
    """
    value, log_scale = chunked(draw_raised, *raised(concentration, shape))
    return value, log_scale


def raised(concentration: Tensor, shape: Size) -> tuple[Tensor, Tensor]:
    """Concentrations, raised by 1 below 1, and 1 / a for these, for :func:`draw_raised`."""
    a = concentration.detach()
    small = a < 1
    power = torch.where(small, 1 / a, torch.zeros_like(a))
    return torch.where(small, a + 1, a).expand(shape), power


def draw_raised(concentration: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of :func:`standard_gamma`."""
    value = torch._standard_gamma(concentration)
    return value, standard_uniform(value.shape, value).log() * power


def gamma_kl(p: Any, q: Any) -> Tensor:
    """Between two laws of Gamma variables, or of their logarithms, with a concentration and a rate."""
    given = p.concentration, q.concentration, p.rate, q.rate
    a, c, rate_p, rate_q = (x.double() for x in given)
    kl = gamma_divergence(a, c, log_ratio(c, a) + log_ratio(rate_p, rate_q))
    return kl.to(torch.promote_types(given[0].dtype, given[1].dtype))


def _draw(concentration: Tensor, power: Tensor, log_rate: Tensor) -> Tensor:
    value, log_scale = draw_raised(concentration, power)
    return value.log() + log_scale - log_rate


def _velocity(value: Tensor, concentration: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    return log_gamma_velocity(value + rate.log(), concentration), (-1 / rate).expand(value.shape)


register_kl(LogGamma, LogGamma)(gamma_kl)


def _forward(fn: LogGamma, noise: Tensor) -> Tensor:
    value = log_gamma_quantile(noise, fn.concentration) - fn.rate.detach().log()
    return fn._at(value)


def _inverse(fn: LogGamma, value: Tensor) -> Tensor:
    return gamma_noise(value.detach() + fn.rate.detach().log(), fn.concentration)


register_noise_map(LogGamma)(NoiseMap(lambda fn: normals(fn.concentration), _forward, _inverse))


@register_tails(LogGamma)
def _tails(fn: LogGamma, value: Tensor) -> tuple[Tensor, Tensor]:
    return log_gamma_tails(value + fn.rate.log(), fn.concentration)


def _of_tail(fn: LogGamma, log_mass: Tensor, upper: Tensor) -> Tensor:
    return log_gamma_quantile_of_tail(log_mass, upper, fn.concentration) - fn.rate.log()


register_inverted(LogGamma, rule=_of_tail)

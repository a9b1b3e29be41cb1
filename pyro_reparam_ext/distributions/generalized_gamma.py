"""The generalised Gamma distribution."""

from __future__ import annotations

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.gamma_cdf import gamma_cdf, log_gamma_density, log_gamma_tails
from ..numerics.gamma_quantile import gamma_noise, log_gamma_quantile, log_gamma_quantile_of_tail
from ..numerics.implicit import implicit
from ..numerics.log_gamma_ratio import log_gamma_curvature, log_gamma_ratio
from ..numerics.log_gamma_velocity import log_gamma_velocity
from ..numerics.positive_log import positive_log, power_at_zero
from ..numerics.stirling import stirling_rest
from .log_gamma import standard_gamma
from .mixins.parametric import Parametric
from .mixins.searched_quantile import SearchedQuantile
from .rules.gamma_noise import share
from .rules.half_precision import drawn_in_single
from .rules.inverse_cdf import register_inverted
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.tails import register_tails


class GeneralizedGamma(SearchedQuantile, Parametric):
    r"""A scaled power of a Gamma variable: Gamma, Weibull, half-normal, chi and others in one family.

    .. math::
        f(x; c, p, s) = \frac{p}{s\, \Gamma(c)} \Big(\frac{x}{s}\Big)^{c p - 1}
            \exp\Big(-\Big(\frac{x}{s}\Big)^p\Big), \qquad x > 0

    It is the law of :math:`s\, e^{y / p}` with :math:`y` a :class:`LogGamma` of concentration
    :math:`c`, and moves with the implicit gradient

    .. math::
        \frac{dx}{dc} = \frac{x}{p} \frac{dy}{dc}, \qquad \frac{dx}{dp} = -\frac{x}{p} \log\frac{x}{s},
        \qquad \frac{dx}{ds} = \frac{x}{s}.

    Stacy's parameters are :math:`a = s`, :math:`d = c p` and :math:`p`. Draws are cut to the positive
    normal floats; their logarithm has the gradient of the draw as it was.

    See also:
        ``scipy.stats.gengamma(a=concentration, c=power, scale=scale)``.

    References:
        Stacy, *A Generalization of the Gamma Distribution*, 1962,
        https://doi.org/10.1214/aoms/1177704481. Bauckhage, *Computing the Kullback-Leibler Divergence
        between two Generalized Gamma Distributions*, 2014, https://arxiv.org/abs/1401.6853.

    Args:
        concentration: :math:`c > 0`, without unit.
        power: :math:`p > 0`, without unit.
        scale: :math:`s > 0`, in the unit of :math:`x`.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> p = torch.tensor(2.0, requires_grad=True)
        >>> x = pre.distributions.GeneralizedGamma(0.5, p, 1.0).rsample((100_000,))
        >>> x.log().mean().backward()  # -digamma(c) / p^2
        >>> print(f"{x.mean().item():.2f}, {p.grad.item():.2f}")
        0.56, 0.49
    """

    arg_constraints = {
        "concentration": constraints.positive,
        "power": constraints.positive,
        "scale": constraints.positive,
    }
    support = constraints.nonnegative
    has_rsample = True

    def __init__(
        self,
        concentration: Tensor | float,
        power: Tensor | float,
        scale: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"concentration": concentration, "power": power, "scale": scale}
        super().__init__(parameters, validate_args=validate_args)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            standard, log_scale = standard_gamma(
                self.concentration, self._extended_shape(torch.Size(sample_shape))
            )
            drawn = (standard.log() + log_scale) / self.power + self.scale.log()
            info = torch.finfo(drawn.dtype)
            value = drawn.exp().clamp(info.tiny, info.max)
        parameters = self.concentration, self.power, self.scale
        return value * (implicit(drawn, _log_velocity, *parameters) - drawn).exp()

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity, self.concentration, self.power, self.scale)

    @property
    def _interior(self) -> Tensor:
        return self.scale

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        log_value = positive_log(value)
        density = log_gamma_density(self.power * (log_value - self.scale.log()), self.concentration)
        density = density + self.power.log() - log_value
        return power_at_zero(density, value, self.concentration * self.power - 1)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        log_standard = self.power * (positive_log(value) - self.scale.log())
        return torch.where(value <= 0, 0.0, gamma_cdf(log_standard, self.concentration))

    @property
    def mean(self) -> Tensor:
        return self.scale * log_gamma_ratio(self.concentration, 1 / self.power).exp()

    @property
    def mode(self) -> Tensor:
        inside = self.concentration - 1 / self.power
        positive = inside > 0
        base = torch.where(positive, inside, torch.ones_like(inside))
        return torch.where(positive, self.scale * base ** (1 / self.power), torch.zeros_like(inside))

    @property
    def variance(self) -> Tensor:
        return self.mean.square() * log_gamma_curvature(self.concentration, 1 / self.power).expm1()

    def entropy(self) -> Tensor:
        c, p = self.concentration, self.power
        rest, slope = stirling_rest(c)
        return self.scale.log() - p.log() + rest - c * slope + torch.digamma(c) / p


def _log_velocity(
    log_value: Tensor, concentration: Tensor, power: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    deviation = log_value - scale.log()
    d_concentration = log_gamma_velocity(power * deviation, concentration) / power
    return d_concentration, -deviation / power, (1 / scale).expand(log_value.shape)


def _velocity(
    value: Tensor, concentration: Tensor, power: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    a, b, c = _log_velocity(positive_log(value), concentration, power, scale)
    return value * a, value * b, value * c


@register_kl(GeneralizedGamma, GeneralizedGamma)
def _kl(p: GeneralizedGamma, q: GeneralizedGamma) -> Tensor:
    ratio = q.power / p.power
    log_scale = q.power * (p.scale.log() - q.scale.log())
    # With t = ratio * log g + log_scale for g ~ Gamma(p.concentration): E[exp(t)] and E[t].
    mean = ratio * torch.digamma(p.concentration) + log_scale
    moment = (log_gamma_ratio(p.concentration, ratio) + log_scale).exp()
    rest, slope = stirling_rest(p.concentration)
    negative_entropy = p.concentration * slope - rest
    cross = q.concentration * mean - moment - torch.lgamma(q.concentration)
    return negative_entropy - cross - ratio.log()


def _forward(fn: GeneralizedGamma, noise: Tensor) -> Tensor:
    info = torch.finfo(noise.dtype)
    log_standard = log_gamma_quantile(noise, fn.concentration)
    log_value = log_standard / fn.power.detach() + fn.scale.detach().log()
    return fn._at(log_value.exp().clamp(info.tiny, info.max))


def _inverse(fn: GeneralizedGamma, value: Tensor) -> Tensor:
    log_standard = fn.power.detach() * (positive_log(value.detach()) - fn.scale.detach().log())
    censored = value <= torch.finfo(value.dtype).tiny
    return gamma_noise(log_standard, fn.concentration, share(censored, log_standard))


register_noise_map(GeneralizedGamma)(NoiseMap(lambda fn: normals(fn.concentration), _forward, _inverse))


@register_tails(GeneralizedGamma)
@torch.no_grad()
def _tails(fn: GeneralizedGamma, value: Tensor) -> tuple[Tensor, Tensor]:
    log_standard = fn.power * (positive_log(value) - fn.scale.log())
    below, above = log_gamma_tails(log_standard, fn.concentration)
    return torch.where(value <= 0, 0.0, below), torch.where(value <= 0, 1.0, above)


def _of_tail(fn: GeneralizedGamma, log_mass: Tensor, upper: Tensor) -> Tensor:
    log_standard = log_gamma_quantile_of_tail(log_mass, upper, fn.concentration)
    return (log_standard / fn.power).exp() * fn.scale


register_inverted(GeneralizedGamma, rule=_of_tail)

"""The Gamma distribution."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.chunked import chunked
from ..numerics.gamma_cdf import gamma_cdf
from ..numerics.gamma_quantile import log_gamma_quantile_of_tail
from ..numerics.implicit import as_drawn, implicit, implicit_joint
from ..numerics.log_gamma_velocity import log_gamma_velocity
from ..numerics.positive_log import positive_log, power_at_zero
from ..numerics.stirling import stirling_rest
from .log_gamma import draw_raised, gamma_kl, raised
from .mixins.searched_quantile import SearchedQuantile
from .rules.copies import unchecked
from .rules.half_precision import drawn_in_single
from .rules.inverse_cdf import register_inverted
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.pathwise import register_pathwise
from .rules.standard import Standard, register_standard
from .rules.tails import gamma_tails, register_tails
from .rules.weak_derivative import same_weak_derivatives


class Gamma(SearchedQuantile, dist.Gamma):
    r"""The Gamma distribution, with gradients that are right for small concentrations too.

    .. math::
        f(x; a, \beta) = \frac{\beta^a}{\Gamma(a)} x^{a-1} e^{-\beta x}, \qquad x > 0

    Drawn in log space, as :class:`LogGamma`, and moving with the implicit gradient

    .. math::
        \frac{dx}{da} = -\frac{\partial_a P(a, \beta x)}{f(x; a, \beta)}, \qquad
        \frac{dx}{d\beta} = -\frac{x}{\beta}.

    A draw below the smallest normal float is raised to it; its logarithm has the gradient of the draw
    as it was.

    See also:
        :class:`pyro.distributions.Gamma`, from which it derives; :class:`LogGamma`.

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
        >>> x = pre.distributions.Gamma(a, 1.0).rsample((100_000,))
        >>> x.log().mean().backward()  # trigamma(a) = 10001.6
        >>> print(f"{a.grad.item() / 1e4:.1f}")
        1.0
    """

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            value, log_standard = chunked(_draw, *raised(self.concentration, shape), 1 / self.rate)
        return implicit_joint(value, _pull_back, self.concentration, self.rate, log_standard)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        cdf = gamma_cdf(positive_log(value * self.rate), self.concentration)
        return torch.where(value <= 0, 0.0, cdf)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        a, rate = self.concentration, self.rate
        log_mean = a.log() - rate.log()
        scaled = (value * rate).clamp(max=torch.finfo(value.dtype).max)
        # About the mean, where the terms of large concentrations cancel.
        deviation, exponent = _from_ratio(positive_log(value) - log_mean, scaled - a, scaled, a)
        rest, _ = stirling_rest(a)
        inside = (a - 1) * deviation - exponent - rest - log_mean
        return power_at_zero(inside, value, a - 1)

    def entropy(self) -> Tensor:
        rest, slope = stirling_rest(self.concentration)
        log_mean = self.concentration.log() - self.rate.log()
        return rest + log_mean + (1 - self.concentration) * slope


def _draw(concentration: Tensor, power: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The draw, and its logarithm before it is scaled and cut."""
    standard, log_scale = draw_raised(concentration, power)
    info = torch.finfo(standard.dtype)
    value = (standard * log_scale.exp() * scale).clamp(info.tiny, info.max)
    return value, standard.log() + log_scale


def _from_ratio(
    deviation: Tensor, exponent: Tensor, scaled: Tensor, concentration: Tensor
) -> tuple[Tensor, Tensor]:
    """log(r) and a (r - 1), given with their gradients, from one rounded r = scaled / a."""
    with torch.no_grad():
        info = torch.finfo(deviation.dtype)
        ratio = (scaled / concentration).clamp(info.tiny, info.max)
        # Not for small values, where the ratio may underflow.
        closer = (ratio.log() - deviation) * (ratio > 0.5)
        exponent_closer = concentration * (ratio - 1) - exponent
    return deviation + closer, exponent + exponent_closer


@register_pathwise(torch.distributions.Gamma)
def _at(fn: torch.distributions.Gamma, value: Tensor) -> Tensor:
    return implicit(value, _velocity, fn.concentration, fn.rate)


def _velocity(value: Tensor, concentration: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    return value * log_gamma_velocity(positive_log(value * rate), concentration), -value / rate


def _pull_back(
    gradient: Tensor, value: Tensor, concentration: Tensor, rate: Tensor, log_standard: Tensor
) -> tuple[Tensor, Tensor, None]:
    log_value = as_drawn(log_standard, lambda x, r: positive_log(x * r), value, rate)
    weighted = gradient * value
    by_rate = -weighted.sum_to_size(rate.shape) / rate
    return weighted * log_gamma_velocity(log_value, concentration), by_rate, None


register_kl(Gamma, Gamma)(gamma_kl)
register_kl(Gamma, torch.distributions.Gamma)(gamma_kl)
register_kl(torch.distributions.Gamma, Gamma)(gamma_kl)
register_tails(Gamma)(gamma_tails)
same_weak_derivatives(Gamma, torch.distributions.Gamma)


@register_standard(torch.distributions.Gamma)
def _standard(fn: torch.distributions.Gamma) -> Standard:
    one = torch.ones_like(fn.rate)
    return Standard(0.0, 1 / fn.rate, unchecked(fn, Gamma, concentration=fn.concentration, rate=one))


def _of_tail(fn: Gamma, log_mass: Tensor, upper: Tensor) -> Tensor:
    return log_gamma_quantile_of_tail(log_mass, upper, fn.concentration).exp() / fn.rate


register_inverted(Gamma, rule=_of_tail)

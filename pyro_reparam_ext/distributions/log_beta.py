"""The logarithm of a Beta variable."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.nn.functional import logsigmoid

from ..numerics.beta_cdf import beta_tails
from ..numerics.beta_quantile import logit_beta_quantile
from ..numerics.beta_velocity import logit_beta_velocity
from ..numerics.betainc import betainc, log_beta_density
from ..numerics.gamma_divergence import dirichlet_divergence
from ..numerics.implicit import implicit
from ..numerics.log1mexp import log1mexp
from ..numerics.stirling import stirling_rest, trigamma_difference
from .beta import draw_logit, logit_velocity
from .mixins.parametric import Parametric
from .mixins.searched_quantile import SearchedQuantile
from .rules.gamma_noise import beta_noise, log_beta_parts
from .rules.half_precision import drawn_in_single
from .rules.inverse_cdf import register_inverted
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.tails import register_tails

LEADING = -60.0
"""Below it the leading term of the CDF is exact."""


class LogBeta(SearchedQuantile, Parametric):
    r"""The law of :math:`\log x` for :math:`x \sim \mathrm{Beta}(a, b)`.

    .. math::
        f(y; a, b) = \frac{e^{a y} (1 - e^y)^{b-1}}{B(a, b)}, \qquad y < 0

    Both ends keep their precision: :math:`x` close to 0 is a large negative :math:`y`, and
    :math:`1 - x = -\mathrm{expm1}(y)` close to 0 is a small one. It moves with the implicit gradient,

    .. math::
        \frac{dy}{da} = (1 - x) \frac{d\,\mathrm{logit}\,x}{da},

    which is given at :class:`Beta`.

    See also:
        :class:`Beta`, :class:`LogGamma`.

    References:
        Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018,
        https://arxiv.org/abs/1805.08498.

    Args:
        concentration1: :math:`a > 0`, without unit.
        concentration0: :math:`b > 0`, without unit.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> a = torch.tensor(0.01, requires_grad=True)
        >>> y = pre.distributions.LogBeta(a, 1.0).rsample((100_000,))
        >>> y.mean().backward()  # E[y] = -1 / a at b = 1
        >>> print(f"{y.mean().item() / 100:.1f}, {a.grad.item() / 1e4:.1f}")
        -1.0, 1.0
    """

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.less_than(0.0)
    has_rsample = True

    def __init__(
        self,
        concentration1: Tensor | float,
        concentration0: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"concentration1": concentration1, "concentration0": concentration0}
        super().__init__(parameters, validate_args=validate_args)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        a, b = self.concentration1, self.concentration0
        with torch.no_grad():
            drawn = draw_logit(a, b, self._extended_shape(torch.Size(sample_shape)))
            inside = drawn.clamp(max=-math.log(torch.finfo(drawn.dtype).tiny) - 1)
        moving = implicit(drawn, logit_velocity, a, b) - drawn
        return logsigmoid(inside + moving)

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity, self.concentration1, self.concentration0)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        log_rest = log1mexp(value)
        a, b = self.concentration1, self.concentration0
        return log_beta_density(value, log_rest, a, b) - log_rest

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        far = value < LEADING
        near_value = torch.where(far, LEADING, value)
        near = betainc(a, b, near_value.exp(), -near_value.expm1())
        return torch.where(far, self._leading(value), near)

    def _leading(self, value: Tensor) -> Tensor:
        """The leading term of the CDF, for values below where it is exact."""
        a, b = self.concentration1, self.concentration0
        value = torch.where(value < LEADING, value, LEADING)
        return (log_beta_density(value, torch.zeros_like(value), a, b) - a.log()).exp()

    @property
    def mean(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        _, slope = stirling_rest(a)
        _, slope_of_total = stirling_rest(a + b)
        return slope - slope_of_total - (b / a).log1p()

    @property
    def mode(self) -> Tensor:
        """0, the upper end, which is no value, for ``concentration0`` of at most 1."""
        return -((self.concentration0 - 1).clamp(min=0.0) / self.concentration1).log1p()

    @property
    def variance(self) -> Tensor:
        return trigamma_difference(self.concentration1, self.concentration0)

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        total = a + b
        (rest_a, slope_a), (rest_b, slope_b), (rest, slope) = map(stirling_rest, (a, b, total))
        terms = rest_a + rest_b - rest - a * slope_a - (b - 1) * slope_b
        return terms + (total - 1) * slope + (b / total).log()


def _velocity(value: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    log_rest = log1mexp(value)
    rest = -value.expm1()
    da = rest * logit_beta_velocity(value, log_rest, a, b)
    return da, -rest * logit_beta_velocity(log_rest, value, b, a)


@register_kl(LogBeta, LogBeta)
def _kl(p: LogBeta, q: LogBeta) -> Tensor:
    return dirichlet_divergence(_concentration(p), _concentration(q))


def _concentration(fn: LogBeta) -> Tensor:
    return torch.stack([fn.concentration1, fn.concentration0], -1)


def _forward(fn: LogBeta, noise: Tensor) -> Tensor:
    log_x, _ = log_beta_parts(fn, noise).unbind(-1)
    return fn._at(log_x.clamp(max=-torch.finfo(noise.dtype).tiny))


register_noise_map(LogBeta)(
    NoiseMap(
        lambda fn: normals(fn.concentration1, 2),
        _forward,
        lambda fn, value: beta_noise(fn, value, log1mexp(value)),
    )
)


@register_tails(LogBeta)
@torch.no_grad()
def _tails(fn: LogBeta, value: Tensor) -> tuple[Tensor, Tensor]:
    near, far = value.clamp(min=LEADING), value < LEADING
    below, above = beta_tails(near.exp(), fn.concentration1, fn.concentration0, -near.expm1())
    leading = fn._leading(value)
    return torch.where(far, leading, below), torch.where(far, 1 - leading, above)


def _of_tail(fn: LogBeta, log_mass: Tensor, upper: Tensor) -> Tensor:
    return logsigmoid(logit_beta_quantile(log_mass, upper, fn.concentration1, fn.concentration0))


register_inverted(LogBeta, rule=_of_tail)

"""The Beta distribution."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.distributions.distribution import Distribution
from torch.distributions.utils import broadcast_all

from ..numerics.beta_quantile import logit_beta_quantile
from ..numerics.beta_velocity import logit_beta_velocity
from ..numerics.betainc import betainc
from ..numerics.gamma_divergence import dirichlet_divergence
from ..numerics.implicit import implicit
from ..numerics.log1mexp import log_sigmoids
from ..numerics.positive_log import positive_log, power_at_zero
from .log_dirichlet import dirichlet_density, dirichlet_entropy, dirichlet_mode
from .log_gamma import standard_gamma
from .mixins.searched_quantile import SearchedQuantile
from .rules.half_precision import drawn_in_single
from .rules.inverse_cdf import register_inverted
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.pathwise import register_pathwise
from .rules.tails import beta_law_tails, register_tails


class Beta(SearchedQuantile, dist.Beta):
    r"""The Beta distribution, with gradients that are right for small and large concentrations too.

    .. math::
        f(x; a, b) = \frac{x^{a-1} (1 - x)^{b-1}}{B(a, b)}, \qquad 0 < x < 1

    Drawn as the difference of two variables :class:`LogGamma`, the logit, which moves with the implicit
    gradient

    .. math::
        \frac{d\,\mathrm{logit}\,x}{da} = -\frac{\partial_a I_x(a, b)}{x (1 - x) f(x; a, b)}
            = \mathrm{E}_s\big[w_a(\log x + \log s)\big], \qquad s \sim \mathrm{Gamma}(a + b, 1),

    where :math:`w_a` is that of :class:`LogGamma`, and likewise in :math:`b`. Draws are cut to the
    floats inside the interval; their logit has the gradient of the draw as it was.

    See also:
        :class:`pyro.distributions.Beta`, from which it derives; :class:`LogBeta`.

    References:
        Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018,
        https://arxiv.org/abs/1805.08498. Jankowiak, Obermeyer, *Pathwise Derivatives Beyond the
        Reparameterization Trick*, 2018, https://arxiv.org/abs/1806.01851.

    Args:
        concentration1: :math:`a > 0`, without unit.
        concentration0: :math:`b > 0`, without unit.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> a = torch.tensor(1e-3, requires_grad=True)
        >>> x = pre.distributions.Beta(a, 1e-3).rsample((1_000_000,))
        >>> x.mean().backward()  # b / (a + b)^2 = 250
        >>> print(f"{x.mean().item():.1f}, {a.grad.item() / 250:.1f}")
        0.5, 1.0
    """

    def __init__(
        self,
        concentration1: Tensor | float,
        concentration0: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        # Past torch's own constructor, whose errors name a parameter of another class.
        a, b = broadcast_all(concentration1, concentration0)
        self._dirichlet = dist.Dirichlet(torch.stack([a, b], -1), validate_args=False)
        Distribution.__init__(self, a.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Beta, _instance)
        new._dirichlet = self._dirichlet.expand(torch.Size(batch_shape))
        Distribution.__init__(new, torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        a, b = self.concentration1, self.concentration0
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            drawn = draw_logit(a, b, shape)
            info = torch.finfo(drawn.dtype)
            inside = drawn.clamp(math.log(info.tiny) + 1, -math.log(info.eps))
        moving = implicit(drawn, logit_velocity, a, b) - drawn
        return torch.sigmoid(inside + moving)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        return betainc(self.concentration1, self.concentration0, value)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        log_x, log_rest = _logs(value)
        density = dirichlet_density(torch.stack([log_x, log_rest], -1), self._dirichlet.concentration)
        return power_at_zero(power_at_zero(density, value, a - 1), 1 - value, b - 1)

    @property
    def mode(self) -> Tensor:
        """Where the density is largest or infinite; 1 where it is so at both ends alike."""
        return dirichlet_mode(self._dirichlet.concentration)[..., 0]

    def entropy(self) -> Tensor:
        return dirichlet_entropy(self._dirichlet.concentration)


def draw_logit(a: Tensor, b: Tensor, shape: Size) -> Tensor:
    """The logit of a draw of Beta(a, b), without a gradient."""
    first, first_scale = standard_gamma(a, shape)
    second, second_scale = standard_gamma(b, shape)
    # Quotients overflow in neither: the factors are of concentrations of at least 1.
    return (first / second).log() + (first_scale - second_scale)


def logit_velocity(logit: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    log_x, log_rest = log_sigmoids(logit)
    return logit_beta_velocity(log_x, log_rest, a, b), -logit_beta_velocity(log_rest, log_x, b, a)


def _logs(value: Tensor) -> tuple[Tensor, Tensor]:
    """log(x) and log(1 - x), finite also at 0 and at 1."""
    below_one = value.clamp(max=1 - 0.5 * torch.finfo(value.dtype).eps)
    return positive_log(value), (-below_one).log1p()


@register_pathwise(torch.distributions.Beta)
def _at(fn: torch.distributions.Beta, value: Tensor) -> Tensor:
    return implicit(value, _velocity, fn.concentration1, fn.concentration0)


def _velocity(value: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    log_x, log_rest = _logs(value)
    factor = value * (1 - value)
    da = factor * logit_beta_velocity(log_x, log_rest, a, b)
    return da, -factor * logit_beta_velocity(log_rest, log_x, b, a)


@register_kl(Beta, Beta)
@register_kl(Beta, torch.distributions.Beta)
@register_kl(torch.distributions.Beta, Beta)
def _kl(p: torch.distributions.Beta, q: torch.distributions.Beta) -> Tensor:
    return dirichlet_divergence(*(x._dirichlet.concentration for x in (p, q)))


register_tails(Beta)(beta_law_tails)


def _of_tail(fn: Beta, log_mass: Tensor, upper: Tensor) -> Tensor:
    return logit_beta_quantile(log_mass, upper, fn.concentration1, fn.concentration0).sigmoid()


register_inverted(Beta, rule=_of_tail)

"""The Kumaraswamy distribution."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.distributions.transforms import AffineTransform, PowerTransform, Transform

from ..noise import standard_exponential, standard_uniform
from ..numerics.double_exponential import double_exponential
from ..numerics.implicit import as_drawn, implicit_joint
from ..numerics.log1mexp import log1mexp
from ..numerics.log_gamma_ratio import log_gamma_curvature, log_gamma_ratio
from ..numerics.select import select
from .mixins.parametric import Parametric
from .rules.copies import unchecked
from .rules.half_precision import drawn_in_single
from .rules.log_tails import LogTails, register_log_tails
from .rules.noise_map import NoiseMap, register_noise_map
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.quantile import register_quantile
from .rules.tails import register_tails

EULER = 0.5772156649015329


class Kumaraswamy(Parametric):
    r"""A law on the unit interval, like the Beta, with a closed CDF.

    .. math::
        F(x; a, b) = 1 - (1 - x^a)^b

    A draw is :math:`\log x = \frac1a \log(1 - e^{-\varepsilon / b})` with a standard exponential
    :math:`\varepsilon`, computed in log space, and moves by

    .. math::
        \frac{dx}{da} = -\frac{x \log x}{a}, \qquad
        \frac{dx}{db} = \frac{x}{a b}\, \frac{(1 - x^a) \log(1 - x^a)}{x^a}.

    Draws and values are cut to the floats between the smallest normal one and the largest below 1.
    With small concentrations much of the mass lies closer to 0 and 1 than that: a float32 holds
    :math:`1 - x` only in steps of 6e-8.

    See also:
        :class:`pyro.distributions.Beta`.

    References:
        Kumaraswamy, *A Generalized Probability Density Function for Double-Bounded Random Processes*,
        1980, https://doi.org/10.1016/0022-1694(80)90036-0. Jones, *Kumaraswamy's Distribution: A
        Beta-Type Distribution with Some Tractability Advantages*, 2009,
        https://doi.org/10.1016/j.stamet.2008.04.001.

    Args:
        concentration1: :math:`a > 0`, without unit.
        concentration0: :math:`b > 0`, without unit.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> b = torch.tensor(2.0, requires_grad=True)
        >>> x = pre.distributions.Kumaraswamy(1.0, b).rsample((100_000,))
        >>> x.mean().backward()  # E[x] = 1 / (1 + b) at a = 1
        >>> print(f"{x.mean().item():.2f}, {b.grad.item():.2f}")
        0.33, -0.11
    """

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        concentration1: Tensor | float,
        concentration0: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"concentration1": concentration1, "concentration0": concentration0}
        super().__init__(parameters, validate_args=validate_args)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            a, b = 1 / self.concentration1, 1 / self.concentration0
            log_rest = standard_uniform(shape, a).log_() * b
            rest = log_rest.exp()
            log_power = select(rest > 0.5, (-log_rest.expm1()).log(), (-rest.clamp(max=0.5)).log1p())
            value = _inside((log_power * a).exp())
        return self._moving(value, log_rest)

    def _at(self, value: Tensor) -> Tensor:
        with torch.no_grad():
            log_rest = log1mexp(self.concentration1 * _inside(value).log())
            log_rest = log_rest.clamp(max=-torch.finfo(value.dtype).tiny)
        return self._moving(value, log_rest)

    def _moving(self, value: Tensor, log_rest: Tensor) -> Tensor:
        """``log_rest``: the logarithm of 1 - x^a."""
        return implicit_joint(value, _pull_back, self.concentration1, self.concentration0, log_rest)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        log_value = _inside(value).log()
        return a.log() + b.log() + (a - 1) * log_value + (b - 1) * log1mexp(a * log_value)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        log_value = _inside(value).log()
        return -(self.concentration0 * log1mexp(self.concentration1 * log_value)).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        log_power = log1mexp(torch.log1p(-value) / self.concentration0)
        return _inside((log_power / self.concentration1).exp())

    @property
    def base_dist(self) -> dist.Uniform:
        """The uniform law of which :attr:`transforms` make this one, as in torch.

        Draws and densities are not computed by it: powers lose what lies close to 0 and 1.
        """
        one = torch.ones_like(self.concentration0)
        return dist.Uniform(torch.zeros_like(one), one, validate_args=self._validate_args)

    @property
    def transforms(self) -> list[Transform]:
        """The steps from a uniform :math:`u` to :math:`(1 - u^{1/b})^{1/a}`."""
        first, last = (
            PowerTransform(x.reciprocal()) for x in (self.concentration0, self.concentration1)
        )
        return [first, AffineTransform(1.0, -1.0), last]

    @property
    def mean(self) -> Tensor:
        return self._log_moment(1).exp()

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        exists = (a >= 1) & (b >= 1) & (a * b > 1)
        a, b = torch.where(exists, a, 2.0), torch.where(exists, b, 2.0)
        return torch.where(exists, ((a - 1) / (a * b - 1)) ** (1 / a), math.nan)

    @property
    def variance(self) -> Tensor:
        r, b = 1 / self.concentration1, self.concentration0
        # log E[x^2] - 2 log E[x], small where the law is narrow.
        excess = log_gamma_curvature(torch.ones_like(r), r) - log_gamma_curvature(1 + b, r)
        return (2 * self._log_moment(1)).exp() * excess.expm1()

    def _log_moment(self, order: int) -> Tensor:
        r, b = order / self.concentration1, self.concentration0
        small, large = torch.minimum(r, b), torch.maximum(r, b)
        return torch.lgamma(1 + small) - log_gamma_ratio(1 + large, small)

    @property
    def _mean_log(self) -> Tensor:
        """That of log x."""
        return -(torch.digamma(self.concentration0 + 1) + EULER) / self.concentration1

    def _mean_log_rest(self, power: Tensor) -> Tensor:
        """That of log(1 - x^power), by quadrature over the CDF."""
        power, b = torch.broadcast_tensors(power / self.concentration1, self.concentration0)
        nodes = double_exponential(b)
        log_rest = nodes.log_rest / b  # of 1 - x^a
        near = log_rest > -30
        inside = log1mexp(power * log1mexp(torch.where(near, log_rest, -1.0)))
        return (nodes.weights * torch.where(near, inside, log_rest + power.log())).sum(0)

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return 1 - 1 / b - (a - 1) * self._mean_log - a.log() - b.log()


def _inside(value: Tensor) -> Tensor:
    info = torch.finfo(value.dtype)
    return value.clamp(info.tiny, 1 - info.eps / 2)


def _pull_back(
    gradient: Tensor, value: Tensor, a: Tensor, b: Tensor, log_rest: Tensor
) -> tuple[Tensor, Tensor, None]:
    log_rest = as_drawn(log_rest, lambda x, a: log1mexp(a * _inside(x).log()), value, a)
    weighted = gradient * value
    # (1 - p) log(1 - p) / p with p = x^a.
    power = (-log_rest.expm1()).clamp(min=torch.finfo(value.dtype).tiny)
    ratio = log_rest.exp() * log_rest / power
    return weighted * value.log() * (-1 / a), weighted * ratio * (1 / (a * b)), None


def _log_survival(fn: Kumaraswamy, value: Tensor) -> Tensor:
    log_survival = fn.concentration0 * log1mexp(fn.concentration1 * _inside(value).log())
    return torch.where(value >= 1, -math.inf, log_survival)


def _log_cdf(fn: Kumaraswamy, value: Tensor) -> Tensor:
    return torch.where(value <= 0, -math.inf, log1mexp(_log_survival(fn, value)))


def _from_log_survival(fn: Kumaraswamy, log_p: Tensor) -> Tensor:
    log_rest = log_p.clamp(max=-torch.finfo(log_p.dtype).tiny) / fn.concentration0
    return _inside((log1mexp(log_rest) / fn.concentration1).exp())


register_log_tails(Kumaraswamy)(
    LogTails(
        _log_cdf,
        _log_survival,
        lambda fn, p: _from_log_survival(fn, log1mexp(p.clamp(max=-torch.finfo(p.dtype).tiny))),
        _from_log_survival,
    )
)


@register_quantile(torch.distributions.Kumaraswamy)
def _quantile(fn: torch.distributions.Kumaraswamy, u: Tensor) -> Tensor:
    return _twin(fn).icdf(u)


def _twin(fn: torch.distributions.Kumaraswamy) -> Kumaraswamy:
    a, b = fn.concentration1, fn.concentration0
    twin: Kumaraswamy = unchecked(fn, Kumaraswamy, concentration1=a, concentration0=b)
    return twin


def _law(fn: Kumaraswamy) -> dist.Exponential:
    return dist.Exponential(torch.ones_like(fn.concentration1))


def _forward(fn: Kumaraswamy, noise: Tensor) -> Tensor:
    with torch.no_grad():
        log_rest = -noise / fn.concentration0
        value = _inside((log1mexp(log_rest) / fn.concentration1).exp())
    return fn._moving(value, log_rest)


@torch.no_grad()
def _inverse(fn: Kumaraswamy, value: Tensor) -> Tensor:
    info, value = torch.finfo(value.dtype), _inside(value)
    noise = -fn.concentration0 * log1mexp(fn.concentration1 * value.log())
    # At an end, which stands for all noise beyond.
    beyond = standard_exponential(noise.shape, noise)
    below = -torch.log1p(standard_uniform(noise.shape, noise) * torch.expm1(-noise))
    noise = torch.where(value > 1 - info.eps, noise + beyond, noise)
    return torch.where(value <= info.tiny, below, noise)


register_noise_map(Kumaraswamy)(NoiseMap(_law, _forward, _inverse))


@register_kl(Kumaraswamy, torch.distributions.Beta)
def _kl_to_beta(p: Kumaraswamy, q: torch.distributions.Beta) -> Tensor:
    a, b = q.concentration1, q.concentration0
    mean = (a - 1) * p._mean_log + (b - 1) * p._mean_log_rest(torch.ones_like(a))
    small, large = torch.minimum(a, b), torch.maximum(a, b)
    return torch.lgamma(small) - log_gamma_ratio(large, small) - mean - p.entropy()


@register_kl(Kumaraswamy, Kumaraswamy)
@register_kl(Kumaraswamy, torch.distributions.Kumaraswamy)
def _kl(p: Kumaraswamy, q: Kumaraswamy | torch.distributions.Kumaraswamy) -> Tensor:
    a, b = q.concentration1, q.concentration0
    mean = (a - 1) * p._mean_log + (b - 1) * p._mean_log_rest(a)
    return -(a.log() + b.log()) - mean - p.entropy()


@register_kl(torch.distributions.Kumaraswamy, Kumaraswamy)
def _kl_from_torch(p: torch.distributions.Kumaraswamy, q: Kumaraswamy) -> Tensor:
    return _kl(_twin(p), q)


@register_tails(Kumaraswamy)
def _tails(fn: Kumaraswamy, value: Tensor) -> tuple[Tensor, Tensor]:
    log_rest = fn.concentration0 * log1mexp(fn.concentration1 * _inside(value).log())
    return -log_rest.expm1(), log_rest.exp()

"""The continuous Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions.distribution import Distribution
from torch.distributions.kl import register_kl
from torch.distributions.utils import lazy_property

from ..noise import standard_uniform
from ..numerics.chunked import chunked
from ..numerics.chunked_sums import chunked_sums
from ..numerics.implicit import implicit, implicit_joint
from .mixins.log_tailed import LogTailed
from .rules.copies import unchecked
from .rules.half_precision import drawn_in_single
from .rules.logits import parameter_of
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.pathwise import by_method, register_pathwise
from .rules.quantile import register_quantile
from .rules.tails import register_tails

# Of log(sinh(m / 2) / (m / 2)) in powers of m^2: Bernoulli numbers over 2k (2k)!.
_LOG_SINHC = (
    1 / 24,
    -1 / 2880,
    1 / 181440,
    -1 / 9676800,
    1 / 479001600,
    -691 / 15692092416000,
    1 / 1046139494400,
    -3617 / 170729965486080000,
    43867 / 91963695909076992000,
)


class ContinuousBernoulli(LogTailed, dist.ContinuousBernoulli):
    r"""An exponential density on the unit interval, of either sign.

    .. math::
        f(x; \lambda) = \frac{\lambda e^{\lambda x}}{e^\lambda - 1}, \qquad 0 \le x \le 1, \qquad
        \lambda = \log \frac{p}{1 - p}

    It is the uniform at :math:`\lambda = 0`, where everything is continued by its series. A draw is the
    inverse CDF of a uniform and moves by

    .. math::
        \frac{dx}{d\lambda} = \frac1\lambda \Big(\frac{1 - e^{-\lambda x}}{1 - e^{-\lambda}} - x\Big)
            \;\xrightarrow{\lambda \to 0}\; \frac{x (1 - x)}{2}.

    All is computed from the distance to the end at which the density is largest, so that it holds for
    any ``logits``.

    See also:
        ``scipy.stats.truncexpon``; :class:`pyro.distributions.ContinuousBernoulli`, from which it
        derives.

    References:
        Loaiza-Ganem, Cunningham, *The Continuous Bernoulli: Fixing a Pervasive Error in Variational
        Autoencoders*, 2019, https://arxiv.org/abs/1907.06845.

    Args:
        probs: :math:`p` in [0, 1], without unit; not a probability.
        logits: :math:`\lambda`, real; instead of ``probs``.
        lims: as torch's class takes it, about what probabilities it goes by a series; not used, as all
            are exact here.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: not exactly one of ``probs`` and ``logits`` is given, or it is outside its domain,
            with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> probs = torch.tensor(0.5, requires_grad=True)
        >>> x = pre.distributions.ContinuousBernoulli(probs).rsample((100_000,))
        >>> x.mean().backward()
        >>> print(f"{x.mean().item():.2f}, {probs.grad.item():.2f}")
        0.50, 0.33
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("ContinuousBernoulli takes either probs or logits.")
        name, given = ("probs", probs) if logits is None else ("logits", logits)
        self._param = torch.as_tensor(given, dtype=None if isinstance(given, Tensor) else _default())
        self._given, self._lims = name, lims
        setattr(self, name, self._param)
        Distribution.__init__(self, self._param.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = self._get_checked_instance(ContinuousBernoulli, _instance)
        batch_shape = torch.Size(batch_shape)
        new._given, new._lims = self._given, self._lims
        new._param = self._param.expand(batch_shape)
        setattr(new, new._given, new._param)
        Distribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def _natural(self) -> Tensor:
        """The logits, by a graph of their own: losses of one object are differentiated apart."""
        if self._given == "logits":
            return self.logits
        info = torch.finfo(self.probs.dtype)
        probs = self.probs.clamp(info.tiny, 1 - info.eps / 2)
        return probs.log() - torch.log1p(-probs)

    @lazy_property
    def logits(self) -> Tensor:
        return self._natural

    @lazy_property
    def probs(self) -> Tensor:
        return torch.sigmoid(self.logits)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            logits = self._natural
            sign, origin, m = _from_peak(logits)
            m = m.clamp(min=1e-20)  # as flat as 0
            u = standard_uniform(self._extended_shape(torch.Size(sample_shape)), logits)
            value = chunked(_at_distance, u, torch.expm1(-m), -sign / m, origin)
        return implicit_joint(value, _pull_back, self._natural, u)

    @drawn_in_single
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def _at(self, value: Tensor) -> Tensor:
        return implicit(value, _velocity_at, self._natural)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        sign, origin, m = _from_peak(self._natural)
        return -m * (origin + sign * value) - _log_mass(m)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        _, origin, m = _from_peak(self._natural)
        # For a rising density the same, times the quotient of the densities at x and at 1.
        tilt = m * (1 - value) * origin
        return value * (_log_mass(m * value) - _log_mass(m) - tilt).exp()

    def icdf(self, value: Tensor) -> Tensor:
        logits = self._natural
        info = torch.finfo(logits.dtype)
        flat, steep = logits.abs() < info.eps, logits > 10
        one = torch.ones_like(logits)
        low = torch.where(flat | steep, one, logits)
        high = torch.where(steep, logits, one)
        below = torch.log1p(value * low.expm1()) / low
        # At u = 0 the second is 0 but for rounding.
        above = (1 + (value + (1 - value) * (-high).exp()).clamp(min=info.tiny).log() / high).clamp(
            min=0
        )
        curve = torch.where(steep, above, below)
        return torch.where(flat, value + 0.5 * logits * value * (1 - value), curve)

    @property
    def mean(self) -> Tensor:
        sign, origin, m = _from_peak(self._natural)
        return origin + sign * _distance(m)

    @property
    def mode(self) -> Tensor:
        """The end at which the density is larger, or 1/2, the middle, where it is flat."""
        return 0.5 + 0.5 * self._natural.sign()

    @property
    def variance(self) -> Tensor:
        _, _, m = _from_peak(self._natural)
        near, m_near, m_far = _split(m)
        series = _even(m_near, tuple(2 * k * (2 * k - 1) * c for k, c in enumerate(_LOG_SINHC, 1)))
        far = (1 / m_far).square() - (-m_far).exp() / (-m_far).expm1().square()
        return torch.where(near, series, far)

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    def entropy(self) -> Tensor:
        _, _, m = _from_peak(self._natural)
        near, m_near, m_far = _split(m)
        series = m_near.square() * _even(
            m_near, tuple((1 - 2 * k) * c for k, c in enumerate(_LOG_SINHC, 1))
        )
        mass = -(-m_far).expm1()
        far = 1 - m_far * (-m_far).exp() / mass + mass.log() - m_far.log()
        return torch.where(near, series, far)

    def _cont_bern_log_norm(self) -> Tensor:
        _, _, m = _from_peak(self._natural)
        return (-m).exp().log1p() - _log_mass(m)

    def _log_normalizer(self, x: Tensor) -> Tensor:
        _, origin, m = _from_peak(x)
        return _log_mass(m) + origin * m


register_pathwise(ContinuousBernoulli)(by_method)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _kl(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Tensor:
    sign_p, _, m_p = _from_peak(p._natural)
    sign_q, _, m_q = _from_peak(q._natural)
    distance = _distance(m_p)
    distance_q = torch.where(sign_p == sign_q, distance, 1 - distance)
    return m_q * distance_q - m_p * distance + _log_mass(m_q) - _log_mass(m_p)


def _default() -> torch.dtype:
    return torch.get_default_dtype()


def _from_peak(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sign and origin, so that the distance to the peak's end is origin + sign x, and |logits|.

    The slope of the last at 0 is 1, not 0: each branch is right there on its own.
    """
    rising = logits >= 0
    origin = rising.to(logits.dtype)
    sign = 1 - 2 * origin
    return sign, origin, -sign * logits


def _split(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    near = m < 1
    return near, torch.where(near, m, torch.zeros_like(m)), torch.where(near, torch.ones_like(m), m)


def _even(m: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """c1 + c2 m^2 + ..."""
    square = m * m
    total = torch.full_like(m, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * square + c
    return total


def _log_mass(m: Tensor) -> Tensor:
    """log of the integral of exp(-m x) over the unit interval."""
    near, m_near, m_far = _split(m)
    series = m_near * (m_near * _even(m_near, _LOG_SINHC) - 0.5)
    return torch.where(near, series, (-(-m_far).expm1()).log() - m_far.log())


def _distance(m: Tensor) -> Tensor:
    """The mean distance to the peak's end."""
    near, m_near, m_far = _split(m)
    slopes = tuple(2 * k * c for k, c in enumerate(_LOG_SINHC, 1))
    far = 1 / m_far + (-m_far).exp() / (-m_far).expm1()
    return torch.where(near, 0.5 - m_near * _even(m_near, slopes), far)


def _at_distance(u: Tensor, fall: Tensor, step: Tensor, origin: Tensor) -> Tensor:
    return (u * fall).log1p_().mul_(step).add_(origin).clamp(0, 1)


def _pull_back(gradient: Tensor, value: Tensor, logits: Tensor, u: Tensor) -> tuple[Tensor, None]:
    m = logits.abs()

    def function(
        gradient: Tensor, value: Tensor, u: Tensor, fall: Tensor, last: Tensor, *terms: Tensor
    ) -> tuple[Tensor]:
        return (gradient * _velocity(value, u * last / (u * fall + 1), *terms),)

    terms = (-m).expm1(), (-m).exp(), *_velocity_terms(logits)
    (total,) = chunked_sums(function, logits.shape, gradient, value, u, *terms)
    return total, None


def _velocity_at(value: Tensor, logits: Tensor) -> tuple[Tensor]:
    sign, origin, m = _from_peak(logits)
    m = m.clamp(min=1e-20)
    scaled = m * (origin + sign * value)
    above = (scaled - m).exp() * ((-scaled).expm1() / (-m).expm1())
    return (_velocity(value, above, *_velocity_terms(logits)),)


def _velocity(
    value: Tensor, above: Tensor, sign: Tensor, origin: Tensor, inverse: Tensor, *series: Tensor
) -> Tensor:
    """``above``: (exp(-m (1 - d)) - exp(-m)) / (1 - exp(-m)) at the distance d to the peak's end.

    Of the two formulas one has coefficients 0, as ``_velocity_terms`` says.
    """
    # Not addcmul, which is not vectorised for two numbers and a tensor.
    far = ((value * sign).add_(origin) - above) * inverse
    t = 1 - 2 * value
    first, second, *others = series
    polynomial = (t * first).add_(second)
    for c in others:
        polynomial = torch.addcmul(c, polynomial, t)
    return torch.addcmul(far, value * (1 - value), polynomial)


def _velocity_terms(logits: Tensor) -> tuple[Tensor, ...]:
    """The arguments of ``_velocity`` that depend on the parameters alone.

    The velocity is by its series below a radius, with so many terms that the dtype asks for: x (1 - x)
    times a polynomial in 1 - 2 x.
    """
    sign, origin, m = _from_peak(logits)
    radius, count = (0.5, 10) if m.dtype == torch.float64 else (0.125, 4)
    near = m < radius
    inverse = torch.where(near, 0, 1 / torch.where(near, 1, m))
    series = _series_coefficients(0.5 * torch.where(near, logits, 0), count)
    return sign, origin, inverse, *(torch.where(near, c, 0) for c in series)


def _series_coefficients(h: Tensor, count: int) -> list[Tensor]:
    r"""Tails of the series of cosh and sinh at h = logits / 2, over :math:`h \sinh h`, last first."""
    terms = [h ** (i - 2) / math.factorial(i) for i in range(2, 2 + count)]
    sinhc = sum(h ** (2 * k) / math.factorial(2 * k + 1) for k in range(6))
    return [torch.stack(terms[i::2]).sum(0) / sinhc for i in reversed(range(len(terms)))]


@register_quantile(torch.distributions.ContinuousBernoulli)
def _quantile(fn: torch.distributions.ContinuousBernoulli, u: Tensor) -> Tensor:
    return unchecked(fn, ContinuousBernoulli, **parameter_of(fn)).icdf(u)


@register_tails(ContinuousBernoulli)
def _tails(fn: ContinuousBernoulli, value: Tensor) -> tuple[Tensor, Tensor]:
    """The upper one is the lower one of the mirror image."""
    mirrored = unchecked(fn, ContinuousBernoulli, logits=-fn._natural)
    return fn.cdf(value), mirrored.cdf(1 - value)

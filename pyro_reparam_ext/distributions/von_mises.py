"""The von Mises distribution on the circle."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.special import ndtr, ndtri

from ..numerics.implicit import implicit
from ..numerics.polar_angle import polar_law, quantile, tail_probability, velocity
from ..numerics.straight_through import straight_through
from .mixins.log_tailed import LogTailed
from .rules.copies import unchecked
from .rules.half_precision import drawn_in_single
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import log_prob_on_support
from .rules.pathwise import register_pathwise
from .rules.tails import register_tails


class VonMises(LogTailed, dist.VonMises):
    r"""A random angle, concentrated about a mean direction.

    .. math::
        f(x; \mu, \kappa) = \frac{e^{\kappa \cos(x - \mu)}}{2 \pi I_0(\kappa)}, \qquad
        -\pi \le x < \pi

    Sampled by inversion in a fixed number of steps. The gradient in :math:`\kappa` is the implicit one,
    by quadrature over the nearer tail of the deviation :math:`y = x - \mu`; with
    :math:`A = I_1(\kappa) / I_0(\kappa)` and :math:`f` the density of :math:`y`,

    .. math::
        \frac{dx}{d\mu} = 1, \qquad
        \frac{dx}{d\kappa} = -\frac{1}{f(y)} \int_{-\pi}^y (\cos s - A) f(s)\, ds.

    A sample moves on the circle: its gradients are those of expectations of periodic functions.

    See also:
        :class:`pyro.distributions.VonMises`, whose subclass this is; ``scipy.stats.vonmises``.

    References:
        Hill, *Algorithm 518: Incomplete Bessel Function I0. The Von Mises Distribution*, 1977,
        https://doi.org/10.1145/355744.355753. Figurnov, Mohamed, Mnih, *Implicit Reparameterization
        Gradients*, 2018, https://arxiv.org/abs/1805.08498.

    Args:
        loc: the mean direction :math:`\mu`, in radians; any real number, modulo :math:`2 \pi`.
        concentration: :math:`\kappa \ge 0`; at 0 the law is uniform.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: the concentration is negative, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> concentration = torch.tensor(2.0, requires_grad=True)
        >>> x = pre.distributions.VonMises(0.0, concentration).rsample((10_000,))
        >>> x.cos().mean().backward()  # d E[cos x] / d concentration = 1 - A / 2 - A^2
        >>> print(f"{x.cos().mean().item():.1f}, {concentration.grad.item():.1f}")
        0.7, 0.2
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.nonnegative}
    support = constraints.real
    has_rsample = True

    def __init__(
        self, loc: Tensor | float, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        super().__init__(loc, concentration, validate_args=validate_args)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            options = {"dtype": self.loc.dtype, "device": self.loc.device}
            angle = quantile(torch.randn(shape, **options), self.concentration, 2)
            deviation = torch.copysign(angle, torch.randn(shape, **options))
        return _wrap(self.loc + implicit(deviation, _velocity, self.concentration))

    @drawn_in_single
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    @property
    def _interior(self) -> Tensor:
        return self.loc

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        return -self.concentration * _versine(value - self.loc) - self._log_normaliser

    def cdf(self, value: Tensor) -> Tensor:
        r"""The probability of :math:`[-\pi, x]`; beyond :math:`\pi` it grows by 1 with each period."""
        if self._validate_args:
            self._validate_sample(value)
        return _from_cut(self, value)[0]

    def icdf(self, value: Tensor) -> Tensor:
        r"""The angle x with the probability ``value`` of :math:`[-\pi, x]`.

        With a gradient in the parameters and in ``value`` (once). As the arc begins at :math:`-\pi`
        wherever the mean direction is, that in the latter is not 1 but
        :math:`1 - f(-\pi - \mu) / f(x - \mu)`.
        """
        with torch.no_grad():
            low, high = self._from_antipode(value)
            angle = self._angle(2 * torch.minimum(low, high))
            x = _wrap(self.loc + torch.where(low < high, -angle, angle))
            x = torch.where(value <= 0, -math.pi, torch.where(value >= 1, math.pi, x))
            x = x.clamp(-math.pi, math.pi)
            density = self.log_prob(x).exp()
        return straight_through(x, (value - self.cdf(x)) / density)

    def _angle(self, tail: Tensor) -> Tensor:
        """The absolute deviation that is larger with a probability of ``tail``."""
        least = torch.finfo(tail.dtype).tiny
        normal = ndtri(torch.minimum(tail, 1 - tail).clamp(min=least))
        return quantile(torch.where(tail < 0.5, -normal, normal), self.concentration, 2)

    def _from_antipode(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """The masses on both sides of the value that has so much of the arc from -pi below it."""
        cut = _wrap(-math.pi - self.loc)
        low_cut, high_cut = self._sides(cut)
        rest = 1 - share
        # The antipode of the mean direction is above the cut, or below it.
        low, high = share - high_cut, rest - low_cut
        beyond = torch.where(low < 0, 1 + low, low), torch.where(low < 0, -low, rest + high_cut)
        before = torch.where(high < 0, -high, share + low_cut), torch.where(high < 0, 1 + high, high)
        low, high = (torch.where(cut > 0, a, b) for a, b in zip(beyond, before, strict=True))
        return low, high

    def _sides(self, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """The mass from the antipode of the mean direction to a deviation, and from there on."""
        law = polar_law(self.concentration, 2)
        # Not abs, whose slope at 0 is 0.
        angle = deviation * torch.where(deviation < 0, -1.0, 1.0)
        lower = angle < law.centre
        side = torch.where(lower, -1.0, 1.0).to(angle.dtype)
        nearer = tail_probability(angle, side, self.concentration, 2, law)
        farther = 0.5 * torch.where(lower, 1 - nearer, nearer)
        below = deviation < 0
        return torch.where(below, farther, 1 - farther), torch.where(below, 1 - farther, farther)

    def entropy(self) -> Tensor:
        return self._log_normaliser + self.concentration * self.variance

    @property
    def variance(self) -> Tensor:
        r"""The circular one, :math:`1 - A`."""
        return polar_law(self.concentration, 2).shortfall

    @property
    def _log_normaliser(self) -> Tensor:
        r""":math:`\log 2 \pi I_0(\kappa) - \kappa`."""
        return polar_law(self.concentration, 2).log_normaliser + math.log(2)


def _velocity(deviation: Tensor, concentration: Tensor) -> tuple[Tensor]:
    return (deviation.sign() * velocity(deviation.abs(), concentration, 2),)


def _wrap(angle: Tensor) -> Tensor:
    r"""Modulo :math:`2 \pi`, in :math:`[-\pi, \pi)`."""
    turns = ((angle.detach() + math.pi) / (2 * math.pi)).floor()
    return angle - 2 * math.pi * turns


def _versine(angle: Tensor) -> Tensor:
    return 2 * (angle / 2).sin().square()


@register_tails(VonMises)
def _from_cut(fn: VonMises, value: Tensor) -> tuple[Tensor, Tensor]:
    """The mass of the arc from -pi to the value, and of that from it to pi, with what is beyond."""
    cut, deviation = _wrap(-math.pi - fn.loc), _wrap(value - fn.loc)
    (low_cut, high_cut), (low, high) = fn._sides(cut), fn._sides(deviation)
    # Both on one side of the antipode, or that lies between them.
    apart = torch.where(cut > 0, high_cut - high, low - low_cut)
    after = deviation >= cut
    below, above = torch.where(after, apart, high_cut + low), torch.where(after, high + low_cut, -apart)
    turns = ((value.detach() + math.pi) / (2 * math.pi)).floor()
    return below + turns, above - turns


def _forward(fn: VonMises, noise: Tensor) -> Tensor:
    with torch.no_grad():
        angle = fn._angle(2 * ndtr(-noise.abs()))
        deviation = torch.where(noise < 0, -angle, angle)
    return _wrap(fn.loc + implicit(deviation, _velocity, fn.concentration))


@torch.no_grad()
def _inverse(fn: VonMises, value: Tensor) -> Tensor:
    low, high = fn._sides(_wrap(value - fn.loc))
    return torch.where(low < high, ndtri(low), -ndtri(high))


# By the deviation from the mean direction: the quantile of the arc would turn with the cut.
register_noise_map(VonMises)(NoiseMap(lambda fn: normals(fn.loc), _forward, _inverse))


@register_pathwise(torch.distributions.VonMises)
def _at(fn: torch.distributions.VonMises, value: Tensor) -> Tensor:
    deviation = _wrap(value - fn.loc).detach()
    moving = fn.loc + implicit(deviation, _velocity, fn.concentration)
    return straight_through(value, moving)


@register_kl(VonMises, VonMises)
@register_kl(VonMises, torch.distributions.VonMises)
def _kl(p: VonMises, q: torch.distributions.VonMises) -> Tensor:
    apart = _versine(p.loc - q.loc)
    versine = p.variance + (1 - p.variance) * apart
    normaliser = polar_law(q.concentration, 2).log_normaliser + math.log(2)
    return q.concentration * versine + normaliser - p.entropy()


@register_kl(torch.distributions.VonMises, VonMises)
def _kl_from_torch(p: torch.distributions.VonMises, q: VonMises) -> Tensor:
    return _kl(unchecked(p, VonMises, loc=p.loc, concentration=p.concentration), q)


@register_kl(VonMises, torch.distributions.Uniform)
def _kl_to_uniform(p: VonMises, q: torch.distributions.Uniform) -> Tensor:
    within = (q.low <= -math.pi) & (q.high >= math.pi)
    return torch.where(within, (q.high - q.low).log() - p.entropy(), math.inf)

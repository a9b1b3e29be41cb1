"""The hard concrete distribution, of gates that can be closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.nn.functional import logsigmoid

from ..noise import logistic_like
from ..numerics.quadrature import gauss_legendre
from ..numerics.relaxation import outward
from .mixins.probs_or_logits import ProbOrLogit
from .rules.discrete_noise import noise_law
from .rules.noise_map import NoiseMap, register_noise_map
from .rules.on_support import cdf_on_support
from .rules.relaxed_noise import logistic_noise
from .supports.stretched_interval import StretchedInterval, inside

NODES = 64
TAIL = 24
"""A logistic variable is beyond it with probability 4e-11."""


class HardConcrete(ProbOrLogit):
    r"""A number in [0, 1], 0 and 1 among them: a relaxed Bernoulli variable, stretched and clamped.

    .. math::
        x = \frac{\alpha + L}{T}, \quad L \sim \mathrm{Logistic}(0, 1), \qquad
        z = \min(1, \max(0, \gamma + (\zeta - \gamma)\, \sigma(x)))

    ``log_prob`` is that of the mixed law, a log probability at 0 and 1, and a log density between:

    .. math::
        P(z = 0) &= \sigma(T x_0 - \alpha), \quad x_0 = \log \frac{-\gamma}{\zeta}, \qquad
        P(z = 1) = \sigma(\alpha - T x_1), \quad x_1 = \log \frac{1 - \gamma}{\zeta - 1} \\
        f(z) &= \frac{T (\zeta - \gamma)\, \sigma(d)\, \sigma(-d)}{(z - \gamma)(\zeta - z)}, \quad
        d = \alpha - T \log \frac{z - \gamma}{\zeta - z}

    The gradient of :math:`E[h(z)]` is the plain pathwise one, 0 where z is clamped, if h is continuous.
    That of :math:`E[\log q(z) - \log p(z)]` would be wrong: both jump at 0 and 1. Therefore a clamped
    draw moves by :math:`\eta` times its velocity in x at the end times the rate at which probability
    passes it, and the slope of ``log_prob`` there is the jump over :math:`\eta`. With :math:`\eta` the
    square of the rounding unit (1e-14 in float32) the motion is nothing to other losses, and the ELBO
    has the right gradient, whether its KL divergence is sampled or exact. The motion reaches
    ``log_prob`` through reshaping and indexing, if no hook clips gradients in between. A value from
    elsewhere that is 0 or 1 and has a gradient meets the same slope: detach it there.

    ``mean``, ``variance``, ``entropy`` (the mean of minus ``log_prob``) and KL divergences, between any
    two, are by quadrature over x, to rounding for T up to 5 at the default stretch, and to 1e-4 for T
    up to 100 (to 0.5 % the KL divergence to one of a T that is higher still); they are differentiable.

    For autoguides and NUTS 0 and 1 are reached from all x beyond their ends, of a fixed law of heavy
    tail, so that an ELBO over x is a bound; its pathwise gradient leaves out the jumps there.

    See also:
        :class:`RelaxedBernoulli`, which is not clamped.

    References:
        Louizos, Welling, Kingma, *Learning Sparse Neural Networks through L0 Regularization*, 2017,
        https://arxiv.org/abs/1712.01312.

    Args:
        temperature: :math:`T > 0`, without unit, of a shape that broadcasts with that of the logits.
        probs: :math:`\sigma(\alpha)`, in [0, 1].
        logits: :math:`\alpha`, real; the paper's :math:`\log \alpha`; instead of ``probs``.
        low: :math:`\gamma < 0`, the lower end of the stretched interval.
        high: :math:`\zeta > 1`, its upper end.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: not exactly one of ``probs`` and ``logits`` is given, the ends are not
            outside of [0, 1], or, with validation on, a parameter is outside its domain.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.tensor(-1.0, requires_grad=True)
        >>> gate = pre.distributions.HardConcrete(0.5, logits=logits)
        >>> z = gate.rsample((10_000,))
        >>> print(f"{(z > 0).float().mean():.1f}, {gate.prob_nonzero:.4f}")
        0.6, 0.5496
        >>> gate.prob_nonzero.backward()  # the L0 penalty
        >>> print(f"{logits.grad:.4f}, {gate.deterministic_gate:.4f}")
        0.2475, 0.2227
    """

    has_rsample = True

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | float | None = None,
        logits: Tensor | float | None = None,
        *,
        low: float = -0.1,
        high: float = 1.1,
        validate_args: bool | None = None,
    ) -> None:
        if not low < 0 < 1 < high:
            raise ValueError(
                f"HardConcrete: expected low < 0 and high > 1, was given low={low}, high={high}."
            )
        self.low, self.high = low, high
        self._interval = StretchedInterval(low, high)
        super().__init__(temperature, probs, logits, validate_args=validate_args)

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        super()._expand_into(new, batch_shape)
        new.low, new.high, new._interval = self.low, self.high, self._interval

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        return self._interval

    def _draw(self, shape: Size) -> Tensor:
        logits = self.logits.expand(shape)
        return self._interval.value((logits + logistic_like(logits)) / self.temperature)

    def _at(self, value: Tensor) -> Tensor:
        side = outward(value)
        x = self._interval.coordinate(value)
        logits, temperature = self.logits.detach(), self.temperature.detach()
        moving = (self.logits - logits + temperature * x) / self.temperature
        moving = moving - moving.detach()
        slope = self._interval.log_slope(value).exp()
        rate = temperature * (side * (temperature * x - logits)).sigmoid()
        return value + moving * torch.where(inside(value), slope, _motion(value.dtype) * rate)

    def _density(self, value: Tensor) -> Tensor:
        density, beyond = self._log_density(value), self._log_beyond(value)
        # What the gradient of a draw misses: how the density jumps where a value leaves the end.
        jump = (beyond - density).detach()
        leaving = outward(value) * (value - value.detach()) / _motion(value.dtype)
        return torch.where(inside(value), density, beyond + leaving * jump)

    def _log_density(self, value: Tensor) -> Tensor:
        """The log density of the continuous part, up to the ends."""
        distance = self.logits - self.temperature * self._interval.coordinate(value)
        both = logsigmoid(distance) + logsigmoid(-distance)
        return self.temperature.log() + both - self._interval.log_slope(value)

    def _log_beyond(self, value: Tensor) -> Tensor:
        """The log probability of the end that is nearer."""
        upper = value > 0.5
        return torch.where(upper, self._log_one, self._log_zero)

    @property
    def _log_zero(self) -> Tensor:
        return logsigmoid(self.temperature * self._interval.start - self.logits)

    @property
    def _log_one(self) -> Tensor:
        return logsigmoid(self.logits - self.temperature * self._interval.end)

    @property
    def probs(self) -> Tensor:
        r""":math:`\sigma(\alpha)`."""
        return self.logits.sigmoid()

    @property
    def prob_nonzero(self) -> Tensor:
        """The probability that the gate is not closed; its sum over gates is the L0 penalty."""
        return (self.logits - self.temperature * self._interval.start).sigmoid()

    @property
    def deterministic_gate(self) -> Tensor:
        r"""The gate of the paper at test time: :math:`\sigma(\alpha)`, stretched and clamped."""
        return self._interval.value(self.logits)

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        below = (self.temperature * self._interval.coordinate(value) - self.logits).sigmoid()
        return torch.where(value >= 1, 1.0, below)

    @property
    def mean(self) -> Tensor:
        return self._expectation(lambda fn, z: z)

    @property
    def variance(self) -> Tensor:
        mean, rest = self.mean.unsqueeze(-1), self._expectation(lambda fn, z: 1 - z).unsqueeze(-1)
        # The deviation from the mean, without a difference of numbers near 1.
        return self._expectation(lambda fn, z: torch.where(z > 0.5, rest - (1 - z), z - mean).square())

    def entropy(self) -> Tensor:
        return -self._expectation(lambda fn, z: fn._density(z))

    def _expectation(self, function: Callable[[HardConcrete, Tensor], Tensor]) -> Tensor:
        """The expectation of ``function(fn, z)``, where ``fn`` has a dim for z on the right."""
        nodes, weights = gauss_legendre(NODES)
        dtype, device = self.logits.dtype, self.logits.device
        start, end = (x.unsqueeze(-1) for x in self._range())
        x = start + (end - start) * torch.tensor(nodes, dtype=dtype, device=device)
        ends = torch.tensor((0.0, 1.0), dtype=dtype, device=device)
        z = torch.cat(
            [
                ends[:1].expand(*x.shape[:-1], 1),
                self._interval.value(x),
                ends[1:].expand(*x.shape[:-1], 1),
            ],
            -1,
        )
        fn = _like(self, self.temperature.unsqueeze(-1), self.logits.unsqueeze(-1))
        distance = fn.logits - fn.temperature * x
        mass = fn.temperature * distance.sigmoid() * (-distance).sigmoid()
        mass = mass * ((end - start) * torch.tensor(weights, dtype=dtype, device=device))
        mass = torch.cat([fn._log_zero.exp(), mass, fn._log_one.exp()], -1)
        return (mass * function(fn, z)).sum(-1)

    def _range(self) -> tuple[Tensor, Tensor]:
        """The least and the largest x between the ends that have a mass."""
        start, end = self._interval.start, self._interval.end
        center = (self.logits / self.temperature).detach().clamp(start, end)
        width = TAIL / self.temperature.detach()
        return (center - width).clamp(min=start), (center + width).clamp(max=end)


def _motion(dtype: torch.dtype) -> float:
    """How far a clamped draw moves for 1 in x."""
    return torch.finfo(dtype).eps ** 2


def _like(fn: HardConcrete, temperature: Tensor, logits: Tensor) -> HardConcrete:
    return HardConcrete(temperature, logits=logits, low=fn.low, high=fn.high, validate_args=False)


@register_kl(HardConcrete, HardConcrete)
def _kl(p: HardConcrete, q: HardConcrete) -> Tensor:
    other = _like(q, q.temperature.unsqueeze(-1), q.logits.unsqueeze(-1))
    return p._expectation(lambda fn, z: fn._density(z) - other._density(z))


def _inverse(fn: HardConcrete, value: Tensor) -> Tensor:
    return logistic_noise(fn, fn._interval.coordinate(value), inside(value), outward(value))


register_noise_map(HardConcrete)(
    NoiseMap(
        noise_law, lambda fn, noise: fn._interval.value((fn.logits + noise) / fn.temperature), _inverse
    )
)

"""The relaxed Bernoulli (binary Concrete) distribution."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.transforms import SigmoidTransform, Transform
from torch.nn.functional import logsigmoid

from ..noise import logistic_like
from ..numerics.logistic_sum import sigmoid_mean, sigmoid_slope_mean, softplus_mean
from ..numerics.relaxation import bernoulli_linear, hard_bernoulli, outward
from ..numerics.sigmoid import sigmoid
from ..numerics.straight_through import straight_through
from .mixins.probs_or_logits import ProbOrLogit
from .mixins.relaxed_discrete import RelaxedDiscrete, relaxed_twin, same_score
from .rules.copies import unchecked
from .rules.discrete_noise import noise_law
from .rules.logits import parameter_of
from .rules.noise_map import NoiseMap, register_noise_map
from .rules.on_support import cdf_on_support
from .rules.relaxed_noise import logistic_noise
from .rules.tails import register_tails
from .supports.relaxed import edge_of, is_inside, relaxed_interval


class RelaxedBernoulli(RelaxedDiscrete, ProbOrLogit):
    r"""A number between 0 and 1 that stands for a Bernoulli variable, and moves with its logit.

    .. math::
        y = \sigma\Big(\frac{\alpha + L}{T}\Big), \quad L \sim \mathrm{Logistic}(0, 1), \qquad
        f(y) = \frac{T\, \sigma(d)\, \sigma(-d)}{y (1 - y)}, \quad
        d = \alpha - T \log\frac{y}{1 - y}

    Rounded, it is the Bernoulli variable of logit :math:`\alpha`. In floating point a value is censored
    at :math:`e = 2^{-17}` (float32; :math:`2^{-39}` in float64) from either end, and ``log_prob`` is
    that of the censored variable: within, :math:`\log f`; at an end, the logarithm of the
    probability of all beyond it. A sample at an end moves, by next to nothing, such that the gradient
    of :math:`E[\log q(y) - \log p(y)]` is right although both jump there.

    ``mean``, ``variance``, ``entropy`` and the KL divergences are those of the law without censoring;
    the divergences are at least those of the censored one. ``mode`` is the likelier of 0 and 1.

    KL divergences are known between two of the same score, and to and from a Bernoulli distribution. By
    the score "relaxed" the latter stands for its relaxation at the other's temperature. By
    "discrete" the divergence is the expected difference of the discrete log probabilities:
    :math:`\sum_k \bar y_k (\log \pi_k - \log \pi'_k)` with :math:`\bar y` the mean; it may be negative.

    See also:
        :class:`RelaxedOneHotCategorical`; :class:`pyro.distributions.RelaxedBernoulli`, whose float32
        values round to 0 or 1 at a low temperature.

    References:
        Maddison, Mnih, Teh, *The Concrete Distribution: A Continuous Relaxation of Discrete Random
        Variables*, 2016, https://arxiv.org/abs/1611.00712. Jang, Gu, Poole, *Categorical
        Reparameterization with Gumbel-Softmax*, 2016, https://arxiv.org/abs/1611.01144.

    Args:
        temperature: :math:`T > 0`, without unit, of a shape that broadcasts with that of the logits.
        probs: the probability of 1, in [0, 1].
        logits: :math:`\alpha`, real; instead of ``probs``. Those of probabilities that round to 0 or 1
            are held at the last ones that don't.
        score: what ``log_prob`` is. ``"relaxed"``: the density above. ``"discrete"``: the discrete log
            probability, extended linearly: :math:`y \log p + (1 - y) \log(1 - p)`; the gradient in a
            guide is then not that of the printed loss, but near that of the discrete law's.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: not exactly one of ``probs`` and ``logits`` is given, the score is unknown, or, with
            validation on, a parameter is outside its domain.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.tensor(1.0, requires_grad=True)
        >>> fn = pre.distributions.RelaxedBernoulli(0.1, logits=logits)
        >>> y = fn.rsample((10_000,))
        >>> y.mean().backward()  # close to p and p (1 - p), p = 0.731
        >>> print(f"{y.mean().item():.1f}, {logits.grad.item():.1f}, {fn.mean.item():.4f}")
        0.7, 0.2, 0.7296
    """

    support = relaxed_interval
    has_rsample = True

    @property
    def probs(self) -> Tensor:
        """The probability that the value is above one half."""
        return sigmoid(self.logits)

    @property
    def base_dist(self) -> LogitRelaxedBernoulli:
        """The law of the logit of a value that is not censored, as in torch, whatever the score is."""
        parameters = {"temperature": self.temperature, "logits": self.logits}
        base: LogitRelaxedBernoulli = unchecked(self, LogitRelaxedBernoulli, **parameters)
        return base

    @property
    def transforms(self) -> list[Transform]:
        """The step from the logit to the value."""
        return [SigmoidTransform()]

    def _draw(self, shape: Size) -> Tensor:
        return _forward(self, logistic_like(self.logits.expand(shape)))

    def _at(self, value: Tensor) -> Tensor:
        x = _coordinate(value)
        logits, temperature = self.logits.detach(), self.temperature.detach()
        moving = (self.logits - logits + temperature * x) / self.temperature
        # At an end, by the rate at which probability passes it over that of all beyond.
        rate = temperature * (outward(value) * (temperature * x - logits)).sigmoid()
        rate = torch.where(is_inside(value), 1.0, rate)
        value_moving = sigmoid(x + rate * (moving - moving.detach()))
        return straight_through(value, value_moving)

    def _density(self, value: Tensor) -> Tensor:
        inside, side = is_inside(value), outward(value)
        middle = torch.where(inside, value, 0.5)
        beyond = side * (self.temperature * _coordinate(value) - self.logits)
        log_t, log_beyond = self.temperature.log(), logsigmoid(-beyond)
        log_passing = log_t + log_beyond + logsigmoid(beyond)
        density = log_passing - middle.log() - (-middle).log1p()
        # What the gradient of a draw misses: how the density jumps where a value leaves the end.
        edge = edge_of(value.dtype)
        scale = edge * (1 - edge)
        jump = log_beyond - log_passing + math.log(scale)
        leaving = side * (value - value.detach()) / scale
        return torch.where(inside, density, log_beyond + leaving * jump.detach())

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        """The CDF of the relaxed law, whatever the score is."""
        below = sigmoid(self.temperature * _coordinate(value) - self.logits)
        return torch.where(value >= 1, 1.0, below)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile of the relaxed law, whatever the score is."""
        return sigmoid((value.logit() + self.logits) / self.temperature)

    def _linear(self, logits: Tensor, value: Tensor) -> Tensor:
        return bernoulli_linear(logits, value)

    @property
    def mean(self) -> Tensor:
        return sigmoid_mean(self.logits, self.temperature)

    @property
    def variance(self) -> Tensor:
        product = self.mean * sigmoid_mean(-self.logits, self.temperature)
        return (product - sigmoid_slope_mean(self.logits, self.temperature)).clamp(min=0)

    @property
    def mode(self) -> Tensor:
        """The likelier of 0 and 1."""
        return hard_bernoulli(self.logits)

    def entropy(self) -> Tensor:
        return 2 - self.temperature.log() - _both_softplus(self.logits, self.temperature)


def _coordinate(value: Tensor) -> Tensor:
    """The logit, constant where it is censored."""
    edge = edge_of(value.dtype)
    end = math.log((1 - edge) / edge) * outward(value)
    inside = is_inside(value)
    return torch.where(inside, torch.where(inside, value, 0.5).logit(), end)


def _both_softplus(location: Tensor, temperature: Tensor) -> Tensor:
    """The mean of -log(y (1 - y))."""
    return softplus_mean(location, temperature) + softplus_mean(-location, temperature)


@register_kl(RelaxedBernoulli, RelaxedBernoulli)
def _kl(p: RelaxedBernoulli, q: RelaxedBernoulli) -> Tensor:
    if same_score(p, q) == "discrete":
        return _linear_kl(p.mean, p.logits, q.logits)
    ratio = p.temperature / q.temperature
    return ratio.log() - 2 + _both_softplus(p.logits - ratio * q.logits, ratio)


@register_kl(RelaxedBernoulli, torch.distributions.RelaxedBernoulli)
def _kl_to_torch(p: RelaxedBernoulli, q: torch.distributions.RelaxedBernoulli) -> Tensor:
    return _kl(p, relaxed_twin(q, RelaxedBernoulli))


@register_kl(torch.distributions.RelaxedBernoulli, RelaxedBernoulli)
def _kl_from_torch(p: torch.distributions.RelaxedBernoulli, q: RelaxedBernoulli) -> Tensor:
    return _kl(relaxed_twin(p, RelaxedBernoulli), q)


@register_kl(RelaxedBernoulli, torch.distributions.Bernoulli)
def _kl_to_discrete(p: RelaxedBernoulli, q: torch.distributions.Bernoulli) -> Tensor:
    return _kl(p, _relaxed_as(p, q))


@register_kl(torch.distributions.Bernoulli, RelaxedBernoulli)
def _kl_from_discrete(p: torch.distributions.Bernoulli, q: RelaxedBernoulli) -> Tensor:
    like = _relaxed_as(q, p)
    if q.score == "discrete":
        return _linear_kl(like.probs, like.logits, q.logits)
    return _kl(like, q)


def _relaxed_as(relaxed: RelaxedBernoulli, fn: torch.distributions.Bernoulli) -> RelaxedBernoulli:
    return RelaxedBernoulli(
        relaxed.temperature, **parameter_of(fn), score=relaxed.score, validate_args=False
    )


def _linear_kl(mean: Tensor, p_logits: Tensor, q_logits: Tensor) -> Tensor:
    return bernoulli_linear(p_logits, mean) - bernoulli_linear(q_logits, mean)


def _forward(fn: RelaxedBernoulli, noise: Tensor) -> Tensor:
    x, edge = (fn.logits + noise) / fn.temperature, edge_of(noise.dtype)
    return sigmoid(x).clamp(edge, 1 - edge)


def _inverse(fn: RelaxedBernoulli, value: Tensor) -> Tensor:
    return logistic_noise(fn, _coordinate(value), is_inside(value), outward(value))


register_noise_map(RelaxedBernoulli)(NoiseMap(noise_law, _forward, _inverse))


@register_tails(RelaxedBernoulli)
def _tails(fn: RelaxedBernoulli, value: Tensor) -> tuple[Tensor, Tensor]:
    above = sigmoid(fn.logits - fn.temperature * _coordinate(value))
    return fn.cdf(value), torch.where(value >= 1, 0.0, above)

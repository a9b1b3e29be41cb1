"""The relaxed one-hot categorical (Concrete, Gumbel-Softmax) distribution."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical
from torch.distributions.transforms import ExpTransform, Transform

from ..noise import gumbel_like
from ..numerics.gumbel_sum import GAMMA, log_sum_mean, log_weighted_sum_mean, softmax_moments
from ..numerics.relaxation import hard_one_hot, one_hot_linear
from .mixins.parametric import same_event_shape
from .mixins.relaxed_discrete import RelaxedDiscrete, relaxed_twin, same_score, where_equal
from .rules.copies import unchecked
from .rules.discrete_noise import noise_law
from .rules.logits import parameter_of
from .rules.noise_map import NoiseMap, register_noise_map
from .rules.relaxed_noise import gumbel_noise
from .supports.relaxed import floor_of, relaxed_simplex


class RelaxedOneHotCategorical(RelaxedDiscrete):
    r"""A point of the simplex that stands for a one-hot vector, and moves with its logits.

    .. math::
        y = \mathrm{softmax}\Big(\frac{\alpha + G}{T}\Big), \quad G_k \sim \mathrm{Gumbel}(0, 1), \qquad
        f(y) = (K - 1)!\; T^{K-1} \prod_k \frac{w_k}{y_k}, \quad
        w = \mathrm{softmax}(\alpha - T \log y)

    Its largest component is that of a one-hot categorical variable of these logits. In floating point a
    component is censored at :math:`e^{-F} = 2^{-94}` (float32; :math:`2^{-766}` in float64), and
    ``log_prob`` is that of the censored variable: with :math:`U` the :math:`m` components above,
    :math:`w` at the floor for those below, and Lebesgue measure on all but one of :math:`U`,

    .. math::
        \log f(y) = \log (m - 1)! + (m - 1) \log T + \sum_{k \in U} (\log w_k - \log y_k).

    A component at the floor moves, by next to nothing, such that the gradient of
    :math:`E[\log q(y) - \log p(y)]` is right although both jump there: in :math:`\log y_k` by
    the velocity that it had times the rate :math:`m T w_k` at which it passes the floor.

    ``mean``, ``variance``, ``entropy`` and the KL divergences are those of the law without censoring;
    the divergences are at least those of the censored one. They are found by quadrature:
    :math:`E[y_k]` is the probability that :math:`\alpha_k + G_k + T G'_k`, with further Gumbel noise,
    is the largest. All but the divergences take some 10,000 numbers for each class and batch element.
    ``mode`` is the one-hot vector of the likeliest class.

    KL divergences are known between two of the same score, and to and from a one-hot categorical
    distribution. By the score "relaxed" the temperatures have to be equal (where they are not, the
    divergence is NaN with validation off), and a discrete distribution stands for its relaxation at the
    other's. By "discrete" the divergence is the expected difference of the discrete log
    probabilities: :math:`\sum_k \bar y_k (\log \pi_k - \log \pi'_k)` with :math:`\bar y` the mean; it
    may be negative.

    See also:
        :class:`RelaxedBernoulli`; :class:`pyro.distributions.RelaxedOneHotCategorical`, whose float32
        density is NaN for many draws at a low temperature.

    References:
        Maddison, Mnih, Teh, *The Concrete Distribution: A Continuous Relaxation of Discrete Random
        Variables*, 2016, https://arxiv.org/abs/1611.00712. Jang, Gu, Poole, *Categorical
        Reparameterization with Gumbel-Softmax*, 2016, https://arxiv.org/abs/1611.01144.

    Args:
        temperature: :math:`T > 0`, without unit, of a shape that broadcasts with the batch shape of the
            logits.
        probs: probabilities of the classes, of shape (..., K), summing to 1.
        logits: :math:`\alpha`, of shape (..., K), real; instead of ``probs``. They are normalised, and
            a probability of 0, or below the smallest normal float, makes a class impossible: its
            component is at the floor, and the density is that of the other classes.
        score: what ``log_prob`` is. ``"relaxed"``: the density above. ``"discrete"``: the discrete log
            probability, extended linearly: :math:`\sum_k y_k \log \pi_k`; the gradient in a guide is
            then not that of the printed loss, but near that of the discrete law's.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: not exactly one of ``probs`` and ``logits`` is given, the score is unknown, or, with
            validation on, a parameter is outside its domain, or a divergence is asked for at
            temperatures that differ.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.tensor([0.5, 0.3, 0.2]).log()
        >>> fn = pre.distributions.RelaxedOneHotCategorical(torch.tensor(0.5), logits=logits)
        >>> y = fn.rsample((10_000,))
        >>> print([f"{x:.1f}" for x in y.mean(0)], [f"{x:.4f}" for x in fn.mean])
        ['0.5', '0.3', '0.2'] ['0.4792', '0.3069', '0.2139']
    """

    arg_constraints = {"temperature": constraints.positive, "logits": constraints.real_vector}
    support = relaxed_simplex
    has_rsample = True
    _probs_constraint = constraints.simplex

    def _logits_of(self, probs: Tensor) -> Tensor:
        return probs.clamp(min=torch.finfo(probs.dtype).tiny).log()

    def _normalized(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(-1).clamp(min=math.log(torch.finfo(logits.dtype).tiny))

    @property
    def _interior(self) -> float:
        return 1 / self.event_shape[0]

    @property
    def probs(self) -> Tensor:
        """The probabilities that a component is the largest."""
        return self.logits.exp()

    @property
    def base_dist(self) -> ExpRelaxedCategorical:
        """The law of the logarithm of a value that is not censored, as in torch, whatever the score is.

        Raises:
            AttributeError: rows have temperatures of their own, beside which torch's class has a log
                density of the wrong shape. Take the logarithm of a draw then.
        """
        single = _single(self.temperature)
        if single is None:
            raise AttributeError(
                f"RelaxedOneHotCategorical.base_dist: torch's ExpRelaxedCategorical takes a single"
                f" temperature, this one has them in the shape {tuple(self.temperature.shape)}."
                f" Give a temperature without dims, or take the logarithm of a draw."
            )
        parameters = {"temperature": single, "logits": self.logits}
        base: ExpRelaxedCategorical = unchecked(self, ExpRelaxedCategorical, **parameters)
        return base

    @property
    def transforms(self) -> list[Transform]:
        """The step from the logarithm to the value."""
        return [ExpTransform()]

    @property
    def impossible(self) -> Tensor:
        """Which classes have probability 0; their logits are held at those of the smallest float."""
        logits = self.logits.detach()
        return logits <= math.log(torch.finfo(logits.dtype).tiny)

    def _draw(self, shape: Size) -> Tensor:
        return _forward(self, gumbel_like(self.logits.expand(shape)))

    def _at(self, value: Tensor) -> Tensor:
        log_y, censored = _logarithm(value)
        temperature = self.temperature.unsqueeze(-1)
        t, logits = temperature.detach(), self.logits.detach()
        moving = ((self.logits - logits + t * log_y) / temperature).log_softmax(-1)
        uncensored = (~censored).sum(-1, keepdim=True)
        shifted = torch.where(self.impossible, -math.inf, logits - t * log_y)
        rate = uncensored * t * shifted.softmax(-1)
        rate = torch.where(censored, rate, 1.0)
        return value * (rate * (moving - moving.detach())).exp()

    def _density(self, value: Tensor) -> Tensor:
        log_y, censored = _logarithm(value)
        log_t = self.temperature.log()
        shifted, impossible = self.logits - self.temperature.unsqueeze(-1) * log_y, self.impossible
        log_w = torch.where(impossible, -math.inf, shifted).log_softmax(-1)
        uncensored = (~censored).sum(-1).to(log_w.dtype)
        density = torch.where(censored, 0.0, log_w - log_y).sum(-1)
        density = density + uncensored.lgamma() + (uncensored - 1) * log_t
        # What the gradient of a draw misses: how the density jumps where a component leaves the floor.
        floor = floor_of(value.dtype)
        log_rate = (uncensored.log() + log_t).unsqueeze(-1) + log_w
        jump = torch.where(censored & ~impossible, math.log(floor) - log_rate, 0.0)
        leaving = (value - value.detach()) / floor
        return density - (leaving * jump.detach()).sum(-1)

    def _linear(self, logits: Tensor, value: Tensor) -> Tensor:
        return one_hot_linear(logits, value)

    @property
    def mean(self) -> Tensor:
        return softmax_moments(self.logits, self.temperature).mean

    @property
    def variance(self) -> Tensor:
        mean, slope = softmax_moments(self.logits, self.temperature)
        return (mean * (1 - mean) - slope).clamp(min=0)

    @property
    def mode(self) -> Tensor:
        """The one-hot vector of the likeliest class."""
        return hard_one_hot(self.logits)

    def entropy(self) -> Tensor:
        classes, temperature = self.event_shape[0], self.temperature
        log_w = -classes * (GAMMA + _log_sum_mean(classes))
        # E[log y_k] summed: of the logarithms of the numerators, and of the denominator.
        log_y = (self.logits.sum(-1) + classes * GAMMA) / temperature
        log_y = log_y - classes * log_sum_mean(self.logits, temperature)
        return log_y - log_w - math.lgamma(classes) - (classes - 1) * temperature.log()


def _logarithm(value: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of a value, constant where it is censored; and where that is."""
    floor = floor_of(value.dtype)
    censored = value <= floor
    return torch.where(censored, math.log(floor), torch.where(censored, 1.0, value).log()), censored


def _single(temperature: Tensor) -> Tensor | None:
    """The one temperature that all rows have been given, if they have."""
    if temperature.numel() != 1 and any(temperature.stride()):
        return None
    return temperature[(0,) * temperature.dim()] if temperature.numel() else None


def _log_sum_mean(classes: int) -> float:
    """The digamma function: the mean of log of as many standard exponentials."""
    return sum(1 / i for i in range(1, classes)) - GAMMA


@register_kl(RelaxedOneHotCategorical, RelaxedOneHotCategorical)
def _kl(p: RelaxedOneHotCategorical, q: RelaxedOneHotCategorical) -> Tensor:
    same_event_shape(p, q)
    if same_score(p, q) == "discrete":
        return _linear_kl(p.mean, p.logits, q.logits)
    # A divergence is the same in any coordinates: here of the noise, whence no temperature.
    apart, classes = q.logits.double() - p.logits.double(), p.event_shape[0]
    sums = log_weighted_sum_mean(apart) - _log_sum_mean(classes)
    divergence = classes * sums - apart.sum(-1)
    return where_equal(p, q, divergence.to(p.logits.dtype))


@register_kl(RelaxedOneHotCategorical, torch.distributions.RelaxedOneHotCategorical)
def _kl_to_torch(
    p: RelaxedOneHotCategorical, q: torch.distributions.RelaxedOneHotCategorical
) -> Tensor:
    return _kl(p, relaxed_twin(q, RelaxedOneHotCategorical))


@register_kl(torch.distributions.RelaxedOneHotCategorical, RelaxedOneHotCategorical)
def _kl_from_torch(
    p: torch.distributions.RelaxedOneHotCategorical, q: RelaxedOneHotCategorical
) -> Tensor:
    return _kl(relaxed_twin(p, RelaxedOneHotCategorical), q)


@register_kl(RelaxedOneHotCategorical, torch.distributions.OneHotCategorical)
def _kl_to_discrete(p: RelaxedOneHotCategorical, q: torch.distributions.OneHotCategorical) -> Tensor:
    return _kl(p, _relaxed_as(p, q))


@register_kl(torch.distributions.OneHotCategorical, RelaxedOneHotCategorical)
def _kl_from_discrete(p: torch.distributions.OneHotCategorical, q: RelaxedOneHotCategorical) -> Tensor:
    same_event_shape(p, q)
    like = _relaxed_as(q, p)
    if q.score == "discrete":
        return _linear_kl(like.probs, like.logits, q.logits)
    return _kl(like, q)


def _relaxed_as(
    relaxed: RelaxedOneHotCategorical, fn: torch.distributions.OneHotCategorical
) -> RelaxedOneHotCategorical:
    return RelaxedOneHotCategorical(
        relaxed.temperature,
        **parameter_of(fn),
        score=relaxed.score,
        validate_args=False,
    )


def _linear_kl(mean: Tensor, p_logits: Tensor, q_logits: Tensor) -> Tensor:
    return (mean * (p_logits - q_logits)).sum(-1)


def _forward(fn: RelaxedOneHotCategorical, noise: Tensor) -> Tensor:
    x = (fn.logits + noise) / fn.temperature.unsqueeze(-1)
    x = torch.where(fn.impossible, -math.inf, x)
    return x.softmax(-1).clamp(min=floor_of(x.dtype))


def _inverse(fn: RelaxedOneHotCategorical, value: Tensor) -> Tensor:
    log_y, censored = _logarithm(value)
    scores = fn.logits - fn.temperature.unsqueeze(-1) * log_y
    return gumbel_noise(torch.where(fn.impossible, -math.inf, scores), censored)


register_noise_map(RelaxedOneHotCategorical)(NoiseMap(noise_law, _forward, _inverse))

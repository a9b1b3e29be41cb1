"""Gumbel-Softmax: sample a continuous relaxation and differentiate through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import noise_of
from ..distributions.rules.relaxation import coordinate, noisy_logits, relaxed_log_prob, to_value
from ..distributions.rules.wrappers import coordinates, log_prob_by
from ..errors import EstimatorError
from ..noise import NoiseSource
from ..temperature import Temperature, as_option, check_temperature
from .base import Estimator
from .protocol import Draw, Paper, Site
from .relaxed import LinearlyScored, Tempered


@dataclass(frozen=True, eq=False)
class GumbelSoftmax(Tempered, LinearlyScored, Estimator):
    r"""The Gumbel-Softmax (Concrete) relaxation: biased, of low variance, one evaluation.

    .. math::
        y = \mathrm{softmax}\big((\alpha + G)/T\big),\ G_k \sim \mathrm{Gumbel}
        \qquad\text{or}\qquad y = \sigma\big((\alpha + L)/T\big),\ L \sim \mathrm{Logistic}

    The program is evaluated at the relaxed value :math:`y`, which carries the gradient. Serves
    Bernoulli and one-hot sites. As ``T`` falls the bias vanishes and the variance grows.

    Args:
        temperature: ``T > 0``: a float, a tensor, an ``nn.Parameter`` (learned; for one
            that stays positive give ``pyro.param`` with a constraint), or an
            :class:`~pyro_reparam_ext.ExponentialDecay`.
        score: how guide and model score the relaxed value. ``"relaxed"``: by the densities of the
            relaxed distributions at this temperature, which makes the loss a proper bound, on the
            relaxed model. ``"discrete"``: by the discrete log probabilities, extended linearly; the
            guide's is held fixed in its parameters.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, an option is out of range, or
            the program makes a number of the value (it branches on it, or indexes a list), by which the
            gradient is lost.

    Warns:
        UserWarning: a cost depends on the value without a gradient, as ``table[z.long()]`` does.

    References:
        Jang, Gu, Poole, 2016, Categorical Reparameterization with Gumbel-Softmax,
        https://arxiv.org/abs/1611.01144; Maddison, Mnih, Teh, 2016, The Concrete Distribution,
        https://arxiv.org/abs/1611.00712

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pre.GumbelSoftmax(temperature=0.5, score="discrete")
        GumbelSoftmax(temperature=0.5, score='discrete')
    """

    temperature: Temperature
    score: Literal["relaxed", "discrete"] = "relaxed"

    unbiased = False
    paper = Paper(
        "Jang, Gu, Poole", "Categorical Reparameterization with Gumbel-Softmax", 2016, "1611.01144"
    )

    def __post_init__(self) -> None:
        check_temperature("GumbelSoftmax", self.temperature)
        object.__setattr__(self, "temperature", as_option(self.temperature))
        if self.score not in ("relaxed", "discrete"):
            raise EstimatorError(
                f"GumbelSoftmax: score must be 'relaxed' or 'discrete', was given {self.score!r}."
            )

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        base = coordinates(fn)
        noise = noise_of(base, source)
        x = coordinate(base, noisy_logits(base, noise), self.current_temperature)
        return Draw(to_value(base, x), x, noise)

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        base, noise = coordinates(fn), site.noise
        x = coordinate(base, noisy_logits(base, noise), self.current_temperature)
        return Draw(to_value(base, x), x)

    def log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        if self.score == "discrete":
            return super().log_prob(fn, draw)
        x, temperature = draw.coordinate, self.current_temperature
        if x is None:
            raise EstimatorError(
                "GumbelSoftmax scores a relaxed value by the coordinate that it was made of, was given "
                "a value by a handler (such as poutine.replay); expected one of its own. Let the site "
                "be sampled, or say score='discrete'."
            )
        return log_prob_by(lambda base: relaxed_log_prob(base, x, temperature), fn)

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        if self.score == "discrete":
            return super().guide_log_prob(fn, draw)
        return self.log_prob(fn, draw)

"""Parts of estimators whose control variates are made of slopes: of the costs, in a value of the site.

The estimates are unbiased whatever the slopes are: what costs do between the support points decides
about the variance alone.
"""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import hard_sample, is_binary
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.relaxation import probabilities
from ..distributions.rules.wrappers import coordinates, sum_rightmost
from ..errors import EstimatorError
from ..noise import NoiseSource
from ..numerics.leaf import leaf
from ..numerics.relaxation import within
from .protocol import Branch, Draw, Evaluations, Site


def with_slopes(value: Tensor, base: TorchDistribution) -> Tensor:
    """``value``, in which costs can be differentiated; by it no gradient reaches the parameters."""
    return leaf(value, probabilities(base))


def dot(site: Site, a: Tensor, b: Tensor) -> Tensor:
    """The product of values and slopes of each batch element."""
    return sum_rightmost(a * b, len(site.fn.event_shape))


def beside_values(site: Site, x: Tensor) -> Tensor:
    """``x``, one number for each batch element, with dims of 1 for the event."""
    return x.reshape(x.shape + (1,) * len(site.fn.event_shape))


def others(x: Tensor) -> Tensor:
    """For each sample, along the leftmost dim, the mean of the others."""
    return (x.sum(0) - x) / (len(x) - 1)


def slope_in_logits(base: TorchDistribution, slope: Tensor) -> Tensor:
    """The gradient, in free logits, of a linear function of the mean of ``base``."""
    logits = exact_logits(base).detach()
    if is_binary(base):
        return slope * logits.sigmoid() * (-logits).sigmoid()  # 1 - probs would be rounded
    probs = logits.softmax(-1)
    return probs * (slope - (probs * slope).sum(-1, keepdim=True))


def estimate_in_logits(site: Site, gradient: Tensor) -> Tensor:
    """A surrogate whose gradient in the free logits of the site is ``gradient``."""
    logits = within(exact_logits(site.base))
    return sum_rightmost(gradient.detach() * logits, len(site.fn.event_shape))


class SeveralSamples:
    """For estimators of several samples and of their slopes. A mixin, left of ``Estimator``."""

    num_samples: int

    def __post_init__(self) -> None:
        if not (isinstance(self.num_samples, int) and self.num_samples >= 2):
            raise EstimatorError(
                f"{type(self).__name__}: num_samples must be an integer of at least 2, was given "
                f"{self.num_samples!r}."
            )

    def evaluations(self, fn: TorchDistribution) -> int:
        return self.num_samples

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        return Draw(with_slopes(hard_sample(fn, source), coordinates(fn)))

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        if not site.value.requires_grad:
            raise EstimatorError(
                f"site '{site.name}': {type(self).__name__} differentiates the costs in the value, was "
                f"given one by a handler (such as poutine.replay); expected one that it drew itself. "
                f"Let the site be sampled, or configure another estimator for it."
            )
        count = self.num_samples - 1
        more = site.fn.expand((count, *site.fn.batch_shape))
        values = with_slopes(hard_sample(more, NoiseSource()), site.base)
        ordinary = Branch.at_ordinary(site.value, order=1)
        return ordinary, Branch.of(values, weights=1 / self.num_samples, order=1)

    def gradient(self, evaluations: Evaluations) -> Tensor:
        """The estimate in the free logits of the site, differentiable in what is learned."""
        raise NotImplementedError

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        return estimate_in_logits(evaluations.site, self.gradient(evaluations))

    def learning_loss(self, evaluations: Evaluations) -> Tensor:
        """The expected square of the gradient in the logits: its variance up to a constant."""
        return self.gradient(evaluations).square().sum()


def samples_of(evaluations: Evaluations) -> tuple[Tensor, Tensor]:
    """Values and slopes of all samples, each of shape ``(num_samples, *value.shape)``; detached."""
    ordinary, further = evaluations.branches
    assert further.tensor is not None
    values = torch.cat([evaluations.site.value[None], further.tensor])
    slopes = torch.cat([evaluations.gradient(0)[None], evaluations.gradient(1)])
    return values.detach(), slopes.detach()

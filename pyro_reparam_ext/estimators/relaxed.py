"""Parts that relaxed and straight-through estimators have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.discrete_noise import noise_given
from ..distributions.rules.relaxation import (
    RELAXABLE,
    coordinate,
    held_log_prob,
    linear_log_prob,
    noisy_logits,
    probabilities,
    to_value,
)
from ..distributions.rules.wrappers import coordinates, innermost, log_prob_by
from ..errors import EstimatorError
from ..temperature import Temperature, current_value, fault_of, state_of
from .protocol import Downstream, Draw, Site


def integer_remedy(fn: TorchDistribution) -> str:
    """A remedy where integers can't be relaxed."""
    if not isinstance(innermost(fn), torch.distributions.Categorical):
        return ""
    return (
        "An integer Categorical has no values between its classes: use OneHotCategorical in guide and "
        "model."
    )


@dataclass(frozen=True, eq=False)
class RelaxedAt(Downstream):
    """Discrete sites after ``owner`` are relaxed, so that the costs stay differentiable.

    Those whose own estimator makes a differentiable value are drawn again by it. ``temperature``: a
    number, or a tensor of one for each evaluation.
    """

    relaxes = True

    owner: Site
    temperature: Tensor | float

    def __call__(self, site: Site, fn: TorchDistribution) -> Draw:
        if site.estimator.differentiable:
            return site.estimator.redraw(site, fn)
        base, temperature = coordinates(fn), self.temperature
        if not isinstance(base, RELAXABLE):
            raise self._cannot_relax(site, fn)
        z = noisy_logits(base, noise_given(site.base, site.value))
        if isinstance(temperature, Tensor) and temperature.dim():
            temperature = temperature.reshape((-1,) + (1,) * (len(base.batch_shape) - 1))
        return Draw(to_value(base, coordinate(base, z, temperature)))

    @classmethod
    def joined(cls, parts: Sequence[tuple[Downstream, int]]) -> Downstream | None:
        if len(parts) == 1:
            return parts[0][0]
        temperatures, owner = [], None
        for part, count in parts:
            assert isinstance(part, RelaxedAt)
            owner = owner or part.owner
            temperatures.append(torch.as_tensor(part.temperature).to(owner.log_prob).expand(count))
        assert owner is not None
        return cls(owner, torch.cat(temperatures))

    def _cannot_relax(self, site: Site, fn: TorchDistribution) -> EstimatorError:
        owner = self.owner
        return EstimatorError(
            f"site '{site.name}': it is sampled after site '{owner.name}', whose estimator "
            f"evaluates relaxed values; {type(coordinates(fn)).__name__} can't be relaxed, and "
            f"{type(site.estimator).__name__} does not sample it pathwise; expected Bernoulli, "
            f"OneHotCategorical or Pathwise. "
            + (f"Use Pathwise for site '{site.name}'. Or, for " if fn.has_rsample else "For ")
            + f"site '{owner.name}': {owner.estimator.advice(owner.fn)}"
        )


class AtMeans(Downstream):
    """Discrete sites at their means, where they have one; the others are coupled."""

    relaxes = True

    def __call__(self, site: Site, fn: TorchDistribution) -> Draw:
        base = coordinates(fn)
        if site.estimator.differentiable or not isinstance(base, RELAXABLE):
            return site.estimator.redraw(site, fn)
        return Draw(probabilities(base))


class LinearlyScored:
    """For estimators of a differentiable value that the discrete log probability scores, extended.

    A mixin, left of ``Estimator``. In the guide the density is held fixed in its parameters.
    """

    supported: ClassVar[tuple[type, ...]] = RELAXABLE
    differentiable: ClassVar[bool] = True

    def remedy(self, fn: TorchDistribution) -> str:
        return integer_remedy(fn)

    def log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: linear_log_prob(base, draw.value), fn)

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: held_log_prob(base, draw.value), fn)


class Tempered:
    """For estimators with a temperature. A mixin, left of ``Estimator``."""

    temperature: Temperature

    @property
    def current_temperature(self) -> float | Tensor:
        return current_value(self.temperature)

    def new_state(self, site: Site) -> nn.Module | None:
        return state_of(self.temperature)

    def fault(self, fn: TorchDistribution) -> str | None:
        return fault_of(self.temperature, coordinates(fn).batch_shape)

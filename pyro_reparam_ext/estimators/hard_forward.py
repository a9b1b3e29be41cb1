"""A hard value with a gradient: what the straight-through estimators have in common."""

from __future__ import annotations

from typing import ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import noise_given, noise_of
from ..distributions.rules.relaxation import harden, held_log_prob, noisy_logits
from ..distributions.rules.wrappers import coordinates, log_prob_by
from ..noise import NoiseSource
from ..numerics.straight_through import straight_through
from .protocol import Draw, Site
from .relaxed import LinearlyScored


class HardForward(LinearlyScored):
    """For estimators that draw a hard value and say what its gradient is, by :meth:`soft`.

    A mixin, left of ``Estimator``. One whose value has the law of its site is also what a
    straight-through distribution takes as its ``gradient``.
    """

    keeps_law: ClassVar[bool] = True
    """Whether values are drawn from the distribution of the site itself."""

    @property
    def current_temperature(self) -> float | Tensor:
        """The temperature of the gradient; 1 for those that have none."""
        return 1.0

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        """A tensor whose gradient a hard value takes; what else it is does not matter.

        Args:
            base: the distribution of the site's coordinates.
            z: logits and noise, differentiable in the logits; the hard value is its sign, or argmax.
        """
        raise NotImplementedError

    def law(self, base: TorchDistribution) -> TorchDistribution:
        """The law that values are drawn from in the guide, and scored by."""
        return base

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        base = coordinates(fn)
        return self._draw(base, noise_of(self.law(base), source))

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        return self._draw(coordinates(fn), noise_given(self.law(site.base), site.value))

    def _draw(self, base: TorchDistribution, noise: Tensor) -> Draw:
        z = noisy_logits(self.law(base), noise)
        return Draw(straight_through(harden(base, z.detach()), self.soft(base, z)))

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return log_prob_by(lambda base: held_log_prob(self.law(base), draw.value), fn)

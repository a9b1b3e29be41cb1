"""The base of the straight-through distributions."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor

from ...errors import EstimatorError
from ...numerics.shapes import broadcast_shapes
from ...numerics.straight_through import straight_through
from ..rules.copies import instance_to_expand
from ..rules.known_defects import always, register_biased
from ..rules.relaxation import coordinate, harden, to_value
from ..rules.temperatures import in_batch
from .held_score import HeldScore
from .parametric import as_tensors
from .probs_or_logits import one_of


class Gradient(Protocol):
    """The gradient of a hard value, as a rule: every straight-through estimator is one."""

    @property
    def keeps_law(self) -> bool:
        """Whether the value has the law of the distribution itself."""

    @property
    def current_temperature(self) -> float | Tensor:
        """The temperature of the gradient, 1 where it has none."""

    def soft(self, base: TorchDistribution, z: Tensor) -> Tensor:
        """A tensor whose gradient the value takes; ``z``, logits and noise, leads to the value."""


class StraightThrough(HeldScore):
    r"""A mixin, left of a discrete distribution: hard samples that carry a relaxed gradient.

    A subclass says how a sample is drawn (:meth:`rsample`) and the discrete log probability,
    extended linearly in the value (:meth:`_linear`).
    """

    has_rsample = True
    temperature: Tensor
    gradient: Gradient | None

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = instance_to_expand(self, _instance)
        new.temperature = self.temperature  # not expanded: it broadcasts
        new.gradient = self.gradient
        return super().expand(batch_shape, _instance=new)

    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    @property
    def _key_temperature(self) -> Tensor | None:
        """That of the gradient in the keys of an autoguide; None where there is no such gradient."""
        return self.temperature.detach() if self.gradient is None else None

    def _hard(self, z: Tensor) -> Tensor:
        """The value that logits and noise ``z`` lead to, with its gradient."""
        if self.gradient is None:
            soft = to_value(self, coordinate(self, z, self.temperature))
        else:
            soft = self.gradient.soft(self, z)
        return straight_through(harden(self, z.detach()), soft)


def arguments(
    owner: str,
    temperature: Tensor | float | None,
    probs: Tensor | float | None,
    logits: Tensor | float | None,
    gradient: Gradient | None,
    event_dim: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The temperature, and the other parameter under its name in the shape of both."""
    name, given = one_of(owner, probs, logits)
    if gradient is not None:
        if temperature is not None:
            raise EstimatorError(
                f"{owner}: was given a temperature and gradient={gradient!r}; expected one of the two. "
                f"Leave the temperature to the gradient, which has its own where it needs one."
            )
        check_keeps_law(owner, gradient)
        temperature = gradient.current_temperature
    temperature = 1.0 if temperature is None else temperature
    t, x = as_tensors({"temperature": temperature, name: given}).values()
    t = in_batch(owner, t, x.shape, event_dim)
    cut = x.dim() - event_dim
    batch_shape = broadcast_shapes(t.shape, x.shape[:cut])
    return t, {name: x.expand(batch_shape + x.shape[cut:])}


def check_keeps_law(owner: str, gradient: Gradient) -> None:
    """Raises for a gradient whose values have another law than that of the distribution."""
    if not gradient.keeps_law:
        raise EstimatorError(
            f"{owner}: {gradient!r} draws values from another law than that of the distribution; "
            f"expected forward_temperature=1.0. Divide the logits by the forward temperature."
        )


register_biased(StraightThrough)(always)

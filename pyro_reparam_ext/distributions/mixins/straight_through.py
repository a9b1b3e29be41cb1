"""The base of the straight-through distributions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor

from ...numerics.shapes import broadcast_shapes
from ..rules.known_defects import always, register_biased
from .held_score import HeldScore
from .parametric import as_tensors
from .probs_or_logits import one_of


class StraightThrough(HeldScore):
    r"""A mixin, left of a discrete distribution: hard samples that carry a relaxed gradient.

    A subclass says how a sample is drawn (:meth:`rsample`) and the discrete log probability,
    extended linearly in the value (:meth:`_linear`).
    """

    has_rsample = True
    temperature: Tensor

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = self._get_checked_instance(type(self), _instance)
        new.temperature = self.temperature  # not expanded: it broadcasts
        return super().expand(batch_shape, _instance=new)

    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


def arguments(
    owner: str,
    temperature: Tensor | float,
    probs: Tensor | float | None,
    logits: Tensor | float | None,
    event_dim: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The temperature, and the other parameter under its name in the shape of both."""
    name, given = one_of(owner, probs, logits)
    temperature, x = as_tensors({"temperature": temperature, name: given}).values()
    cut = x.dim() - event_dim
    batch_shape = broadcast_shapes(temperature.shape, x.shape[:cut])
    return temperature, {name: x.expand(batch_shape + x.shape[cut:])}


register_biased(StraightThrough)(always)

"""The derivatives of the costs where several sites take their alternatives together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Joint:
    """The evaluation that joint branches of some sites share.

    By the names of the sites: ``tensors``, their alternatives, ``gradients``, those of the summed costs
    in them, and ``ways``, from there to the ordinary values or where a branch says; all of shape
    ``(1, *value.shape)``. The branches are of order 2.
    """

    tensors: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    ways: Mapping[str, Tensor]

    @cached_property
    def moved(self) -> Mapping[str, Tensor]:
        r"""The Hessian of the costs, over all of these sites, times the ways.

        That is what the gradient changes by to first order, on all of them; in the shape of each
        value, detached.
        """
        names = [name for name, gradient in self.gradients.items() if gradient.requires_grad]
        if not names:  # the costs are linear
            return {name: torch.zeros_like(way[0]) for name, way in self.ways.items()}
        products = torch.autograd.grad(
            [self.gradients[name] for name in names],
            list(self.tensors.values()),
            [self.ways[name] for name in names],
            retain_graph=True,
            materialize_grads=True,
        )
        return {name: x.detach()[0] for name, x in zip(self.tensors, products, strict=True)}

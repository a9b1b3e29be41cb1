"""The derivatives of the costs where several sites take their alternatives together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """A site in the evaluation that joint branches share.

    ``tensor`` is its alternative and ``gradient`` that of the summed costs in it, both of shape ``(1,
    *value.shape)``, or of size 1 where one of them stands for all particles; ``value`` is the ordinary
    value, ``particle_dim`` the dim of that (negative) over which the particles lie, if they do.
    """

    tensor: Tensor
    gradient: Tensor
    value: Tensor
    particle_dim: int | None = None
    given_way: Tensor | None = None

    @property
    def way(self) -> Tensor:
        """The given one, or the way from the alternative to the ordinary value of each particle."""
        given = self.given_way
        return (self.value - self.tensor[0]).detach() if given is None else given

    @property
    def count(self) -> int:
        """The particles that the tensor stands for."""
        return self.value.numel() // self.tensor[0].numel()

    def between(self, x: Tensor) -> Tensor:
        """``x`` less its mean: that of half of the particles, and of the others with the sign turned.

        What all particles have in common is gone, and the mean of what is left is not zero.
        """
        if self.particle_dim is None or x.shape[self.particle_dim] < 2:
            return x
        x = x - x.mean(self.particle_dim, keepdim=True)
        first, second = x.tensor_split(2, self.particle_dim)
        return torch.cat([first, -second], self.particle_dim)

    def averaged(self, x: Tensor) -> Tensor:
        """``x`` of all particles, averaged over those that the tensor stands for."""
        return x if self.count == 1 else x.mean(self.particle_dim, keepdim=True)


@dataclass(frozen=True, eq=False)
class Joint:
    """The evaluation that joint branches of some sites share, by their names."""

    parts: Mapping[str, Part]

    def slope(self, name: str) -> Tensor:
        """The gradient of the costs in the alternative of a site, in one particle; detached."""
        part = self.parts[name]
        return part.gradient[0].detach() / part.count

    def product(self, name: str, vector: Tensor) -> Tensor:
        """The Hessian of the costs in the alternative of a site, times a vector of its shape."""
        return self._products({name: vector}, [name])[name]

    @cached_property
    def moved(self) -> Mapping[str, Tensor]:
        """The Hessian over all sites, times the mean way from the alternatives to the ordinary values.

        To first order the mean over the particles of what the gradient changes by along the way.
        """
        return self._products({name: part.averaged(part.way) for name, part in self.parts.items()})

    @cached_property
    def between(self) -> Mapping[str, Tensor]:
        """The same for the way from one half of the particles to the other."""
        if all(part.particle_dim is None for part in self.parts.values()):
            return self.moved
        ways = {name: p.averaged(p.between(p.way)) for name, p in self.parts.items()}
        return self._products(ways)

    def _products(
        self, ways: Mapping[str, Tensor], wanted: list[str] | None = None
    ) -> dict[str, Tensor]:
        """The Hessian times a vector that is zero but for some sites, at the sites that are wanted."""
        names = [name for name in ways if self.parts[name].gradient.requires_grad]
        wanted = list(self.parts) if wanted is None else wanted
        if not names:  # the costs are linear
            return {name: torch.zeros_like(self.parts[name].tensor[0]) for name in wanted}
        products = torch.autograd.grad(
            [self.parts[name].gradient for name in names],
            [self.parts[name].tensor for name in wanted],
            [ways[name][None] for name in names],
            retain_graph=True,
            materialize_grads=True,
        )
        counts = (self.parts[name].count for name in wanted)
        return {
            name: x.detach()[0] / count for name, x, count in zip(wanted, products, counts, strict=True)
        }

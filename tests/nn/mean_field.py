"""A mean-field guide whose leaves a test holds, and the exact expectation of what it draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor

import pyro_reparam_ext as pre

CONTEXTS = {"local": pre.nn.local_reparameterization, "flipout": pre.nn.flipout}


class MeanField:
    """A guide of independent normals, written by hand."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], scale: float = 0.5) -> None:
        generator = torch.Generator().manual_seed(1)

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        self.loc = {k: (2 * draw(s) - 1).requires_grad_() for k, s in shapes.items()}
        self.scale = {k: (scale * (0.5 + draw(s))).requires_grad_() for k, s in shapes.items()}

    def __call__(self, *args: Tensor) -> None:
        for name, loc in self.loc.items():
            pyro.sample(name, dist.Normal(loc, self.scale[name]).to_event(loc.dim()))

    def leaves(self) -> list[Tensor]:
        return [*self.loc.values(), *self.scale.values()]

    def gradient(self, loss: Tensor) -> Tensor:
        """With respect to all leaves, as one vector."""
        return torch.cat([x.flatten() for x in torch.autograd.grad(loss, self.leaves())])

    def entropy(self) -> Tensor:
        """Up to a constant."""
        return sum(scale.log().sum() for scale in self.scale.values())


def flat(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight whose prior is flat: the ELBO is the entropy and the log likelihood."""
    return pyro.sample(name, dist.ImproperUniform(dist.constraints.real, (), shape))


def gradients(
    model: Callable, guide: MeanField, *args: Tensor, draws: int, elbo: ELBO | None = None
) -> Tensor:
    """Gradients of the loss, one a row."""
    elbo = elbo or Trace_ELBO()
    return torch.stack(
        [guide.gradient(elbo.differentiable_loss(model, guide, *args)) for _ in range(draws)]
    )


def expectation(f: Callable[..., Tensor], guide: MeanField) -> Tensor:
    """Of a function of the scalar sites of a guide, by Gauss-Hermite quadrature."""
    nodes, weights = map(torch.tensor, np.polynomial.hermite_e.hermegauss(60))
    dims = len(guide.loc)
    grids = torch.meshgrid(*[nodes] * dims, indexing="ij")
    joint = torch.ones(())
    for weight in torch.meshgrid(*[weights / weights.sum()] * dims, indexing="ij"):
        joint = joint * weight
    values = (
        loc.squeeze() + guide.scale[name].squeeze() * grid
        for (name, loc), grid in zip(guide.loc.items(), grids, strict=True)
    )
    return (joint * f(*values)).sum()

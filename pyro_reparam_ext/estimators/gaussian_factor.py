"""The factor of the covariance of a Normal distribution, as a diagonal or a triangle."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor


def factor_of(base: TorchDistribution) -> Factor:
    """That of a ``Normal``, its scale, or of a ``MultivariateNormal``, its Cholesky factor."""
    if isinstance(base, torch.distributions.MultivariateNormal):
        return Triangle(base.scale_tril)
    return Factor(base.scale)


@dataclass(frozen=True, eq=False)
class Factor:
    """The scale ``s`` of independent Normals: values are ``loc + s * e`` for standard noise ``e``."""

    parameter: Tensor

    @property
    def held(self) -> Factor:
        """The same without a gradient."""
        return type(self)(self.parameter.detach())

    @property
    def event_dims(self) -> int:
        """Dims that the parameter has more than a value."""
        return 0

    def colored(self, noise: Tensor) -> Tensor:
        """The way that noise moves the value."""
        return self.parameter * noise

    def whitened(self, moved: Tensor) -> Tensor:
        """The noise behind a way from the mean."""
        return moved / self.parameter

    def pulled_back(self, noise: Tensor) -> Tensor:
        """The precision times what the noise moves the value by: minus the slope of the log density."""
        return noise / self.parameter

    def outer(self, slope: Tensor, noise: Tensor) -> Tensor:
        """The gradient in the parameter of costs of some slope in the value."""
        return slope * noise

    def beside(self, curvature: Tensor) -> Tensor:
        """The mean of ``outer`` of a curvature in each coordinate times the way that noise moves it."""
        return curvature * self.parameter

    def inverse(self) -> Tensor:
        """The mean of ``outer`` of what is pulled back: the transposed inverse, as far as it counts."""
        return 1 / self.parameter

    def own_block(self, rows: Tensor) -> Tensor:
        """The part of a Hessian that counts, from its rows, shape ``(numbers, *value.shape)``."""
        return rows.reshape(len(rows), -1).diagonal().reshape(rows.shape[1:])

    def curved(self, hessian: Tensor) -> Tensor:
        """The mean of ``outer`` of what that part makes of the noise: the Hessian times the factor."""
        return hessian * self.parameter


class Triangle(Factor):
    """A lower triangle ``L``: values are ``loc + L @ e`` for standard noise ``e``."""

    @property
    def event_dims(self) -> int:
        return 1

    def colored(self, noise: Tensor) -> Tensor:
        return (self.parameter @ noise[..., None])[..., 0]

    def whitened(self, moved: Tensor) -> Tensor:
        solution = torch.linalg.solve_triangular(self.parameter, moved[..., None], upper=False)
        return solution[..., 0]

    def pulled_back(self, noise: Tensor) -> Tensor:
        upper = self.parameter.mT
        return torch.linalg.solve_triangular(upper, noise[..., None], upper=True)[..., 0]

    def outer(self, slope: Tensor, noise: Tensor) -> Tensor:
        return (slope[..., None] * noise[..., None, :]).tril()

    def beside(self, curvature: Tensor) -> Tensor:
        return curvature[..., None] * self.parameter

    def inverse(self) -> Tensor:
        # Of the transposed inverse of a lower triangle only the diagonal is in the lower triangle.
        diagonal = torch.eye(self.parameter.shape[-1], dtype=torch.bool, device=self.parameter.device)
        return torch.where(diagonal, 1 / self.parameter, 0.0)

    def own_block(self, rows: Tensor) -> Tensor:
        batch, size = rows.shape[1:-1], rows.shape[-1]
        blocks = rows.reshape(batch.numel(), size, batch.numel(), size).diagonal(dim1=0, dim2=2)
        return blocks.movedim(-1, 0).reshape(*batch, size, size)

    def curved(self, hessian: Tensor) -> Tensor:
        return (hessian @ self.parameter).tril()

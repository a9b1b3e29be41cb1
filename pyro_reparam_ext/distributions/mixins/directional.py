"""The base of distributions of unit vectors about a mean direction."""

from __future__ import annotations

from pyro.distributions import constraints
from torch import Tensor

from ..supports.nearby import near_sphere
from .parametric import Parametric


class Directional(Parametric):
    """A law on the unit sphere, of a mean direction and a concentration about it."""

    arg_constraints = {"loc": constraints.sphere, "concentration": constraints.nonnegative}
    support = constraints.sphere
    has_rsample = True
    _scored = near_sphere

    def __init__(
        self, loc: Tensor, concentration: Tensor | float, *, validate_args: bool | None = None
    ) -> None:
        if loc.dim() < 1 or loc.shape[-1] < 2:
            raise ValueError(f"loc must have shape (..., d) with d >= 2, but is of {tuple(loc.shape)}")
        parameters = {"loc": loc, "concentration": concentration}
        super().__init__(parameters, loc.shape[-1:], validate_args=validate_args)

    @property
    def _dim(self) -> int:
        return self.event_shape[0]

    @property
    def _interior(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

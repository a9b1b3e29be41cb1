"""Numbers without infinities, which torch's real numbers allow."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform, identity_transform


class Finite(constraints.Constraint):
    """Numbers that are neither infinite nor NaN."""

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite()

    def __repr__(self) -> str:
        return "finite numbers"


finite_vector = constraints.independent(Finite(), 1)
finite_matrix = constraints.independent(Finite(), 2)


@biject_to.register(Finite)
@transform_to.register(Finite)
def _identity(constraint: constraints.Constraint) -> Transform:
    return identity_transform

"""Where the dims of particles go in what a network puts out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import EstimatorError


def with_particle_dims(
    outputs: list[Tensor], outer: torch.Size, ones: int, inputs: list[Any], event_dim: int | None
) -> list[Tensor]:
    """Outputs whose first dim is all particles, with the dims ``outer`` in its place.

    The particles' plates are left of ``ones`` other plates. An output has as many of those as it has
    rows; for the others, dims of size one go between. Its rows are the leading dims that it shares with
    an input, or all but the last ``event_dim``, where that is given.

    Raises:
        EstimatorError: dims would have to go between, or maybe not, since some of an output's leading
            dims are no rows of an input: they may be features, and they may be plates.
    """
    shapes = [x.shape[1:] for x in outputs]
    rows = [min(ones, _rows(shape, inputs, event_dim)) for shape in shapes]
    known = [n == min(ones, len(shape)) for n, shape in zip(rows, shapes, strict=True)]
    aligned = []
    for x, shape, n, is_known in zip(outputs, shapes, rows, known, strict=True):
        # Beside what has rows there may be what has none, as the states of a recurrent network.
        beside = n == 0 and len(shape) > ones and any(known)
        if event_dim is None and not (is_known or beside):
            raise _unknown(shape, n, outer, ones, inputs)
        missing = 0 if event_dim is None and beside else ones - n
        aligned.append(x.reshape((*outer, *(1,) * missing, *shape)))
    return aligned


def _rows(shape: torch.Size, inputs: list[Any], event_dim: int | None) -> int:
    """How many leading dims of an output are rows."""
    if event_dim is not None:
        return max(0, len(shape) - event_dim)
    shared = [_shared(shape, x) for x in inputs if isinstance(x, Tensor)]
    return max(shared, default=0)


def _shared(shape: torch.Size, x: Tensor) -> int:
    """How many leading dims an output has in common with those of an input that are no features.

    The last dim of numbers is one of features, unless the output has further dims itself.
    """
    dims = x.dim() - (x.is_floating_point() and len(shape) <= x.dim())
    for i, (size, of_input) in enumerate(zip(shape, x.shape[:dims], strict=False)):
        if size != of_input:
            return i
    return min(len(shape), dims)


def _unknown(
    shape: torch.Size, rows: int, outer: torch.Size, ones: int, inputs: list[Any]
) -> EstimatorError:
    given = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor)) or "no tensor"
    found = f"its first {rows} dims are rows of an input" if rows else "none of its dims is an input's"
    plates = "a plate" if ones == 1 else f"{ones} plates"
    return EstimatorError(
        f"to_bayesian: an output of shape {tuple(shape)}, at inputs of shape {given}, meets "
        f"{tuple(outer)} particles left of {plates}, and where to put their dims can't be told: "
        f"{found}, the others may be features or lie in plates. Give to_bayesian(..., event_dim=...), "
        f"the number of its last dims that hold features: 1 for an output that is used under "
        f".to_event(1), or whose last dim .squeeze(-1) or [..., k] takes away; 0 where each dim lies "
        f"in a plate."
    )

"""Products and sums, element by element, with a random weight and a random bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .linear_map import LinearMap
from .weight import RandomWeight

if TYPE_CHECKING:
    from .run import Run


def _scaled(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    output = input if weight is None else input * weight
    return output if bias is None else output + bias


def affine(
    run: Run,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    rows: tuple[int, ...],
    bias_dims: int = 0,
) -> Tensor:
    """The elementwise ``input * weight + bias``, both of the shape of the input's last dims.

    ``bias_dims``: how many dims lie to the right of the channels, where there is one weight a channel.
    """
    trailing = (..., *(None for _ in range(bias_dims)))
    if bias_dims:
        weight = None if weight is None else weight[trailing]
        bias = None if bias is None else bias[trailing]
    if weight is None or not isinstance(weight, RandomWeight):
        input = _scaled(input, weight, None)
        return input if bias is None else add(run, input, bias, rows=rows)
    # signs of the inputs would do no more than those of the outputs
    call = LinearMap(_scaled, (input,), weight, bias, ((), rows), _scaled)
    return run.estimate(call)


def add(run: Run, input: Tensor, bias: Tensor, rows: tuple[int, ...]) -> Tensor:
    """``input + bias``, with noise of its own for every example."""
    if not isinstance(bias, RandomWeight):
        return input + bias
    # the bias is the weight of an input of ones
    ones = input.new_ones(()).expand(input.shape)
    return input + run.estimate(LinearMap(_scaled, (ones,), bias, None, ((), rows), _scaled))

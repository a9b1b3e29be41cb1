"""Linear and bilinear layers with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from .inputs import check_unbatched, data, examples
from .linear_map import LinearMap

if TYPE_CHECKING:
    from .run import Run


def linear(
    run: Run,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rows: tuple[int, ...] | None = None,
) -> Tensor:
    check_unbatched("linear", weight, 2)
    input = data(run, input)
    rows = (*(examples(run, input.dim() - 1) if rows is None else rows), -1)
    return run.estimate(LinearMap(F.linear, (input,), weight, bias, (rows, rows), F.linear))


def bilinear(
    run: Run, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    check_unbatched("bilinear", weight, 3)
    inputs = (data(run, input1), data(run, input2))
    rows = (*examples(run, inputs[0].dim() - 1), -1)
    return run.estimate(LinearMap(F.bilinear, inputs, weight, bias, (rows,) * 3, F.bilinear))


LAYERS: dict[Any, Callable[..., Any]] = {F.linear: linear, F.bilinear: bilinear}

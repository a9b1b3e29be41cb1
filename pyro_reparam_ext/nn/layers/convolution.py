"""Convolutions and their transposes with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .inputs import check_unbatched, data
from .linear_map import LinearMap

if TYPE_CHECKING:
    from .run import Run


def _convolution(convolve: Callable, spatial: int) -> Callable:
    """A convolution or its transpose, over so many dims of space."""

    def layer(
        run: Run, input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **options: Any
    ) -> Tensor:
        check_unbatched(convolve.__name__, weight, spatial + 2)

        def apply(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return convolve(input, weight, bias, *args, **options)

        input = data(run, input, 0)
        channel = input.dim() - spatial - 1
        rows = tuple(range(channel + 1))
        kind = (convolve, repr(args), repr(options))
        return run.estimate(
            LinearMap(apply, (input,), weight, bias, (rows, rows), kind, bias_dims=spatial)
        )

    return layer


LAYERS: dict[Any, Callable[..., Any]] = {
    getattr(torch_or_functional, name): _convolution(getattr(F, name), spatial)
    for spatial in (1, 2, 3)
    for name in (f"conv{spatial}d", f"conv_transpose{spatial}d")
    for torch_or_functional in (F, torch)
}

"""Embeddings whose rows are random."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from .inputs import check_unbatched, data, examples
from .linear_map import LinearMap, UnsupportedLayer
from .weight import plain

if TYPE_CHECKING:
    from .run import Run


def embedding(
    run: Run,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    check_unbatched("embedding", weight, 2)
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise UnsupportedLayer("max_norm, scale_grad_by_freq and sparse need the weight itself")
    indices = data(run, input)

    def apply(ones: Tensor, weight: Tensor, bias: None) -> Tensor:
        return ones * F.embedding(indices, weight, padding_idx)

    ones = plain(weight).new_ones(()).expand(*indices.shape, 1)
    rows = (*examples(run, indices.dim()), -1)
    kind = (F.embedding, padding_idx)
    return run.estimate(LinearMap(apply, (ones,), weight, None, ((), rows), kind, indices=indices))


LAYERS: dict[Any, Callable[..., Any]] = {F.embedding: embedding}

"""Products and sums of weights and inputs that are written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .affine import add, affine
from .arithmetic import MINUS, PLUS, TIMES, functions
from .embedding import embedding
from .inputs import data
from .linear import linear
from .linear_map import UnsupportedLayer
from .weight import RandomWeight

if TYPE_CHECKING:
    from .run import Run


def matmul(run: Run, input: Any, other: Any = None, *, mat2: Any = None, vec: Any = None) -> Any:
    """The weight is the matrix or vector that stands on the right, else the one on the left."""
    other = next(x for x in (other, mat2, vec) if x is not None)
    right = isinstance(other, RandomWeight)
    weight, input = (other, input) if right else (input, other)
    if weight.dim() == 1:
        return linear(run, input if right or input.dim() == 1 else input.mT, weight[None]).squeeze(-1)
    if right:
        return linear(run, input, weight.mT)
    return linear(run, input, weight) if input.dim() == 1 else linear(run, input.mT, weight).mT


def rmatmul(run: Run, other: Any, input: Any) -> Any:
    return matmul(run, input, other)


def addmm(run: Run, bias: Any, input: Any, weight: Any, **options: Any) -> Any:
    if options:
        raise UnsupportedLayer(f"with {' and '.join(options)}; expected a product and a sum")
    if isinstance(input, RandomWeight):
        return linear(run, weight.mT, input).mT + bias
    return linear(run, input, weight.mT, bias)


def index_select(run: Run, weight: Any, dim: int, index: Tensor) -> Any:
    if dim not in (0, -weight.dim()):
        raise UnsupportedLayer(f"it picks along dim {dim}; expected rows, dim 0")
    return getitem(run, weight, index)


def getitem(run: Run, weight: Any, index: Any) -> Any:
    """Rows that are picked by a tensor of indices are an embedding; others are a view."""
    if not isinstance(index, Tensor) or not index.dim() or index.dtype in (torch.bool, torch.uint8):
        return run.elsewhere(Tensor.__getitem__, (weight, index), {})
    if weight.dim() == 1:
        return embedding(run, index, weight[:, None]).squeeze(-1)
    return embedding(run, index, weight)


def _elementwise(combine: Callable, call: Callable) -> Callable:
    """Multiplication by or addition of a weight that is broadcast over examples."""

    def layer(run: Run, first: Any, second: Any, **options: Any) -> Any:
        weight, input = (first, second) if isinstance(first, RandomWeight) else (second, first)
        if (
            not isinstance(input, Tensor)
            or isinstance(input, RandomWeight)
            or (input.dim() <= weight.dim() and input.numel() <= weight.numel())
        ):
            return run.elsewhere(combine, (first, second), options)
        if options:
            raise UnsupportedLayer(f"with {' and '.join(options)}; expected it without")
        shape = (*(1 for _ in range(input.dim() - weight.dim())), *weight.shape)
        input = data(run, input)
        dim = run.context.batch_dim
        dim = dim + input.dim() - weight.dim() if dim < 0 else dim
        if not 0 <= dim < len(shape) or len(shape) > input.dim() or shape[dim] > 1:
            raise UnsupportedLayer(
                f"its shape {tuple(weight.shape)} does not broadcast over examples, which lie along "
                f"batch_dim={run.context.batch_dim} of the input of shape {tuple(input.shape)}"
            )
        rows = (dim, *(i for i, size in enumerate(shape) if size > 1))
        return call(run, input, weight, rows)

    return layer


def _multiplied(run: Run, input: Tensor, weight: Tensor, rows: tuple[int, ...]) -> Tensor:
    return affine(run, input, weight, None, rows)


_multiply = _elementwise(torch.mul, _multiplied)
_add = _elementwise(torch.add, add)


def _subtract(run: Run, first: Any, second: Any, **options: Any) -> Any:
    return _add(run, first, -second, **options)


def _refused(reason: str) -> Callable:
    def layer(run: Run, *args: Any, **options: Any) -> Any:
        raise UnsupportedLayer(reason)

    return layer


LAYERS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(functions(["matmul", "mm", "mv", "dot", "__matmul__"]), matmul),
    **dict.fromkeys(functions(["__rmatmul__"]), rmatmul),
    **dict.fromkeys(functions(["addmm"]), addmm),
    **dict.fromkeys(functions(["index_select"]), index_select),
    Tensor.__getitem__: getitem,
    **dict.fromkeys(TIMES, _multiply),
    **dict.fromkeys(PLUS, _add),
    **dict.fromkeys(MINUS, _subtract),
    F.prelu: _refused("one weight enters many outputs of an example"),
    F.embedding_bag: _refused(
        "it sums rows of the weight; expected F.embedding and a sum of its outputs"
    ),
    **dict.fromkeys(
        functions("addmv bmm addbmm baddbmm einsum inner ger outer tensordot kron".split()),
        _refused("its sums are not looked into; expected F.linear or @ with a weight of two dims"),
    ),
}

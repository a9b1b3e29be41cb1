"""Products and sums of weights and inputs that are written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .arithmetic import MINUS, PLUS, TIMES, functions
from .layers import LAYERS, add, affine, data, embedding, linear, serves
from .linear_map import Unserved
from .weight import RandomWeight

if TYPE_CHECKING:
    from .run import Run


@serves(*functions(["matmul", "mm", "mv", "dot", "__matmul__"]))
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


@serves(*functions(["__rmatmul__"]))
def rmatmul(run: Run, other: Any, input: Any) -> Any:
    return matmul(run, input, other)


@serves(*functions(["addmm"]))
def addmm(run: Run, bias: Any, input: Any, weight: Any, **options: Any) -> Any:
    if options:
        raise Unserved(f"with {' and '.join(options)}; expected a product and a sum")
    if isinstance(input, RandomWeight):
        return linear(run, weight.mT, input).mT + bias
    return linear(run, input, weight.mT, bias)


@serves(*functions(["index_select"]))
def index_select(run: Run, weight: Any, dim: int, index: Tensor) -> Any:
    if dim not in (0, -weight.dim()):
        raise Unserved(f"it picks along dim {dim}; expected rows, dim 0")
    return getitem(run, weight, index)


@serves(Tensor.__getitem__)
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
            raise Unserved(f"with {' and '.join(options)}; expected it without")
        shape = (*(1 for _ in range(input.dim() - weight.dim())), *weight.shape)
        input = data(run, input)
        dim = run.estimator.batch_dim
        dim = dim + input.dim() - weight.dim() if dim < 0 else dim
        if not 0 <= dim < len(shape) or len(shape) > input.dim() or shape[dim] > 1:
            raise Unserved(
                f"its shape {tuple(weight.shape)} does not broadcast over examples, which lie along "
                f"batch_dim={run.estimator.batch_dim} of the input of shape {tuple(input.shape)}"
            )
        rows = (dim, *(i for i, size in enumerate(shape) if size > 1))
        return call(run, input, weight, rows)

    return layer


def _subtract(run: Run, first: Any, second: Any, **options: Any) -> Any:
    return LAYERS[torch.add](run, first, -second, **options)


def _multiplied(run: Run, input: Tensor, weight: Tensor, rows: tuple[int, ...]) -> Tensor:
    return affine(run, input, weight, None, rows)


serves(*TIMES)(_elementwise(torch.mul, _multiplied))
serves(*PLUS)(_elementwise(torch.add, add))
serves(*MINUS)(_subtract)


def _refused(reason: str) -> Callable:
    def layer(run: Run, *args: Any, **options: Any) -> Any:
        raise Unserved(reason)

    return layer


serves(F.prelu)(_refused("one weight enters many outputs of an example"))
serves(F.embedding_bag)(
    _refused("it sums rows of the weight; expected F.embedding and a sum of its outputs")
)
serves(*functions("addmv bmm addbmm baddbmm einsum inner ger outer tensordot kron".split()))(
    _refused("its sums are not looked into; expected F.linear or @ with a weight of two dims")
)

"""The layers that are linear in their weight, each called as torch calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linear_map import LinearMap, Unserved
from .weight import RandomWeight, plain

if TYPE_CHECKING:
    from .run import Run

LAYERS: dict[Any, Callable[..., Any]] = {}
"""Function of torch -> the same with the run before its arguments."""


def serves(*served: Any) -> Callable[[Callable], Callable]:
    """Registers the layer that stands for these functions of torch."""

    def register(layer: Callable) -> Callable:
        LAYERS.update(dict.fromkeys(served, layer))
        return layer

    return register


def examples(run: Run, leading: int) -> tuple[int, ...]:
    """The one of so many leading dims along which examples lie, if any."""
    dim = run.estimator.batch_dim
    if leading == 0:
        return ()
    if not -leading <= dim < leading:
        raise Unserved(
            f"its input has {leading} dims before the features, none of them is batch_dim={dim}"
        )
    return (dim % leading,)


def data(run: Run, input: Tensor, dim: int | None = None) -> Tensor:
    """The input of a layer, which is no weight; what is made of one may stand for a single example."""
    if isinstance(input, nn.Parameter) or hasattr(input, "unconstrained"):
        raise Unserved("its input is a parameter, whose rows are no examples")
    if not isinstance(input, RandomWeight):
        return input
    dim = run.estimator.batch_dim if dim is None else dim
    if input.dim() <= dim or input.shape[dim] != 1:
        raise Unserved("its input is made of weights as well")
    run.give_away(input, "the input of a layer")
    return input.draw


def check_unbatched(name: str, weight: Tensor | None, dims: int) -> None:
    if weight is not None and weight.dim() != dims:
        raise Unserved(
            f"{name} takes a weight of {dims} dims, and this one has shape {tuple(weight.shape)}; a "
            f"module made by pre.nn.to_bayesian runs its particles side by side, or take "
            f"vectorize_particles=False"
        )


@serves(F.linear)
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


@serves(F.bilinear)
def bilinear(
    run: Run, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    check_unbatched("bilinear", weight, 3)
    inputs = (data(run, input1), data(run, input2))
    rows = (*examples(run, inputs[0].dim() - 1), -1)
    return run.estimate(LinearMap(F.bilinear, inputs, weight, bias, (rows,) * 3, F.bilinear))


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


for _spatial in (1, 2, 3):
    for _name in (f"conv{_spatial}d", f"conv_transpose{_spatial}d"):
        serves(getattr(F, _name), getattr(torch, _name))(_convolution(getattr(F, _name), _spatial))


@serves(F.embedding)
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
        raise Unserved("max_norm, scale_grad_by_freq and sparse need the weight itself")
    indices = data(run, input)

    def apply(ones: Tensor, weight: Tensor, bias: None) -> Tensor:
        return ones * F.embedding(indices, weight, padding_idx)

    ones = plain(weight).new_ones(()).expand(*indices.shape, 1)
    rows = (*examples(run, indices.dim()), -1)
    kind = (F.embedding, padding_idx)
    return run.estimate(LinearMap(apply, (ones,), weight, None, ((), rows), kind, indices=indices))


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


@serves(F.layer_norm)
def layer_norm(
    run: Run,
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    input, features = data(run, input), len(normalized_shape)
    rows = (*examples(run, input.dim() - features), *range(-features, 0))
    return affine(run, F.layer_norm(input, normalized_shape, eps=eps), weight, bias, rows)


@serves(F.rms_norm, torch.rms_norm)
def rms_norm(
    run: Run,
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    input, features = data(run, input), len(normalized_shape)
    rows = (*examples(run, input.dim() - features), *range(-features, 0))
    return affine(run, F.rms_norm(input, normalized_shape, eps=eps), weight, None, rows)


@serves(F.group_norm)
def group_norm(
    run: Run,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    input = data(run, input, 0)
    normalised = F.group_norm(input, num_groups, eps=eps)
    return affine(run, normalised, weight, bias, (0, 1), bias_dims=input.dim() - 2)


@serves(F.batch_norm)
def batch_norm(
    run: Run,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: Any,
    **options: Any,
) -> Tensor:
    input = data(run, input, 0)
    normalised = F.batch_norm(input, running_mean, running_var, None, None, *args, **options)
    return affine(run, normalised, weight, bias, (0, 1), bias_dims=input.dim() - 2)


@serves(F.instance_norm)
def instance_norm(
    run: Run,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: Any,
    **options: Any,
) -> Tensor:
    input = data(run, input, 0)
    normalised = F.instance_norm(input, running_mean, running_var, None, None, *args, **options)
    return affine(run, normalised, weight, bias, (0, 1), bias_dims=input.dim() - 2)

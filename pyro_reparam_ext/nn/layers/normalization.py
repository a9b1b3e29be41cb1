"""Normalisations with random weights and biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .affine import affine
from .inputs import data, examples

if TYPE_CHECKING:
    from .run import Run


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


LAYERS: dict[Any, Callable[..., Any]] = {
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    torch.rms_norm: rms_norm,
    F.group_norm: group_norm,
    F.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
}

"""Temperatures beside logits: of torch they broadcast with the logits, here with the batch shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor

from .discrete_noise import is_binary


def batch_temperature(fn: Any) -> Tensor:
    """The temperature of a relaxed distribution of torch or Pyro, in its batch shape.

    It may have been given as a number.

    Raises:
        ValueError: the classes of a one-hot variable have temperatures of their own.
    """
    temperature = torch.as_tensor(fn.temperature, dtype=fn.logits.dtype, device=fn.logits.device)
    if is_binary(fn) or not temperature.dim():
        return temperature
    if temperature.shape[-1] != 1:
        raise ValueError(
            f"{type(fn).__name__}: expected one temperature for all classes, a number or a tensor of"
            f" shape (..., 1), was given one of shape {tuple(temperature.shape)}."
        )
    return temperature.squeeze(-1)


def in_batch(owner: str, temperature: Any, shape: Size, event_dim: int) -> Any:
    """The temperature that is given, which broadcasts with the batch dims of a parameter of ``shape``.

    A single one that torch would take is taken for one without dims; what is no tensor stays as it is.

    Raises:
        ValueError: one for each row, as torch's broadcasts with logits, which would be read as one for
            each pair of rows.
    """
    if not isinstance(temperature, Tensor):
        return temperature
    batch, ones = shape[: len(shape) - event_dim], (1,) * event_dim
    if not event_dim or temperature.shape[-event_dim:] != ones or temperature.dim() < event_dim:
        return temperature
    rows = temperature.shape[:-event_dim]
    if rows != batch[len(batch) - len(rows) :]:
        return temperature
    if rows.numel() == 1:
        return temperature.reshape(rows)
    if not _fits(temperature.shape, batch):
        indices = ", 0" * event_dim
        raise ValueError(
            f"{owner}: was given a temperature of shape {tuple(temperature.shape)} beside parameters of"
            f" shape {tuple(shape)}. Here a temperature broadcasts with the batch shape {tuple(batch)}:"
            f" this one would be that of every pair of rows. Give temperature[...{indices}] for one of"
            f" each row, or insert a dim of 1 into the parameters for all pairs."
        )
    return temperature


def _fits(shape: Size, batch: Size) -> bool:
    """Whether it broadcasts with the batch shape, and leaves that as it is."""
    pairs = zip(reversed(shape), reversed(batch), strict=False)
    return len(shape) <= len(batch) and all(size in (1, other) for size, other in pairs)

"""Alternative values that differ from the ordinary one in a single coordinate."""

from __future__ import annotations

import torch
from torch import Tensor

from .protocol import Site


def is_coordinate(site: Site, number: Tensor) -> Tensor:
    """Where coordinate ``number`` of a site is, for each of several numbers.

    Returns:
        Shape ``(len(number), *ones, *coordinates)``, which broadcasts with ``(len(number), *batch,
        *coordinates)``.
    """
    batch_dims = len(site.fn.batch_shape)
    shape = site.base.batch_shape[batch_dims:]
    coordinate = torch.arange(shape.numel(), device=number.device)
    mask = number[:, None] == coordinate
    return mask.reshape((-1,) + (1,) * batch_dims + tuple(shape))


def to_rows(site: Site, x: Tensor) -> Tensor:
    """From ``(..., *batch, *coordinates)`` to one row for each coordinate: ``(D, ..., *batch)``."""
    dims = len(site.base.batch_shape) - len(site.fn.batch_shape)
    x = x.flatten(x.dim() - dims) if dims else x.unsqueeze(-1)
    return x.movedim(-1, 0)

"""Looking through ``to_event``, ``expand`` and ``mask`` at the distribution underneath."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import (
    ExpandedDistribution,
    MaskedDistribution,
    TorchDistributionMixin,
)
from pyro.distributions.util import scale_and_mask

from ...numerics.shapes import broadcast_shapes

WRAPPERS = (torch.distributions.Independent, MaskedDistribution, ExpandedDistribution)


is_subclass: Callable[[type, tuple[type, ...]], bool] = lru_cache(maxsize=1000)(issubclass)
"""``issubclass``, remembered: for the classes of Pyro it asks an abstract base class each time."""


def innermost(fn: TorchDistribution) -> TorchDistribution:
    """The distribution under any nest of ``Independent``, ``ExpandedDistribution`` and mask."""
    while is_subclass(type(fn), WRAPPERS):
        fn = fn.base_dist
    return fn


def overrides_call(fn: TorchDistribution) -> bool:
    """Whether a distribution draws by a ``__call__`` of its own, and may have no other sampler."""
    return type(fn).__call__ is not TorchDistributionMixin.__call__


def coordinates(fn: TorchDistribution) -> TorchDistribution:
    """The distribution of the single coordinates of ``fn``.

    A site such as ``Bernoulli(logits).expand([3, 4]).to_event(1).mask(m)`` has four coordinates for
    each of three batch elements: this returns ``Bernoulli`` with batch shape ``(3, 4)``. Its batch
    shape is always ``fn.batch_shape`` followed by the dims that ``to_event`` declared dependent.
    """
    base = innermost(fn)
    event = fn.event_shape[: len(fn.event_shape) - len(base.event_shape)]
    shape = fn.batch_shape + event
    return base if base.batch_shape == shape else base.expand(shape)


def num_coordinate_dims(fn: TorchDistribution) -> int:
    """How many event dims of ``fn`` are batch dims of :func:`coordinates`."""
    return len(fn.event_shape) - len(innermost(fn).event_shape)


def num_coordinates(fn: TorchDistribution) -> int:
    """How many coordinates one batch element of ``fn`` has."""
    return torch.Size(fn.event_shape[: num_coordinate_dims(fn)]).numel()  # some have a tuple


def coordinate_support(base: TorchDistribution) -> torch.Tensor:
    """All values of a coordinate with a finite support, shape ``(K,) + base.event_shape``."""
    values = base.enumerate_support(expand=False)
    return values.reshape((len(values),) + base.event_shape)


def sum_rightmost(x: torch.Tensor, dims: int) -> torch.Tensor:
    """Sum of the ``dims`` rightmost dims (none for 0)."""
    return x.flatten(-dims).sum(-1) if dims > 1 else x.sum(-1) if dims else x


def is_masked(fn: TorchDistribution) -> bool:
    """Whether there is a ``mask`` anywhere in ``fn``."""
    while is_subclass(type(fn), WRAPPERS):
        if isinstance(fn, MaskedDistribution):
            return True
        fn = fn.base_dist
    return False


def log_prob_by(
    score: Callable[[TorchDistribution], torch.Tensor], fn: TorchDistribution
) -> torch.Tensor:
    """``fn.log_prob`` with ``score(innermost(fn))`` in place of the innermost log density.

    Sums, masks and expands as the wrappers of ``fn`` do.
    """
    if isinstance(fn, torch.distributions.Independent):
        return sum_rightmost(log_prob_by(score, fn.base_dist), fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        return scale_and_mask(log_prob_by(score, fn.base_dist), mask=fn._mask)
    if isinstance(fn, ExpandedDistribution):
        log_prob = log_prob_by(score, fn.base_dist)
        return log_prob.expand(broadcast_shapes(log_prob.shape, fn.batch_shape))
    return score(fn)

"""The base of the distributions of this package."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Distribution

from ...numerics.shapes import broadcast_shapes
from ..rules.copies import instance_to_expand
from ..rules.half_precision import drawn_in_single
from ..rules.pathwise import by_method, register_pathwise
from .log_tailed import LogTailed


class Parametric(LogTailed, TorchDistribution):
    """A distribution given by named tensors: broadcasting, ``expand`` and sampling in one place.

    A subclass states ``arg_constraints``, ``support`` and ``has_rsample``, hands the parameters to
    ``super().__init__`` under the names of ``arg_constraints``, and says how a value is drawn
    (:meth:`_draw`) and how it moves with the parameters (:meth:`_at`). A sampler that is a
    differentiable function of noise overrides :meth:`rsample` and :meth:`_at` instead.
    """

    def __init__(
        self,
        parameters: dict[str, Tensor | float],
        event_shape: Size | tuple[int, ...] = (),
        validate_args: bool | None = None,
    ) -> None:
        tensors = as_tensors(parameters)
        event_dims = {name: self.arg_constraints[name].event_dim for name in tensors}
        batch_shape = broadcast_shapes(*(_split(x, event_dims[name])[0] for name, x in tensors.items()))
        for name, x in tensors.items():
            setattr(self, name, x.expand(batch_shape + _split(x, event_dims[name])[1]))
        super().__init__(batch_shape, torch.Size(event_shape), validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = instance_to_expand(self, _instance)
        batch_shape = torch.Size(batch_shape)
        self._expand_into(new, batch_shape)
        super(Parametric, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        """Copies every parameter, expanded; a subclass with more state adds to it."""
        for name, constraint in self.arg_constraints.items():
            x = getattr(self, name)
            setattr(new, name, x.expand(batch_shape + _split(x, constraint.event_dim)[1]))

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            value = self._draw(self._extended_shape(torch.Size(sample_shape)))
        return self._at(value)

    def _draw(self, shape: Size) -> Tensor:
        """Values of this shape, without a gradient."""
        raise NotImplementedError

    def _at(self, value: Tensor) -> Tensor:
        """The detached ``value``, moving with the parameters as a sample does."""
        raise NotImplementedError


def _split(x: Tensor, event_dim: int) -> tuple[Size, Size]:
    cut = x.dim() - event_dim
    return x.shape[:cut], x.shape[cut:]


def as_tensors(parameters: dict[str, Tensor | float]) -> dict[str, Tensor]:
    """Floating tensors; numbers and integer tensors take dtype and device of those beside them.

    As in torch, tensors without dims take the dtype of those with.
    """
    given = [x for x in parameters.values() if isinstance(x, Tensor)]
    floating = [x for x in given if x.is_floating_point()]
    shaped = [x for x in floating if x.dim()]
    dtype = next((x.dtype for x in shaped + floating), torch.get_default_dtype())
    device = given[0].device if given else None

    def tensor(x: Tensor | float) -> Tensor:
        if isinstance(x, Tensor) and x.is_floating_point():
            return x if x.dim() or not shaped else x.to(dtype)
        return torch.as_tensor(x, dtype=dtype, device=device)

    return {name: tensor(x) for name, x in parameters.items()}


def same_event_shape(p: Distribution, q: Distribution) -> None:
    """Raises where two distributions between which a divergence is asked for differ in event shape.

    They would broadcast.
    """
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL divergence between {type(p).__name__} of event shape {tuple(p.event_shape)} and"
            f" {type(q).__name__} of {tuple(q.event_shape)}: expected the same event shape."
        )


register_pathwise(Parametric)(by_method)

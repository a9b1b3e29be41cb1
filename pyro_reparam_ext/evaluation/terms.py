"""Cost terms: one log density each, unsummed over evaluations and plates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyro.distributions.util import scale_and_mask
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Term:
    """One summand of the cost ``log q - log p``.

    ``cost`` has the evaluations on its leftmost dim (size 1 if it is the same in all of them), then
    exactly as many batch dims as every other term. ``frames`` maps the names of the vectorised plates
    that it lies in to their dims. ``upstream`` names the sites whose value it depends on, if tracked.
    """

    name: str
    side: Literal["guide", "model"]
    cost: Tensor
    frames: Mapping[str, int]
    sliced: bool
    upstream: frozenset[str] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.side, self.name

    def rows(self, start: int, stop: int) -> Tensor:
        """The evaluations ``start`` to ``stop - 1``, or the one that stands for all of them."""
        return self.cost[start:stop] if self.sliced else self.cost

    def sum_to(self, frames: frozenset[str]) -> Tensor:
        """Summed over the plates other than ``frames``; the dims are kept."""
        dims = [dim for name, dim in self.frames.items() if name not in frames]
        return self.cost.sum(dims, keepdim=True) if dims else self.cost


@dataclass(frozen=True, eq=False)
class RawTerm:
    """A term as it comes from a trace, before all terms have the same number of dims.

    ``score`` is the log density of a guide site neither scaled nor masked.
    """

    name: str
    side: Literal["guide", "model"]
    cost: Tensor
    frames: Mapping[str, int]
    upstream: frozenset[str] | None = None
    score: Tensor | None = None

    @classmethod
    def of_guide(
        cls,
        node: Mapping[str, Any],
        log_prob: Tensor,
        score: Tensor,
        upstream: frozenset[str] | None = None,
    ) -> RawTerm:
        """The term ``log q`` of a node of the guide's trace."""
        cost = scale_and_mask(log_prob, node["scale"], node["mask"])
        return cls(node["name"], "guide", cost, vectorized_frames(node), upstream, score)

    @classmethod
    def of_model(
        cls, node: Mapping[str, Any], log_prob: Tensor, upstream: frozenset[str] | None = None
    ) -> RawTerm:
        """The term ``-log p`` of a node of the model's trace."""
        cost = -scale_and_mask(log_prob, node["scale"], node["mask"])
        return cls(node["name"], "model", cost, vectorized_frames(node), upstream)

    def aligned(self, batch_dims: int) -> Term:
        """With evaluations on the left and ``batch_dims`` batch dims."""
        sliced = self.cost.dim() > batch_dims
        cost = left_padded(self.cost, batch_dims + 1)
        return Term(self.name, self.side, cost, self.frames, sliced, self.upstream)


def left_padded(x: Tensor, dims: int) -> Tensor:
    """``x`` with new dims of size 1 on the left, ``dims`` in all."""
    return x.reshape((1,) * (dims - x.dim()) + x.shape) if x.dim() < dims else x


def vectorized_frames(site: Mapping[str, Any]) -> dict[str, int]:
    """Names and dims of the vectorised plates of a site."""
    return {frame.name: frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}


def log_prob_of(name: str, score: Callable[[], Tensor]) -> Tensor:
    """Calls ``score``; an error of it names the site."""
    try:
        return score()
    except ValueError as error:
        raise type(error)(f"Error while computing log_prob at site '{name}':\n{error}") from error

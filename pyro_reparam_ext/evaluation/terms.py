"""Cost terms: one log density each, unsummed over evaluations and plates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..numerics.shapes import broadcast_shapes

Runs: TypeAlias = Sequence[tuple[int, int]]
"""Evaluations that lie side by side: from the first to before the second."""


Key: TypeAlias = tuple[str, str]
"""Side and name of a term."""
Crossing: TypeAlias = tuple[str, Key, str]
"""A site, a term, and a plate of both in which the term depends on other elements of the site."""


@dataclass(eq=False)
class Term:
    """One summand of the cost ``log q - log p``: a log density, scaled and masked.

    It counts positive in the guide and negative in the model, which :meth:`added_to` sees to.
    ``log_prob`` has the evaluations on its leftmost dim, left of ``batch_dims`` batch dims, if these
    differ (it is then *sliced*), and else any number of batch dims. ``plates`` maps the names of the
    vectorised plates that it lies in to their dims. ``upstream`` names the sites whose value it
    depends on, if tracked. ``score`` is the log density of a guide site neither scaled nor masked.
    ``scale``: what it is scaled by; ``subsampled``: the part of that which each sub-sampled plate has.
    """

    name: str
    side: Literal["guide", "model"]
    log_prob: Tensor
    plates: Mapping[str, int]
    batch_dims: int = 0
    upstream: frozenset[str] | None = None
    score: Tensor | None = None
    scale: float | Tensor = 1.0
    subsampled: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of_guide(
        cls,
        node: Mapping[str, Any],
        log_prob: Tensor,
        score: Tensor,
        upstream: frozenset[str] | None = None,
    ) -> Term:
        """The term ``log q`` of a node of the guide's trace."""
        return cls._of("guide", node, log_prob, upstream, score)

    @classmethod
    def of_model(
        cls, node: Mapping[str, Any], log_prob: Tensor, upstream: frozenset[str] | None = None
    ) -> Term:
        """The term ``log p`` of a node of the model's trace."""
        return cls._of("model", node, log_prob, upstream, None)

    @classmethod
    def _of(
        cls,
        side: Literal["guide", "model"],
        node: Mapping[str, Any],
        log_prob: Tensor,
        upstream: frozenset[str] | None,
        score: Tensor | None,
    ) -> Term:
        return cls(
            node["name"],
            side,
            scaled_and_masked(log_prob, node),
            vectorized_plates(node),
            upstream=upstream,
            score=score,
            scale=node["scale"],
            subsampled=subsampled_plates(node),
        )

    def added_to(self, total: Tensor | None, part: Tensor) -> Tensor:
        """``total`` with ``part`` of this term counted in."""
        if self.side == "guide":
            return part if total is None else total + part
        return -part if total is None else total - part

    @property
    def key(self) -> tuple[str, str]:
        return self.side, self.name

    @property
    def sliced(self) -> bool:
        """Whether it differs between evaluations."""
        return self.log_prob.dim() > self.batch_dims

    @property
    def aligned(self) -> Tensor:
        """The log density with evaluations (1 if they don't differ) and all batch dims."""
        return left_padded(self.log_prob, self.batch_dims + 1)

    def rows(self, runs: Runs) -> Tensor:
        """The evaluations in ``runs``, or the one that stands for all of them."""
        return rows_at(self.log_prob, runs) if self.sliced else self.aligned

    def size(self, dim: int) -> int:
        """The size of a batch dim."""
        return self.log_prob.shape[dim] if self.log_prob.dim() >= -dim else 1

    def detached(self) -> Term:
        """The same term without a gradient."""
        return replace(self, log_prob=self.log_prob.detach())


def ancestors(terms: Iterable[Term]) -> dict[str, frozenset[str]]:
    """By the name of each site of the guide: those its distribution depends on, however far up.

    In the order in which the guide samples them.
    """
    found: dict[str, frozenset[str]] = {}
    for term in terms:
        if term.side == "guide":
            parents = (term.upstream or frozenset()) - {term.name}
            found[term.name] = parents.union(*(found.get(p, frozenset()) for p in parents))
    return found


def rows_at(x: Tensor, runs: Runs) -> Tensor:
    """The rows in some runs, one below the other."""
    if len(runs) > 1:
        return torch.cat([x[start:stop] for start, stop in runs])
    start, stop = runs[0]
    return x if start == 0 and stop == x.shape[0] else x[start:stop]


def joined_runs(ends: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Evaluations in order, those side by side as one."""
    runs: list[tuple[int, int]] = []
    for start, stop in ends:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def left_padded(x: Tensor, dims: int) -> Tensor:
    """``x`` with new dims of size 1 on the left, ``dims`` in all."""
    return x.reshape((1,) * (dims - x.dim()) + x.shape) if x.dim() < dims else x


def weighed(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """``x`` times its probabilities; nothing where one of them is 0, even if ``x`` is infinite."""
    for probs in weights:
        x = torch.where(probs != 0, x, 0.0)
    for probs in weights:
        x = x * probs
    return x


def vectorized_plates(site: Mapping[str, Any]) -> dict[str, int]:
    """Names and dims of the vectorised plates of a site."""
    return {frame.name: frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}


def subsampled_plates(site: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """The plates of a site that show a part of their elements: names, and all over the part."""
    frames = [f for f in site["cond_indep_stack"] if f.full_size is not None and f.full_size != f.size]
    return tuple((frame.name, frame.full_size / frame.size) for frame in frames)


def is_computed(site: Mapping[str, Any]) -> bool:
    """Whether a site is a function of others, which Pyro calls observed, as a reparameterised one."""
    return bool(site["infer"].get("_deterministic")) or isinstance(innermost(site["fn"]), Delta)


def log_prob_of(name: str, score: Callable[..., Tensor], *args: Any) -> Tensor:
    """``score(*args)``; an error of it names the site."""
    try:
        return score(*args)
    except EstimatorError as error:
        if f"'{name}'" in str(error):
            raise
        raise EstimatorError(f"site '{name}': {error}") from error
    except ValueError as error:
        raise type(error)(f"Error while computing log_prob at site '{name}':\n{error}") from error


def scaled_and_masked(log_prob: Tensor, node: Mapping[str, Any]) -> Tensor:
    scale, mask = node["scale"], node["mask"]
    if mask is None and type(scale) is float and scale == 1.0:  # most are neither
        return log_prob
    try:
        return scale_and_mask(log_prob, scale, mask)
    except RuntimeError as error:
        name = node["name"]
        if not isinstance(mask, Tensor) or _broadcasts(mask.shape, log_prob.shape):
            raise
        # Pyro masks the two halves of a partly observed site by its obs_mask, under these names.
        option = "obs_mask" if name.endswith(("_observed", "_unobserved")) else "mask"
        raise EstimatorError(
            f"site '{name}': Invalid {option} shape {tuple(mask.shape)}; should be broadcastable to "
            f"batch_shape = {tuple(log_prob.shape)}. Leave the event dims out of it."
        ) from error


def _broadcasts(*shapes: torch.Size) -> bool:
    try:
        broadcast_shapes(*shapes)
    except RuntimeError:
        return False
    return True


def agree(a: Tensor, b: Tensor) -> bool:
    """Whether two log densities are the same, but for rounding and dims of size 1 on the left."""
    a, b = (left_padded(x, max(a.dim(), b.dim())) for x in (a, b))
    if a.shape != b.shape:
        return False
    coarser = max((a.dtype, b.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    tolerance = torch.finfo(coarser).eps ** 0.7
    return torch.allclose(a.to(coarser), b.to(coarser), rtol=tolerance, atol=tolerance, equal_nan=True)

"""Distributions of a guide that are held without another run of it: those that no other value moves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..distributions.rules.copies import mapped
from ..estimators.base import Estimator
from ..estimators.protocol import Draw
from ..numerics.graph_ends import graph_ends
from .held import Held, held_log_prob, viewed


def held_in_place(
    names: Collection[str],
    estimators: Mapping[str, Estimator],
    nodes: Mapping[str, Mapping[str, Any]],
    draws: Mapping[str, Draw],
    scores: Mapping[str, Tensor],
) -> Iterator[tuple[str, Held, Tensor]]:
    """Name, held distribution and the log density of a draw at it, of sites where the graph tells it.

    A log density that moves with values of the guide's sites alone is held as it is, and one that moves
    with parameters, and with no value of another site, by its distribution's tensors. The others are
    left to another run of the guide.

    Args:
        names: of the sites.
        estimators: of the guide's sites.
        nodes: of the guide.
        draws: at the guide's sites.
        scores: the log density of each draw.
    """
    values = {name: x.value.grad_fn for name, x in draws.items() if x.value.grad_fn is not None}
    ends = set(values.values())
    for name in names:
        met, fn = set(graph_ends([scores[name]], ends)), nodes[name]["fn"]
        if met <= ends:
            yield name, Held(fn, {}), scores[name]
        elif not met & ends - {values.get(name)}:
            draw, held = viewed(draws[name]), Held(mapped(fn, Tensor.detach), {})
            log_prob = held_log_prob(name, estimators[name], held, draw)
            # Else it keeps parameters elsewhere, or a value of its own.
            if set(graph_ends([log_prob], own := {draw.value.grad_fn})) == own:
                yield name, held, log_prob

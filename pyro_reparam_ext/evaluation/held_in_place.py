"""Distributions of a guide that are held without another run of it: those that no other value moves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..distributions.rules.copies import mapped
from ..estimators.base import Estimator
from ..estimators.protocol import Draw
from .held import Held
from .terms import log_prob_of


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
    for name in names:
        own, fn = values.get(name), nodes[name]["fn"]
        others = set(values.values()) - {own}
        met = _ends(scores[name], {own, *others})
        if None not in met:
            yield name, Held(fn, {}), scores[name]
        elif not met & others:
            draw = draws[name].map(lambda x: x.view_as(x))
            held = mapped(fn, Tensor.detach)
            log_prob = log_prob_of(name, estimators[name].guide_log_prob, held, draw)
            if None not in _ends(log_prob, {draw.value.grad_fn}):  # else it keeps parameters elsewhere
                yield name, Held(held, {}), log_prob


def _ends(x: Tensor, ends: Collection[Any]) -> set[Any]:
    """Those nodes of some that the graph of a tensor leads to; and None, if to leaves beside them."""
    met, seen = set[Any](), set[Any]()
    waiting: list[Any] = [x.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in ends:
            met.add(node)
        elif hasattr(node, "variable"):
            met.add(None)
        else:
            waiting += [before for before, _ in node.next_functions]
    return met

"""A graph in two halves, between which other processes have their say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from .backends import Backend
from .graph import copied


@torch.library.custom_op("pyro_reparam_ext::over_ranks", mutates_args=())
def over_ranks(vector: Tensor) -> Tensor:
    """Marks the vector of a graph that is averaged over the ranks; on its own the vector itself."""
    return vector.clone()


@over_ranks.register_fake
def _(vector: Tensor) -> Tensor:
    return torch.empty_like(vector)


def _itself(vector: Tensor) -> Tensor:
    return vector


class Halves:
    """Runs a graph with one :func:`over_ranks` as two: up to it, and from it on.

    ``exchange`` is what is done with the vector between the two, and ``watched`` a context of the
    first one: to begin with, nothing.
    """

    def __init__(self, gm: GraphModule, example: Sequence[Tensor], backend: Backend) -> None:
        self.exchange: Callable[[Tensor], Tensor] = _itself
        self.watched: Callable[[], AbstractContextManager[None]] = nullcontext
        before, after = halves(gm)
        inputs = [example[i] for i in before.inputs]
        with torch.random.fork_rng(), torch.no_grad():
            vector, *crossing = before.graph(*map(copied, inputs))
        self._before, self._after = before.inputs, after.inputs
        self._first = backend(before.graph, inputs)
        self._second = backend(after.graph, [vector, *crossing, *(example[i] for i in after.inputs)])

    def __call__(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        with self.watched():
            vector, *crossing = self._first([inputs[i] for i in self._before])
        vector = self.exchange(vector)
        return self._second([vector, *crossing, *(inputs[i] for i in self._after)])


@dataclass(frozen=True)
class Half:
    """A part of a graph, and the numbers of the whole graph's inputs that it reads."""

    graph: GraphModule
    inputs: list[int]


def halves(gm: GraphModule) -> tuple[Half, Half]:
    """The parts of a graph before and after its one :func:`over_ranks`.

    The first returns the vector and what the second needs of it: nothing that shares memory with an
    input, which the second may write. Both draw what they drew in the order of the whole.
    """
    nodes = list(gm.graph.nodes)
    (mark,) = (x for x in nodes if x.target is torch.ops.pyro_reparam_ext.over_ranks.default)
    placeholders = [x for x in nodes if x.op == "placeholder"]
    vector = mark.args[0]
    assert isinstance(vector, Node)
    early = _early(nodes, mark)

    # -- first half
    first = Graph()
    env: dict[Node, Node] = {}
    read = [x for x in placeholders if any(u in early for u in x.users)]
    for x in nodes:
        if x in read or x in early:
            env[x] = first.node_copy(x, env.__getitem__)

    # -- second half: copies what it needs of the first one where that is a view of an input
    second = Graph()
    late = [
        x for x in nodes if x not in early and x.op not in ("placeholder", "output") and x is not mark
    ]
    (output,) = (x for x in nodes if x.op == "output")
    needed = {y for x in (*late, output) for y in x.all_input_nodes}
    views = _views(nodes)
    for x in reversed(nodes):
        if x in needed and x in early and x in views:
            late.append(x)
            needed.update(x.all_input_nodes)
    crossing = [x for x in nodes if x in needed and x in early and x not in views]
    wanted = [x for x in placeholders if x in needed]
    inside = {mark: second.placeholder("vector")}
    for x in crossing:
        inside[x] = second.placeholder(f"from_first_{x.name}")
    kept = set(late)
    for x in nodes:
        if x in wanted or x in kept or x is output:
            inside[x] = second.node_copy(x, inside.__getitem__)
    first.output([env[vector], *(env[x] for x in crossing)])

    def half(graph: Graph, used: Sequence[Node]) -> Half:
        graph.eliminate_dead_code()
        graph.lint()
        return Half(GraphModule(gm, graph), [placeholders.index(x) for x in used])

    return half(first, read), half(second, wanted)


def _early(nodes: Sequence[Node], mark: Node) -> set[Node]:
    """The nodes before the mark: all that it needs, what is drawn, and what is made of these."""
    ancestors, after = {mark}, {mark}
    for x in reversed(nodes):
        if x in ancestors:
            ancestors.update(x.all_input_nodes)
    early: set[Node] = set()
    for x in nodes:
        if any(y in after for y in x.all_input_nodes):
            after.add(x)
        elif x is not mark and x.op not in ("placeholder", "output"):
            if x in ancestors or _draws(x) or any(y in early for y in x.all_input_nodes):
                early.add(x)
    return early


def _draws(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _views(nodes: Sequence[Node]) -> set[Node]:
    """The nodes whose tensors share memory with an input."""
    found: set[Node] = set()
    for x in nodes:
        returns = getattr(getattr(x.target, "_schema", None), "returns", ())
        shares = any(r.alias_info is not None for r in returns)
        if shares and all(y.op == "placeholder" or y in found for y in x.all_input_nodes):
            found.add(x)
    return found

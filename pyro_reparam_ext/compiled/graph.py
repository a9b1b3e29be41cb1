"""The rewriting of a captured graph before it is compiled."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx import GraphModule, Node

from .capture import recorded

aten = torch.ops.aten


def fold_numbers(gm: GraphModule) -> None:
    """Numbers that are computed from constants become ``full``.

    AOTInductor of torch 2.13 can't lower ``pow`` or ``expand`` of a lifted constant.
    """
    known: dict[Node, Tensor] = {}
    for node in list(gm.graph.nodes):
        if node.op == "get_attr":
            if _is_number(node):
                known[node] = getattr(gm, str(node.target))
        elif _is_foldable(node, known):
            with torch.no_grad():
                args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
                x = node.target(*args, **kwargs)
            if isinstance(x, Tensor) and x.numel() == 1:
                known[node] = x
    for node, x in known.items():
        if node.op == "get_attr" or all(user in known for user in node.users):
            continue
        with gm.graph.inserting_before(node):
            full = gm.graph.call_function(
                aten.full.default, (list(x.shape), x.item()), {"dtype": x.dtype, "device": x.device}
            )
        full.meta = dict(node.meta)
        node.replace_all_uses_with(full, delete_user_cb=lambda user: user not in known)
    gm.graph.eliminate_dead_code()
    gm.recompile()


def _is_number(node: Node) -> bool:
    """Whether a constant was made inside, of a Python number."""
    return all(user.target is aten.lift_fresh_copy.default for user in node.users)


def _is_foldable(node: Node, known: dict[Node, Tensor]) -> bool:
    if node.op != "call_function" or not node.all_input_nodes:
        return False
    if any(x not in known for x in node.all_input_nodes):
        return False
    if _mutates(node) or any(map(_mutates, node.users)):
        return False
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())


def _mutates(node: Node) -> bool:
    return getattr(getattr(node.target, "_schema", None), "is_mutable", False)


def lift_constants(gm: GraphModule) -> list[Tensor]:
    """Tensors that the program keeps become the last inputs of the graph; returns them."""
    last = [node for node in gm.graph.nodes if node.op == "placeholder"][-1]
    lifted: dict[str, tuple[Node, Tensor]] = {}
    for node in [node for node in gm.graph.nodes if node.op == "get_attr" and not _is_number(node)]:
        name = str(node.target)
        if name not in lifted:
            with gm.graph.inserting_after(last):
                last = gm.graph.placeholder(f"kept_{name}")
            last.meta = dict(node.meta)
            lifted[name] = last, getattr(gm, name)
        node.replace_all_uses_with(lifted[name][0])
        gm.graph.erase_node(node)
    for name in lifted:
        delattr(gm, name)
    gm.recompile()
    return [x for _, x in lifted.values()]


def without_alpha(gm: GraphModule) -> None:
    """``add(a, b, alpha=k)`` as ``add(a, k * b)``.

    The inductor of torch 2.13 loses ``k`` where it fuses the sum into a matrix product.
    """
    for node in gm.graph.nodes:
        if node.target in (aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor, aten.sub_.Tensor):
            alpha = node.kwargs.get("alpha", 1)
            if alpha != 1:
                with gm.graph.inserting_before(node):
                    scaled = gm.graph.call_function(aten.mul.Tensor, (node.args[1], alpha))
                node.args, node.kwargs = (node.args[0], scaled), {}
    gm.recompile()


def without_mutation(gm: GraphModule, example: Sequence[Tensor]) -> GraphModule:
    """The same graph, in which nothing is written in place but inputs, at the end."""
    with torch.random.fork_rng():
        return recorded(functionalize(gm), list(map(copied, example)))


def copied(x: Tensor) -> Tensor:
    """A copy with the same strides; the tensor itself where elements share memory."""
    x = x.detach()
    if any(stride == 0 and size > 1 for size, stride in zip(x.shape, x.stride(), strict=True)):
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)


def kept_if_finite(gm: GraphModule, flag: int, returned: int) -> None:
    """Lets inputs be written only as long as all is finite; the loss is NaN from then on.

    Args:
        gm: a graph whose outputs are the loss and the gradients: these have to be finite.
        flag: the number of the input that says whether all was finite so far; it is updated.
        returned: so many outputs are kept, the first ones.
    """
    graph = gm.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    (output,) = (node for node in graph.nodes if node.op == "output")
    writes = {node.args[0]: node for node in graph.nodes if node.target is aten.copy_.default}

    def call(target: Any, *args: Any) -> Node:
        return graph.call_function(target, args)

    with graph.inserting_before(next(iter(writes.values()), output)):
        finite = inputs[flag]
        for x in output.args[0]:
            each = call(aten.all.default, call(aten.isfinite.default, x))
            finite = call(aten.logical_and.default, finite, each)
    for placeholder, write in writes.items():
        with graph.inserting_before(write):
            write.args = (placeholder, call(aten.where.self, finite, write.args[1], placeholder))
    with graph.inserting_before(output):
        call(aten.copy_.default, inputs[flag], finite)
        loss, *rest = output.args[0][:returned]
        output.args = ([call(aten.where.ScalarOther, finite, loss, math.nan), *rest],)
    graph.eliminate_dead_code()
    gm.recompile()


def difference(first: GraphModule, second: GraphModule) -> Node | None:
    """The first node of a capture that another one of the same step does not have; None if none."""
    numbers: tuple[dict[Node, int], dict[Node, int]] = ({}, {})
    pairs = list(zip(first.graph.nodes, second.graph.nodes, strict=False))
    for count, (a, b) in enumerate(pairs):
        numbers[0][a] = numbers[1][b] = count
        if a.op != b.op or a.target != b.target or _written(a, numbers[0]) != _written(b, numbers[1]):
            return a
        if a.op == "get_attr":
            x, y = getattr(first, str(a.target)), getattr(second, str(b.target))
            tensors = isinstance(x, Tensor) and isinstance(y, Tensor)
            if x is not y and not (tensors and same_tensor(x, y)):
                return next(iter(a.users), a)
    if len(first.graph.nodes) != len(second.graph.nodes):
        return pairs[-1][0]
    return None


def _written(node: Node, numbers: dict[Node, int]) -> str:
    return repr(torch.fx.node.map_arg((node.args, node.kwargs), lambda x: f"%{numbers[x]}"))


def same_tensor(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors have the same shape and elements, NaN being equal to itself."""
    return x.shape == y.shape and bool(torch.isclose(x, y, rtol=0, atol=0, equal_nan=True).all())


def agree(a: Tensor, b: Tensor, nearby: Tensor) -> bool:
    """Whether rounding explains how two results differ; ``nearby``: for inputs that it changed."""
    if not a.dtype.is_floating_point or not a.numel():
        return torch.equal(a, b)
    same, finite = (a == b) | (a.isnan() & b.isnan()), b.isfinite()
    if not finite.any():
        return bool(same.all())
    moved = (nearby - b)[finite].abs().max()
    explained = torch.finfo(a.dtype).eps ** 0.6 * b[finite].abs().max() + 10 * moved
    return bool((same | ((a - b).abs() <= explained)).all())


def digest(gm: GraphModule, example: Sequence[Tensor], *more: str) -> str:
    """A name for a graph at such inputs: equal ones compile to the same code."""
    text = [gm.code, *more]
    text += [f"{x.dtype} {x.device} {tuple(x.shape)} {x.stride()}" for x in example]
    for node in gm.graph.nodes:
        if node.op == "get_attr":
            x = getattr(gm, str(node.target))
            text.append(f"{node.target} {x.dtype} {x.tolist()}" if isinstance(x, Tensor) else repr(x))
    return hashlib.sha256("\n".join(text).encode()).hexdigest()

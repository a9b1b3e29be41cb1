"""Where the graph of autograd behind some tensors ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import Tensor


def graph_ends(tensors: Iterable[Tensor], ends: Collection[Any] = ()) -> Iterator[Any]:
    """The nodes that a graph leads to, each once: those of ``ends``, and of leaves by ways around them.

    The node of a leaf has it as ``variable``.

    Args:
        tensors: whose graph is followed back.
        ends: nodes (``grad_fn``) that it is not followed beyond.

    Example:
        >>> import torch
        >>> from pyro_reparam_ext.numerics.graph_ends import graph_ends
        >>> a, b = torch.ones(2, requires_grad=True)
        >>> leaf = torch.ones((), requires_grad=True)
        >>> found = list(graph_ends([a.exp() * leaf], [a.grad_fn]))
        >>> a.grad_fn in found, any(getattr(node, "variable", None) is leaf for node in found)
        (True, True)
    """
    seen, waiting = set[Any](), [x.grad_fn for x in tensors]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in ends or hasattr(node, "variable"):
            yield node
        else:
            waiting += [before for before, _ in node.next_functions]

"""Which tensors of a graph are the same at every step, because the program writes out their numbers."""

from __future__ import annotations

import torch
from torch.fx import Node

LITERAL = torch.ops.aten.lift_fresh_copy.default
"""What ``torch.tensor(3)`` is in a graph."""


def is_constant(node: Node) -> bool:
    """Whether a tensor is computed from numbers alone: of no input, no random draw and no kept tensor.

    So is ``Binomial(10, probs).total_count``, a tensor that the distribution makes of its ``10``. A
    tensor that is written to in place is none: what is written may not be constant.
    """
    seen, stack = set(), [node]
    while stack:
        one = stack.pop()
        if one in seen:
            continue
        seen.add(one)
        if not _is_computed(one) or _is_written_to(one):
            return False
        if one.target is not LITERAL:
            stack.extend(one.all_input_nodes)
    return True


def _is_computed(node: Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return node.op == "call_function" and torch.Tag.nondeterministic_seeded not in tags


def _is_written_to(node: Node) -> bool:
    """Whether some operation writes to it, or to a view of it."""
    for user in node.users:
        schema = getattr(user.target, "_schema", None)
        if schema is None:
            continue
        if schema.is_mutable:
            return True
        if any(x.alias_info is not None for x in schema.returns) and _is_written_to(user):
            return True
    return False

"""The law that a guide gives a weight."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ...distributions.rules.wrappers import coordinates, innermost
from ...distributions.supports.real import is_real
from ...evaluation.control_flow import untracked


class MeanFieldNormal(NamedTuple):
    """Independent normals, ``loc`` and ``scale`` of the shape of the value."""

    loc: Tensor
    scale: Tensor


def law_of(name: str, prior: TorchDistribution, trace: Trace) -> MeanFieldNormal | str | None:
    """The law of a site under the guide whose trace this is.

    None where the guide gives it one certain value, and a reason where its law is not that of
    independent normals. An autoguide's site is the image of a normal one of the same name, the
    identity where the support is the reals.
    """
    fn = trace.nodes[name]["fn"]
    if not isinstance(innermost(fn), dist.Delta):
        return _law(fn)
    if not any(map(_is_auxiliary, trace.nodes.values())):
        return None
    if not is_real(prior.support):
        return f"the guide maps its variables to the support {prior.support}"
    own = trace.nodes.get(f"{name}_unconstrained")
    if own is not None and is_part(fn, own["value"], 0):
        return _law(own["fn"])
    auxiliary = [node for node in trace.nodes.values() if _is_auxiliary(node)]
    law = _part(name, auxiliary[0], trace) if len(auxiliary) == 1 else None
    return law or f"the guide makes it from {', '.join(repr(node['name']) for node in auxiliary)}"


def _is_auxiliary(node: dict[str, Any]) -> bool:
    return bool(node.get("infer", {}).get("is_auxiliary"))


def _part(name: str, joint: dict[str, Any], trace: Trace) -> MeanFieldNormal | None:
    """The law of a site that is a part of one normal vector, as AutoDiagonalNormal draws it.

    None unless all sites are parts, in the order of the trace.
    """
    law = _law(joint["fn"])
    if isinstance(law, str):
        return None
    *batch, size = joint["value"].shape
    parts = {
        node["name"]: node["value"]
        for node in trace.nodes.values()
        if node["type"] == "sample"
        and node is not joint
        and not (node["is_observed"] or site_is_subsample(node))
    }
    sizes = [value.numel() // math.prod(batch) for value in parts.values()]
    if sum(sizes) != size:
        return None
    index = list(parts).index(name)
    own = slice(sum(sizes[:index]), sum(sizes[: index + 1]))
    if not is_part(trace.nodes[name]["fn"], joint["value"], own.start):
        return None
    return MeanFieldNormal(*(x[..., own].reshape(parts[name].shape) for x in law))


def _law(fn: TorchDistribution) -> MeanFieldNormal | str:
    normal = coordinates(fn)
    if not isinstance(normal, dist.Normal):
        return f"under the guide it has a {type(innermost(fn)).__name__} law"
    return MeanFieldNormal(normal.loc, normal.scale)


def is_part(fn: TorchDistribution, draw: Tensor, offset: int) -> bool:
    """Whether a Delta's value is a view of the draw that begins there, and not made from it."""
    value, draw = untracked(innermost(fn).v), untracked(draw)
    if value is draw:
        return offset == 0
    try:
        same = value.untyped_storage().data_ptr() == draw.untyped_storage().data_ptr()
        return same and value.storage_offset() == draw.storage_offset() + offset
    except (NotImplementedError, RuntimeError):  # a tensor within vmap has no storage to look at
        return False

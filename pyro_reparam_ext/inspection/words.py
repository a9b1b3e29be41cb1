"""A site in words: its distribution with what is wrapped around it, its plates, its sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import distributions as td

from ..distributions.rules.wrappers import (
    WRAPPERS,
    coordinate_support,
    coordinates,
    innermost,
    num_coordinates,
)
from ..estimators.support import has_one_support
from ..evaluation.axes import PARTICLES


def distribution_words(fn: TorchDistribution) -> str:
    """The class of a distribution, then what is wrapped around it, from the inside."""
    base = innermost(fn)
    words = [getattr(base, "made_by", None) or _class_words(base)]
    while isinstance(fn, WRAPPERS):
        if isinstance(fn, td.Independent):
            words.insert(1, f"to_event({fn.reinterpreted_batch_ndims})")
        elif isinstance(fn, MaskedDistribution):
            words.insert(1, "masked")
        elif isinstance(fn, ExpandedDistribution):
            words.insert(1, "expanded")
        fn = fn.base_dist
    return ", ".join(words)


def _class_words(base: Any) -> str:
    name = type(base).__name__
    if name == "TransformedDistribution":
        transforms = ", ".join(map(_transform_words, base.transforms))
        return f"{_class_words(innermost(base.base_dist))} through {transforms or 'nothing'}"
    if isinstance(base, td.MixtureSameFamily):
        return f"{name} of {_class_words(innermost(base.component_distribution))}"
    return name


def _transform_words(transform: Any) -> str:
    name = type(transform).__name__
    return f"inverse {type(transform.inv).__name__}" if name == "_InverseTransform" else name


def plate_words(node: Mapping[str, Any]) -> str:
    """The plates of a site with their sizes, the outermost first; of a subsample both sizes."""
    frames = [frame for frame in node["cond_indep_stack"] if frame.name != PARTICLES]
    outermost_first = sorted(frames, key=lambda frame: frame.dim or -math.inf)
    return ", ".join(f"{frame.name}[{_size(frame)}]" for frame in outermost_first)


def _size(frame: Any) -> str:
    if not frame.vectorized:
        return f"{frame.size}, one by one"
    whole = frame.full_size
    return f"{frame.size}" if whole in (None, frame.size) else f"{frame.size} of {whole}"


def is_discrete(fn: TorchDistribution) -> bool:
    """Whether the values of a distribution are isolated points."""
    base = innermost(fn)
    if base.has_enumerate_support:
        return True
    try:
        return bool(base.support is not None and base.support.is_discrete)
    except NotImplementedError:
        return False


def num_numbers(fn: TorchDistribution) -> int:
    """The coordinates of one element of the plates; each category counts as one."""
    base = innermost(fn)
    return num_coordinates(fn) * (1 if is_discrete(fn) else math.prod(base.event_shape))


def support_size(fn: TorchDistribution) -> float:
    """The number of values of one coordinate: infinite for counts, NaN for what is continuous."""
    if not is_discrete(fn):
        return math.nan
    if not innermost(fn).has_enumerate_support or not has_one_support(fn):
        return math.inf
    return len(coordinate_support(coordinates(fn)))

"""Distributions made from the parameters of another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, TransformedDistribution
from torch.distributions.transforms import _InverseTransform

_EVENT_DIMS = {"_capacitance_tril": 2, "scale_tril": 2, "_located": 1}
"""Of attributes that no constraint tells them of."""


def unchecked(fn: Any, cls: Any, **parameters: Any) -> Any:
    """``cls`` with parameters that ``fn`` has checked, or was told not to check."""
    new = cls(**parameters, validate_args=False)
    new._validate_args = fn._validate_args
    return new


def without_validation(fn: Any) -> Any:
    """``fn``, or where it checks values, a shallow copy that doesn't, also inside of a transform."""
    base = fn.base_dist if isinstance(fn, TransformedDistribution) else None
    inner = None if base is None else without_validation(base)
    if not fn._validate_args and inner is base:
        return fn
    fn = copy(fn)
    fn._validate_args = False
    if inner is not None:
        fn.base_dist = inner
    return fn


def instance_to_expand(fn: Any, instance: Any = None) -> Any:
    """An instance of the class of ``fn`` without attributes, for its method ``expand``.

    Raises:
        NotImplementedError: the class has an ``__init__`` of its own, and says neither what it has more
            than its base nor how it is expanded.
    """
    if instance is not None:
        return instance
    cls = type(fn)
    for base in cls.__mro__:
        if _SAID_BY & vars(base).keys():
            return fn.__new__(cls)
        if "__init__" in vars(base):
            raise NotImplementedError(
                f"{base.__name__} defines a custom __init__, and what it sets would be lost in expand."
                f" It must also define a custom .expand() method, or _expand_into(new, batch_shape),"
                f" which copies to new what the base class does not know."
            )
    raise AssertionError


_SAID_BY = {"expand", "_expand_into", "arg_constraints"}
"""Of which a class with its own ``__init__`` defines one; named parameters are copied by name."""


def mapped(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``x``, a distribution, with ``function`` of each tensor in place of that tensor.

    Looks into the distributions, transforms and lists that it is made of, but not into modules. Where
    nothing changes, ``x`` itself is returned.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyro_reparam_ext.distributions.rules.copies import mapped
        >>> fn = dist.LogNormal(torch.zeros(3), 2.0).to_event(1)
        >>> mapped(fn, torch.Tensor.double).sample().dtype
        torch.float64
    """
    known: dict[int, Tensor] = {}

    def once(x: Tensor) -> Tensor:
        # One tensor of ``x`` stays one: so it is known which of probs and logits was given.
        if id(x) not in known:
            known[id(x)] = function(x)
        return known[id(x)]

    return _mapped(x, once)


def _mapped(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(x, Tensor):
        return function(x)
    return _with(x, {key: _mapped(part, function) for key, part in _parts(x).items()})


def rows(fn: Any, start: int, stop: int) -> Any:
    """The distribution of some rows: elements ``start`` to ``stop - 1`` of the leftmost batch dim.

    Parameters that do not have that dim, or have it with size 1, stay as they are.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyro_reparam_ext.distributions.rules.copies import rows
        >>> fn = dist.Normal(torch.arange(5.0), 1.0).expand([3, 5]).to_event(1)
        >>> rows(fn, 0, 2).batch_shape, rows(fn, 0, 2).event_shape
        (torch.Size([2]), torch.Size([5]))
    """
    return _Rows(start, stop, fn.batch_shape[0]).of(fn, len(fn.batch_shape))


class _Rows:
    """Some rows of a batch dim of this size, in whatever has it."""

    def __init__(self, start: int, stop: int, size: int) -> None:
        self.start, self.stop, self.size = start, stop, size
        self._known: dict[tuple[int, int], Tensor] = {}
        """One tensor of a distribution stays one, as for :func:`mapped`."""

    def of(self, fn: Any, dim: int) -> Any:
        """These rows of a distribution; ``dim``: the batch dim, counted from the right, from 1 on."""
        shape = fn.batch_shape
        if len(shape) < dim or shape[-dim] != self.size:
            return fn
        parts = {key: self._part(fn, key, part, dim) for key, part in _parts(fn).items()}
        at = len(shape) - dim
        shape = torch.Size((*shape[:at], self.stop - self.start, *shape[at + 1 :]))
        if isinstance(fn, ExpandedDistribution):
            return ExpandedDistribution(parts["base_dist"], shape)
        return _with(fn, {**parts, "_batch_shape": shape})

    def _part(self, fn: Any, key: str, x: Any, dim: int) -> Any:
        if isinstance(x, Tensor):
            return self._tensor(x, dim + _event_dims(fn, key, x))
        if isinstance(x, Distribution):
            # The batch dims of ``fn`` are its leftmost ones, but for those that expand has added.
            more = len(x.batch_shape) - len(fn.batch_shape)
            return self.of(x, dim if isinstance(fn, ExpandedDistribution) else dim + max(more, 0))
        # Those of a list under the name of the whole; the numbers of a transform lie beside values.
        named = isinstance(x, (dict, Transform))
        parts = {
            name: self._beside_values(fn, name, part, dim)
            if isinstance(x, Transform) and isinstance(part, Tensor)
            else self._part(fn, name if named else key, part, dim)
            for name, part in _parts(x).items()
        }
        return _with(x, parts)

    def _beside_values(self, fn: Any, key: str, x: Tensor, dim: int) -> Tensor:
        event = max(len(fn.event_shape), _EVENT_DIMS.get(key, x.dim() - len(fn.batch_shape)))
        return self._tensor(x, dim + event)

    def _tensor(self, x: Tensor, dim: int) -> Tensor:
        if x.dim() < dim or x.shape[-dim] != self.size:
            return x
        if (id(x), dim) not in self._known:
            self._known[id(x), dim] = x.narrow(-dim, self.start, self.stop - self.start)
        return self._known[id(x), dim]


def _parts(x: Any) -> dict[Any, Any]:
    """The parts of a distribution, a transform or a collection; all else, also a module, has none."""
    if isinstance(x, dict):
        return x
    if isinstance(x, (list, tuple)):
        return dict(enumerate(x))
    if not isinstance(x, (Distribution, Transform)) or isinstance(x, nn.Module):
        return {}
    kept = _not_parts(x)
    return {key: part for key, part in vars(x).items() if key not in kept}


def _not_parts(x: Any) -> dict[str, Any]:
    """Memories that a transform has of other ones, or of values, and how they are forgotten."""
    if not isinstance(x, Transform):
        return {}
    forgotten: dict[str, Any] = {"_cached_x_y": (None, None)}
    return forgotten if isinstance(x, _InverseTransform) else {**forgotten, "_inv": None}


def _with(x: Any, parts: Mapping[Any, Any]) -> Any:
    """A copy of ``x`` with these parts; itself where it has them all."""
    before = _parts(x)
    if all(before[key] is part for key, part in parts.items()):
        return x
    if isinstance(x, dict):
        return dict(parts)
    if isinstance(x, (list, tuple)):
        return type(x)(*parts.values()) if hasattr(x, "_fields") else type(x)(parts.values())
    x = copy(x)
    vars(x).update(parts)
    vars(x).update(_not_parts(x))
    return x


def _event_dims(fn: Any, key: str, x: Tensor) -> int:
    """How many dims of an attribute of a distribution are not batch dims."""
    named = fn.arg_constraints.get(key.removeprefix("_unbroadcasted").lstrip("_"))
    try:
        declared = _EVENT_DIMS.get(key, 0) if named is None else named.event_dim
    except NotImplementedError:  # it depends on the distribution
        declared = 0
    return max(declared, x.dim() - len(fn.batch_shape))

"""A weight that remembers its law on its way from the sample site to the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...evaluation.control_flow import untracked
from .mean_field_normal import MeanFieldNormal

if TYPE_CHECKING:
    from .run import Run

OF_SHAPE: frozenset[Any] = frozenset(
    [
        *(Tensor.dim, Tensor.size, Tensor.numel, Tensor.stride, Tensor.is_floating_point),
        *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")),
    ]
)
"""What a weight is asked for in whatever state its run is."""


class RandomWeight(Tensor):
    """The value of a weight's sample site, or a view of it, with the law it was drawn from.

    A layer that is given it is computed by the context of the run; elsewhere, and once the model
    has ended, it is the plain value.

    ``key``: the name of the site, then the views that were taken of it. ``draw``: the plain value.
    ``law``: a :class:`MeanFieldNormal` whose tensors have the shape of the value, or the reason why
    there is none.
    """

    draw: Tensor
    law: MeanFieldNormal | str
    key: tuple[str, ...]
    run: Run

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if func in OF_SHAPE and isinstance(first, RandomWeight):
            return func(first.draw, *args[1:], **kwargs)
        direct = (x for x in args if isinstance(x, RandomWeight))
        weight = next(direct, None)
        if weight is None:
            weight = random_weights((args, kwargs))[0]
        return weight.run.call(func, args, kwargs)


def random_weight(
    draw: Tensor, law: MeanFieldNormal | str, key: tuple[str, ...], run: Run
) -> RandomWeight:
    weight = untracked(draw).as_subclass(RandomWeight)
    weight.draw, weight.law, weight.key, weight.run = draw, law, key, run
    return weight


def leaves(x: Any) -> list[Any]:
    """The items of nested tuples, lists and dicts, in a flat list."""
    found: list[Any] = []
    for item in x.values() if isinstance(x, dict) else x:
        if isinstance(item, (tuple, list, dict)):
            found += leaves(item)
        else:
            found.append(item)
    return found


def random_weights(x: Any) -> list[RandomWeight]:
    """The weights that stand in nested tuples, lists and dicts."""
    return [leaf for leaf in leaves(x) if isinstance(leaf, RandomWeight)]


def plain(x: Any) -> Any:
    """The same with every weight replaced by its plain value."""
    if isinstance(x, RandomWeight):
        return x.draw
    if isinstance(x, (tuple, list)):
        items = [plain(item) for item in x]
        if all(new is old for new, old in zip(items, x, strict=True)):
            return x
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    return x

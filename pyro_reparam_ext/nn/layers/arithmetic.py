"""Views, multiples and shifts of random weights, and the laws that they have."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .mean_field_normal import MeanFieldNormal
from .weight import RandomWeight, leaves, plain, random_weight, random_weights

_VIEWS = (
    "clone contiguous detach double expand expand_as flatten float half bfloat16 mT movedim moveaxis "
    "narrow permute reshape reshape_as select squeeze swapaxes swapdims t to transpose type_as "
    "unflatten unsqueeze view view_as __getitem__ T H mH broadcast_to adjoint"
).split()
_TEMPLATES = (
    "empty_like full_like ones_like rand_like randint_like randn_like zeros_like new_empty new_full "
    "new_ones new_tensor new_zeros"
).split()
_EXPANSIONS = "expand expand_as broadcast_to".split()
_VALUES = "item tolist numpy __array__ __float__ __int__ __index__ __complex__".split()
_NO_CHANGE = "__index__ __int__ __invert__ __iter__".split()
_PARTITIONS = "chunk split unbind tensor_split hsplit vsplit __iter__".split()
_PLUS = "add __add__ __radd__".split()
_MINUS = "sub subtract __sub__".split()
_FROM = "rsub __rsub__".split()
_TIMES = "mul multiply __mul__ __rmul__".split()
_OVER = "div divide true_divide __truediv__".split()
_NEGATIVE = "neg negative __neg__".split()


def functions(names: list[str]) -> set[Any]:
    """The functions, methods and properties of torch of these names."""
    found = set()
    for name in names:
        attribute = getattr(Tensor, name, None)
        if attribute is not None:
            found.add(attribute if callable(attribute) else attribute.__get__)
        if callable(getattr(torch, name, None)):
            found.add(getattr(torch, name))
    return found


VIEWS, PARTITIONS = functions(_VIEWS), functions(_PARTITIONS)
PLUS, MINUS, FROM = functions(_PLUS), functions(_MINUS), functions(_FROM)
TEMPLATES, EXPANSIONS, VALUES = map(functions, (_TEMPLATES, _EXPANSIONS, _VALUES))
ARITHMETIC = set().union(*map(functions, (_PLUS, _MINUS, _FROM, _TIMES, _OVER)))
TIMES, OVER, NEGATIVE = functions(_TIMES), functions(_OVER), functions(_NEGATIVE)


def is_template(func: Callable, args: tuple) -> bool:
    """Whether weights give a function no more than a shape, a dtype or a device."""
    return func in TEMPLATES or (func in VIEWS and not isinstance(args[0], RandomWeight))


def law_through(
    func: Callable, args: tuple, kwargs: dict, result: Any, weights: list[RandomWeight]
) -> Any:
    """The result as random weights, with a law for views, and for shifts and multiples."""
    weight = weights[0]
    name = getattr(func, "__name__", "")
    if any(isinstance(x, Tensor) and x is not weight for x in leaves((args, kwargs))):
        step = f"{name}@{weight.run.new_step()}"  # by what, can't be told from another time
    else:
        step = f"{name}{plain(args)[1:]}{kwargs or ''}"
    lawful = isinstance(weight.law, MeanFieldNormal) and len(weights) == 1
    if lawful and func in PARTITIONS:
        parts = [func(x, *args[1:], **kwargs) for x in weight.law]
        return type(result)(
            random_weight(x, MeanFieldNormal(loc, scale), (*weight.key, f"{step}#{i}"), weight.run)
            for i, (x, loc, scale) in enumerate(zip(result, *parts, strict=True))
        )
    if isinstance(result, Tensor):
        law = _law(func, args, kwargs, weight) if lawful else None
        return random_weight(result, law or _lost(func, weights), (*weight.key, step), weight.run)
    # several results, which may be a named tuple of torch's
    return type(result)(
        [
            random_weight(x, _lost(func, weights), (*weight.key, step), weight.run)
            if isinstance(x, Tensor)
            else x
            for x in result
        ]
    )


def _law(func: Callable, args: tuple, kwargs: dict, weight: RandomWeight) -> MeanFieldNormal | None:
    """The law of a view of the weight, or of a multiple or a shift of it."""
    assert isinstance(weight.law, MeanFieldNormal)
    loc, scale = weight.law
    if func in VIEWS and args and args[0] is weight:
        if _repeats(func, args, weight):
            return None
        return MeanFieldNormal(func(loc, *args[1:], **kwargs), func(scale, *args[1:], **kwargs))
    if func in NEGATIVE:
        return MeanFieldNormal(-loc, scale)
    if kwargs or len(args) != 2:
        return None
    first = args[0] is weight
    other = args[1] if first else args[0]
    if func in PLUS:
        return MeanFieldNormal(loc + other, scale)
    if func in MINUS or func in FROM:
        positive = first == (func in MINUS)
        return MeanFieldNormal(loc - other if positive else other - loc, scale)
    if func in TIMES:
        return MeanFieldNormal(loc * other, scale * abs(other))
    if func in OVER and first:
        return MeanFieldNormal(loc / other, scale / abs(other))
    return None


def targets(func: Callable, args: tuple, kwargs: dict) -> list[RandomWeight]:
    """The weights that a function writes into."""
    changes = _changes_first(func)
    if not changes and "out" not in kwargs:
        return []
    written = [*(args[:1] if changes else ()), kwargs.get("out")]
    return random_weights(written)


@lru_cache(maxsize=1000)
def _changes_first(func: Callable) -> bool:
    """Whether a function writes into its first argument, by its name."""
    name = getattr(func, "__name__", "")
    if name.startswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in _NO_CHANGE)
    return name.endswith("_")


def _repeats(func: Callable, args: tuple, weight: RandomWeight) -> bool:
    """Whether a view may show one element twice; they would be taken for independent ones."""
    if func in EXPANSIONS:
        return bool(func(weight.draw, *args[1:]).numel() > weight.numel())
    if func is Tensor.__getitem__:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(
            isinstance(i, list) or (isinstance(i, Tensor) and i.dtype not in (torch.bool, torch.uint8))
            for i in index
        )
    return False


def _lost(func: Callable, weights: list[RandomWeight]) -> str:
    for weight in weights:
        if isinstance(weight.law, str):
            return weight.law
    return f"it went through {getattr(func, '__name__', func)}, which is no view or multiple of it"

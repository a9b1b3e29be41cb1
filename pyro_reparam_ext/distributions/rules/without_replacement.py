"""Values of a distribution of single coordinates that are drawn without replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...noise import gumbel_like
from ...numerics.other_sequences import Others
from .classes import class_of, value_of
from .dispatch import Rules
from .logits import exact_logits


class WithoutReplacement(NamedTuple):
    """How values of a class of distributions are drawn without replacement.

    - ``size(fn)``: how many values each element of the batch has, at most;
    - ``others(fn, value, count)``: so many besides ``value``, in its dtype, without a gradient;
    - ``serves(fn)``: whether this distribution is one of them.
    """

    size: Callable[[Any], int]
    others: Callable[[Any, Tensor, int], Others]
    serves: Callable[[Any], bool] = lambda fn: True


_RULES: Rules[WithoutReplacement] = Rules()
register_without_replacement = _RULES.register
"""A decorator: :func:`without_replacement` for some classes, and for what derives from them."""


def without_replacement(fn: Any) -> WithoutReplacement | None:
    """The rule of the nearest class; None if there is none.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyro_reparam_ext.distributions.rules.without_replacement import without_replacement
        >>> fn = dist.Categorical(torch.tensor([0.2, 0.3, 0.5]))
        >>> others = without_replacement(fn).others(fn, torch.tensor(1), 2)
        >>> sorted(others.values.tolist())
        [0, 2]
    """
    found = _RULES.of(type(fn))
    return found if found is not None and found.serves(fn) else None


def classes() -> tuple[type, ...]:
    """Those that have a rule."""
    return tuple(_RULES.rules)


def _num_classes(fn: Any) -> int:
    return int(fn.logits.shape[-1])


def _other_classes(fn: Any, value: Tensor, count: int) -> Others:
    first = class_of(fn, value)
    left = exact_logits(fn).log_softmax(-1).scatter(-1, first.unsqueeze(-1), -torch.inf)
    others = (left + gumbel_like(left)).topk(count).indices
    possible = (left.gather(-1, others) > -torch.inf).movedim(-1, 0)
    outside = left.scatter(-1, others, -torch.inf).logsumexp(-1)
    numbers = torch.where(possible, others.movedim(-1, 0), first)
    return Others(value_of(fn, numbers).to(value.dtype), possible, outside)


register_without_replacement(torch.distributions.Categorical, torch.distributions.OneHotCategorical)(
    WithoutReplacement(_num_classes, _other_classes)
)

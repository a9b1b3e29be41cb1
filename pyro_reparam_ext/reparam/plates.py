"""A site as the plates around it will have it: a reparameteriser may be entered inside of them.

A handler sees a site before the handlers that were entered earlier do, so that within a plate a
distribution has not yet been expanded. Initial values come even so, one for all elements.
"""

from __future__ import annotations

from typing import Any

from pyro.distributions import TorchDistribution
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.plate_messenger import PlateMessenger
from pyro.poutine.reparam_messenger import _get_init_messengers
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from ..errors import EstimatorError


def in_plates(name: str, fn: TorchDistribution) -> TorchDistribution:
    """The distribution of a site, expanded by all plates that it is in."""
    msg = _message(name, fn)
    for handler in reversed(_PYRO_STACK):
        if isinstance(handler, (PlateMessenger, BlockMessenger)):
            handler._process_message(msg)
        if msg["stop"]:  # hidden from what is further out
            break
    return msg["fn"]


def has_value_of_one(value: Tensor, fn: TorchDistribution) -> bool:
    """Whether an initial value is for a single element of plates, and not for all of ``fn``."""
    return value.shape != fn.shape() and bool(_get_init_messengers())


def initial_value(name: str, value: Tensor | None, fn: TorchDistribution) -> Tensor | None:
    """The initial value, if there is one, for all elements of ``fn``, which is :func:`in_plates`.

    Pyro insists that a reparameteriser keep the shape of what was given, so it is the same tensor, with
    other data.

    Raises:
        EstimatorError: a function of the user's made the value, so that the tensor may not be changed.
    """
    if value is None or not has_value_of_one(value, fn):
        return value
    if getattr(value, "_pyro_custom_init", True):
        raise EstimatorError(
            f"site '{name}': its initial value has shape {tuple(value.shape)}; expected "
            f"{tuple(fn.shape())}. Where poutine.reparam is entered inside of plates, an initialiser "
            f"is asked before the site has their dims: give init_to_value a value of the full shape, "
            f"or enter poutine.reparam outside of the plates, as by poutine.reparam(model, ...)."
        )
    msg = _message(name, fn)
    for handler in _get_init_messengers():
        handler._process_message(msg)
    value.data = msg["value"].data
    return value


def _message(name: str, fn: TorchDistribution) -> Any:
    return {
        "type": "sample",
        "name": name,
        "fn": fn,
        "is_observed": False,
        "args": (),
        "kwargs": {},
        "value": None,
        "infer": {},
        "scale": 1.0,
        "mask": None,
        "cond_indep_stack": (),
        "done": False,
        "stop": False,
        "continuation": None,
    }

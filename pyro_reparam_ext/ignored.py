"""Says so where one of Pyro's own ELBOs trains a guide whose estimators it does not know."""

from __future__ import annotations

import sys
import warnings
import weakref
from types import FrameType

from pyro.infer import ELBO, SVI
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger

from .callers import outside

_told: weakref.WeakSet[SVI] = weakref.WeakSet()


def warn_where_ignored(what: str) -> None:
    """Warns, once for each ``SVI``, if a step by an ELBO of Pyro's is under way.

    It ignores what is in ``infer["estimator"]``, by default in favour of the score function. Silent
    anywhere else: in a trace, in ``Predictive``, and under ELBOs that are not Pyro's.
    """
    if not any(isinstance(m, TraceMessenger) and m.param_only for m in _PYRO_STACK):
        return
    svi = svi_in_step()
    if svi is None or svi in _told:
        return
    elbo = getattr(svi.loss, "__self__", None)
    if isinstance(elbo, ELBO) and type(elbo).loss.__module__.startswith("pyro."):
        _told.add(svi)
        warnings.warn(
            f"{what} is ignored by {type(elbo).__name__}, which takes its own gradient for every site. "
            f"Use TraceEstimator_ELBO in its place, or drop the estimators.",
            stacklevel=outside(),
        )


def svi_in_step() -> SVI | None:
    """The ``SVI`` whose step is under way, from the stack of calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is SVI.step.__code__:
            return frame.f_locals["self"]
        frame = frame.f_back
    return None

"""The estimators of an ELBO with ``estimators="auto"``, measured at its first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as distributed

from ..config import chooses
from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..evaluation.invisible import unrecorded
from ..schedule import measuring
from .elbo_call import ElboCall
from .selection import Selection, selected


@chooses
def measured_choice(
    elbo: TraceEstimator_ELBO,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
) -> Selection:
    """The selection for an ELBO with the particles that it has; nothing else is changed by it.

    Raises:
        EstimatorError: several processes would choose apart, or a transform of ``torch.func`` is
            under way, in which nothing can be measured.
    """
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise EstimatorError(
            "estimators='auto': each of several processes would measure times of its own and choose "
            "other estimators; expected the same in all. Call select_estimators in one of them, and "
            "hand what it returns to the others, as estimators=."
        )
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise EstimatorError(
            "estimators='auto': the first call was made inside of a transform of torch.func, where "
            "nothing can be measured; expected one outside. Call elbo.loss(model, guide, ...) once "
            "before."
        )
    call = ElboCall(elbo.with_others(None, elbo.num_particles), model, guide, args, kwargs)
    with unrecorded(), measuring(), torch.enable_grad():
        return selected(call, num_particles=elbo.num_particles)

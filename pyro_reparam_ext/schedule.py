"""Schedules: numbers that change with the steps of training, and count these by themselves."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import torch
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor, nn

from .contexts import Holding
from .errors import EstimatorError


class _Step:
    """Stands for one step of training; schedules only compare it."""


_current: ContextVar[_Step | None] = ContextVar("current", default=None)
_measuring: ContextVar[bool] = ContextVar("measuring", default=False)


def training_step() -> AbstractContextManager[None]:
    """Says that what runs inside is one step of training, also where no ``SVI`` does."""
    return Holding(_current, _Step())


def measuring() -> AbstractContextManager[None]:
    """Says that nothing inside is a step of training: schedules are read as they stand."""
    return Holding(_measuring, True)


def _step_under_way() -> object | None:
    """A mark of the step of training that runs now: the same object all through it.

    ``SVI.step`` records the parameters of its whole step by one trace, whatever the ELBO.
    """
    if _measuring.get():
        return None
    for messenger in _PYRO_STACK:
        if isinstance(messenger, TraceMessenger) and messenger.param_only:
            return messenger
    return _current.get()


class Schedule(nn.Module):
    """A number that depends on the steps of training before this one: the base of schedules.

    It notices by itself that a step has begun when it is read: within ``SVI.step``, by any ELBO that
    runs the programs, and within ``loss_and_grads`` of :class:`~pyro_reparam_ext.TraceEstimator_ELBO`;
    also if the step then fails. In another training loop, such as one of ``elbo(model, guide)`` and an
    optimiser of torch, call :meth:`step`. The count is a buffer, so ``state_dict`` saves and restores
    it, also as a part of a guide that is a module and has the schedule as an attribute.
    """

    steps: Tensor
    _seen: weakref.ref | None = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @abstractmethod
    def at(self, steps: Tensor) -> Tensor:
        """The number after so many steps."""

    def forward(self) -> Tensor:
        """The number now, a scalar tensor."""
        if torch._C._get_tracing_state():
            raise EstimatorError(
                f"{type(self).__name__}: a traced ELBO, such as JitTrace_ELBO, would keep the value of "
                f"its first step; expected one that runs the programs. Use Trace_ELBO or "
                f"TraceEstimator_ELBO, or a constant."
            )
        step = _step_under_way()
        if step is not None and (self._seen is None or self._seen() is not step):
            self._seen = weakref.ref(step)
            self.step()
        # The step that runs has been counted already.
        return self.at(self.steps - 1 if step is not None else self.steps)

    def step(self) -> None:
        """Advances by one step."""
        self.steps.add_(1)

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in self.__dict__.items() if name != "_seen"}


class ExponentialDecay(Schedule):
    r"""A temperature that falls from ``start`` to ``end``: :math:`\max(end, start\, e^{-rate\, t})`.

    ``t`` counts the steps of training before this one: it counts them by itself within ``SVI.step``
    and ``loss_and_grads``; in another training loop call :meth:`step`. The count is a buffer.

    Args:
        start: temperature at step 0.
        end: temperature that is never gone below, ``0 < end <= start``.
        rate: decay per step, at least 0.

    Raises:
        EstimatorError: the numbers are not ordered so; or the schedule is read by a traced ELBO, which
            would keep its first value.

    Example:
        >>> import pyro_reparam_ext as pre
        >>> temperature = pre.ExponentialDecay(start=1.0, end=0.5, rate=0.1)
        >>> for _ in range(3):
        ...     temperature.step()
        >>> temperature()
        tensor(0.7408)
    """

    def __init__(self, start: float, end: float, rate: float) -> None:
        super().__init__()
        if not (0 < end <= start < math.inf and 0 <= rate < math.inf):
            raise EstimatorError(
                f"ExponentialDecay: expected 0 < end <= start and rate >= 0, was given start={start}, "
                f"end={end}, rate={rate}."
            )
        self.start, self.end, self.rate = start, end, rate

    def at(self, steps: Tensor) -> Tensor:
        return (self.start * (-self.rate * steps).exp()).clamp(min=self.end)

    def extra_repr(self) -> str:
        return f"start={self.start}, end={self.end}, rate={self.rate}"


class LinearWarmup(Schedule):
    r"""A weight that grows to ``end`` in so many steps: :math:`end\,\min(1, (1 + t) / num\_steps)`.

    ``t`` counts the steps of training before this one: it counts them by itself within ``SVI.step``
    and ``loss_and_grads``; in another training loop call :meth:`step`. The count is a buffer.

    Args:
        num_steps: steps until it has grown.
        end: what it stays at then, above 0.

    Raises:
        EstimatorError: a number is not positive; or the schedule is read by a traced ELBO.

    Example:
        >>> import pyro_reparam_ext as pre
        >>> weight = pre.LinearWarmup(num_steps=4)
        >>> weight()
        tensor(0.2500)
        >>> for _ in range(9):
        ...     weight.step()
        >>> weight()
        tensor(1.)
    """

    def __init__(self, num_steps: int, end: float = 1.0) -> None:
        super().__init__()
        if not (num_steps > 0 and 0 < end < math.inf):
            raise EstimatorError(
                f"LinearWarmup: expected num_steps > 0 and end > 0, was given num_steps={num_steps}, "
                f"end={end}."
            )
        self.num_steps, self.end = num_steps, end

    def at(self, steps: Tensor) -> Tensor:
        return (self.end * (1 + steps) / self.num_steps).clamp(max=self.end)

    def extra_repr(self) -> str:
        return f"num_steps={self.num_steps}, end={self.end}"

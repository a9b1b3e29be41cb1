"""Temperatures: a number, a tensor, a parameter that is learned, or a schedule."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, TypeAlias

import torch
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor, nn

from .contexts import Holding
from .errors import EstimatorError
from .numerics.shapes import broadcast_shapes


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


class ExponentialDecay(nn.Module):
    r"""A temperature that falls from ``start`` to ``end``: :math:`\max(end, start\, e^{-rate\, t})`.

    ``t`` counts the steps of training before this one. The schedule notices by itself that a step has
    begun when it is read: within ``SVI.step``, by any ELBO that runs the programs, and within
    ``loss_and_grads`` of :class:`~pyro_reparam_ext.TraceEstimator_ELBO`; also if the step then fails.
    In another training loop, such as one of ``elbo(model, guide)`` and an optimiser of torch, call
    :meth:`step`. The count is a buffer, so ``state_dict`` saves and restores it, also as a part of a
    guide that is a module and has the schedule as an attribute.

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

    steps: Tensor
    _seen: weakref.ref | None = None

    def __init__(self, start: float, end: float, rate: float) -> None:
        super().__init__()
        if not (0 < end <= start < math.inf and 0 <= rate < math.inf):
            raise EstimatorError(
                f"ExponentialDecay: expected 0 < end <= start and rate >= 0, was given start={start}, "
                f"end={end}, rate={rate}."
            )
        self.start, self.end, self.rate = start, end, rate
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        """The temperature now, a scalar tensor."""
        if torch._C._get_tracing_state():
            raise EstimatorError(
                "ExponentialDecay: a traced ELBO, such as JitTrace_ELBO, would keep the temperature of "
                "its first step; expected one that runs the programs. Use Trace_ELBO or "
                "TraceEstimator_ELBO, or a constant temperature."
            )
        step = _step_under_way()
        if step is not None and (self._seen is None or self._seen() is not step):
            self._seen = weakref.ref(step)
            self.step()
        # The step that runs has been counted already.
        before = self.steps - 1 if step is not None else self.steps
        return (self.start * (-self.rate * before).exp()).clamp(min=self.end)

    def step(self) -> None:
        """Advances by one step."""
        self.steps.add_(1)

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in self.__dict__.items() if name != "_seen"}

    def extra_repr(self) -> str:
        return f"start={self.start}, end={self.end}, rate={self.rate}"


class LearnedTemperature(nn.Module):
    """Holds a temperature that the user gave as a parameter: the state that is trained.

    Should the optimiser carry it to zero or below, it reads as NaN, which the ELBO reports: a sampler
    at a negative temperature would go on in silence.
    """

    def __init__(self, temperature: nn.Parameter) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self) -> Tensor:
        return torch.where(self.temperature > 0, self.temperature, math.nan)


Temperature: TypeAlias = float | Tensor | Callable[[], Tensor]
"""A callable is asked at every run: a schedule, or a function that calls ``pyro.param``."""


def check_temperature(owner: str, temperature: Temperature) -> None:
    """Raises an :class:`~pyro_reparam_ext.EstimatorError` for what can't be a temperature."""
    if callable(temperature):
        return
    number = isinstance(temperature, (int, float, Tensor))
    if number and ((value := torch.as_tensor(temperature)) > 0).all() and value.isfinite().all():
        return
    raise EstimatorError(
        f"{owner}: temperature must be positive and finite, was given {temperature!r}; expected a "
        f"number, a tensor, a schedule, or a function that returns a tensor."
    )


def as_option(temperature: Temperature) -> Temperature:
    """The option as estimators keep it: a parameter in a module, from which it is read again."""
    if isinstance(temperature, nn.Parameter):
        return LearnedTemperature(temperature)
    return temperature


def current_value(temperature: Temperature) -> float | Tensor:
    """The current value of a temperature.

    What a function returns may be out of range: that reads as NaN, which the ELBO reports by
    :func:`fault_of`. So no value is looked at on the way.
    """
    if not callable(temperature):
        return temperature
    value = temperature()
    if isinstance(temperature, (ExponentialDecay, LearnedTemperature)):
        return value  # in range, or NaN already
    if isinstance(value, Tensor):
        return torch.where((value > 0) & (value < math.inf), value, math.nan)
    if isinstance(value, (int, float)):
        return value if 0 < value < math.inf else math.nan
    raise EstimatorError(f"the temperature is {value!r}, expected a number or a tensor.")


def fault_of(temperature: Temperature, batch_shape: torch.Size) -> str | None:
    """A fault of a temperature at a site of this shape, if any; looked for where something failed."""
    if isinstance(temperature, LearnedTemperature):
        temperature = temperature.temperature
    try:
        value = temperature() if callable(temperature) else temperature
    except Exception:  # the user's own, which is under way already
        return None
    remedy = (
        "Let its function stay above 0: ExponentialDecay(start, end, rate) does, and so does "
        "pyro.param(name, init, constraint=constraints.positive) where it is learned."
    )
    if not isinstance(value, (int, float, Tensor)):
        return f"the temperature is {value!r}, expected a positive number or tensor. {remedy}"
    tensor = torch.as_tensor(value).detach()
    if not ((tensor > 0) & (tensor < math.inf)).all():
        return f"the temperature is {tensor.tolist()}, expected positive and finite. {remedy}"
    if not _broadcasts(tensor, batch_shape):
        return (
            f"the temperature has shape {tuple(tensor.shape)}, expected one that broadcasts to the "
            f"site's, {tuple(batch_shape)}. Give one number."
        )
    return None


def _broadcasts(temperature: Tensor, batch_shape: torch.Size) -> bool:
    try:
        shape = broadcast_shapes(temperature.shape, batch_shape)
    except RuntimeError:
        return False
    return temperature.numel() == 1 or shape == batch_shape


def state_of(temperature: Temperature) -> nn.Module | None:
    """The module by which a learned temperature reaches the optimiser."""
    return temperature if isinstance(temperature, LearnedTemperature) else None

"""Temperatures: a number, a tensor, a parameter that is learned, or a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .errors import EstimatorError
from .numerics.shapes import broadcast_shapes
from .schedule import Schedule


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


def check_temperature(owner: str, temperature: Temperature | None) -> None:
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


def refuse_parameter(owner: str, name: str, temperature: Temperature) -> None:
    """Raises an :class:`~pyro_reparam_ext.EstimatorError` where a temperature can't be learned."""
    if isinstance(temperature, nn.Parameter):
        raise EstimatorError(
            f"{owner}: {name} can't be learned, since no gradient reaches it, was given a parameter; "
            f"expected a number, a tensor, or a schedule such as ExponentialDecay."
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
    if isinstance(temperature, (Schedule, LearnedTemperature)):
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

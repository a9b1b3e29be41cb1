"""Temperatures: a number, a tensor, a parameter that is learned, or a schedule."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..errors import EstimatorError


class ExponentialDecay(nn.Module):
    r"""A temperature that falls from ``start`` to ``end``: :math:`\max(end, start\, e^{-rate\, t})`.

    ``t`` counts calls of :meth:`step`. An ELBO steps the schedules of its estimators once after each
    ``loss_and_grads``, that is once per ``SVI.step``; in a training loop of your own call ``step()``.
    ``t`` is a buffer, so ``state_dict`` saves and restores it.

    Args:
        start: temperature at step 0.
        end: temperature that is never gone below, ``0 < end <= start``.
        rate: decay per step, at least 0.

    Raises:
        EstimatorError: the numbers are not ordered so.

    Example:
        >>> import pyro_reparam_ext as pre
        >>> temperature = pre.ExponentialDecay(start=1.0, end=0.5, rate=0.1)
        >>> for _ in range(3):
        ...     temperature.step()
        >>> temperature()
        tensor(0.7408)
    """

    steps: Tensor

    def __init__(self, start: float, end: float, rate: float) -> None:
        super().__init__()
        if not (0 < end <= start and rate >= 0):
            raise EstimatorError(
                f"ExponentialDecay: expected 0 < end <= start and rate >= 0, was given start={start}, "
                f"end={end}, rate={rate}."
            )
        self.start, self.end, self.rate = start, end, rate
        self.register_buffer("steps", torch.zeros(()))

    def forward(self) -> Tensor:
        """The temperature now, a scalar tensor."""
        return (self.start * (-self.rate * self.steps).exp()).clamp(min=self.end)

    def step(self) -> None:
        """Advances by one step."""
        self.steps = self.steps + 1

    def extra_repr(self) -> str:
        return f"start={self.start}, end={self.end}, rate={self.rate}"


class LearnedTemperature(nn.Module):
    """Holds a temperature that the user gave as a parameter: the state that is trained."""

    def __init__(self, temperature: nn.Parameter) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self) -> Tensor:
        return self.temperature


Temperature: TypeAlias = float | Tensor | ExponentialDecay | LearnedTemperature


def held(temperature: Temperature) -> Temperature:
    """The option as estimators keep it: a parameter in a module, from which it is read again."""
    if isinstance(temperature, nn.Parameter):
        return LearnedTemperature(temperature)
    return temperature


def now(temperature: Temperature) -> float | Tensor:
    """The current value of a temperature."""
    return temperature() if isinstance(temperature, nn.Module) else temperature


def state_of(temperature: Temperature) -> nn.Module | None:
    """The module by which a learned temperature reaches the optimiser."""
    return temperature if isinstance(temperature, LearnedTemperature) else None

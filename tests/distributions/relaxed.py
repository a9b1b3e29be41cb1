"""Entries of relaxed and discrete distributions, which test_relaxed_contract.py tests, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .entry import Entry


@dataclass(frozen=True, kw_only=True)
class Relaxed(Entry):
    """A distribution of a temperature and logits.

    - ``make(temperature, logits, **options)``; distributions without temperature ignore it;
    - ``choices(**parameters)``: all hard values, and the probability that a draw is nearest to each;
    - ``event``: the shape of the logits of one draw;
    - ``large``: the event shape of the test at scale;
    - ``parameters``: the names under which the constructor validates its arguments;
    - ``log_prob``: False if there is no tractable one.
    """

    choices: Callable[..., tuple[Tensor, Tensor]]
    event: tuple[int, ...]
    large: tuple[int, ...]
    parameters: tuple[str, ...] = ("temperature", "logits")
    log_prob: bool = True

    def at_temperature(
        self, temperature: float, dtype: torch.dtype = torch.float64, **options: Any
    ) -> Any:
        """At the parameters of :func:`logits_of`."""
        return self.make(
            torch.tensor(temperature, dtype=dtype), logits_of(self.event, dtype), **options
        )


def logits_of(event: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    count = torch.Size(event).numel()
    return (torch.arange(count, dtype=dtype) * 1.7).sin().reshape(event)

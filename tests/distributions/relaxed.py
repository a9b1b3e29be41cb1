"""Every relaxed or discrete distribution, for the contract of test_relaxed_contract.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

import pyro_reparam_ext as pre


@dataclass(frozen=True)
class Relaxed:
    """A distribution and how it is made.

    - ``make(temperature, logits, **options)``; distributions without temperature ignore it;
    - ``event``: the shape of the logits of one draw;
    - ``large``: the event shape of the test at scale;
    - ``parameters``: the names under which the constructor validates its arguments;
    - ``log_prob``: None if there is no tractable one;
    - ``hard``: whether its values are discrete;
    - ``no_bijection``: torch knows none from the real line to the support.
    """

    make: Callable[..., TorchDistribution]
    event: tuple[int, ...]
    large: tuple[int, ...]
    parameters: tuple[str, ...] = ("temperature", "logits")
    log_prob: bool = True
    hard: bool = False
    no_bijection: bool = False

    def at(self, temperature: float, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
        """At the parameters of :func:`logits_of`."""
        return self.make(
            torch.tensor(temperature, dtype=dtype), logits_of(self.event, dtype), **options
        )


def logits_of(event: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    count = torch.Size(event).numel()
    return (torch.arange(count, dtype=dtype) * 1.7).sin().reshape(event)


# One line or more for each public distribution; a second entry of a class adds a suffix after a hyphen.
RELAXED: dict[str, Relaxed] = {
    "RelaxedBernoulli": Relaxed(
        lambda temperature, logits, **options: _of("RelaxedBernoulli")(
            temperature, logits=logits, **options
        ),
        event=(),
        large=(1000,),
    ),
    "RelaxedBernoulli-discrete": Relaxed(
        lambda temperature, logits, **options: _of("RelaxedBernoulli")(
            temperature, logits=logits, score="discrete", **options
        ),
        event=(),
        large=(1000,),
    ),
    "RelaxedOneHotCategorical": Relaxed(
        lambda temperature, logits, **options: _of("RelaxedOneHotCategorical")(
            temperature, logits=logits, **options
        ),
        event=(5,),
        large=(1000,),
    ),
    "RelaxedOneHotCategorical-discrete": Relaxed(
        lambda temperature, logits, **options: _of("RelaxedOneHotCategorical")(
            temperature, logits=logits, score="discrete", **options
        ),
        event=(5,),
        large=(1000,),
    ),
    "StraightThroughBernoulli": Relaxed(
        lambda temperature, logits, **options: _of("StraightThroughBernoulli")(
            temperature, logits=logits, **options
        ),
        event=(),
        large=(1000,),
        hard=True,
    ),
    "StraightThroughOneHotCategorical": Relaxed(
        lambda temperature, logits, **options: _of("StraightThroughOneHotCategorical")(
            temperature, logits=logits, **options
        ),
        event=(5,),
        large=(1000,),
        hard=True,
    ),
    "InvertibleGaussian": Relaxed(
        lambda temperature, logits, **options: _of("InvertibleGaussian")(
            temperature, logits, torch.ones_like(logits), **options
        ),
        event=(5,),
        large=(1000,),
        parameters=("temperature", "loc"),
    ),
    "HardConcrete": Relaxed(
        lambda temperature, logits, **options: _of("HardConcrete")(
            temperature, logits=logits, **options
        ),
        event=(),
        large=(1000,),
    ),
    "GumbelSinkhorn": Relaxed(
        lambda temperature, logits, **options: _of("GumbelSinkhorn")(temperature, logits, **options),
        event=(3, 3),
        large=(30, 30),
        log_prob=False,
        no_bijection=True,
    ),
    "PlackettLuce": Relaxed(
        lambda temperature, logits, **options: _of("PlackettLuce")(logits, **options),
        event=(4,),
        large=(100,),
        parameters=("logits",),
        hard=True,
        no_bijection=True,
    ),
    "PlackettLuce-relaxed": Relaxed(
        lambda temperature, logits, **options: _of("PlackettLuce")(logits, temperature, **options),
        event=(4,),
        large=(100,),
        no_bijection=True,
    ),
    "RelaxedSubset": Relaxed(
        lambda temperature, logits, **options: _of("RelaxedSubset")(
            temperature, logits, _subset_size(logits), **options
        ),
        event=(5,),
        large=(1000,),
        no_bijection=True,
    ),
    "RelaxedSubset-straight-through": Relaxed(
        lambda temperature, logits, **options: _of("RelaxedSubset")(
            temperature, logits, _subset_size(logits), straight_through=True, **options
        ),
        event=(5,),
        large=(1000,),
        hard=True,
        no_bijection=True,
    ),
}

BY_CLASS = {name.split("-")[0] for name in RELAXED}


def _subset_size(logits: Tensor) -> int:
    return 2 if logits.shape[-1] < 100 else 20


def _of(name: str) -> Any:
    return getattr(pre.distributions, name)

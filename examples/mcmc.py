"""What the examples compare a fit with: NUTS, and the CPU time that each of them takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size
from torch import Tensor


def cpu_seconds() -> float:
    """Of this process and of those it has waited for, such as a compiler."""
    return sum(os.times()[:4])


@dataclass(frozen=True)
class Chain:
    """Samples of each latent site, of shape ``(samples, *shape)``, and what they took."""

    samples: dict[str, Tensor]
    seconds: float
    divergent: int

    @property
    def least_ess(self) -> float:
        """The least effective sample size of a coordinate."""
        sizes = (effective_sample_size(x[None], 0, 1) for x in self.samples.values())
        return min(x.min().item() for x in sizes)


def nuts(model: Callable[..., Any], *args: Any, warmup: int, samples: int, seed: int) -> Chain:
    """One chain of NUTS; discrete sites have to be marked for enumeration, and are summed over."""
    pyro.set_rng_seed(seed)
    start = cpu_seconds()
    mcmc = MCMC(NUTS(model), samples, warmup_steps=warmup, disable_progbar=not sys.stderr.isatty())
    mcmc.run(*args)
    divergent = sum(map(len, mcmc.diagnostics()["divergences"].values()))
    return Chain(mcmc.get_samples(), cpu_seconds() - start, divergent)

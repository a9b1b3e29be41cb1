"""One gradient of a chain of Bernoulli sites, at 80 sites against 40, ours and Pyro's."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceGraph_ELBO
from torch import Tensor

import pyro_reparam_ext as pre

from .timing import Row, compare

SITES = 40


class Chain:
    """Each of ``sites`` Bernoulli values depends on the one before; each is seen through noise."""

    def __init__(self, sites: int) -> None:
        self.sites = sites

    def states(self, probs: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        values = [torch.zeros(())]
        for t in range(self.sites):
            values.append(pyro.sample(f"z{t}", dist.Bernoulli(probs(t, values[-1]))))
        return values[1:]

    def guide(self) -> None:
        logits = pyro.param(f"logits_{self.sites}", torch.zeros(self.sites))
        self.states(lambda t, before: (logits[t] + before).sigmoid())

    def model(self) -> None:
        for t, state in enumerate(self.states(lambda t, before: 0.3 + 0.4 * before)):
            pyro.sample(f"x{t}", dist.Normal(state, 1.0), obs=torch.ones(()))


def elbos() -> dict[str, tuple[Callable[[], ELBO], float | None]]:
    """How each is made, and the bound on the ratio of its times."""
    ours = pre.TraceEstimator_ELBO
    return {
        "default": (ours, 2.6),
        "LeaveOneOut, 2 particles": (lambda: ours(pre.LeaveOneOut(), num_particles=2), 2.6),
        "LeaveOneOut, 16 particles": (lambda: ours(pre.LeaveOneOut(), num_particles=16), 2.6),
        "DisARM": (lambda: ours(pre.DisARM()), 2.6),
        "LocalExpectation": (lambda: ours(pre.LocalExpectation()), None),
        "REBAR": (lambda: ours(pre.REBAR()), None),
        "Pyro's TraceGraph_ELBO": (TraceGraph_ELBO, None),
        "Pyro's Trace_ELBO": (Trace_ELBO, None),
    }


def run(quick: bool = False) -> list[Row]:
    return [
        compare(
            f"chain of {2 * SITES} / {SITES} sites",
            name,
            gradient(make(), Chain(2 * SITES)),
            gradient(make(), Chain(SITES)),
            repetitions=2 if quick else 15,
            calls=1,
            at_most=at_most,
        )
        for name, (make, at_most) in elbos().items()
    ]


def gradient(elbo: ELBO, chain: Chain) -> Callable[[], float]:
    return lambda: elbo.loss_and_grads(chain.model, chain.guide)

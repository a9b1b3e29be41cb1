"""The chest clinic of Lauritzen and Spiegelhalter (1988) as a Pyro model, and two guides of it."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor

Evidence = dict[str, Tensor]
Program = Callable[[Evidence, int], None]

NODES = ("asia", "smoking", "tuberculosis", "lung_cancer", "bronchitis", "xray", "dyspnoea")
"""In the order of the network."""


def table(*probabilities: float) -> Tensor:
    """One dim of size 2 (no, yes) per parent."""
    parents = len(probabilities).bit_length() - 1
    return torch.tensor(probabilities, dtype=torch.float64).reshape((2,) * parents)


def lookup(table: Tensor, *parents: Tensor) -> Tensor:
    """The entry of a table at binary parents; between them, for relaxed ones, linear in each."""
    if not parents:
        return table
    no, yes = (lookup(row, *parents[1:]) for row in table)
    return no + parents[0] * (yes - no)


def model(evidence: Evidence, runs: int = 1) -> None:
    """The network; ``runs`` copies of it in a plate, for so many independent runs of SVI at once."""

    def node(name: str, probs: Tensor, *parents: Tensor) -> Tensor:
        return pyro.sample(name, dist.Bernoulli(lookup(probs, *parents)), obs=evidence.get(name))

    with pyro.plate("runs", runs):
        asia = node("asia", table(0.01))
        smoking = node("smoking", table(0.5))
        tuberculosis = node("tuberculosis", table(0.01, 0.05), asia)
        lung_cancer = node("lung_cancer", table(0.01, 0.1), smoking)
        bronchitis = node("bronchitis", table(0.3, 0.6), smoking)
        either = lookup(table(0, 1, 1, 1), tuberculosis, lung_cancer)  # certain, so not a site
        node("xray", table(0.05, 0.98), either)
        node("dyspnoea", table(0.1, 0.8, 0.7, 0.9), either, bronchitis)


def autoregressive(evidence: Evidence, runs: int = 1) -> None:
    """Every node given all before it: the exact posterior is one of these."""
    values: list[Tensor] = []
    with pyro.plate("runs", runs):
        for name in latents(evidence):
            shape = (2,) * len(values) + (runs,)
            logits = pyro.param(f"{name}_logits", torch.zeros(shape, dtype=torch.float64))
            values.append(pyro.sample(name, dist.Bernoulli(logits=lookup(logits, *values))))


def mean_field(evidence: Evidence, runs: int = 1) -> None:
    """Independent nodes."""
    with pyro.plate("runs", runs):
        for name in latents(evidence):
            logits = pyro.param(f"{name}_logits", torch.zeros(runs, dtype=torch.float64))
            pyro.sample(name, dist.Bernoulli(logits=logits))


def latents(evidence: Evidence) -> list[str]:
    return [name for name in NODES if name not in evidence]


GUIDES = {"autoregressive": autoregressive, "mean-field": mean_field}


def exact(program: Program, evidence: Evidence, runs: int = 1) -> tuple[float, dict[str, Tensor]]:
    """Log evidence and posterior marginals of a program, by Pyro's variable elimination."""

    elbo, program = TraceEnum_ELBO(max_plate_nesting=1), config_enumerate(program)
    copies = max(runs, 2)  # TraceEnum_ELBO can't tell a plate of one from none
    with torch.no_grad():
        log_evidence = -elbo.loss(program, nothing, evidence, copies) / copies
        marginals = elbo.compute_marginals(program, nothing, evidence, copies)
    names = latents(evidence)
    return log_evidence, {name: marginals[name].probs.expand(copies)[:runs] for name in names}


def nothing(evidence: Evidence, runs: int) -> None:
    """The guide where all is enumerated."""

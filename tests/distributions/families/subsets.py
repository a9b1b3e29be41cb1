"""Subsets of one size: their law by enumeration."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

import pyro_reparam_ext as pre

from ..entry import grid
from ..oracle import Joint
from ..relaxed import Relaxed

NO_RSAMPLE = {
    test: "subsets have no pathwise gradient"
    for test in ("test_gradient_of_an_expectation", "test_finite_at_the_extremes", "test_vmap")
}
COMPILED = {"test_compiles_into_one_graph": "in test_relaxed_contract.py"}


def pairs(logits: Tensor, temperature: Any = None) -> tuple[Tensor, Tensor]:
    """All subsets of two items, and their probabilities: the product of the odds, normalised."""
    items = list(combinations(range(len(logits)), 2))
    values = torch.stack([torch.eye(len(logits)).double()[list(pair)].sum(0) for pair in items])
    weights = torch.stack([logits[list(pair)].exp().prod() for pair in items])
    return values, weights / weights.sum()


def pair_score(value: Tensor, logits: Tensor, temperature: Any = None) -> Tensor:
    values, probs = pairs(logits)
    return (value.unsqueeze(-2) == values).all(-1).double() @ probs.log()


def pair_marginals(logits: Tensor, temperature: Any = None) -> Tensor:
    values, probs = pairs(logits)
    return probs @ values


ENTRIES = (
    Relaxed(
        "ConditionalBernoulli",
        lambda temperature=None, logits=None, **options: pre.distributions.ConditionalBernoulli(
            2, logits=logits, **options
        ),
        points=grid(logits=([0.6, -0.5, 0.2, 1.1], [3.0, 0.0, -1.0, 0.5])),
        extremes=grid(logits=([-30.0, 30.0, 0.0, 0.0],)),
        oracle=Joint(pair_score, lambda z: z, pair_marginals),
        sampler="recursion over items",
        exempt=COMPILED | NO_RSAMPLE,
        choices=pairs,
        event=(4,),
        large=(100,),
        parameters=("logits",),
        hard=True,
        no_bijection=True,
    ),
)

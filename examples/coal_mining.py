"""Disasters in British coal mines, a model with one change of their rate, and its exact posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.poutine import condition, trace
from torch import Tensor
from torch.distributions import constraints

import pyro_reparam_ext as pre

Program = Callable[[Tensor], None]

FIRST_YEAR = 1851
DISASTERS = torch.tensor(
    [
        *(4, 5, 4, 1, 0, 4, 3, 4, 0, 6, 3, 3, 4, 0, 2, 6, 3, 3, 5, 4, 5, 3, 1, 4, 4, 1, 5, 5, 3, 4),
        *(2, 5, 2, 2, 3, 4, 2, 1, 3, 2, 2, 1, 1, 1, 1, 3, 0, 0, 1, 0, 1, 1, 0, 0, 3, 1, 0, 3, 2, 2),
        *(0, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 1, 1, 0, 2, 3, 3, 1, 1, 2, 1, 1, 1, 1, 2),
        *(3, 3, 0, 0, 0, 1, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1),
    ],
    dtype=torch.float64,
)
"""Explosions that killed ten or more, in each year from 1851 to 1962: 191 of them (Jarrett, 1979)."""

ONE = torch.ones((), dtype=torch.float64)
RATES = ("early", "late")


def model(counts: Tensor) -> None:
    """``early`` disasters a year before the ``switch``, ``late`` ones from it on."""
    years = torch.arange(len(counts))
    switch = pyro.sample("switch", dist.Categorical(torch.ones_like(counts)))
    early, late = (pyro.sample(name, dist.Gamma(ONE, ONE)) for name in RATES)
    with pyro.plate("years", len(counts)):
        rate = torch.where(years < switch, early, late)
        pyro.sample("disasters", dist.Poisson(rate), obs=counts)


def switch_of_guide(counts: Tensor) -> Tensor:
    """The year, with a logit of its own for each."""
    logits = pyro.param("logits", torch.zeros_like(counts))
    return pyro.sample("switch", dist.Categorical(logits=logits))


def mean_field(counts: Tensor) -> None:
    """Year and rates are independent."""
    switch_of_guide(counts)
    for name in RATES:
        mean = pyro.param(f"{name}_mean", ONE, constraint=constraints.positive)
        shape = pyro.param(f"{name}_shape", ONE, constraint=constraints.positive)
        pyro.sample(name, pre.distributions.Gamma(shape, shape / mean))


def structured(counts: Tensor) -> None:
    """Rates given the year, with a mean and a shape for each: the posterior is one of these."""
    switch = switch_of_guide(counts)
    for name in RATES:
        ones = torch.ones_like(counts)
        mean = pyro.param(f"{name}_means", ones, constraint=constraints.positive)[switch]
        shape = pyro.param(f"{name}_shapes", ones, constraint=constraints.positive)[switch]
        pyro.sample(name, pre.distributions.Gamma(shape, shape / mean))


GUIDES: dict[str, Program] = {"mean-field": mean_field, "structured": structured}


def conditionals(counts: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Shape and rate of the Gamma posterior of each rate, given each year."""
    before = counts.cumsum(0) - counts
    years = torch.arange(len(counts), dtype=counts.dtype)
    early, late = (before, years), (counts.sum() - before, len(counts) - years)
    return {
        name: (1 + events, 1 + exposure)
        for name, (events, exposure) in zip(RATES, (early, late), strict=True)
    }


@dataclass(frozen=True)
class Law:
    """A law of year and rates: probabilities of years, and Gamma laws of the rates given each year.

    ``shape`` and ``rate``: of each rate, one number for every year.
    """

    probs: Tensor
    shape: dict[str, Tensor]
    rate: dict[str, Tensor]

    def moments(self) -> pd.DataFrame:
        """Mean and sd of the year and of both rates, and the correlation of each rate with the year."""
        years = torch.arange(len(self.probs), dtype=self.probs.dtype)
        means = {"switch": years, **{k: self.shape[k] / self.rate[k] for k in RATES}}
        inner = {"switch": 0 * years, **{k: self.shape[k] / self.rate[k] ** 2 for k in RATES}}
        rows = {}
        for name, given in means.items():
            mean = self.probs @ given
            sd = (self.probs @ (inner[name] + (given - mean) ** 2)).sqrt()
            together = self.probs @ ((years - self.probs @ years) * (given - mean))
            rows[name] = {"mean": mean.item(), "sd": sd.item(), "with year": together.item()}
        frame = pd.DataFrame(rows).T
        frame["with year"] /= frame["sd"] * frame.loc["switch", "sd"]
        return frame


def exact(counts: Tensor) -> tuple[float, Law]:
    """Log evidence and posterior: a sum over the years."""
    given = conditionals(counts)
    shape, rate = ({name: laws[i] for name, laws in given.items()} for i in range(2))
    joint = sum(shape[k].lgamma() - shape[k] * rate[k].log() for k in RATES)
    joint = joint - (counts + 1).lgamma().sum() - math.log(len(counts))
    return joint.logsumexp(0).item(), Law(joint.softmax(0), shape, rate)


def law_of(guide: Program, counts: Tensor) -> Law:
    """What a guide has learned, from its distributions at every year."""
    years = torch.arange(len(counts))
    with torch.no_grad():
        sites = trace(condition(guide, {"switch": years})).get_trace(counts).nodes
    laws = {name: sites[name]["fn"] for name in RATES}
    return Law(
        sites["switch"]["fn"].probs.detach(),
        {name: fn.concentration.expand(len(counts)) for name, fn in laws.items()},
        {name: fn.rate.expand(len(counts)) for name, fn in laws.items()},
    )


def divergence(law: Law, counts: Tensor) -> float:
    """KL(law || posterior) in nats: between years, and between Gamma laws given each year."""
    posterior = exact(counts)[1]
    given = sum(
        torch.distributions.kl_divergence(
            torch.distributions.Gamma(law.shape[name], law.rate[name]),
            torch.distributions.Gamma(posterior.shape[name], posterior.rate[name]),
        )
        for name in RATES
    )
    years = torch.special.xlogy(law.probs, law.probs) - torch.xlogy(law.probs, posterior.probs)
    return (years + law.probs * given).sum().item()


def best_mean_field(counts: Tensor, rounds: int = 300) -> Law:
    """The independent year and rates nearest to the posterior: coordinate ascent, in closed form."""
    given = conditionals(counts)
    probs = torch.full_like(counts, 1 / len(counts))
    for _ in range(rounds):
        shape, rate = ({name: probs @ laws[i] for name, laws in given.items()} for i in range(2))
        mean = {name: shape[name] / rate[name] for name in RATES}
        log = {name: shape[name].digamma() - rate[name].log() for name in RATES}
        logits = sum(given[k][0] * log[k] - given[k][1] * mean[k] for k in RATES)
        probs = logits.softmax(0)
    return Law(probs, *({k: x.expand(len(counts)) for k, x in v.items()} for v in (shape, rate)))


def switch_given(counts: Tensor, early: Tensor, late: Tensor) -> Tensor:
    """Probabilities of the years given rates of shape ``(samples,)``, of shape ``(samples, years)``."""
    logits = 0
    for rate, (shape, exposure) in zip((early, late), conditionals(counts).values(), strict=True):
        logits = logits + shape * rate.log()[:, None] - exposure * rate[:, None]
    return logits.softmax(-1)

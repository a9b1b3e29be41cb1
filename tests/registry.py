"""Every public estimator: how it is made, which distributions it serves, what it needs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator
from pyro_reparam_ext.evaluation.at_once import is_at_once

from .families import BERNOULLI, BINOMIAL, CATEGORICAL, DTYPE, FAMILIES, ONE_HOT, SUBSET, Family
from .layouts import LAYOUTS, Layout


class ConstantBaseline(nn.Module):
    """A baseline that needs no input."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(2.0, dtype=DTYPE))

    def forward(self, *_: Tensor) -> Tensor:
        return self.level


@dataclass(frozen=True)
class Entry:
    """One configuration of an estimator."""

    make: Callable[[], Estimator]
    families: tuple[str, ...]
    exact: bool = False
    """Whether the gradient of a program of these sites alone has no variance."""

    @property
    def num_particles(self) -> int:
        """As few as it takes."""
        return self.make().min_particles

    @property
    def inside_only(self) -> bool:
        """Whether all costs have to lie in the plates of the sites that they depend on."""
        return is_at_once(self.make())


EVERY = tuple(FAMILIES)
SOME = ("Bernoulli-event", "Categorical-event", "Normal")
DISCRETE = BERNOULLI + ONE_HOT + CATEGORICAL + BINOMIAL
RELAXABLE = BERNOULLI + ONE_HOT
COUNTED = ("Poisson", "Binomial-event", "Normal", *BERNOULLI, *CATEGORICAL)
"""Those with a weak derivative, as far as there are families of them."""
DECIDED = BERNOULLI + ONE_HOT + CATEGORICAL

REGISTRY: dict[str, Entry] = {
    "Pathwise": Entry(pre.Pathwise, ("Normal",)),
    "AnalyticKL": Entry(pre.AnalyticKL, ("Normal",)),
    "StickingTheLanding": Entry(pre.StickingTheLanding, ("Normal",)),
    "TaylorControlVariate": Entry(pre.TaylorControlVariate, ("Normal",)),
    # Without a snapshot, as a model with parameters has none; with one in tests of its own.
    "JointControlVariate": Entry(pre.JointControlVariate, ("Normal",)),
    "ScoreFunction": Entry(pre.ScoreFunction, EVERY),
    "ScoreFunction-ema": Entry(lambda: pre.ScoreFunction("ema"), SOME),
    "ScoreFunction-network": Entry(lambda: pre.ScoreFunction(ConstantBaseline()), SOME),
    "LeaveOneOut": Entry(pre.LeaveOneOut, EVERY),
    "LeaveOneOut-shrinkage": Entry(lambda: pre.LeaveOneOut(shrinkage=True), EVERY),
    "ARM": Entry(pre.ARM, DECIDED),
    "ARMS": Entry(pre.ARMS, DECIDED),
    "DisARM": Entry(pre.DisARM, DECIDED),
    "DisARM-2": Entry(lambda: pre.DisARM(num_pairs=2), DECIDED),
    "REBAR": Entry(pre.REBAR, RELAXABLE),
    "RELAX": Entry(pre.RELAX, RELAXABLE),
    "MuProp": Entry(pre.MuProp, RELAXABLE),
    "DoubleCV": Entry(pre.DoubleCV, RELAXABLE),
    "RODEO": Entry(pre.RODEO, RELAXABLE),
    "LocalExpectation": Entry(pre.LocalExpectation, DISCRETE),
    "LocalExpectation-2": Entry(lambda: pre.LocalExpectation(max_evaluations=2), DISCRETE),
    "BitFlip": Entry(pre.BitFlip, BERNOULLI),
    "BitFlip-2": Entry(lambda: pre.BitFlip(num_flips=2), BERNOULLI),
    "MeasureValued": Entry(pre.MeasureValued, COUNTED),
    "GaussHermite": Entry(pre.GaussHermite, ("Normal",)),
    "Enumeration": Entry(pre.Enumeration, DISCRETE + SUBSET, exact=True),
    "Stratified": Entry(pre.Stratified, ("Mixture",)),
    "UnorderedSet": Entry(pre.UnorderedSet, ONE_HOT + CATEGORICAL + SUBSET),
    "Combine": Entry(lambda: pre.Combine([pre.DisARM(), pre.LeaveOneOut()]), DECIDED),
    "Combine-slopes": Entry(
        lambda: pre.Combine([pre.REBAR(), pre.DoubleCV(), pre.ScoreFunction("ema")]), RELAXABLE
    ),
    "Combine-pathwise": Entry(
        lambda: pre.Combine([pre.Pathwise(), pre.StickingTheLanding()]), ("Normal",)
    ),
    "GumbelSoftmax-relaxed": Entry(lambda: pre.GumbelSoftmax(0.5), RELAXABLE),
    "GumbelSoftmax-discrete": Entry(lambda: pre.GumbelSoftmax(0.5, "discrete"), RELAXABLE),
    "StraightThrough": Entry(pre.StraightThrough, RELAXABLE),
    "StraightThroughGumbelSoftmax": Entry(lambda: pre.StraightThroughGumbelSoftmax(0.5), RELAXABLE),
    "GumbelRao": Entry(lambda: pre.GumbelRao(0.5, num_samples=3), RELAXABLE),
    "GappedStraightThrough": Entry(lambda: pre.GappedStraightThrough(0.5), RELAXABLE),
    "ReinMax": Entry(pre.ReinMax, RELAXABLE),
    "DecoupledStraightThrough": Entry(lambda: pre.DecoupledStraightThrough(1.0, 2.0), RELAXABLE),
    "SIMPLE": Entry(pre.SIMPLE, SUBSET),
}


def unbiased() -> list[str]:
    return [label for label, entry in REGISTRY.items() if entry.make().unbiased]


def cases() -> list[tuple[str, str, str]]:
    """All (label, family, layout) at which an unbiased estimator is tested.

    Every layout, and every family that it serves, once: in another order for each estimator.
    """
    found = []
    for turn, label in enumerate(unbiased()):
        entry = REGISTRY[label]
        layouts = [x for x in LAYOUTS if LAYOUTS[x].inside or not entry.inside_only]
        for number in range(max(len(layouts), len(entry.families))):
            family = entry.families[(turn + number) % len(entry.families)]
            found.append((label, family, layouts[number % len(layouts)]))
    return found


def layout_of(layout: str, family: str | Family) -> Layout:
    return LAYOUTS[layout](FAMILIES[family] if isinstance(family, str) else family)

"""The z-score of a bias: how often it is beyond 4 where there is none, and where there is one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from pyro_reparam_ext.study.bias import SIGNIFICANT, bias
from pyro_reparam_ext.study.moments import Moments, reference_of

from ..slow import one_in
from ..statistics import assert_p

SIZES = {100: 100, 300: 50, 1000: 20, 3000: 6, 10_000: 3}
"""Draws of a gradient, and how often a program is measured with so many."""
CLASSES, UNITS = 300, 50


@dataclass(frozen=True, eq=False)
class Source:
    """Draws of a gradient, and its exact value."""

    exact: Tensor
    draw: Callable[[int], Tensor]

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Source":
        return Source(self.exact, lambda count: change(self.draw(count)))


def softmax(cost: Tensor, probs: Tensor, leave_one_out: bool = False) -> Source:
    """One site of many classes, in its logits."""

    def score(z: Tensor, coefficient: Tensor) -> Tensor:
        gradient = -coefficient[:, None] * probs
        gradient[torch.arange(len(z)), z] += coefficient
        return gradient

    def draw(count: int) -> Tensor:
        z = torch.multinomial(probs, count, replacement=True)
        if not leave_one_out:
            return score(z, cost[z])
        other = torch.multinomial(probs, count, replacement=True)
        half = (cost[z] - cost[other]) / 2
        return score(z, half) + score(other, -half)

    return Source(probs * (cost - (probs * cost).sum()), draw)


def units(probs: Tensor) -> Source:
    """The score function of Bernoulli units under a square cost, in their logits."""
    weights = torch.linspace(-1.5, 2.0, UNITS, dtype=torch.float64)

    def draw(count: int) -> Tensor:
        z = (torch.rand(count, UNITS, dtype=torch.float64) < probs).double()
        return ((z @ weights) - 1).square()[:, None] * (z - probs)

    others = (weights * probs).sum() - weights * probs - 1
    return Source(probs * (1 - probs) * (weights.square() + 2 * weights * others), draw)


def independent(mean: float, draw: Callable[[int], Tensor]) -> Source:
    return Source(torch.full((UNITS,), mean, dtype=torch.float64), draw)


def _normal(count: int) -> Tensor:
    return torch.randn(count, UNITS, dtype=torch.float64)


RISING = torch.linspace(-20, 20, CLASSES, dtype=torch.float64)
SHUFFLED = RISING[torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0))]
EVEN = torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64)
ZIPF = 1 / torch.arange(1, CLASSES + 1, dtype=torch.float64)
ZIPF /= ZIPF.sum()
UNBIASED = {
    "even classes": softmax(RISING, EVEN),
    "even classes, leave one out": softmax(RISING, EVEN, leave_one_out=True),
    "rare classes": softmax(SHUFFLED, ZIPF),
    "rare classes, leave one out": softmax(SHUFFLED, ZIPF, leave_one_out=True),
    "units of all rates": units(torch.logspace(-4, math.log10(0.5), UNITS, dtype=torch.float64)),
    "rare units": units(torch.full((UNITS,), 1e-3, dtype=torch.float64)),
    "heavy tails": independent(math.exp(0.5), lambda count: _normal(count).exp()),
    "heavier tails": independent(math.exp(2.0), lambda count: (2 * _normal(count)).exp()),
    "normal": independent(1.0, lambda count: 1 + _normal(count)),
}


def exactly(source: Source, direction: dict[str, Tensor]) -> Moments:
    moments = Moments(direction)
    moments.add({"w": source.exact[None]})
    return moments


def z_score(source: Source, num_draws: int, *, estimated: bool = False) -> float:
    """Against the exact gradient, or against another study of the same size and with a pilot run."""
    direction = {"w": source.draw(100).mean(0) if estimated else source.exact}
    mine, other = Moments(direction), Moments(direction)
    for part in source.draw(num_draws).split(700):
        mine.add({"w": part})
    other.add({"w": source.draw(num_draws)} if estimated else {"w": source.exact[None]})
    return bias(mine, reference_of([other], ["w"]), ["w"])[1]


@pytest.mark.parametrize("estimated", [False, True], ids=["exact reference", "estimated reference"])
@pytest.mark.parametrize("name", one_in(3, UNBIASED))
def test_unbiased_draws_pass_no_more_often_than_stated(name, estimated):
    """Rates at 2, 3 and 4, which a normal z-score passes in 5 %, .3 % and .006 % of studies."""
    source = UNBIASED[name]
    scores = [
        z_score(source, draws, estimated=estimated)
        for draws, studies in SIZES.items()
        for _ in range(studies // (1 + estimated))
    ]
    scores = np.array(scores)
    assert np.isfinite(scores).mean() > 0.95  # unknown where no unit was ever active
    for threshold in (2, 3, SIGNIFICANT):
        passed = int((scores > threshold).sum())
        rate = 2 * stats.norm.sf(threshold)
        assert_p(stats.binomtest(passed, len(scores), rate, "greater").pvalue, threshold)
    # Of 100 draws a rare unit may be the only active one, and its cost less than that of another.
    assert passed == 0 or name == "rare units"


@pytest.mark.parametrize("draws", [10, 1000])
def test_normal_draws_are_hardly_more_cautious_than_they_must_be(draws):
    """A t-test alone would pass 2 in 5 % of studies; from 100 draws on this one does so, too, now and
    then: it is no mere refusal."""
    direction = {"w": torch.ones(UNITS, dtype=torch.float64)}
    zero = Source(torch.zeros(UNITS, dtype=torch.float64), _normal)
    reference = reference_of([exactly(zero, direction)], ["w"])
    scores = []
    for _ in range(300):
        moments = Moments(direction)
        for part in _normal(draws).split([4, draws - 4]):
            moments.add({"w": part})
        scores.append(bias(moments, reference, ["w"])[1])
    passed = int((np.array(scores) > 1.96).sum())
    assert_p(stats.binomtest(passed, 300, 0.05, "greater").pvalue)
    assert max(scores) > 0 or draws == 10


def test_bias_is_the_norm_without_sampling_error():
    source = Source(torch.zeros(UNITS, dtype=torch.float64), lambda count: 0.5 + _normal(count))
    moments = Moments()
    moments.add({"w": source.draw(1000)})
    size, z = bias(moments, reference_of([exactly(source, {})], ["w"]), ["w"])
    assert size == pytest.approx(0.5 * math.sqrt(UNITS), rel=0.03)
    assert z > 5


def sign_of_one_class(gradient: Tensor) -> Tensor:
    return torch.cat([gradient[:, :-1], -gradient[:, -1:]], -1)


BIASED = [
    ("dense, 5 %", UNBIASED["normal"], lambda g: 1.05 * g, 1000),
    ("dense, 5 %", UNBIASED["normal"], lambda g: 1.05 * g, 10_000),
    ("sparse, 30 %", UNBIASED["even classes"], lambda g: 1.3 * g, 3000),
    ("leave one out, 30 %", UNBIASED["even classes, leave one out"], lambda g: 1.3 * g, 3000),
    ("one class", UNBIASED["even classes"], sign_of_one_class, 30_000),
    ("rates, 50 %", UNBIASED["units of all rates"], lambda g: 1.5 * g, 10_000),
    ("heavy tails, 30 %", UNBIASED["heavy tails"], lambda g: 1.3 * g, 1000),
]


@pytest.mark.parametrize(
    ("source", "change", "draws"),
    [case[1:] for case in BIASED],
    ids=[f"{case[0]}-{case[3]}" for case in BIASED],
)
def test_real_biases_are_found(source, change, draws):
    biased = source.changed(change)
    scores = [z_score(biased, draws) for _ in range(5)]
    assert np.median(scores) > SIGNIFICANT


def test_a_gradient_that_never_varies_and_is_off_is_not_judged():
    """A class of probability 1/1000 that was never drawn, or a bias: draws can't tell."""
    moments = Moments()
    moments.add({"w": torch.ones(1000, 3)})
    other = Moments()
    other.add({"w": 2 * torch.ones(1, 3)})
    size, z = bias(moments, reference_of([other], ["w"]), ["w"])
    assert size == pytest.approx(math.sqrt(3)) and math.isnan(z)
    assert bias(moments, reference_of([moments], ["w"]), ["w"]) == (0.0, 0.0)


def test_a_gradient_that_never_varies_is_compared_by_the_error_of_the_other():
    moments, other = Moments(), Moments()
    moments.add({"w": torch.ones(1000, 3)})
    other.add({"w": 1 + torch.randn(1000, 3)})
    assert bias(moments, reference_of([other], ["w"]), ["w"])[1] < SIGNIFICANT


def test_exact_gradients_that_differ_are_biased():
    moments, other = Moments(deterministic=True), Moments()
    moments.add({"w": torch.ones(10, 3)})
    other.add({"w": 1.01 * torch.ones(1, 3)})
    assert bias(moments, reference_of([other], ["w"]), ["w"])[1] == math.inf
    assert bias(moments, reference_of([moments], ["w"]), ["w"])[1] == 0


def test_gradients_that_are_not_finite_have_no_z_score():
    moments, other = Moments(), Moments()
    moments.add({"w": torch.tensor([[1.0, math.nan], [2.0, 3.0]])})
    other.add({"w": torch.ones(1, 2)})
    assert math.isnan(bias(moments, reference_of([other], ["w"]), ["w"])[1])

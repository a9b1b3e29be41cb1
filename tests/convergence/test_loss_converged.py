"""The rule that looks at the loss alone."""

import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.convergence.loss_converged import excess

from ..statistics import assert_mean, assert_p
from .traces import stopped

TRACES = 300


def losses(fall, noise, steps=6000):
    """Traces of losses that end at 100, in columns."""
    generator = torch.Generator().manual_seed(0)
    return (
        100
        + fall(torch.arange(steps))[:, None]
        + noise * torch.randn(steps, TRACES, generator=generator)
    )


def test_the_excess_of_independent_values_is_standard_normal():
    x = torch.randn(400, 1000, generator=torch.Generator().manual_seed(0))
    found = torch.stack([excess(column) for column in x.T])
    assert_mean(torch.stack([found, found.square()], 1), torch.tensor([0.0, 1.0]))


def test_a_constant_has_no_excess():
    assert excess(torch.ones(100)) == 0


@pytest.mark.parametrize("time", [300, 1000, 3000])
def test_it_does_not_stop_while_the_loss_falls(time):
    """At a stop, the loss is yet to fall by less than what was asked of its change."""

    def fall(step):
        return 50 * torch.exp(-step / time)

    false = 0
    for trace in losses(fall, 0.1).T:
        step, _ = stopped(pre.LossConverged(), torch.zeros(len(trace) // 10, 0), trace)
        false += step is not None and bool(
            fall(torch.tensor(step - 1000)) - fall(torch.tensor(step)) > 0.2
        )
    assert_p(stats.binomtest(false, TRACES, 0.01, alternative="greater").pvalue)


def test_it_stops_when_the_loss_has_fallen():
    stops = [
        stopped(pre.LossConverged(), torch.zeros(len(trace) // 10, 0), trace)[0]
        for trace in losses(lambda step: 50 * torch.exp(-step / 300), 0.1).T
    ]
    assert all(step is not None and step < 6000 for step in stops)


def test_a_trend_is_seen_that_changes_the_mean_by_little():
    fall = torch.linspace(2, 0, 1000)
    trace = 1e4 + fall + 0.1 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    verdict = pre.LossConverged().observe(trace, torch.zeros(100, 0))
    assert not verdict
    assert pre.LossConverged().observe(trace - fall, torch.zeros(100, 0))


@pytest.mark.parametrize("options", [{"window": 50}, {"rtol": 0.0}])
def test_bounds_that_say_nothing_raise(options):
    with pytest.raises(pre.EstimatorError, match=next(iter(options))):
        pre.LossConverged(**options)


def test_it_waits_for_its_window():
    verdict = pre.LossConverged().observe(torch.ones(900), torch.zeros(90, 0))
    assert not verdict
    assert "1,000 steps" in verdict.reason

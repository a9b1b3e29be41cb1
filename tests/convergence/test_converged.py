"""The rule that stops when iterates are stationary: synthetic traces of which the truth is known."""

import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.convergence.converged import GAIN

from ..statistics import assert_p
from .traces import falling, stationary, stopped, walk

FALSE_STOPS = 0.01
"""How often a trace may be stopped before it is where it goes to."""
TRACES = 60
NONE = torch.zeros(0)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("height", "time"), [(30.0, 100), (10.0, 50), (3.0, 100)])
def test_it_stops_where_the_trace_goes_to(height, time):
    """The mean of a window is off by less than half the deviation of the iterates."""
    traces, mean = falling(1500, 3 * TRACES, 0.5, generator(), height, time)
    false, stops = 0, 0
    for trace in traces.split(3, 1):
        step, verdict = stopped(pre.Converged(), trace, NONE)
        if step is not None:
            stops += 1
            false += bool(mean[step // 10 - verdict.averaged : step // 10].mean() > 0.5)
    assert stops > TRACES / 2
    assert_p(stats.binomtest(false, TRACES, FALSE_STOPS, alternative="greater").pvalue)


@pytest.mark.parametrize("drift", [0.0, 0.1])
def test_it_does_not_stop_at_a_random_walk(drift):
    traces = walk(800, TRACES, drift, generator())
    stops = sum(stopped(pre.Converged(), trace, NONE)[0] is not None for trace in traces.split(1, 1))
    assert_p(stats.binomtest(stops, TRACES, FALSE_STOPS, alternative="greater").pvalue)


def test_it_does_not_stop_at_a_drift_below_the_noise():
    traces = stationary(800, TRACES, 0.5, generator()) - torch.linspace(0, 6, 800)[:, None]
    stops = sum(stopped(pre.Converged(), trace, NONE)[0] is not None for trace in traces.split(1, 1))
    assert_p(stats.binomtest(stops, TRACES, FALSE_STOPS, alternative="greater").pvalue)


def test_its_errors_are_those_of_the_mean():
    """Over the traces, the mean over its error has variance one, but for what the error is off by."""
    traces = stationary(1500, TRACES, 0.5, generator())
    means = []
    for trace in traces.split(1, 1):
        step, verdict = stopped(pre.Converged(), trace, NONE)
        if step is not None:
            mean = trace[step // 10 - verdict.averaged : step // 10].mean()
            means.append(float(mean / verdict.errors))
    assert len(means) > TRACES * 0.9
    squares = torch.tensor(means).square().sum().item()
    assert_p(
        2 * min(stats.chi2(len(means)).sf(squares / 1.3), stats.chi2(len(means)).cdf(squares * 1.3))
    )


def test_it_waits_for_each_bound():
    trace = stationary(2000, 2, 0.9, generator())
    loose = pre.Converged(mcse=1.0, ess=1.0)
    first = stopped(loose, trace, NONE)[0]
    assert stopped(pre.Converged(mcse=0.15, ess=1.0), trace, NONE)[0] > first
    assert stopped(pre.Converged(mcse=1.0, ess=50.0), trace, NONE)[0] > first


def test_a_fall_below_the_noise_is_seen_by_rhat_alone():
    trace = stationary(4000, 2, 0.0, generator()) - torch.linspace(0, 1, 4000)[:, None]
    verdict = pre.Converged().observe(NONE, trace)
    assert not verdict
    assert "R-hat" in verdict.reason
    assert "standard error" not in verdict.reason


@pytest.mark.parametrize("coordinates", [1, 2])
def test_what_does_not_move_has_converged(coordinates):
    step, verdict = stopped(pre.Converged(), torch.ones(1000, coordinates), NONE)
    assert step is not None
    assert verdict.errors.tolist() == [0.0] * coordinates


def test_it_averages_if_asked():
    assert (
        stopped(pre.Converged(average=False), stationary(1000, 1, 0.0, generator()), NONE)[1].averaged
        is None
    )


def test_reductions_go_on_while_they_gain():
    """The mean moves by ``shift`` deviations at each reduction: far, far, and not any more."""
    rule, rates = pre.Converged(reduce=0.5), []
    noise = stationary(2500, 4, 0.3, generator())
    for place in (0.0, 3 * GAIN, 6 * GAIN, 6 * GAIN):
        verdict = stopped_phase(rule, 0.5 ** len(rates) * noise + place)
        if verdict.stop:
            break
        rates.append(verdict.rate)
        rule = verdict.then
    assert verdict.stop
    assert rates == [0.5, 0.5, 0.5]


def stopped_phase(rule, trace):
    """The first verdict that ends a phase."""
    for rows in range(300, len(trace) + 1, 100):
        verdict = rule.observe(NONE, trace[:rows])
        if verdict.stop or verdict.rate is not None:
            return verdict
    raise AssertionError("the phase did not end")


def test_looks_are_a_fixed_share_of_the_run():
    rule, step, looks = pre.Converged(), 0, 0
    while step < 100_000:
        step, looks = rule.next_look(step), looks + 1
    assert looks < 70


@pytest.mark.parametrize(
    "options",
    [{"rhat": 1.0}, {"mcse": 0.0}, {"ess": -1}, {"reduce": 1.0}, {"reduce": 0}, {"rhat": float("nan")}],
)
def test_bounds_that_say_nothing_raise(options):
    with pytest.raises(pre.EstimatorError, match=next(iter(options))):
        pre.Converged(**options)


def test_a_loss_without_noise_stops_by_itself():
    fall = 5 + 3 * torch.exp(-torch.arange(6000) / 200.0)
    iterates = torch.linspace(1, 0, 600)[:, None]  # which a test of samples would call a trend
    rule = pre.Converged()
    assert not rule.observe(fall[:2500], iterates[:250])
    verdict = rule.observe(fall, iterates)
    assert verdict.stop and verdict.averaged is None and "without noise" in verdict.reason
    assert not rule.observe(fall + 0.01 * torch.randn(6000, generator=generator()), iterates)


def test_it_says_in_short_how_far_it_is():
    noise = torch.randn(600, 1, generator=generator())
    far = pre.Converged().observe(torch.randn(6000, generator=generator()), 10 * noise.cumsum(0))
    assert far.progress.startswith("R-hat ")
    near = pre.Converged(mcse=1e-3).observe(torch.randn(6000, generator=generator()), noise)
    assert near.progress.startswith("ESS ")


@pytest.mark.parametrize(("fall", "stops"), [(0.0, True), (0.4, False)])
def test_what_drifts_without_a_change_of_the_loss_is_of_no_matter(fall, stops):
    """A logit of an impossible value; beside it one whose loss still falls, far below the noise."""
    rows = 2500
    trace = torch.cat([stationary(rows, 2, 0.5, generator()), torch.linspace(0, 9, rows)[:, None]], 1)
    noise = 0.5 * torch.randn(10 * rows, generator=generator())
    losses = noise - torch.linspace(0, fall, 10 * rows)
    verdict = pre.Converged().observe(losses, trace)
    assert bool(verdict) == stops and verdict.coordinate == 2
    assert ("of no matter" in verdict.reason) == stops

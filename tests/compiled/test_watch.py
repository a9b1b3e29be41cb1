"""Runs under a stopping rule."""

import warnings

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoNormal
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.convergence.coordinates import WATCHED

X = torch.linspace(-1, 1, 20)
Y = 1.5 * X + 0.3 * torch.sin(9 * X)
PRECISION = 1 + X.square().sum() / 0.25
BEST = X @ Y / 0.25 / PRECISION
"""The posterior's mean."""


def model():
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(X)):
        pyro.sample("y", dist.Normal(w * X, 0.5), obs=Y)


def svi_of(cls, lr=0.03, optim=None):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    guide = AutoNormal(model)
    optim = optim or pyro.optim.Adam({"lr": lr})
    return cls(model, guide, optim, pre.TraceEstimator_ELBO(max_plate_nesting=1))


def loc():
    return pyro.param("AutoNormal.locs.w").item()


class After:
    """Stops after some steps; keeps what it saw."""

    def __init__(self, steps, verdict=True, every=200):
        self.steps, self.verdict, self.every = steps, verdict, every
        self.seen = []

    def next_look(self, step):
        return step + self.every

    def observe(self, losses, iterates):
        self.seen.append((losses.clone(), iterates.clone()))
        return self.verdict if len(losses) >= self.steps else False


@pytest.mark.parametrize("cls", [SVI, pre.CompiledSVI])
def test_it_stops_at_the_optimum(cls):
    svi = svi_of(cls, lr=0.05)
    result = pre.run_svi(svi, 20_000, until=pre.Converged(mcse=0.2), progress=False)
    assert result.converged
    assert 2000 <= len(result.losses) < 20_000
    error = result.errors["AutoNormal.locs.w"]
    assert abs(loc() - BEST) < 4 * error < 0.02
    first, last = result.averaged
    assert last == len(result.losses)
    kept = result.iterates[(result.steps > first) & (result.steps <= last)]
    assert loc() == pytest.approx(kept[:, 0].mean().item(), rel=1e-5)
    assert "R-hat" in result.reason
    assert len(result.iterates) == len(result.steps) == len(result.losses) // 10


def test_the_compiled_run_is_the_eager_one():
    seen = []
    for cls in (SVI, pre.CompiledSVI):
        rule = After(400)
        svi_of(cls).__class__
        svi = svi_of(cls)
        result = pre.run_svi(svi, 1000, until=rule, progress=False)
        assert result.converged
        assert len(result.losses) == 400
        assert [len(losses) for losses, _ in rule.seen] == [200, 400]
        assert [len(iterates) for _, iterates in rule.seen] == [20, 40]
        seen.append(rule.seen[-1])
    for eager, compiled in zip(*seen, strict=True):
        torch.testing.assert_close(eager, compiled, rtol=1e-3, atol=1e-3)
    assert seen[1][1][-1, 0] == pytest.approx(loc())


def test_looks_are_made_when_they_are_asked_for():
    rule = After(10_000, every=250)
    with pytest.warns(UserWarning, match="not met"):
        result = pre.run_svi(svi_of(SVI), 750, until=rule, progress=False)
    assert [len(losses) for losses, _ in rule.seen] == [300, 600, 750]
    assert not result.converged
    assert len(result.losses) == 750


def test_a_warning_says_how_far_it_is():
    svi = svi_of(pre.CompiledSVI, lr=1e-4)
    with pytest.warns(UserWarning, match=r"R-hat is \d.*AutoNormal.*more steps.*rate.*gradient_study"):
        result = svi.run(3000, until=pre.Converged(), progress=False)
    assert result.converged is False
    assert result.averaged is None
    assert loc() == pytest.approx(result.iterates[-1, 0].item())


def test_reduced_rates_are_taken_by_the_graph_without_another():
    svi = svi_of(pre.CompiledSVI, lr=0.04)
    verdict = pre.Verdict(False, averaged=5, rate=0.5, then=After(200))
    result = svi.run(1000, until=After(400, verdict), progress=False)
    assert result.converged
    assert result.reductions == (400,)
    assert len(result.losses) == 600
    assert len(svi._steps) == 1
    assert [group["lr"] for x in svi.optim.optim_objs.values() for group in x.param_groups] == [
        0.02
    ] * 2
    moves = result.iterates.diff(dim=0).abs().mean(1)
    assert 0.3 < moves[-15:].mean() / moves[20:38].mean() < 0.8


def test_reductions_end_at_the_optimum():
    """Of a guide that is narrower than its iterates are spread: the first mean is off."""
    svi = svi_of(pre.CompiledSVI, lr=0.3)
    first = svi.run(30_000, until=pre.Converged(mcse=0.2), progress=False)
    off = abs(pyro.param("AutoNormal.scales.w").item() - PRECISION**-0.5)
    svi = svi_of(pre.CompiledSVI, lr=0.3)
    result = svi.run(60_000, until=pre.Converged(mcse=0.2, reduce=0.25), progress=False)
    assert first.converged
    assert result.converged
    assert result.reductions
    assert abs(pyro.param("AutoNormal.scales.w").item() - PRECISION**-0.5) < off / 2


def test_schedulers_keep_their_rates():
    optim = pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.5}
    )
    with pytest.raises(pre.EstimatorError, match="scheduler.*ExponentialLR|ExponentialLR.*scheduler"):
        pre.run_svi(svi_of(SVI, optim=optim), 10, until=pre.Converged(reduce=0.5), progress=False)


def test_what_is_no_rule_raises():
    with pytest.raises(pre.EstimatorError, match="until: expected a stopping rule"):
        pre.run_svi(svi_of(SVI), 10, until=lambda losses: True, progress=False)


def test_many_parameters_are_averaged_though_few_are_watched():
    network = nn.Linear(60, 30)

    def program():
        pyro.module("network", network)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(network(torch.ones(60)).sum() + z, 10.0), obs=torch.tensor(5.0))

    svi = SVI(program, AutoNormal(program), pyro.optim.Adam({"lr": 0.01}), pre.TraceEstimator_ELBO())
    snapshots = []

    class Copies(After):
        def observe(self, losses, iterates):
            snapshots.append(network.weight.detach().clone())
            return super().observe(losses, iterates)

    rule = Copies(200, pre.Verdict(True, averaged=20), every=100)
    result = pre.run_svi(svi, 500, until=rule, progress=False)
    assert len(result.names) == result.iterates.shape[1] <= WATCHED
    assert "network$$$bias[0]" in result.names
    places = [i for i, name in enumerate(result.names) if name.startswith("network$$$weight")]
    index = [tuple(map(int, result.names[i].split("[")[1][:-1].split(","))) for i in places]
    averaged = torch.stack([network.weight[i, j] for i, j in index])
    torch.testing.assert_close(averaged.detach(), result.iterates[:, places].mean(0))
    assert not torch.equal(network.weight, snapshots[-1])


def test_parameters_that_come_later_begin_anew():
    steps = []

    def guide():
        steps.append(1)
        names = ["a", "b"] if len(steps) > 150 else ["a"]
        for name in names:
            scale = pyro.param(name, torch.tensor(0.5))
        pyro.sample("w", dist.Normal(pyro.param("a"), scale.exp()))

    rule = After(300)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    result = pre.run_svi(svi, 1000, until=rule, progress=False)
    assert result.names == ("a", "b")
    assert len(result.losses) == 600
    assert result.steps[0] == 210


def test_the_picture():
    svi = svi_of(SVI, lr=0.05)
    result = pre.run_svi(svi, 400, until=After(300, pre.Verdict(True, averaged=20)), progress=False)
    above, below = result.plot()
    assert len(above.get_lines()) == 2 + 1
    assert [text.get_text() for text in above.get_legend().get_texts()] != []
    assert below.get_xlabel() == "step"
    plt.close(above.figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = pre.run_svi(svi, 100, progress=False).plot()
    plt.close(axes[0].figure)

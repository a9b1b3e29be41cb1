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
from pyro_reparam_ext.compiled import run
from pyro_reparam_ext.convergence.coordinates import WATCHED

from ..statistics import assert_z
from .steps import GraphSVI

BEST = torch.tensor([0.5, -1.0])


def place():
    return pyro.param("place", torch.tensor([1.5, 1.0]))


def noisy(model, guide):
    """A loss that is least at BEST, with a gradient of unit noise, and that rises faster above."""
    off = guide() - BEST
    return (off.exp() - off + torch.randn(2) * off).sum()


def svi_of(cls=SVI, lr=0.05, optim=None):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return cls(torch.sin, place, optim or pyro.optim.SGD({"lr": lr}), noisy)


def model():
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(w, 0.5), obs=torch.tensor(1.0))


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


def test_it_stops_at_the_optimum():
    result = pre.run_svi(svi_of(), 20_000, until=pre.Converged(), progress=False)
    assert result.converged
    assert 2000 <= len(result.losses) < 20_000
    first, last = result.averaged
    assert last == len(result.losses)
    kept = result.iterates[(result.steps > first) & (result.steps <= last)]
    torch.testing.assert_close(place().detach(), kept.mean(0), rtol=1e-4, atol=1e-5)
    assert list(result.errors) == list(result.names) == ["place[0]", "place[1]"]
    bias = 0.05 / 4  # a half of the variance of iterates, which is nearly a half of the rate
    for value, best, error in zip(place().detach(), BEST, result.errors.values(), strict=True):
        assert_z((value - best + bias) / error)
    assert "R-hat" in result.reason


def test_the_compiled_run_is_the_eager_one():
    seen = []
    for cls in (SVI, GraphSVI):
        rule = After(400)
        result = pre.run_svi(svi_of(cls), 1000, until=rule, progress=False)
        assert result.converged
        assert len(result.losses) == 400
        assert [len(losses) for losses, _ in rule.seen] == [200, 400]
        assert [len(iterates) for _, iterates in rule.seen] == [20, 40]
        seen.append(rule.seen[-1])
        assert torch.equal(rule.seen[-1][1][-1], place())
    for eager, compiled in zip(*seen, strict=True):
        torch.testing.assert_close(eager, compiled, rtol=1e-3, atol=1e-3)


def test_looks_are_made_when_they_are_asked_for():
    rule = After(10_000, every=250)
    with pytest.warns(UserWarning, match="not met"):
        result = pre.run_svi(svi_of(), 750, until=rule, progress=False)
    assert [len(losses) for losses, _ in rule.seen] == [300, 600, 750]
    assert not result.converged
    assert len(result.losses) == 750


def test_a_warning_says_how_far_it_is():
    with pytest.warns(UserWarning, match=r"R-hat is \d.*place\[\d\].*more steps.*rate.*gradient_study"):
        result = pre.run_svi(svi_of(lr=1e-4), 2500, until=pre.Converged(), progress=False)
    assert result.converged is False
    assert result.averaged is None
    assert torch.equal(place(), result.iterates[-1])


def test_reduced_rates_are_taken_by_the_graph_without_another():
    svi = svi_of(GraphSVI, lr=0.04)
    verdict = pre.Verdict(False, averaged=5, rate=0.25, then=After(200))
    result = svi.run(1000, until=After(400, verdict), progress=False)
    assert result.converged
    assert result.reductions == (400,)
    assert len(result.losses) == 600
    assert len(svi._steps) == 1
    assert [group["lr"] for x in svi.optim.optim_objs.values() for group in x.param_groups] == [0.01]
    moves = result.iterates.diff(dim=0).square().mean(1).sqrt()
    assert moves[-15:].mean() < 0.6 * moves[20:38].mean()


def test_reductions_end_nearer_to_the_optimum():
    """Iterates that are spread more have a mean that is further off."""
    plain = pre.run_svi(svi_of(lr=0.5), 20_000, until=pre.Converged(), progress=False)
    off = (place() - BEST).norm().item()
    rule = pre.Converged(reduce=0.25)
    result = pre.run_svi(svi_of(lr=0.5), 40_000, until=rule, progress=False)
    assert plain.converged
    assert result.converged
    assert result.reductions[0] == len(plain.losses)
    assert (place() - BEST).norm().item() < off / 2


def test_a_run_that_ends_where_rates_would_be_reduced_says_so():
    verdict = pre.Verdict(False, "stationary", averaged=5, rate=0.25, then=After(200))
    with pytest.warns(UserWarning, match="stationary; learning rates were yet to be reduced"):
        result = pre.run_svi(svi_of(), 350, until=After(350, verdict, every=400), progress=False)
    assert result.converged is False
    assert result.reductions == ()


def test_a_program_without_parameters_has_only_a_loss():
    def loss(model, guide):
        return torch.ones(()).requires_grad_() * 3

    svi = SVI(torch.sin, torch.cos, pyro.optim.SGD({"lr": 0.1}), loss)
    result = pre.run_svi(svi, 300, until=After(200), progress=False)
    assert result.converged
    assert result.names == ()
    plt.close(result.plot()[0].figure)


def test_schedulers_keep_their_rates():
    optim = pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.5}
    )
    with pytest.raises(pre.EstimatorError, match="scheduler of PyroLRScheduler"):
        pre.run_svi(svi_of(optim=optim), 10, until=pre.Converged(reduce=0.5), progress=False)


def test_what_is_no_rule_raises():
    with pytest.raises(pre.EstimatorError, match="until: expected a stopping rule"):
        pre.run_svi(svi_of(), 10, until=lambda losses: True, progress=False)


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
            shift = pyro.param(name, torch.tensor(0.5))
        pyro.sample("w", dist.Normal(pyro.param("a") + shift, 1.0))

    rule = After(300)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    result = pre.run_svi(svi, 1000, until=rule, progress=False)
    assert result.names == ("a", "b")
    assert len(result.losses) == 600
    assert result.steps[0] == 210


def test_the_picture():
    svi = svi_of()
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


@pytest.mark.parametrize(
    ("elbo", "name", "sign"), [(None, "loss", 1), (pre.TraceEstimator_ELBO(), "ELBO", -1)]
)
def test_the_bar_shows_the_loss_its_noise_and_how_far_the_rule_is(monkeypatch, elbo, name, sign):
    said = []

    class Bar(run.tqdm):
        def set_postfix_str(self, text="", refresh=True):
            said.append(text)

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    def normal():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    monkeypatch.setattr(run, "tqdm", Bar)
    svi = SVI(normal, guide, pyro.optim.Adam({"lr": 0.05}), elbo) if elbo else svi_of()
    rule = pre.LossConverged(window=100, rtol=1e-9)
    with pytest.warns(UserWarning, match="was not met"):
        losses = pre.run_svi(svi, 300, until=rule, progress=False).losses
    last = losses[-100:]
    expected = (
        f"{name} {sign * float(last.mean()):.4g}, noise {float(last.std(correction=0)):.2g}, trend "
    )
    assert len(said) == 3 and said[-1].startswith(expected) and "/1e-09" in said[-1]

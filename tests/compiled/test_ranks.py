"""Several processes take their steps together, and fail together."""

from __future__ import annotations

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD, ClippedAdam, RMSprop
from torch.distributed import group

import pyro_reparam_ext as pre

from ..processes import on_ranks
from ..statistics import assert_mean
from .steps import GraphSVI, adam

DATA = torch.linspace(-1.0, 2.0, 12)


def model(x):
    z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
    with pyro.plate("rows", 12, subsample_size=len(x)):
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


def guide(x):
    logits = pyro.param("logits", lambda: torch.randn(2))  # other values on each rank
    pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


def half(rank):
    return DATA[6 * rank : 6 * rank + 6]


def together(elbo=None, optim=None, model=model, guide=guide, **options):
    elbo = elbo or pre.TraceEstimator_ELBO(pre.DisARM())
    return GraphSVI(model, guide, optim or adam(), elbo, group=group.WORLD, **options)


def left(svi):
    """All that ranks have to hold alike: parameters, moments, and what estimators have learned."""
    found = {name: p.detach().clone() for name, p in pyro.get_param_store().items()}
    for name, kept in svi.optim.get_state().items():
        for key, x in kept["state"][0].items():
            found[f"{name}: {key}"] = torch.as_tensor(x, dtype=torch.float64)
    if isinstance(svi.elbo, pre.TraceEstimator_ELBO):
        found |= {name: x.clone() for name, x in svi.elbo.states.named_buffers()}
    return found


def assert_alike(first, *others):
    for other in others:
        assert other.keys() == first.keys()
        for name, x in first.items():
            assert torch.equal(other[name], x), name


def anew():
    pyro.clear_param_store()
    pyro.set_rng_seed(torch.distributed.get_rank())


# -- what they compute ------------------------------------------------------------------------------


def exact_steps(rank):
    pyro.param("logits", torch.tensor([0.4, -0.2]))
    svi = together(pre.TraceEstimator_ELBO(pre.Enumeration()), SGD({"lr": 0.1}))
    losses = [svi.step(half(rank)) for _ in range(4)]
    assert len(svi._steps) == 1 and all(svi._steps.values())
    return losses, pyro.param("logits").detach()


def test_the_mean_of_exact_gradients_is_that_of_all_data():
    pyro.param("logits", torch.tensor([0.4, -0.2]))
    one = SVI(model, guide, SGD({"lr": 0.1}), pre.TraceEstimator_ELBO(pre.Enumeration()))
    expected = [one.step(DATA) for _ in range(4)]
    for losses, logits in on_ranks(exact_steps):
        assert losses == pytest.approx(expected, rel=1e-6)
        torch.testing.assert_close(logits, pyro.param("logits").detach(), rtol=1e-6, atol=1e-6)


def gradients(rank, draws):
    """Of the same parameters, by steps of size 1 that are taken back."""
    logits = pyro.param("logits", torch.tensor([0.4, -0.2])).unconstrained()
    svi, found = together(optim=SGD({"lr": 1.0})), []
    for _ in range(draws):
        before = logits.detach().clone()
        svi.step(half(rank))
        found.append(before - logits.detach())
        logits.data.copy_(before)
    return torch.stack(found)


def test_the_mean_of_estimates_is_an_estimate():
    logits = pyro.param("logits", torch.tensor([0.4, -0.2])).unconstrained()
    pre.TraceEstimator_ELBO(pre.Enumeration()).loss_and_grads(model, guide, DATA)
    first, second = on_ranks(gradients, 2000)
    assert torch.equal(first, second)
    assert first.std(0).min() > 0
    assert_mean(first, logits.grad)


# -- what they hold alike ---------------------------------------------------------------------------


def programs(rank):
    """What estimators learn, optimisers outside of the graph, and schedules."""
    for label, elbo, optim in (
        ("REBAR", pre.TraceEstimator_ELBO(pre.REBAR()), adam()),
        ("ema", pre.TraceEstimator_ELBO(pre.ScoreFunction("ema")), adam()),
        ("RMSprop", pre.TraceEstimator_ELBO(pre.DisARM()), RMSprop({"lr": 0.01})),
        ("decay", Trace_ELBO(), ClippedAdam({"lr": 0.01, "lrd": 0.9})),
    ):
        anew()
        svi = together(elbo, optim)
        losses = [svi.step(half(rank)) for _ in range(5)]
        assert len(svi._steps) == 1 and all(svi._steps.values())
        yield label, {**left(svi), "losses": torch.tensor(losses)}


def all_programs(rank):
    return dict(programs(rank))


def test_parameters_moments_and_what_estimators_learn():
    first, second = on_ranks(all_programs)
    for label, of_first in first.items():
        assert_alike(of_first, second[label])
    assert {"total", "weight"} <= {name.split(".")[-1] for name in first["ema"]}
    assert first["REBAR"]["estimators/z/REBAR$$$scale"] != 1.0


def kinds(rank):
    """Each second batch of rank 1 is smaller, and soon of a kind of its own: graphs, eager steps."""

    def model(x):
        with pyro.plate("rows", 12, subsample_size=len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(40), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.linspace(-1.0, 1.0, 40))
        with pyro.plate("rows", 12, subsample_size=len(x)):
            pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))

    svi = together(pre.TraceEstimator_ELBO(pre.ScoreFunction("ema")), None, model, guide)
    losses = [svi.step(half(rank)) for _ in range(3)]
    for size in range(1, 6):
        losses += [svi.step(half(rank)[: size if rank else 6]) for _ in range(2)]
    return {**left(svi), "losses": torch.tensor(losses)}, len(svi._steps)


def test_batches_of_other_shapes_on_one_rank():
    (first, one), (second, two) = on_ranks(kinds)
    assert_alike(first, second)
    assert (one, two) == (1, 6)


# -- failing together -------------------------------------------------------------------------------


def said(step, *args):
    with pytest.raises(pre.EstimatorError) as raised:
        step(*args)
    return re.sub(r" \(at .*?\)", "", str(raised.value).split("\n")[0])


def failures(rank):
    """Everything that fails on rank 1 alone; what each rank is told, and that both go on alike."""
    found = {}
    hole = half(rank).clone()
    if rank == 1:
        hole[2] = math.nan

    # an error of the program, in the first step and in a later one, of another kind
    def careless(x):
        if len(x) == 5 and rank == 1 and (torch.is_grad_enabled() or late):
            raise pre.EstimatorError("rows are missing")
        model(x)

    kept = []
    for fails in (False, True):
        anew()
        late = False
        pyro.param("logits", torch.tensor([0.4, -0.2]))
        svi = together(pre.TraceEstimator_ELBO(pre.Enumeration()), model=careless)
        if fails:
            found["first"] = said(svi.step, half(rank)[:5])
        for _ in range(3):
            svi.step(half(rank))
        late = True
        if fails:
            found["later"] = said(svi.step, half(rank)[: 6 - rank])
        svi.step(half(rank))
        kept.append(left(svi))
    assert_alike(*kept)
    found["left"] = kept[1]

    # where estimators average
    anew()
    late = False
    svi = together(pre.TraceEstimator_ELBO(pre.ScoreFunction("ema")), model=careless)
    found["average"] = said(svi.step, half(rank)[:5])
    assert all(x == 0 for x in svi.elbo.states.buffers())

    # values that are not finite: as a graph, in a run, and eagerly
    anew()
    svi = together(optim=ClippedAdam({"lr": 0.1, "lrd": 0.5}))
    for _ in range(3):
        svi.step(half(rank))
    before = left(svi)
    found["graph"] = said(svi.step, hole)
    assert_alike(before, left(svi))
    batches = [half(rank)] * 2 + [hole] + [half(rank)] * 3
    found["run"] = said(lambda: svi.run(6, batches=batches, progress=False))
    rates = [x.param_groups[0]["lr"] for x in svi.optim.optim_objs.values()]
    assert rates == pytest.approx([0.1 * 0.5**5])
    found["eager"] = said(svi.step, hole[: 6 - rank])
    svi.step(half(rank))
    found["left after"] = left(svi)

    # a graph on rank 0, none on rank 1
    anew()

    def branching(x):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
        shift = 1.0 if rank == 1 and z[0] > 0 else 0.0
        with pyro.plate("rows", 12, subsample_size=len(x)):
            pyro.sample("x", dist.Normal(z.sum(-1) + shift, 1.0), obs=x)

    svi = together(Trace_ELBO(), model=branching)
    svi.step(half(rank))
    found["branch"] = said(svi.step, half(rank))

    # an index that is out of range, which no graph can say before it runs
    anew()
    table = torch.zeros(4, 3)

    def looking_up(x, index):
        pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
        pyro.sample("row", dist.Normal(table[index], 1.0).to_event(2), obs=torch.zeros(2, 3))

    svi = together(model=looking_up, guide=lambda x, index: guide(x))
    for index in (1, 2, 3):
        svi.step(half(rank), torch.tensor([0, index]))
    with pytest.raises((IndexError, pre.EstimatorError)) as raised:
        svi.step(half(rank), torch.tensor([0, 9 if rank else 3]))
    found["index"] = str(raised.value)
    svi.step(half(rank), torch.tensor([0, 1]))

    # parameters that one rank has made anew
    anew()
    svi = together()
    for _ in range(3):
        svi.step(half(rank))
    if rank == 1:
        pyro.clear_param_store()
    found["anew"] = said(svi.step, half(rank))

    # other parameters
    anew()

    def other(x):
        pyro.param(f"of {rank}", torch.zeros(2 + rank))
        guide(x)

    found["parameters"] = said(together(guide=other).step, half(rank))

    # the same random numbers
    anew()
    pyro.set_rng_seed(0)
    svi = together()
    if rank == 1:
        with pytest.warns(UserWarning, match="rank 1 draws the same random numbers as rank 0"):
            svi.step(half(rank))
    else:
        svi.step(half(rank))
    return found


def test_an_error_of_one_is_told_to_all():
    first, second = on_ranks(failures)
    for key in ("left", "left after"):
        assert_alike(first[key], second[key])
    told = "another process failed in this step, which was taken on no rank. rank 1: "
    for key in ("first", "later", "average"):
        assert (first[key], second[key]) == (f"{told}rows are missing", "rows are missing")
    for key in ("graph", "run", "eager"):
        assert "site 'x' of the model" in second[key]
        assert first[key] == told + second[key]
    assert "reads a value as a Python number" in second["branch"]
    assert first["branch"].startswith(told)
    assert "out of" in second["index"] and second["index"] in first["index"]
    assert first["anew"] == second["anew"]
    assert "of the same names, but made anew in different steps" in first["anew"]
    expected = (
        "rank 1 and rank 0 step different parameters: 'of 1' of shape (3,), and 'of 0' of shape (2,)"
    )
    assert first["parameters"].startswith(expected)
    assert first["parameters"] == second["parameters"]


# -- the option -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["WORLD", 2, torch.distributed.GroupMember.NON_GROUP_MEMBER])
def test_what_is_no_group_is_refused(given):
    with pytest.raises(pre.EstimatorError, match="group: expected a process group .*was given"):
        GraphSVI(model, guide, adam(), Trace_ELBO(), group=given)


def test_a_process_of_several_without_a_group_is_warned_of(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    GraphSVI(model, guide, adam(), Trace_ELBO())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match="each of them trains by itself. .*group.WORLD"):
        GraphSVI(model, guide, adam(), Trace_ELBO())

"""A graph in two halves is the graph, whatever goes on between them."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.optim import SGD, Adam, AdamW, ClippedAdam, RMSprop
from torch.fx.experimental.proxy_tensor import make_fx

import pyro_reparam_ext as pre
from pyro_reparam_ext.compiled import backends
from pyro_reparam_ext.compiled.backends import ahead_of_time, plain
from pyro_reparam_ext.compiled.halves import Halves, halves, over_ranks

from ..registry import REGISTRY, layout_of
from ..slow import one_in, slow
from .steps import GraphSVI, assert_same_steps
from .test_contract import normalised, regression


class Alone(GraphSVI):
    """In the group of one process."""

    def __init__(self, *args, **options):
        super().__init__(*args, group=torch.distributed.group.WORLD, **options)


class CompiledAlone(Alone):
    backend = staticmethod(ahead_of_time)


@pytest.fixture
def alone(tmp_path):
    """A kind of ``CompiledSVI`` in the group of one process."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield Alone
    torch.distributed.destroy_process_group()


ESTIMATORS = ["REBAR", "DisARM", "LeaveOneOut", "Enumeration", "ScoreFunction-ema"]


@pytest.mark.parametrize("label", one_in(3, ESTIMATORS, 1))
def test_estimators(alone, label):
    def programs():
        entry = REGISTRY[label]
        program = layout_of("hierarchy", entry.families[0])
        estimators = {site: entry.make() for site in program.sites}
        elbo = pre.TraceEstimator_ELBO(estimators, num_particles=entry.num_particles)
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-6, kind=alone)


@slow
def test_both_are_compiled(alone, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))

    assert_same_steps(lambda: (model, guide, pre.TraceEstimator_ELBO()), kind=CompiledAlone)
    assert len(list(tmp_path.glob("*/*.pt2"))) == 2
    monkeypatch.setattr(backends, "_compile", None)  # the next ones are found
    assert_same_steps(lambda: (model, guide, pre.TraceEstimator_ELBO()), kind=CompiledAlone)


OPTIMISERS = [
    lambda: Adam({"lr": 0.01}, {"clip_norm": 1.0}),
    lambda: AdamW({"lr": 0.01, "amsgrad": True}),
    lambda: SGD({"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    lambda: ClippedAdam({"lr": 0.01, "lrd": 0.9}),
    lambda: RMSprop({"lr": 0.01}),
]


@pytest.mark.parametrize("optim", one_in(3, OPTIMISERS))
def test_optimisers(alone, optim):
    model = regression()

    def programs():
        guide = pyro.infer.autoguide.AutoNormal(model)
        guide()  # else its values are drawn by the first step, which begins with a run of its own
        return model, guide, pre.TraceEstimator_ELBO(max_plate_nesting=1)

    assert_same_steps(programs, count=5, optim=optim, kind=alone)


def test_buffers_are_written(alone):
    networks = []
    data = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    given = lambda number: (data * (number + 1),)  # noqa: E731
    assert_same_steps(lambda: normalised(networks), given, count=6, kind=alone)
    eager, graph = (dict(network.named_buffers()) for network in networks)
    for name, buffer in eager.items():
        torch.testing.assert_close(graph[name], buffer)


# -- where a graph is cut ---------------------------------------------------------------------------


def step(p, moment, x):
    """Reads a view of an input on both sides, and draws on the first."""
    flat = p.view(-1)
    noise = torch.rand_like(flat)
    total = flat.sum()
    vector = over_ranks((flat + noise) * x)
    moment.copy_(0.9 * moment + vector)
    p.copy_((flat - vector * noise.exp()).view_as(p))
    return [total + vector.sum()]


def cut():
    inputs = torch.arange(4.0).view(2, 2), torch.ones(4), torch.full((4,), 2.0)
    return make_fx(step)(*inputs), inputs


def test_the_second_half_has_what_only_it_needs():
    before, after = halves(cut()[0])
    assert (before.inputs, after.inputs) == ([0, 2], [0, 1])
    names = [[x.target for x in half.graph.graph.nodes] for half in (before, after)]
    assert torch.ops.aten.rand_like.default in names[0]
    assert torch.ops.aten.rand_like.default not in names[1]
    # A view of an input is made anew; what is made of what was drawn crosses.
    assert torch.ops.aten.view.default in names[0] and torch.ops.aten.view.default in names[1]
    (output,) = (x for x in before.graph.graph.nodes if x.op == "output")
    assert [x.name for x in output.args[0]] == ["mul", "sum_1", "exp"]


def test_what_goes_on_between_them():
    gm, inputs = cut()
    run = Halves(gm, inputs, plain)
    torch.manual_seed(0)
    expected = [x.clone() for x in inputs]
    (loss,) = step(*expected)
    torch.manual_seed(0)
    found = [x.clone() for x in inputs]
    assert torch.equal(run(list(found))[0], loss)
    assert all(map(torch.equal, found, expected))
    run.exchange = torch.zeros_like
    found = [x.clone() for x in inputs]
    run(list(found))
    assert torch.equal(found[0], inputs[0]) and torch.equal(found[1], 0.9 * inputs[1])

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO

import pyro_reparam_ext as pre
from pyro_reparam_ext.study.draws import CAPTURE_PAYS, COMPILING_PAYS, Draws
from pyro_reparam_ext.study.elbo_call import ElboCall
from pyro_reparam_ext.study.sampler import Sampler

from ..slow import slow

DATA = torch.tensor([[0.3, 1.2], [2.0, -0.5], [0.1, 0.4]])


def model(data=DATA):
    with pyro.plate("rows", 3):
        z = pyro.sample("z", dist.Bernoulli(torch.full((2,), 0.3)).to_event(1))
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z + w[..., None], 1.0).to_event(1), obs=data)


def guide(data=DATA):
    logits = pyro.param("logits", lambda: torch.zeros(3, 2))
    loc = pyro.param("loc", lambda: torch.ones(3))
    with pyro.plate("rows", 3):
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))
        pyro.sample("w", dist.Normal(loc, 0.5))


def draws_of(elbo, model=model, guide=guide):
    return Draws(Sampler(ElboCall(elbo, model, guide, (), {})), ["logits", "loc"])


def of_seed(draws, count):
    torch.manual_seed(7)
    return [torch.cat(x) for x in zip(*(c.values() for c in draws.chunks(count)), strict=True)]


ELBOS = {
    "DisARM, batched": lambda: pre.TraceEstimator_ELBO(pre.DisARM()),
    "REBAR, batched": lambda: pre.TraceEstimator_ELBO(pre.REBAR()),
    "DisARM, looped": lambda: pre.TraceEstimator_ELBO(pre.DisARM(), vectorize_particles=False),
    "Pyro's": lambda: Trace_ELBO(max_plate_nesting=1),
}


@pytest.mark.parametrize("name", ELBOS)
def test_a_graph_makes_the_draws_of_python(name, monkeypatch):
    draws = draws_of(ELBOS[name]())
    assert draws.batched == ("batched" in name)
    draws.size = 8
    expected = of_seed(draws, 20)  # with a rest, which no graph of eight draws at once can make
    draws.speed_up(CAPTURE_PAYS + 1)
    assert draws.graph is not None
    calls, graph = [], draws.graph
    monkeypatch.setattr(draws, "graph", lambda: calls.append(1) or graph())
    for a, b in zip(of_seed(draws, 20), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert len(calls) == (2 if draws.batched else 20)
    assert len(expected[0].unique(dim=0)) > 1


@slow
def test_a_graph_may_be_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    draws = draws_of(pre.TraceEstimator_ELBO(pre.DisARM()))
    draws.size = 8
    expected = of_seed(draws, 16)
    draws.speed_up(COMPILING_PAYS + 1)
    for a, b in zip(of_seed(draws, 16), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert len(list(tmp_path.glob("*/*.pt2"))) == 1


def test_few_draws_are_made_by_python():
    draws = draws_of(pre.TraceEstimator_ELBO(pre.DisARM()))
    draws.speed_up(CAPTURE_PAYS - 1)
    assert draws.graph is None


def test_what_is_no_graph_is_drawn_by_python():
    count = [0.0]

    def counting(data=DATA):
        count[0] += 1.0
        with pyro.poutine.scale(scale=count[0]):
            model(data)

    def branching(data=DATA):
        model(data)
        if pyro.sample("v", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0)) + pyro.param("loc").sum() > 0:
            pyro.factor("f", pyro.param("loc").sum())

    for program, elbo in (
        (counting, Trace_ELBO(max_plate_nesting=1)),
        (branching, Trace_ELBO(max_plate_nesting=1)),
        (model, TraceGraph_ELBO(max_plate_nesting=1)),
    ):
        draws = draws_of(elbo, program)
        draws.speed_up(CAPTURE_PAYS + 1)
        assert draws.graph is None
        assert len(of_seed(draws, 3)[0]) == 3

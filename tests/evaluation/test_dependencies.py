"""Which costs depend on which sites: found by provenance in some calls, and kept for those between."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.ops.provenance import ProvenanceTensor

import pyro_reparam_ext as pre

from .forms import tensor

DATA = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def guide(data):
    for name in "ab":
        pyro.sample(name, dist.Bernoulli(logits=pyro.param(f"logit_{name}", tensor(0.2))))


class Model:
    """Two coins; the mean of the data is that one that ``chosen`` says, at each call."""

    def __init__(self, chosen=lambda call, data: "a"):
        self.chosen = chosen
        self.calls = 0
        self.tracked = []

    def __call__(self, data):
        coins = {name: pyro.sample(name, dist.Bernoulli(tensor(0.3))) for name in "ab"}
        self.tracked.append(isinstance(coins["a"], ProvenanceTensor))
        with pyro.plate("data", len(data)):
            loc = coins[self.chosen(self.calls, data)]
            pyro.sample("x", dist.Normal(loc[..., None], 1.0), obs=data)


def upstream(elbo, model, data=DATA):
    """Sites that the likelihood is said to depend on."""
    (costs,) = elbo.evaluate(model, guide, (data,), {})
    model.calls += 1
    return next(term.upstream for term in costs.passes[0].terms if term.key == ("model", "x"))


@pytest.fixture
def elbo():
    return pre.TraceEstimator_ELBO(pre.ScoreFunction(), max_plate_nesting=1)


def test_values_carry_their_provenance_in_few_calls_only(elbo):
    model = Model()
    tracked = []
    for _ in range(20):
        model.tracked.clear()
        assert upstream(elbo, model) == {"a"}
        tracked.append(any(model.tracked))
    assert [call for call, there in enumerate(tracked, 1) if there] == [1, 4, 16]


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_gradients_are_those_of_a_run_with_provenance(mode):
    def gradients(elbos):
        pyro.clear_param_store()
        torch.manual_seed(0)
        drawn = []
        for elbo in elbos:
            for name in pyro.get_param_store().keys():
                pyro.param(name).unconstrained().grad = None
            elbo.loss_and_grads(Model(), guide, DATA)
            drawn.append([pyro.param(f"logit_{name}").unconstrained().grad.clone() for name in "ab"])
        return torch.tensor(drawn)

    options = {"vectorize_particles": mode, "max_plate_nesting": 1}
    new = [pre.TraceEstimator_ELBO(pre.ScoreFunction(), **options) for _ in range(12)]
    torch.testing.assert_close(gradients(new[:1] * 12), gradients(new))


def test_other_shapes_are_looked_at_anew(elbo):
    model = Model(lambda call, data: "a" if len(data) > 3 else "b")
    found = [upstream(elbo, model, DATA[:size]) for size in (6, 6, 2, 6, 2, 2)]
    assert found == [{"a"}, {"a"}, {"b"}, {"a"}, {"b"}, {"b"}]


def test_looking_anew_leaves_no_trace(elbo):
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("runs", torch.zeros(()))
            self.model = Model()

        def forward(self, data):
            self.runs += 1
            self.model(data)

    model = Counting()
    for size in (6, 6, 2):
        before, state = model.runs.clone(), torch.get_rng_state()
        elbo.loss(model, guide, DATA[:size])
        assert model.runs == before + 1
        once = torch.get_rng_state()
        torch.set_rng_state(state)
        pre.TraceEstimator_ELBO(pre.ScoreFunction()).loss(Model(), guide, DATA[:size])
        assert torch.equal(once, torch.get_rng_state())


def test_a_program_that_changes_is_found_out_and_both_are_kept(elbo):
    model = Model(lambda call, data: "a" if call < 8 else "b")
    found = [upstream(elbo, model) for _ in range(20)]
    assert found[:8] == [{"a"}] * 8
    assert found[15] == {"b"}
    assert found[16:] == [{"a", "b"}] * 4


def test_what_branches_on_values_is_looked_at_in_every_call(elbo):
    def model(data):
        a, b = (pyro.sample(name, dist.Bernoulli(tensor(0.3))) for name in "ab")
        loc = b if a > 0.5 else tensor(0.0)
        with pyro.plate("data", len(data)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=data)

    model.calls = 0
    found = set()
    for _ in range(40):
        (costs,) = elbo.evaluate(model, guide, (DATA,), {})
        value = costs.program.sites[0].value
        names = next(t.upstream for t in costs.passes[0].terms if t.key == ("model", "x"))
        assert names == ({"a", "b"} if value == 1 else {"a"})
        found.add(frozenset(names))
    assert len(found) == 2


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_a_cost_that_is_differentiated_keeps_what_it_depends_on(mode):
    """RODEO differentiates that of "a", which has nothing to do with "b" and lies outside its plate."""
    plate = pyro.plate("rows", 3)

    def coins(pre_name):
        pyro.sample("a", dist.Bernoulli(logits=pyro.param(f"{pre_name}_a", tensor(-1.1))))
        with plate:
            pyro.sample("b", dist.Bernoulli(logits=pyro.param(f"{pre_name}_b", tensor(0.4))))

    elbo = pre.TraceEstimator_ELBO(
        {"a": pre.RODEO(), "b": pre.MeasureValued()}, vectorize_particles=mode, max_plate_nesting=1
    )
    elbo.loss_and_grads(lambda: coins("model"), lambda: coins("guide"))
    q, p = (pyro.param(f"{side}_b").detach().sigmoid() for side in ("guide", "model"))
    expected = 3 * q * (1 - q) * (q.logit() - p.logit())  # of three KL divergences; no noise is left
    torch.testing.assert_close(pyro.param("guide_b").grad, expected)

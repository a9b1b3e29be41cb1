"""AutoRelax: which sites, next to which strategies, and where inference starts."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal, init_to_value
from pyro.infer.reparam.strategies import AutoReparam

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.wrappers import innermost
from pyro_reparam_ext.reparam import AutoRelax

OPTIONS = [{}, {"score": "discrete"}, {"straight_through": True}]


def sites(program):
    nodes = poutine.trace(program).get_trace().nodes.items()
    return {
        name: type(innermost(node["fn"])).__name__ for name, node in nodes if node["type"] == "sample"
    }


def all_sorts():
    pyro.sample("bernoulli", dist.Bernoulli(0.3).expand([2]).to_event(1))
    pyro.sample("one_hot", dist.OneHotCategorical(torch.ones(3)).mask(torch.tensor(True)))
    pyro.sample("hard", dist.OneHotCategoricalStraightThrough(torch.ones(3)))
    pyro.sample("observed", dist.Bernoulli(0.3), obs=torch.tensor(1.0))
    pyro.sample("integer", dist.Categorical(torch.ones(3)))
    pyro.sample("count", dist.Poisson(3.0))
    pyro.sample("enumerated", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
    pyro.sample("estimated", dist.Bernoulli(0.3), infer={"estimator": pre.DisARM()})
    pyro.sample("relaxed", pre.distributions.StraightThroughBernoulli(0.5, probs=0.3))
    pyro.sample("normal", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("decorated", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_which_sites(options, decorated):
    strategy = AutoRelax(temperature=0.5, **options)
    program = strategy(all_sorts) if decorated else poutine.reparam(all_sorts, config=strategy)
    kind = "StraightThrough" if "straight_through" in options else "Relaxed"
    for _ in range(2):
        assert sites(program) == {
            "bernoulli": f"{kind}Bernoulli",
            "one_hot": f"{kind}OneHotCategorical",
            "hard": f"{kind}OneHotCategorical",
            "observed": "Bernoulli",
            "integer": "Categorical",
            "count": "Poisson",
            "enumerated": "Bernoulli",
            "estimated": "Bernoulli",
            "relaxed": "StraightThroughBernoulli",
            "normal": "Normal",
        }
    # What it found can be given to ``poutine.reparam`` as it is.
    found = {name: reparam for name, reparam in strategy.config.items() if reparam is not None}
    assert set(found) == {"bernoulli", "one_hot", "hard"}
    assert sites(poutine.reparam(all_sorts, config=found)) == sites(program)


def test_one_object_for_guide_and_model():
    """Which differ in the sites of one name."""
    strategy = AutoRelax(0.5)

    def model():
        pyro.sample("z", dist.Bernoulli(0.5))

    def other():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    assert sites(strategy(model)) == {"z": "RelaxedBernoulli"}
    assert sites(strategy(other)) == {"z": "Normal"}
    assert sites(strategy(model)) == {"z": "RelaxedBernoulli"}


@pytest.mark.parametrize("outer", [True, False])
def test_next_to_auto_reparam(outer):
    """In either order: both strategies find their sites."""

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 2.0))
        z = pyro.sample("z", dist.OneHotCategorical(logits=torch.ones(3)))
        y = pyro.sample("y", dist.LogNormal(x, 1.0))
        pyro.sample("data", dist.Normal(z[..., 0] + y, 1.0), obs=torch.tensor(1.0))

    for strategy in (AutoReparam(centered=0.0), pre.reparam.AutoPathwise()):
        pair = [strategy, AutoRelax(0.5)]
        program = model
        for one in pair if outer else reversed(pair):
            program = poutine.reparam(program, config=one)
        found = sites(program)
        assert found["z"] == "RelaxedOneHotCategorical"
        if isinstance(strategy, AutoReparam):
            assert {"x_decentered", "y_base_decentered"} <= set(found)
        guide = AutoNormal(program)
        SVI(program, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step()


def mixed():
    with pyro.plate("two", 2):
        z = pyro.sample("z", dist.OneHotCategorical(logits=torch.tensor([1.0, 0.0, 0.0])))
        b = pyro.sample("b", dist.Bernoulli(0.3))
        loc = z @ torch.tensor([-1.0, 0.0, 2.0]) + b
        pyro.sample("x", dist.Normal(loc, 0.5), obs=torch.tensor([2.9, 3.0]))


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta, AutoMultivariateNormal])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_autoguides_start_by_themselves(options, auto):
    model = AutoRelax(0.5, **options)(mixed)
    guide = auto(model)
    svi = SVI(
        model,
        guide,
        pyro.optim.Adam({"lr": 0.1}),
        Trace_ELBO(num_particles=8, vectorize_particles=True),
    )
    for _ in range(60):
        svi.step()
    z = guide.median()["z"]
    assert (z.argmax(-1) == 2).all()
    if "straight_through" in options:
        values = guide()
        assert ((values["z"] == 0) | (values["z"] == 1)).all()
        assert ((values["b"] == 0) | (values["b"] == 1)).all()


def test_a_given_start_is_kept():
    values = {"z": torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]), "b": torch.tensor([0.2, 0.9])}
    guide = AutoDelta(AutoRelax(0.5)(mixed), init_loc_fn=init_to_value(values=values))
    guide()
    for name, value in guide.median().items():
        torch.testing.assert_close(value.detach(), values[name])


def test_nuts_starts_by_itself():
    kernel = NUTS(AutoRelax(0.7)(mixed), max_tree_depth=4)
    mcmc = MCMC(kernel, num_samples=30, warmup_steps=30, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["z"].mean(0)[:, 2].min() > 0.5  # 0.26 in the prior


def test_enumeration_of_the_rest():
    """Enumerated sites stay exact beside relaxed ones."""
    strategy = AutoRelax(0.5)

    @strategy
    def model():
        z = pyro.sample("z", dist.Bernoulli(0.4))
        k = pyro.sample("k", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(z + k, 1.0), obs=torch.tensor(1.0))

    @strategy
    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("q", torch.tensor(0.0))))

    trace = poutine.trace(config_enumerate(guide)).get_trace()
    assert type(trace.nodes["z"]["fn"]).__name__ == "RelaxedBernoulli"
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), TraceEnum_ELBO(max_plate_nesting=0))
    svi.step()
    assert pyro.param("q").item() != 0

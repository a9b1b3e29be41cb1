"""RelaxReparam: what the site becomes, where inference starts, and its temperature."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_sample, init_to_value
from pyro.nn import PyroModule
from torch import nn
from torch.distributions import constraints

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.wrappers import innermost
from pyro_reparam_ext.reparam import RelaxReparam

from ..slow import one_in
from .layouts import LAYOUTS

FAMILIES = {
    "Bernoulli": (dist.Bernoulli, torch.tensor(0.8)),
    "OneHotCategorical": (dist.OneHotCategorical, torch.tensor([-0.6, 0.5, -0.5])),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
BOTH = ["Bernoulli", "OneHotCategorical"]
OPTIONS = {
    "relaxed": {},
    "discrete": {"score": "discrete"},
    "straight-through": {"straight_through": True},
}
CLASSES = {
    "relaxed": ("RelaxedBernoulli", "RelaxedOneHotCategorical"),
    "discrete": ("RelaxedBernoulli", "RelaxedOneHotCategorical"),
    "straight-through": ("StraightThroughBernoulli", "StraightThroughOneHotCategorical"),
}


def at(temperature, **options):
    return {"z": RelaxReparam(temperature, **options)}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@every_family
def test_layouts_and_plates(family, layout, options):
    """At hard values the linear score is the discrete one: term by term, with plates and masks."""
    cls, logits = FAMILIES[family]

    def run():
        with pyro.plate("rows", 8, subsample_size=4, dim=-2), pyro.plate("columns", 3, dim=-1):
            with poutine.mask(mask=torch.tensor([[True], [False], [True], [True]])):
                return pyro.sample("z", LAYOUTS[layout](cls(logits=logits)))

    relaxed = poutine.reparam(run, config=at(0.4, **OPTIONS[options]))
    trace, plain = poutine.trace(relaxed).get_trace(), poutine.trace(run).get_trace()
    site, discrete = trace.nodes["z"], plain.nodes["z"]
    assert type(innermost(site["fn"])).__name__ == CLASSES[options][BOTH.index(family)]
    assert not site["is_observed"]
    assert site["fn"].has_rsample
    for attribute in ("batch_shape", "event_shape"):
        assert getattr(site["fn"], attribute) == getattr(discrete["fn"], attribute)
    assert site["value"].shape == discrete["value"].shape
    site["value"] = discrete["value"]
    trace.compute_log_prob()
    plain.compute_log_prob()
    masked = discrete["log_prob"] == 0
    assert torch.equal(site["log_prob"] == 0, masked)
    if options != "relaxed":
        torch.testing.assert_close(site["log_prob"], discrete["log_prob"])


@pytest.mark.parametrize("given", ["probs", "logits"])
@pytest.mark.parametrize("options", OPTIONS)
@every_family
def test_parameters_and_validation_are_kept(family, options, given):
    cls = FAMILIES[family][0]
    x = torch.tensor([0.2, 0.0, 0.8] if given == "probs" else [0.5, -1.0, 90.0])
    reparam = RelaxReparam(0.5, **OPTIONS[options])
    for validate in (True, False):
        fn = cls(**{given: x}, validate_args=validate)
        new = reparam.relaxed("z", fn)
        assert new._validate_args == validate
        torch.testing.assert_close(new.probs, fn.probs, rtol=1e-6, atol=1e-7)
    if given == "probs" and options == "straight-through":
        assert new.sample((1000,))[..., 1].sum() == 0


@every_family
def test_observed_sites_are_left_alone(family):
    cls, logits = FAMILIES[family]
    observed = cls(logits=logits).sample()

    @poutine.reparam(config=at(0.5))
    def model():
        pyro.sample("z", cls(logits=logits), obs=observed)

    site = poutine.trace(model).get_trace().nodes["z"]
    assert isinstance(site["fn"], cls) and site["is_observed"]
    assert site["value"] is observed


@every_family
@pytest.mark.parametrize("auto", [AutoDelta, AutoNormal])
def test_initial_value_is_where_it_starts(family, auto):
    cls, logits = FAMILIES[family]
    value = torch.tensor(0.25) if family == "Bernoulli" else torch.tensor([0.2, 0.5, 0.3])

    @poutine.reparam(config=at(0.5))
    def model():
        return pyro.sample("z", cls(logits=logits))

    guide = auto(model, init_loc_fn=init_to_value(values={"z": value}))
    guide()
    torch.testing.assert_close(guide.median()["z"].detach(), value)


def test_a_default_start_of_the_discrete_site_is_replaced():
    """``init_to_sample`` is asked for a hard value first; the relaxed site gets one of its own."""
    model = poutine.reparam(classes, config=at(0.5))
    guide = AutoNormal(model, init_loc_fn=init_to_sample)
    guide()
    z = guide.median()["z"]
    assert ((z > 1e-6) & (z < 1)).all()
    SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step()


def classes():
    with pyro.plate("two", 2):
        z = pyro.sample("z", dist.OneHotCategorical(logits=torch.tensor([1.0, 0.0, 0.0])))
    loc = z @ torch.tensor([-1.0, 0.0, 2.0])
    pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=torch.tensor([2.0, 1.8]))


def test_nuts():
    kernel = NUTS(
        poutine.reparam(classes, config=at(0.7)), init_strategy=init_to_sample, max_tree_depth=5
    )
    mcmc = MCMC(kernel, num_samples=40, warmup_steps=40, disable_progbar=True)
    mcmc.run()
    z = mcmc.get_samples()["z"]
    torch.testing.assert_close(z.sum(-1), torch.ones(40, 2))
    assert z.mean(0)[:, 2].min() > 0.6  # 0.26 in the prior


def guide_of(temperature, **options):
    @poutine.reparam(config=at(temperature, **options))
    def guide():
        q = pyro.param("q", torch.zeros(2, 3))
        with pyro.plate("two", 2):
            pyro.sample("z", dist.OneHotCategorical(logits=q))

    return guide


@pytest.mark.parametrize(
    "elbo", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, pre.TraceEstimator_ELBO]
)
@pytest.mark.parametrize("options", one_in(3, OPTIONS))
def test_elbos_learn(options, elbo):
    options = OPTIONS[options]

    @poutine.reparam(config=at(0.5, **options))
    def model():
        with pyro.plate("two", 2):
            z = pyro.sample("z", dist.OneHotCategorical(logits=torch.zeros(3)))
            pyro.sample(
                "x", dist.Normal(z @ torch.tensor([-1.0, 0.0, 2.0]), 0.5), obs=torch.ones(2) * 1.9
            )

    svi = SVI(model, guide_of(0.5, **options), pyro.optim.Adam({"lr": 0.1}), elbo(num_particles=4))
    for _ in range(60):
        svi.step()
    assert pyro.param("q").softmax(-1)[:, 2].min() > 0.7


def relaxed_at(program):
    fn = innermost(poutine.trace(program).get_trace().nodes["z"]["fn"])
    return fn.temperature.flatten()[0].item()


@pytest.mark.parametrize("straight_through", [False, True])
def test_schedule(straight_through):
    """It advances with SVI, and model and guide read the same value."""
    schedule = pre.ExponentialDecay(1.0, 0.1, 0.5)
    guide = guide_of(schedule, straight_through=straight_through)
    model = poutine.reparam(classes, config=at(schedule, straight_through=straight_through))
    seen = []

    def watched(program):
        def run():
            seen.append(relaxed_at(program))

        return run

    svi = SVI(watched(model), watched(guide), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(3):
        svi.step()
    expected = [torch.tensor(-0.5 * t).exp().item() for t in range(3) for _ in range(2)]
    assert seen == pytest.approx(expected)


class Guide(PyroModule):
    """Has the temperature for an attribute, so that its ``state_dict`` saves it."""

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature
        self.run = guide_of(temperature)

    def forward(self):
        return self.run()


@pytest.mark.parametrize("in_module", [False, True])
def test_learned_parameter(in_module):
    parameter = nn.Parameter(torch.tensor(0.8))
    guide = Guide(parameter) if in_module else guide_of(parameter)
    model = poutine.reparam(classes, config=at(parameter))
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    temperatures = []
    for _ in range(4):
        svi.step()
        temperatures.append(relaxed_at(guide))
    assert temperatures[-1] == pytest.approx(parameter.item())
    assert len(set(temperatures)) == 4


def test_learned_and_constrained():
    def temperature():
        return pyro.param("temperature", torch.tensor(0.8), constraint=constraints.positive)

    guide, model = guide_of(temperature), poutine.reparam(classes, config=at(temperature))
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    before = temperature().item()
    for _ in range(4):
        svi.step()
    assert temperature().item() != before
    assert relaxed_at(guide) == pytest.approx(temperature().item())


def test_one_object_serves_several_sites():
    reparam = RelaxReparam(torch.tensor(0.5))

    def model():
        a = pyro.sample("a", dist.Bernoulli(0.5).expand([2]).to_event(1))
        b = pyro.sample("b", dist.OneHotCategorical(torch.ones(4)))
        return a.shape, b.shape

    handled = poutine.reparam(model, config={"a": reparam, "b": reparam})
    before = dict(vars(reparam))
    for _ in range(2):
        assert handled() == ((2,), (4,))
    assert {name: vars(reparam)[name] for name in before} == before


SITES = [
    ("Categorical", lambda: dist.Categorical(torch.ones(3)), "use OneHotCategorical"),
    ("Binomial", lambda: dist.Binomial(4, 0.5).to_event(0), "Bernoulli variables"),
    ("Poisson", lambda: dist.Poisson(4.0), "AutoRelax"),
    ("Normal", lambda: dist.Normal(0.0, 1.0), "given Normal"),
    (
        "straight-through",
        lambda: pre.distributions.StraightThroughBernoulli(0.5, probs=0.5),
        "given StraightThroughBernoulli",
    ),
]


@pytest.mark.parametrize("name, make, match", SITES, ids=[row[0] for row in SITES])
def test_errors_at_sites(name, make, match):
    @poutine.reparam(config=at(0.5))
    def model():
        pyro.sample("z", make())

    with pytest.raises(pre.EstimatorError, match=f"'z'.*{match}"):
        model()


def test_temperature_of_another_shape():
    @poutine.reparam(config=at(torch.tensor([0.5, 0.6])))
    def model():
        pyro.sample("z", dist.Bernoulli(0.5))

    with pytest.raises(pre.EstimatorError, match="'z'.*does not broadcast"):
        model()


ARGUMENTS = [
    ("temperature", {"temperature": 0.0}, "temperature must be positive"),
    ("score", {"temperature": 1.0, "score": "soft"}, "'relaxed' or 'discrete'"),
    ("both", {"temperature": 1.0, "score": "relaxed", "straight_through": True}, "one of the two"),
]


@pytest.mark.parametrize("cls", [RelaxReparam, pre.reparam.AutoRelax])
@pytest.mark.parametrize("name, arguments, match", ARGUMENTS, ids=[row[0] for row in ARGUMENTS])
def test_rejects_arguments(cls, name, arguments, match):
    with pytest.raises(pre.EstimatorError, match=match):
        cls(**arguments)

"""What a guide says to Pyro's own ELBOs means the same under ours, or raises."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from pyro.optim import SGD
from pyro.poutine.messenger import Messenger
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator

from ..sampling import gradients
from ..statistics import assert_mean

N = 4
DATA = torch.tensor([0.5, -1.0, 2.0, 0.3])
MODES = [{}, {"num_particles": 3}, {"vectorize_particles": False}]


def model():
    with pyro.plate("data", N):
        z = pyro.sample("z", dist.Bernoulli(0.4))
        pyro.sample("x", dist.Normal(z, 1.0), obs=DATA)


def guide_with(infer, make=None):
    def guide():
        logits = pyro.param("logits", torch.linspace(-1.0, 1.0, N))
        with pyro.plate("data", N):
            pyro.sample("z", (make or (lambda p: dist.Bernoulli(logits=p)))(logits), infer=infer)

    return guide


def estimator_at(guide, estimators=None, **options) -> Estimator:
    elbo = pre.TraceEstimator_ELBO(estimators, **options)
    (run, *_) = elbo.evaluate(model, guide, (), {})
    return run.program.sites[0].estimator


# -- enumerate ------------------------------------------------------------------------------------

ENUMERATED = [
    ("parallel", guide_with({"enumerate": "parallel"})),
    ("sequential", guide_with({"enumerate": "sequential"})),
    ("config_enumerate", config_enumerate(guide_with({}))),
    ("config_enumerate sequential", config_enumerate(guide_with({}), default="sequential")),
]


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("guide", [g[1] for g in ENUMERATED], ids=[g[0] for g in ENUMERATED])
def test_enumerated_as_by_trace_enum_elbo(guide, options):
    rows = []
    for elbo in (TraceEnum_ELBO(max_plate_nesting=1), pre.TraceEstimator_ELBO(**options)):
        pyro.clear_param_store()
        loss = elbo.loss_and_grads(model, guide)
        rows.append(torch.cat([torch.tensor([loss]), pyro.param("logits").grad]))
    torch.testing.assert_close(*rows)


@pytest.mark.parametrize("how", [None, False])
def test_site_that_asks_not_to_be_enumerated(how):
    assert isinstance(estimator_at(guide_with({"enumerate": how})), pre.ScoreFunction)


# -- baseline -------------------------------------------------------------------------------------


class Flat(nn.Module):
    """A baseline of one number per element of the plate."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.linear = nn.Linear(1, 1)

    def forward(self, x):
        return self.linear(x.unsqueeze(-1)).squeeze(-1)


class SameDraws(Messenger):
    """Bernoulli values from the random numbers that our own sampler takes, for Pyro's ELBOs."""

    def _pyro_sample(self, message):
        if message["name"] == "z" and message["value"] is None:
            message["value"] = (torch.rand(N) < message["fn"].probs.detach()).float()


def parameters_after(elbo, infer, steps=3):
    """Of guide and network after some steps, with the baseline that ``infer`` makes of a network."""
    pyro.clear_param_store()
    network = Flat()

    def guide():
        pyro.module("network", network)
        guide_with({"baseline": infer(network)})()

    torch.manual_seed(1)
    svi = SVI(model, guide, SGD({"lr": 0.01}), elbo)
    with SameDraws():
        for _ in range(steps):
            svi.step()
    return torch.cat([p.detach().flatten() for p in pyro.get_param_store()._params.values()])


BASELINES = [
    ("module", lambda net: {"nn_baseline": net, "nn_baseline_input": DATA}),
    ("function", lambda net: {"nn_baseline": lambda x: net(x) + 1, "nn_baseline_input": DATA}),
    ("value", lambda net: {"baseline_value": net(DATA)}),
    ("nothing", lambda net: {"baseline_beta": 0.5}),
]


@pytest.mark.parametrize("options", [{}, {"vectorize_particles": False}], ids=str)
@pytest.mark.parametrize("infer", [b[1] for b in BASELINES], ids=[b[0] for b in BASELINES])
def test_trains_guide_and_network_as_trace_graph_elbo(infer, options):
    ours = parameters_after(pre.TraceEstimator_ELBO(**options), infer)
    torch.testing.assert_close(ours, parameters_after(TraceGraph_ELBO(), infer))
    assert ours.isfinite().all() and len(ours) == N + 2
    if "baseline_beta" not in infer(Flat()):
        before = torch.cat([p.detach().flatten() for p in Flat().parameters()])
        assert not torch.equal(ours[-2:], before) and not torch.equal(ours[:2], before)


def test_decaying_average():
    """That of ``ScoreFunction("ema")``, at the decay that is asked for."""
    rows = []
    for infer in (
        {"baseline": {"use_decaying_avg_baseline": True}},
        {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}},
        {"estimator": pre.ScoreFunction("ema")},
        {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.5}},
    ):
        pyro.clear_param_store()
        torch.manual_seed(1)
        svi = SVI(model, guide_with(infer), SGD({"lr": 0.1}), pre.TraceEstimator_ELBO())
        for _ in range(4):
            svi.step()
        rows.append(pyro.param("logits").detach())
    torch.testing.assert_close(rows[0], rows[2])
    torch.testing.assert_close(rows[1], rows[2])
    assert not torch.allclose(rows[3], rows[2])


@pytest.mark.parametrize("options", MODES, ids=str)
def test_gradient_stays_unbiased(options):
    """Average and network at once, against enumeration."""
    network = Flat()
    options_of_site = {
        "nn_baseline": network,
        "nn_baseline_input": DATA,
        "use_decaying_avg_baseline": True,
    }
    guide = guide_with({"baseline": options_of_site})
    samples = gradients(pre.TraceEstimator_ELBO(**options), model, guide, ["logits"], 500)
    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO({"z": pre.Enumeration()})
    assert_mean(samples, gradients(elbo, model, guide_with({}), ["logits"], 1)[0])


# -- precedence -----------------------------------------------------------------------------------

PRECEDENCE = [
    ({"estimator": pre.REBAR(), "enumerate": "parallel"}, {"z": pre.DisARM()}, pre.REBAR),
    ({"enumerate": "parallel"}, {"z": pre.DisARM()}, pre.DisARM),
    ({"enumerate": "parallel"}, lambda site: pre.DisARM(), pre.DisARM),
    ({"enumerate": "parallel"}, lambda site: None, pre.Enumeration),
    ({"enumerate": "parallel"}, {}, pre.Enumeration),
    ({"enumerate": "parallel"}, pre.DisARM(), pre.Enumeration),
    ({"enumerate": "parallel"}, None, pre.Enumeration),
    ({"baseline": {"baseline_value": torch.ones(N)}}, pre.DisARM(), pre.ScoreFunction),
    ({"baseline": {"baseline_value": torch.ones(N)}}, {"z": pre.DisARM()}, pre.DisARM),
    ({"baseline": {}}, pre.DisARM(), pre.DisARM),
    ({}, pre.DisARM(), pre.DisARM),
]


@pytest.mark.parametrize(("infer", "estimators", "expected"), PRECEDENCE)
def test_precedence(infer, estimators, expected):
    assert type(estimator_at(guide_with(infer), estimators)) is expected


def model_with(make=None):
    """A site of the guide's family, and data."""

    def program():
        with pyro.plate("data", N):
            z = pyro.sample("z", (make or (lambda p: dist.Bernoulli(logits=p)))(torch.zeros(N)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=DATA)

    return program


# -- what can't be obeyed -------------------------------------------------------------------------


def poisson(logits):
    return dist.Poisson(logits.exp())


def normal(logits):
    return dist.Normal(logits, 1.0)


REFUSED = [
    ({"enumerate": "parallel"}, poisson, "'z'.*Poisson.*Drop infer"),
    ({"enumerate": "all"}, None, "'z'.*'all'.*'parallel' or 'sequential'"),
    ({"enumerate": "parallel", "num_samples": 10}, None, "'z'.*num_samples.*LeaveOneOut"),
    ({"enumerate": "parallel", "baseline": {"baseline_value": 1.0}}, None, "'z'.*one of them"),
    ({"baseline": "ema"}, None, "'z'.*'ema'.*dict"),
    ({"baseline": {"decay": 0.5}}, None, "'z'.*decay.*baseline_beta"),
    ({"baseline": {"nn_baseline": Flat(), "baseline_value": 1.0}}, None, "'z'.*expected one"),
    ({"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 1.5}}, None, "'z'.*1.5"),
    ({"baseline": {"baseline_value": torch.ones(3)}}, None, r"'z'.*\(3,\)"),
]


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize(("infer", "make", "match"), REFUSED)
def test_refused(infer, make, match, options):
    with pytest.raises(pre.EstimatorError, match="(?s)" + match):
        elbo = pre.TraceEstimator_ELBO(**options)
        elbo.loss_and_grads(model_with(make), guide_with(infer, make))
    assert not list(pyro.get_param_store().keys())


# -- a baseline at a site that is sampled pathwise --------------------------------------------------

AVERAGE = {"baseline": {"use_decaying_avg_baseline": True}}


def baseline_warnings(run):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        run()
    assert all(w.filename == __file__ for w in record)
    return [str(w.message) for w in record]


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("estimators", [None, {"z": pre.Pathwise()}, pre.Pathwise()], ids=str)
def test_baseline_of_no_use(estimators, options):
    """Ignored as by ``TraceGraph_ELBO``, but not in silence."""
    rows = []
    for infer in (AVERAGE, {}):
        pyro.clear_param_store()
        torch.manual_seed(2)
        elbo = pre.TraceEstimator_ELBO(estimators, **options)
        svi = SVI(model_with(normal), guide_with(infer, normal), SGD({"lr": 0.1}), elbo)
        told = baseline_warnings(lambda svi=svi: [svi.step() for _ in range(3)])
        assert len(told) == bool(infer)
        assert all("'z'" in x and "pathwise" in x and "ScoreFunction(baseline" in x for x in told)
        rows.append(pyro.param("logits").detach())
    assert torch.equal(*rows)


def test_baseline_of_a_relaxed_estimator():
    elbo = pre.TraceEstimator_ELBO({"z": pre.StraightThrough()})
    (told,) = baseline_warnings(lambda: elbo.loss_and_grads(model, guide_with(AVERAGE)))
    assert "StraightThrough" in told


def test_baseline_where_the_score_function_is_asked_for():
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction())
    guide = guide_with(AVERAGE, normal)
    assert not baseline_warnings(lambda: elbo.loss_and_grads(model_with(normal), guide))
    assert len(elbo.states)  # it has an average


@pytest.mark.parametrize("options", MODES, ids=str)
def test_site_that_the_model_wants_summed_out(options):
    @config_enumerate
    def summed():
        k = pyro.sample("k", dist.Bernoulli(0.4))
        pyro.sample("x", dist.Normal(k, 1.0), obs=torch.tensor(1.0))

    with pytest.raises(pre.EstimatorError, match="'k'.*in the guide.*TraceEnum_ELBO"):
        pre.TraceEstimator_ELBO(**options).loss_and_grads(summed, lambda: None)

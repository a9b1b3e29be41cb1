"""Networks as Bayesian ones: their sites, particles side by side, and how they are kept."""

from __future__ import annotations

import contextlib
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal, init_to_value
from pyro.nn import PyroModule, PyroSample
from torch import nn

import pyro_reparam_ext as pre

from ..sampling import losses
from ..statistics import assert_z
from .mean_field import CONTEXTS

NORMAL = dist.Normal(0.0, 1.0)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


class Regression(PyroModule):
    """Normal observations around the outputs of a network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x, y=None):
        loc = self.net(x)
        with pyro.plate("data", x.shape[-2]):
            return pyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=y)


class Twice(PyroModule):
    """Calls a network twice in one run."""

    def __init__(self) -> None:
        super().__init__()
        self.net = pre.nn.to_bayesian(network(), NORMAL)

    def forward(self, x):
        return self.net(x) - self.net(x)


@pytest.fixture
def data():
    return torch.randn(6, 4), torch.randn(6, 2)


def shapes(fn, *args):
    nodes = poutine.trace(fn).get_trace(*args).nodes
    return {k: tuple(v["value"].shape) for k, v in nodes.items() if v["type"] == "sample"}


def test_sites_are_the_parameters(data):
    bnn = pre.nn.to_bayesian(network(), NORMAL)
    assert shapes(bnn, data[0]) == {
        name: tuple(value.shape) for name, value in network().named_parameters()
    }
    named = pre.nn.to_bayesian(network(), {"0.weight": NORMAL}, name="net")
    assert list(shapes(named, data[0])) == ["net.0.weight"]
    nested = shapes(Regression(pre.nn.to_bayesian(network(), {"0": NORMAL})), *data)
    assert list(nested) == ["net.0.weight", "net.0.bias", "data", "y"]


def test_the_module_is_left_as_it_was(data):
    module = network()
    before = {name: value.clone() for name, value in module.named_parameters()}
    bnn = pre.nn.to_bayesian(module, NORMAL)
    bnn(data[0])
    assert all(isinstance(x, nn.Parameter) for x in module.parameters())
    assert {k: v.tolist() for k, v in bnn.initial_values().items()} == {
        k: v.tolist() for k, v in before.items()
    }
    assert not list(bnn.parameters())


def test_output_is_the_module_s_at_the_weights(data):
    x, _ = data
    bnn = pre.nn.to_bayesian(network(), NORMAL)
    trace = poutine.trace(bnn).get_trace(x)
    module = network()
    module.load_state_dict({k: trace.nodes[k]["value"] for k, _ in module.named_parameters()})
    torch.testing.assert_close(trace.nodes["_RETURN"]["value"], module(x))


def test_parameters_without_a_prior_are_learned(data):
    bnn = pre.nn.to_bayesian(network(), {"*.weight": NORMAL})
    model = Regression(bnn)
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    svi.step(*data)
    before = bnn.module[0].bias.detach().clone()
    svi.step(*data)
    assert isinstance(bnn.module[0].bias, nn.Parameter)
    assert (bnn.module[0].bias != before).all()


def test_pretrained_values_are_a_guide_s_start(data):
    module = network()
    model = Regression(pre.nn.to_bayesian(module, NORMAL))
    guide = AutoNormal(model, init_loc_fn=init_to_value(values=model.net.initial_values()))
    guide(*data)
    torch.testing.assert_close(guide.median()["net.2.weight"], module[2].weight.detach())


def test_tied_parameters_are_one_site(data):
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False))
    module[2].weight = module[0].weight
    bnn = pre.nn.to_bayesian(module, NORMAL)
    trace = poutine.trace(bnn).get_trace(data[0])
    assert [name for name in trace.nodes if name.endswith("weight")] == ["0.weight"]
    w = trace.nodes["0.weight"]["value"]
    torch.testing.assert_close(trace.nodes["_RETURN"]["value"], (data[0] @ w.T).tanh() @ w.T)


def test_tied_parameters_have_several_names(data):
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False))
    module[2].weight = module[0].weight
    for prior in ({"2.weight": NORMAL}, {"2": NORMAL}, {"0": NORMAL}):
        assert list(shapes(pre.nn.to_bayesian(module, prior), data[0])) == ["0.weight"]


def test_two_calls_of_an_outer_module_see_one_draw(data):
    assert (Twice()(data[0]) == 0).all()


@pytest.mark.parametrize("size", [3, 1])
@pytest.mark.parametrize("nesting", [1, 2])
def test_particles_run_side_by_side(data, size, nesting):
    """As one by one, and with the particles' dim where the plates leave it."""
    x, y = data
    bnn = pre.nn.to_bayesian(network(), {"*.weight": NORMAL}, event_dim=None if nesting == 1 else 1)
    with pyro.plate("num_particles_vectorized", size, dim=-1 - nesting):
        trace = poutine.trace(bnn).get_trace(x)
    output = trace.nodes["_RETURN"]["value"]
    ones = (1,) * (nesting - 1)
    expected = (size, *ones, 6, 2) if size > 1 else (6, 2)
    assert output.shape == expected
    for i in range(size):
        module = network()
        module.load_state_dict(bnn.module.state_dict())
        for name in ("0.weight", "2.weight"):
            module.get_parameter(name).data = trace.nodes[name]["value"][i].reshape(
                module.get_parameter(name).shape
            )
        torch.testing.assert_close(output.reshape(size, 6, 2)[i], module(x))


@pytest.mark.parametrize("context", [None, *CONTEXTS])
@pytest.mark.parametrize("make_guide", [AutoNormal, AutoDiagonalNormal])
@pytest.mark.parametrize(
    "elbo",
    [
        Trace_ELBO(),
        Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
        TraceMeanField_ELBO(),
        pre.TraceEstimator_ELBO(),
        pre.TraceEstimator_ELBO(num_particles=3),
    ],
)
def test_elbos_and_guides(data, context, make_guide, elbo):
    """The loss falls; and batches may have any size."""
    x, y = torch.randn(40, 4), torch.zeros(40, 2) + 3.0
    model = Regression(pre.nn.to_bayesian(network(), NORMAL))
    guide = make_guide(model, init_scale=0.1)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    before = svi.evaluate_loss(x, y)
    for size in (40, 1, 7) * 10:
        if context is None:
            svi.step(x[:size], y[:size])
        else:
            with CONTEXTS[context]():
                svi.step(x[:size], y[:size])
    assert svi.evaluate_loss(x, y) < before - 50


@pytest.mark.parametrize("context", CONTEXTS)
def test_certain_weights(data, context):
    """AutoDelta has no noise to draw, and its particles are one."""
    model = Regression(pre.nn.to_bayesian(network(), NORMAL))
    guide = AutoDelta(model, init_loc_fn=init_to_value(values=model.net.initial_values()))
    exact = Trace_ELBO().loss(model, guide, *data)
    with CONTEXTS[context]():
        assert Trace_ELBO().loss(model, guide, *data) == pytest.approx(exact)
        elbo = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
        assert elbo.loss(model, guide, *data) == pytest.approx(exact)


@pytest.mark.parametrize("context", CONTEXTS)
def test_networks_of_pyro_s_own_idiom(data, context):
    net = PyroModule[nn.Linear](4, 2)
    net.weight = PyroSample(NORMAL.expand([2, 4]).to_event(2))
    net.bias = PyroSample(NORMAL.expand([2]).to_event(1))
    model = Regression(net)
    guide = AutoNormal(model, init_scale=1.0)
    guide(*data)
    x = data[0][:1].expand(6, 4)
    with CONTEXTS[context]():
        trace = poutine.trace(guide).get_trace(x)
        noisy = poutine.trace(poutine.replay(model, trace=trace)).get_trace(x).nodes["y"]["fn"]
    assert len(noisy.mean[:, 0].unique()) > 1
    with CONTEXTS[context](), pytest.raises(pre.EstimatorError, match="'net.weight'.*to_bayesian"):
        Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1).loss(
            model, guide, *data
        )


@pytest.mark.parametrize("context", [None, *CONTEXTS])
@pytest.mark.parametrize("parallel", [True, False])
def test_predictive(data, context, parallel):
    model = Regression(pre.nn.to_bayesian(network(), NORMAL))
    guide = AutoNormal(model, init_scale=1e-4)
    guide(*data)
    predictive = Predictive(model, guide=guide, num_samples=7, parallel=parallel)
    if context is None:
        samples = predictive(data[0])
    else:
        with CONTEXTS[context]():
            samples = predictive(data[0])
    assert samples["y"].shape == (7, 6, 2)  # (Predictive conditions, it does not replay: one draw each)
    assert len(samples["y"][:, 0, 0].unique()) == 7


@pytest.mark.parametrize("context", CONTEXTS)
def test_particles_have_noise_of_their_own(data, context):
    """Side by side, in which each particle has a run of its own, and examples of it too."""
    model = Regression(pre.nn.to_bayesian(network(), NORMAL))
    guide = AutoNormal(model, init_scale=1.0)
    guide(*data)
    x = data[0][:1].expand(6, 4)
    particles = pyro.plate("num_particles_vectorized", 5, dim=-2)
    with CONTEXTS[context](), particles:
        trace = poutine.trace(guide).get_trace(x)
        model_trace = poutine.trace(poutine.replay(model, trace=trace)).get_trace(x)
    loc = model_trace.nodes["y"]["fn"].mean
    assert loc.shape == (5, 6, 2)
    assert len(loc[..., 0].unique()) == (30 if context == "local" else loc[..., 0].unique().numel())
    assert all(len(row.unique()) > 1 for row in loc[..., 0])
    assert all(len(column.unique()) == 5 for column in loc[..., 0].T)


UNMAPPED = {
    "LSTM": nn.LSTM(4, 3),
    "BatchNorm1d": nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)),
    "MultiheadAttention": nn.MultiheadAttention(4, 2),
}


@pytest.mark.parametrize(
    ("name", "context"),
    [("LSTM", None), ("LSTM", "flipout")]
    + [(name, x) for name in ("BatchNorm1d", "MultiheadAttention") for x in (None, *CONTEXTS)],
)
def test_what_vmap_does_not_take_and_what_is_no_tensor(name, context, data):
    """A missing batching rule, running statistics, and None among the outputs."""
    bnn = pre.nn.to_bayesian(UNMAPPED[name], NORMAL)
    attention = name == "MultiheadAttention"
    arguments = (data[0],) * (3 if attention else 1)
    options = {"need_weights": False} if attention else {}
    guide = AutoNormal(lambda: bnn(*arguments, **options))
    guide()
    with pyro.plate("num_particles_vectorized", 3, dim=-2):
        trace = poutine.trace(guide).get_trace()
        with CONTEXTS[context]() if context else contextlib.nullcontext():
            output = poutine.replay(bnn, trace=trace)(*arguments, **options)
    if isinstance(output, tuple):
        assert isinstance(output[1], tuple) or output[1] is None
        output = output[0]
    assert output.shape[:2] == (3, 6)
    assert len(output[:, 0, 0].unique()) == 3


def decoder_program(input_dims):
    """Local latents that a network with random weights decodes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, generator=generator)
    bnn = pre.nn.to_bayesian(network(), NORMAL, input_dims=input_dims)

    def model():
        with pyro.plate("data", 5):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([4]).to_event(1))
        loc = bnn(z)
        with pyro.plate("observed", 5):
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    return model, AutoNormal(model, init_scale=0.2)


@pytest.mark.parametrize("elbo", [Trace_ELBO, pre.TraceEstimator_ELBO])
def test_inputs_with_dims_of_particles(elbo):
    """Each particle's weights see its own latents: the mean loss is that of single particles."""
    model, guide = decoder_program(input_dims=2)
    guide()
    alone = losses(Trace_ELBO(), model, guide, 400)
    options = {"vectorize_particles": True, "max_plate_nesting": 1}
    many = elbo(num_particles=400, **options).loss(model, guide)
    assert_z((many - alone.mean()) / (alone.std() * (2 / 400) ** 0.5))


def test_inputs_that_may_have_dims_of_particles():
    model, guide = decoder_program(input_dims=None)
    guide()
    elbo = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match=r"input of shape \(4, 5, 4\).*input_dims"):
        elbo.loss(model, guide)


def test_initial_values_are_not_the_guide_s_to_train(data):
    bnn = pre.nn.to_bayesian(network(), NORMAL)
    bnn.initial_values()["0.weight"].zero_()
    assert (bnn.module[0].weight != 0).all()


def test_state_and_pickle(data):
    bnn = pre.nn.to_bayesian(network(), {"*.weight": NORMAL})
    model = Regression(bnn)
    other = Regression(pre.nn.to_bayesian(network(), {"*.weight": NORMAL}))
    other.load_state_dict(model.state_dict())
    again = pickle.loads(pickle.dumps(model))
    for copy in (other, again):
        torch.testing.assert_close(copy.net.module[0].bias, bnn.module[0].bias)
        values = copy.net.initial_values()
        torch.testing.assert_close(values["net.0.weight"], bnn.module[0].weight)


@pytest.mark.parametrize("prior", [NORMAL, dist.StudentT(3.0), dist.Laplace(0.0, 1.0)])
def test_priors_take_the_dtype_of_the_module(prior, data):
    bnn = pre.nn.to_bayesian(network().double(), prior)
    assert bnn(data[0].double()).dtype == torch.float64
    assert prior.sample().dtype == torch.float32


def test_errors(data):
    model = Regression(pre.nn.to_bayesian(network(), NORMAL))
    with pytest.raises(pre.EstimatorError, match="'net.*inside plate 'outer'.*before"):
        with pyro.plate("outer", 6):
            model.net(data[0])
    with pytest.raises(pre.EstimatorError, match="no parameter has a prior.*0.weight"):
        pre.nn.to_bayesian(network(), None)
    with pytest.raises(pre.EstimatorError, match="ReLU has no parameters"):
        pre.nn.to_bayesian(nn.ReLU(), NORMAL)


@pytest.mark.parametrize("context", CONTEXTS)
def test_two_calls_side_by_side_raise(data, context):
    model = Regression(Twice())
    guide = AutoNormal(model)
    elbo = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    elbo.loss(model, guide, *data)
    with CONTEXTS[context](), pytest.raises(pre.EstimatorError, match="called twice.*vectorize"):
        elbo.loss(model, guide, *data)

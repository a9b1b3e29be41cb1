"""Both contexts against exact gradients; local reparameterisation also against its formula."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine

import pyro_reparam_ext as pre

from ..statistics import assert_mean
from .mean_field import CONTEXTS, MeanField, expectation, flat, gradients

DRAWS = 600
ROWS = {"local": [400] * 10, "flipout": [1] * 600}
"""How many rows of each draw are taken."""


def draw(model, guide, *args):
    """What the model returns at a draw of the guide."""
    trace = poutine.trace(guide).get_trace(*args)
    return poutine.replay(model, trace=trace)(*args)


def linear_model(x, y):
    output = F.linear(x, flat("w", (2, 3)), flat("b", (2,)))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(output, 1.0).to_event(1), obs=y)
    return output


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    return x, torch.randn(4, 2, generator=generator, dtype=torch.float64)


def test_the_output_is_drawn_from_its_own_law(data):
    x, y = data
    guide = MeanField({"w": (2, 3), "b": (2,)})
    with torch.random.fork_rng(), pre.nn.local_reparameterization():
        trace = poutine.trace(guide).get_trace(x, y)
        state = torch.get_rng_state()
        output = poutine.replay(linear_model, trace=trace)(x, y)
        torch.set_rng_state(state)
        noise = torch.randn(4, 2, dtype=torch.float64)
    variance = x**2 @ guide.scale["w"].T ** 2 + guide.scale["b"] ** 2
    expected = x @ guide.loc["w"].T + guide.loc["b"] + variance.sqrt() * noise
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("context", CONTEXTS)
def test_gradient_of_a_linear_model(context, data):
    x, y = data
    guide = MeanField({"w": (2, 3), "b": (2,)})
    with CONTEXTS[context]():
        measured = gradients(linear_model, guide, x, y, draws=DRAWS)
    mean = x @ guide.loc["w"].T + guide.loc["b"]
    variance = x**2 @ guide.scale["w"].T ** 2 + guide.scale["b"] ** 2
    loss = ((y - mean) ** 2 + variance).sum() / 2 - guide.entropy()
    assert_mean(measured, guide.gradient(loss))


@pytest.mark.parametrize("context", CONTEXTS)
def test_gradient_of_a_network(context):
    """Two layers: the second sees inputs whose noise is the first's."""
    x = torch.tensor([[0.7], [-1.2], [0.0]], dtype=torch.float64)
    y = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)

    def model(x, y):
        hidden = torch.tanh(F.linear(x, flat("v", (1, 1))))
        output = F.linear(hidden, flat("w", (1, 1))).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(output, 1.0), obs=y)

    def loss(v, w):
        output = w[..., None] * torch.tanh(v[..., None] * x[:, 0])
        return ((y - output) ** 2).sum(-1) / 2

    guide = MeanField({"v": (1, 1), "w": (1, 1)})
    with CONTEXTS[context]():
        measured = gradients(model, guide, x, y, draws=DRAWS)
    assert_mean(measured, guide.gradient(expectation(loss, guide) - guide.entropy()))


@pytest.mark.parametrize("calls", [2, 3])
@pytest.mark.parametrize("context", CONTEXTS)
def test_gradient_of_a_shared_layer(context, calls):
    """The outputs of several calls with one weight have their joint law."""
    x = torch.tensor([[0.8], [-1.1], [0.0]], dtype=torch.float64)
    y = torch.tensor([0.3, -0.6, 0.1], dtype=torch.float64)

    def model(x, y):
        w, b = flat("w", (1, 1)), flat("b", (1,))
        output = F.linear(x, w, b)
        for i in range(1, calls):
            output = output * torch.sin(F.linear(x + i, w, b))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(output.squeeze(-1), 0.5), obs=y)

    def loss(w, b):
        output = w[..., None] * x[:, 0] + b[..., None]
        for i in range(1, calls):
            output = output * torch.sin(w[..., None] * (x[:, 0] + i) + b[..., None])
        return 2 * ((y - output) ** 2).sum(-1)

    guide = MeanField({"w": (1, 1), "b": (1,)}, scale=0.8)
    with CONTEXTS[context]():
        measured = gradients(model, guide, x, y, draws=DRAWS)
    assert_mean(measured, guide.gradient(expectation(loss, guide) - guide.entropy()))


@pytest.mark.parametrize("context", CONTEXTS)
def test_joint_law_of_the_calls_of_a_shared_layer(context):
    """Equal rows are independent draws: means and covariances of three calls."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    guide = MeanField({"w": (1, 3), "b": (1,)})

    def model(x):
        w, b = flat("w", (1, 3)), flat("b", (1,))
        return torch.cat([F.linear(row.expand(len(x), 3), w, b) for row in x[0]], -1)

    with CONTEXTS[context]():
        # Flipout's rows share the size of one draw
        draws = [draw(model, guide, inputs.expand(400, 3, 3))[:: 400 // rows] for rows in ROWS[context]]
    outputs = torch.cat(draws)
    mean = inputs @ guide.loc["w"][0] + guide.loc["b"]
    covariance = (inputs * guide.scale["w"] ** 2) @ inputs.T + guide.scale["b"] ** 2
    products = (outputs - mean)[:, :, None] * (outputs - mean)[:, None]
    assert_mean(outputs, mean)
    assert_mean(products.flatten(1), covariance.flatten())


@pytest.mark.parametrize("biases", [(True, False), (False, True)])
def test_a_bias_that_only_one_call_has(biases, data):
    """The covariance of the calls is that of the weight alone."""
    x, _ = data
    rows = 4000
    guide = MeanField({"w": (1, 3), "b": (1,)})

    def model(x):
        w, b = flat("w", (1, 3)), flat("b", (1,))
        return torch.cat([F.linear(x, w, b if given else None) for given in biases], -1)

    with pre.nn.local_reparameterization():
        outputs = draw(model, guide, x[:1].expand(rows, 3))
    mean = torch.stack([x[0] @ guide.loc["w"][0] + given * guide.loc["b"][0] for given in biases])
    shared = (x[0] ** 2 * guide.scale["w"][0] ** 2).sum()
    of_bias = guide.scale["b"][0] ** 2
    products = (outputs - mean)[:, :, None] * (outputs - mean)[:, None]
    exact = torch.stack([shared + biases[0] * of_bias, shared, shared, shared + biases[1] * of_bias])
    assert_mean(products.flatten(1), exact)


def test_a_zero_input_before_another_has_a_finite_gradient():
    x = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)

    def model(x):
        w = flat("w", (1, 3))
        return F.linear(x, w) + F.linear(x + 1, w)

    with pre.nn.local_reparameterization():
        output = draw(model, MeanField({"w": (1, 3)}), x)
    assert torch.autograd.grad(output.sum(), x)[0].abs().max() < 100


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_same_call_twice_has_the_same_output(context, data):
    x, _ = data

    def model(x):
        w = flat("w", (2, 3))
        return F.linear(x, w), F.linear(x, w), F.linear(-2 * x, w)

    with CONTEXTS[context]():
        first, again, minus_twice = draw(model, MeanField({"w": (2, 3)}), x)
    torch.testing.assert_close(again, first)
    torch.testing.assert_close(minus_twice, -2 * first)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_inputs_have_finite_gradients(context, dtype):
    guide = MeanField({"w": (2, 3)})
    for leaves in (guide.loc, guide.scale):
        leaves["w"] = leaves["w"].detach().to(dtype).requires_grad_()
    x = torch.zeros(4, 3, dtype=dtype, requires_grad=True)
    with CONTEXTS[context]():
        output = draw(lambda x: F.linear(x, flat("w", (2, 3))), guide, x)
    assert output.abs().max() < 1e-15
    for gradient in torch.autograd.grad(output.sum(), [x, *guide.leaves()]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("context", "factor"), [("local", 12), ("flipout", 10)])
def test_variance_on_a_network(context, factor):
    """8 inputs, 50 hidden units, 256 examples, as compared in the documentation."""
    pyro.set_rng_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 50), torch.nn.ReLU(), torch.nn.Linear(50, 1))
    bnn = pre.nn.to_bayesian(network, dist.Normal(0.0, 1.0))

    def model(x, y):
        loc = bnn(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, 0.1), obs=y)

    values = pyro.infer.autoguide.init_to_value(values=bnn.initial_values())
    guide = pyro.infer.autoguide.AutoNormal(model, init_loc_fn=values, init_scale=0.05)
    x = torch.randn(256, 8)
    y = x.sum(-1).sin()
    guide(x, y)
    study = pre.gradient_study(
        model,
        guide,
        x,
        y,
        estimators={"plain": None, "context": pre.Variant(context=CONTEXTS[context])},
        num_draws=300,
        reference="plain",
    )
    summary = study.summary()
    assert summary.loc["context", "variance_high"] * factor < summary.loc["plain", "variance_low"]
    assert abs(summary.loc["context", "bias_z"]) < 5


@pytest.mark.parametrize(("context", "unbiased"), [("local", False), ("flipout", True)])
def test_a_study_says_which_is_biased_over_positions(context, unbiased):
    """A convolution of kernel 1 over two positions whose outputs are multiplied."""

    def model(x):
        output = F.conv1d(x, flat("w", (1, 1, 1)))
        with pyro.plate("data", len(x)):
            pyro.factor("cost", output.prod(-1).squeeze(-1))

    guide = MeanField({"w": (1, 1, 1)})

    def registered(x):
        loc = pyro.param("loc", guide.loc["w"].detach().clone())
        scale = pyro.param("scale", guide.scale["w"].detach().clone())
        pyro.sample("w", dist.Normal(loc, scale).to_event(3))

    x = torch.ones(3, 1, 2, dtype=torch.float64)
    study = pre.gradient_study(
        model,
        registered,
        x,
        estimators={"plain": None, "context": pre.Variant(context=CONTEXTS[context])},
        num_draws=2000,
        reference="plain",
    )
    row = study.summary().loc["context"]
    assert row["unbiased"] == unbiased
    assert (row["bias_z"] < 5) == unbiased

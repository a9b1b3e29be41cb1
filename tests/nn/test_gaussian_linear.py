"""GaussianLinear: its law, its gradients in closed form, and where a layer has to work."""

from __future__ import annotations

import math
import pickle
from copy import deepcopy

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import linear, softplus

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import GaussianLinear

from ..statistics import assert_mean

IN, OUT, DRAWS = 3, 2, 20_000


def layer_of(**options) -> GaussianLinear:
    return GaussianLinear(IN, OUT, dtype=torch.float64, **options)


def inputs(rows: int = 4) -> Tensor:
    return torch.randn(rows, IN, dtype=torch.float64)


def halves(layer: GaussianLinear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale, each by its own half of the map."""
    weight, bias = layer.linear.weight, layer.linear.bias
    raw = linear(x, weight[OUT:], bias[OUT:])
    return linear(x, weight[:OUT], bias[:OUT]), softplus(raw) + layer.min_scale


@pytest.mark.parametrize("training", [True, False])
def test_mean_and_covariance_of_the_samples(training):
    layer, x = layer_of(min_scale=0.1).train(training), inputs(2)
    loc, scale = halves(layer, x)
    # The rows are drawn independently, unlike by a layer with noisy weights.
    y = layer(x.expand(DRAWS, 2, IN))
    assert_mean(y.flatten(1), loc.flatten())
    residual = (y - loc).flatten(1)
    products = torch.einsum("na,nb->nab", residual, residual)
    assert_mean(products.flatten(1), scale.square().flatten().diag().flatten())


def test_the_distribution_is_that_of_the_samples():
    layer, x = layer_of(min_scale=0.1), inputs()
    loc, scale = halves(layer, x)
    fn = layer.distribution(x)
    assert (fn.batch_shape, fn.event_shape) == ((4,), (OUT,))
    torch.testing.assert_close(fn.mean, loc)
    torch.testing.assert_close(fn.stddev, scale)
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    torch.testing.assert_close(y, loc + scale * torch.randn(4, OUT, dtype=torch.float64))


def test_the_gradient_of_a_squared_error_is_that_of_its_expectation():
    layer, x = layer_of(), inputs()
    target = torch.randn(4, OUT, dtype=torch.float64)
    parameters = dict(layer.named_parameters())
    loc, scale = halves(layer, x)
    exact = torch.autograd.grad(((loc - target) ** 2 + scale**2).sum(), list(parameters.values()))

    def loss(parameters: dict[str, Tensor], _: Tensor) -> Tensor:
        return (functional_call(layer, parameters, (x,)) - target).square().sum()

    draws = vmap(torch.func.grad(loss), in_dims=(None, 0), randomness="different")(
        parameters, torch.arange(DRAWS)
    )
    samples = torch.cat([gradient.flatten(1) for gradient in draws.values()], 1)
    assert_mean(samples, torch.cat([gradient.flatten() for gradient in exact]))


def test_a_likelihood_learns_the_noise():
    """Without inputs that matter, the best location and scale are mean and deviation of the data."""
    x, y = torch.zeros(50, IN, dtype=torch.float64), 3 + 0.5 * torch.randn(50, OUT, dtype=torch.float64)
    layer = layer_of()

    def model() -> None:
        pyro.module("layer", layer)
        with pyro.plate("data", 50):
            pyro.sample("y", layer.distribution(x), obs=y)

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(1000):
        svi.step()
    fn = layer.distribution(x[0])
    torch.testing.assert_close(fn.mean, y.mean(0), rtol=1e-3, atol=0)
    torch.testing.assert_close(fn.stddev, y.std(0, correction=0), rtol=1e-3, atol=0)


def test_the_scale_stays_above_its_minimum():
    layer = GaussianLinear(IN, OUT, min_scale=0.01)
    nn.init.constant_(layer.linear.bias, -1e4)
    fn = layer.distribution(torch.zeros(IN))
    assert (fn.stddev == 0.01).all()
    fn.log_prob(fn.mean).backward()
    assert layer.linear.weight.grad.isfinite().all()


def test_no_bias():
    layer = layer_of(bias=False)
    assert set(layer.state_dict()) == {"linear.weight"}
    fn = layer.distribution(torch.zeros(IN, dtype=torch.float64))
    assert (fn.mean == 0).all()
    torch.testing.assert_close(fn.stddev, torch.full_like(fn.mean, math.log(2) + layer.min_scale))


def test_state_and_copies():
    layer, x = layer_of(), inputs()
    other = layer_of()
    other.load_state_dict(layer.state_dict())
    for copied in (deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        torch.manual_seed(0)
        expected = layer(x)
        torch.manual_seed(0)
        assert (copied(x) == expected).all()


def test_dtype_and_meta_device():
    assert GaussianLinear(IN, OUT).to(torch.bfloat16)(inputs().bfloat16()).dtype == torch.bfloat16
    meta = GaussianLinear(IN, OUT, device="meta")
    assert meta(torch.empty(4, IN, device="meta")).shape == (4, OUT)
    layer = nn.utils.skip_init(GaussianLinear, IN, OUT)
    layer.load_state_dict(GaussianLinear(IN, OUT).state_dict())
    assert layer(torch.ones(IN)).isfinite().all()


def test_compiled_as_one_graph():
    layer, x = layer_of(), inputs()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    expected = layer(x)
    torch.manual_seed(0)
    actual = compiled(x)
    torch.testing.assert_close(actual, expected)
    actual.sum().backward()
    assert layer.linear.weight.grad.isfinite().all()
    assert (compiled(x) != compiled(x)).all()


def test_an_ensemble_by_vmap():
    layers, x = [layer_of() for _ in range(3)], inputs()
    state = stack_module_state(layers)
    run = vmap(lambda p, b: functional_call(layers[0], (p, b), x), randomness="different")
    assert run(*state).shape == (3, 4, OUT)
    means = vmap(lambda p, b: functional_call(layers[0].linear, (p, b), x)[:, :OUT])
    p = {name.removeprefix("linear."): value for name, value in state[0].items()}
    torch.testing.assert_close(means(p, {}), torch.stack([m.distribution(x).mean for m in layers]))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: GaussianLinear(0, 2),
            "GaussianLinear: expected in_features of at least 1, was given 0",
        ),
        (
            lambda: GaussianLinear(2, 0),
            "GaussianLinear: expected out_features of at least 1, was given 0",
        ),
        (lambda: GaussianLinear(2, 2, min_scale=0.0), "finite min_scale above 0, was given 0.0"),
        (lambda: GaussianLinear(2, 2, min_scale=math.inf), "finite min_scale above 0, was given inf"),
        (lambda: GaussianLinear(2, 2, min_scale=math.nan), "finite min_scale above 0, was given nan"),
    ],
)
def test_errors(call, match):
    with pytest.raises(pre.EstimatorError, match=match):
        call()

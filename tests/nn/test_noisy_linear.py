"""NoisyLinear: its law in closed form, its noise from draw to draw, and where a layer has to work."""

from __future__ import annotations

import math
import pickle
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import linear

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import NoisyLinear

from ..statistics import assert_mean

IN, OUT, DRAWS = 3, 2, 20_000
BOTH = pytest.mark.parametrize("factorised", [True, False])


def layer_of(factorised: bool, bias: bool = True, **options) -> NoisyLinear:
    """A layer whose scales differ from element to element."""
    layer = NoisyLinear(IN, OUT, bias, factorised=factorised, dtype=torch.float64, **options)
    for name, p in layer.named_parameters():
        if name.endswith("sigma"):
            nn.init.uniform_(p, -1.0, 2.0)
    return layer


def draws_of(layer: NoisyLinear, x: Tensor) -> Tensor:
    """The outputs by as many draws of the noise, each by ``reset_noise``."""
    parameters = dict(layer.named_parameters())

    def draw(noise: Tensor) -> Tensor:
        return functional_call(NoisyCall(layer), _prefixed({**parameters, "noise": noise}), (x,))

    return vmap(draw, randomness="different")(layer.noise.expand(DRAWS, *layer.noise.shape).clone())


class NoisyCall(nn.Module):
    """Draws noise, then calls the layer."""

    def __init__(self, layer: NoisyLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        self.layer.reset_noise()
        return self.layer(x)


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"layer.{name}": value for name, value in state.items()}


def covariance(layer: NoisyLinear, x: Tensor) -> Tensor:
    """Of the outputs at all rows: (rows, outputs, rows, outputs)."""
    kappa = math.sqrt(2 / math.pi) if layer.factorised else 1.0
    rows, outputs = len(x), layer.out_features
    exact = x.new_zeros(rows, outputs, rows, outputs)
    for j in range(outputs):
        sigma = layer.weight_sigma[j].detach()
        exact[:, j, :, j] = kappa**2 * (x * sigma**2) @ x.T
        if layer.bias_sigma is not None:
            exact[:, j, :, j] += kappa * layer.bias_sigma[j].detach() ** 2
    return exact


@BOTH
@pytest.mark.parametrize("bias", [True, False])
def test_mean_and_covariance_of_the_outputs(factorised, bias):
    layer, x = layer_of(factorised, bias), torch.randn(2, IN, dtype=torch.float64)
    y = draws_of(layer, x)
    mean = linear(x, layer.weight_mu, layer.bias_mu)
    assert_mean(y.flatten(1), mean.flatten())
    residual = y - mean
    products = torch.einsum("naj,nbk->najbk", residual, residual)
    assert_mean(products.flatten(1), covariance(layer, x).flatten())


@BOTH
def test_squares_of_two_outputs_are_correlated_by_the_shared_noise_of_the_inputs(factorised):
    layer, x = layer_of(factorised, bias=False), torch.randn(1, IN, dtype=torch.float64)
    s, t = (layer.weight_sigma.detach() * x).square()  # per input, of the two outputs
    u, v = layer.weight_sigma.detach() * x
    kappa = math.sqrt(2 / math.pi)
    if factorised:
        # E f(e)^4 = 1 where a factor is shared, else (E f(e)^2)^2 = kappa^2.
        inputs = kappa**2 * s.sum() * t.sum() + (1 - 3 * kappa**2) * (s * t).sum()
        exact = kappa**2 * (inputs + 2 * kappa**2 * (u * v).sum() ** 2)
    else:
        exact = s.sum() * t.sum()
    residual = draws_of(layer, x)[:, 0] - linear(x, layer.weight_mu)[0]
    assert_mean(residual.square().prod(-1, keepdim=True), exact.reshape(1))


@BOTH
def test_gradients_of_means_and_scales(factorised):
    layer = layer_of(factorised)
    x, cotangent = torch.randn(5, IN, dtype=torch.float64), torch.randn(5, OUT, dtype=torch.float64)
    if factorised:
        f = layer.noise.sign() * layer.noise.abs().sqrt()
        of_weight, of_bias = f[IN:, None] * f[:IN], f[IN:]
    else:
        of_weight, of_bias = layer.noise[:, :IN], layer.noise[:, IN]
    (layer(x) * cotangent).sum().backward()
    torch.testing.assert_close(layer.weight_mu.grad, cotangent.T @ x)
    torch.testing.assert_close(layer.weight_sigma.grad, cotangent.T @ x * of_weight)
    torch.testing.assert_close(layer.bias_mu.grad, cotangent.sum(0))
    torch.testing.assert_close(layer.bias_sigma.grad, cotangent.sum(0) * of_bias)


@pytest.mark.parametrize(
    ("options", "bound", "scale"),
    [
        ({}, 1 / 8, 0.5 / 8),
        ({"factorised": False}, math.sqrt(3) / 8, 0.017),
        ({"initial_scale": 0.2}, 1 / 8, 0.2 / 8),
        ({"factorised": False, "initial_scale": 0.2}, math.sqrt(3) / 8, 0.2),
    ],
)
def test_a_new_layer_is_as_in_the_paper(options, bound, scale):
    layer = NoisyLinear(64, 100, **options)
    for mu, sigma in ((layer.weight_mu, layer.weight_sigma), (layer.bias_mu, layer.bias_sigma)):
        assert 0.9 * bound < mu.abs().max() <= bound
        assert (sigma == torch.tensor(scale)).all()
    assert_mean(layer.weight_mu.reshape(-1, 1).square(), torch.tensor([bound**2 / 3]))


@BOTH
def test_one_draw_serves_until_the_next(factorised):
    layer, x = layer_of(factorised), torch.randn(4, IN, dtype=torch.float64)
    first = layer(x)
    assert (layer(x) == first).all()
    # One draw acts on all rows: a row by itself has the same output.
    torch.testing.assert_close(layer(x[2]), first[2])
    layer.reset_noise()
    assert (layer(x) != first).all()


@BOTH
def test_eval_uses_the_means(factorised):
    layer, x = layer_of(factorised).eval(), torch.randn(4, IN, dtype=torch.float64)
    assert (layer(x) == linear(x, layer.weight_mu, layer.bias_mu)).all()


@BOTH
def test_new_noise_between_forward_and_backward(factorised):
    layer, x = layer_of(factorised), torch.randn(4, IN, dtype=torch.float64)
    before = torch.autograd.grad(layer(x).sum(), layer.weight_sigma)[0]
    loss = layer(x).sum()
    layer.reset_noise()
    loss.backward()
    assert (layer.weight_sigma.grad == before).all()


def test_noise_drawn_in_inference_mode_serves_training():
    layer = layer_of(True)
    with torch.inference_mode():
        layer.reset_noise()
    layer(torch.ones(IN, dtype=torch.float64)).sum().backward()
    assert layer.weight_sigma.grad.isfinite().all()


@BOTH
def test_the_state_holds_no_noise_and_copies_do(factorised):
    layer, x = layer_of(factorised), torch.randn(4, IN, dtype=torch.float64)
    assert set(layer.state_dict()) == {"weight_mu", "weight_sigma", "bias_mu", "bias_sigma"}
    for copied in (deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (copied(x) == layer(x)).all()
        copied.reset_noise()
        assert (copied(x) != layer(x)).all()
    other = layer_of(factorised)
    other.load_state_dict(layer.state_dict())
    assert (other(x) != layer(x)).all()
    assert (other.eval()(x) == layer.eval()(x)).all()


@BOTH
def test_dtype(factorised):
    layer = NoisyLinear(IN, OUT, factorised=factorised)
    wide = deepcopy(layer).to(torch.float64)
    x = torch.randn(4, IN)
    assert wide.noise.dtype == wide(x.double()).dtype == torch.float64
    torch.testing.assert_close(wide(x.double()).float(), layer(x))
    assert layer.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


@BOTH
def test_a_layer_that_leaves_the_meta_device_has_noise(factorised):
    full = NoisyLinear(IN, OUT, factorised=factorised)
    layer = nn.utils.skip_init(NoisyLinear, IN, OUT, factorised=factorised)
    meta = nn.Sequential(NoisyLinear(IN, OUT, factorised=factorised, device="meta"))
    assert meta(torch.empty(4, IN, device="meta")).shape == (4, OUT)
    for made in (layer, meta.to_empty(device="cpu")[0]):
        made.load_state_dict(full.state_dict())
        assert 0.01 < made.noise.abs().max() < 10
        first = made(torch.ones(IN))
        made.reset_parameters()
        assert (made(torch.ones(IN)) != first).all()


@BOTH
def test_compiled_as_one_graph(factorised):
    call, x = NoisyCall(layer_of(factorised)), torch.randn(4, IN, dtype=torch.float64)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        torch.manual_seed(0)
        expected = call(x)
        torch.manual_seed(0)
        actual = compiled(x)
        torch.testing.assert_close(actual, expected)
        actual.sum().backward()
    assert call.layer.weight_sigma.grad.isfinite().all()
    assert (compiled(x) != compiled(x)).all()


@BOTH
def test_an_ensemble_by_vmap(factorised):
    layers, x = [layer_of(factorised) for _ in range(3)], torch.randn(4, IN, dtype=torch.float64)
    state = stack_module_state(layers)
    stacked = vmap(lambda p, b: functional_call(layers[0], (p, b), x))(*state)
    torch.testing.assert_close(stacked, torch.stack([layer(x) for layer in layers]))


def test_noise_of_an_unbatched_layer_under_vmap_is_an_error_and_leaves_it_whole():
    layer, x = layer_of(True), torch.ones(IN, dtype=torch.float64)
    before = layer(x)
    with pytest.raises(RuntimeError, match="vmap"):
        vmap(lambda x: (layer.reset_noise(), layer(x))[1], randomness="different")(x.expand(2, IN))
    assert (layer(x) == before).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: NoisyLinear(0, 2), "NoisyLinear: expected in_features of at least 1, was given 0"),
        (lambda: NoisyLinear(2, -1), "NoisyLinear: expected out_features of at least 1, was given -1"),
        (lambda: NoisyLinear(2, 2, initial_scale=-0.1), "initial_scale of at least 0, was given -0.1"),
        (lambda: NoisyLinear(2, 2, initial_scale=math.inf), "finite initial_scale"),
        (lambda: NoisyLinear(2, 2, initial_scale=math.nan), "finite initial_scale"),
    ],
)
def test_errors(call, match):
    with pytest.raises(pre.EstimatorError, match=match):
        call()


def test_repr():
    assert repr(NoisyLinear(3, 2, bias=False, factorised=False)) == (
        "NoisyLinear(in_features=3, out_features=2, bias=False, factorised=False, initial_scale=0.017)"
    )

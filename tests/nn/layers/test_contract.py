"""Universal contract tests: what every layer owes within both contexts."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor, nn

from pyro_reparam_ext import EstimatorError
from pyro_reparam_ext.nn import flipout, local_reparameterization
from pyro_reparam_ext.nn.layers.registry import LAYERS
from pyro_reparam_ext.nn.layers.run import Run
from pyro_reparam_ext.nn.layers.weight import RandomWeight

from ...statistics import LEVEL, assert_mean, p_value
from ..cases import CASES, Case
from ..programs import CONTEXTS, Network, assert_equals_torch
from ..refused import REFUSED

DRAWS = 4000
pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop .* aten..(bilinear|_trilinear)"
)


def options(case: Case) -> dict[str, int]:
    return {"batch_dim": case.batch_dim or 0}


class Exact:
    """Moments of outputs that are linear in parameters of normal law, and a loss's gradient."""

    def __init__(self, network: Network) -> None:
        loc = {name: x.clone().requires_grad_() for name, x in network.loc.items()}
        scale = {name: x.clone().requires_grad_() for name, x in network.scale.items()}
        jacobian = torch.func.jacrev(network.at)(network.loc)
        self.mean = network.at(loc)
        size = self.mean.numel()
        self.covariance = sum(
            (x.reshape(size, -1) * scale[name].square().flatten()) @ x.reshape(size, -1).T
            for name, x in jacobian.items()
        )
        self.coefficients = torch.linspace(0.5, 1.5, size)
        loss = (self.mean.flatten().square() + self.covariance.diagonal()) @ self.coefficients.double()
        gradients = torch.autograd.grad(loss, [*loc.values(), *scale.values()])
        self.gradient = torch.cat([x.flatten() for x in gradients])


@cache
def exact(name: str) -> Exact:
    return Exact(CASES[name].network())


@cache
def draws(name: str, context: type) -> tuple[Tensor, Tensor]:
    """Outputs and gradients of the loss, one run of the model a row."""
    case, oracle = CASES[name], exact(name)
    estimator = nullcontext() if context is nullcontext else context(**options(case))
    outputs, loc, scale = case.network().particles(estimator, DRAWS)
    loss = (outputs.flatten(1).square() * oracle.coefficients).sum()
    gradients = torch.autograd.grad(loss, [*loc.values(), *scale.values()])
    return outputs.flatten(1).detach(), torch.cat([x.flatten(1) for x in gradients], 1)


def covariances(name: str, context: type) -> tuple[Tensor, Tensor, Tensor]:
    """Products of deviations, their expectation under one draw, and which example each output is of."""
    oracle, (outputs, _) = exact(name), draws(name, context)
    deviation = outputs - oracle.mean.detach().flatten()
    examples = torch.zeros(oracle.mean.shape, dtype=torch.long)
    dim = CASES[name].batch_dim
    if dim is not None:
        examples.transpose(0, dim).copy_(
            torch.arange(examples.shape[dim]).view(-1, *(1,) * (examples.dim() - 1))
        )
    products = deviation.unsqueeze(-1) * deviation.unsqueeze(-2)
    return products, oracle.covariance.detach(), examples.flatten()


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CASES)
def test_mean_and_covariance_of_an_example(name, context):
    """Those of one draw of the weights; local reparameterisation leaves positions uncorrelated."""
    products, covariance, examples = covariances(name, context)
    if CASES[name].positions and context is local_reparameterization:
        covariance = covariance.diagonal().diag()
    same = examples[:, None] == examples
    samples = torch.cat([draws(name, context)[0], products[:, same]], 1)
    assert_mean(samples, torch.cat([exact(name).mean.flatten(), covariance[same]]))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.batch_dim is not None])
def test_examples_are_uncorrelated(name, context):
    products, covariance, examples = covariances(name, context)
    others = examples[:, None] != examples
    assert_mean(products[:, others], torch.zeros_like(covariance[others]))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CASES)
def test_gradient_of_a_quadratic(name, context):
    _, gradients = draws(name, context)
    assert_mean(gradients, exact(name).gradient)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CASES)
def test_two_calls_share_their_noise(name, context):
    """Mean and variance of an output of the second call, and its covariance with that of the first."""
    network = CASES[name].network(twice=True)
    oracle = Exact(network)
    mean = oracle.mean.detach().reshape(-1, 2)
    size = len(mean)
    covariance = oracle.covariance.detach().reshape(size, 2, size, 2)[range(size), :, range(size), 1]
    outputs = network.particles(context(**options(CASES[name])), DRAWS)[0].reshape(DRAWS, size, 2)
    deviation = outputs - mean
    samples = torch.cat([outputs[..., 1], (deviation * deviation[..., 1:]).flatten(1)], 1)
    assert_mean(samples, torch.cat([mean[:, 1], covariance.flatten()]))


def test_one_draw_for_all_would_be_seen():
    """Without a context, equal examples have equal outputs: the tests above are able to fail."""
    products, covariance, examples = covariances("Linear", nullcontext)
    others = examples[:, None] != examples
    assert_mean(products.flatten(1), covariance.flatten())
    assert p_value(products[:, others], torch.zeros_like(covariance[others])) < LEVEL


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name, context):
    assert_equals_torch(CASES[name].network(), context(**options(CASES[name])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CASES)
def test_zero_inputs(name, context, dtype):
    """Noise of no variance has finite gradients."""
    network = CASES[name].network(dtype, zeros=True)
    loc, scale = (
        {k: x.clone().requires_grad_() for k, x in law.items()} for law in (network.loc, network.scale)
    )
    output = network.run(context(**options(CASES[name])), loc, scale)
    assert type(output) is Tensor and output.dtype == dtype
    gradients = torch.autograd.grad(
        output.square().sum(), [*loc.values(), *scale.values()], materialize_grads=True
    )
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, context):
    """Named are the site, the context, the layer, why, and what to do."""
    make, match = REFUSED[name]
    network = make()
    sites, remedy = "|".join(network.loc), rf"pre\.nn\.{context.__name__}\(strict=False\)"
    with pytest.raises(
        EstimatorError, match=rf"site .*'({sites})'.*{context.__name__}.*{match}.*{remedy}"
    ):
        network.once(context())


@pytest.mark.parametrize("context", CONTEXTS)
def test_not_strict(context):
    """One warning, at the end, of all layers that were left as they are."""
    module = nn.Sequential(nn.Linear(3, 3), nn.PReLU(), nn.Linear(3, 3), nn.PReLU())
    network = Network(module, torch.ones(5, 3))
    with pytest.warns(UserWarning) as caught:
        output = network.once(context(strict=False))
    assert type(output) is Tensor
    (warning,) = caught
    text = str(warning.message)
    assert context.__name__ in text and "'1.weight'" in text and "'3.weight'" in text
    assert "prelu" in text and "linear" not in text
    assert (output[0] - output[1]).abs().min() > 0


@pytest.mark.parametrize("context", CONTEXTS)
def test_not_strict_leaves_the_draw(context):
    network = Network(nn.EmbeddingBag(4, 3), torch.tensor([[0, 1], [0, 1], [2, 2]]))
    with pytest.warns(UserWarning, match="embedding_bag"):
        output = network.once(context(strict=False))
    assert torch.equal(output[0], output[1])
    assert not torch.allclose(output, network.at(network.loc))


def test_nothing_to_warn_of():
    Network(nn.Linear(3, 2), torch.ones(5, 3)).once(flipout(strict=False))


def test_every_layer_has_a_case(monkeypatch):
    """Those of attention and recurrent networks have files of their own."""
    seen = set()

    def call(self, func, args, kwargs):
        seen.add(LAYERS.get(func))
        return original(self, func, args, kwargs)

    original = Run.call
    monkeypatch.setattr(Run, "call", call)
    for case in CASES.values():
        case.network().once(flipout(**options(case)))
    for make, _ in REFUSED.values():
        with pytest.raises(EstimatorError):
            make().once(flipout())
    missing = {func for func, layer in LAYERS.items() if layer not in seen}
    elsewhere = ("attention", "recurrent")
    missing = {func for func in missing if not LAYERS[func].__module__.endswith(elsewhere)}
    assert not missing


@pytest.mark.parametrize("context", CONTEXTS)
def test_nothing_stays_changed(context):
    before = dict(vars(F)), dict(vars(torch)), dict(vars(Tensor))
    network = Network(nn.Linear(3, 2), torch.randn(4, 3))
    network.once(context())
    assert before == (dict(vars(F)), dict(vars(torch)), dict(vars(Tensor)))


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_weight_after_the_model_is_a_plain_tensor(context):
    kept = []

    def model():
        kept.append(pyro.sample("w", dist.Normal(0.0, 1.0).expand([2, 3]).to_event(2)))
        return F.linear(torch.ones(4, 3), kept[0])

    guide = poutine.trace(lambda: pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2)))
    trace = guide.get_trace()
    with context():
        inside = poutine.replay(model, trace=trace)()
        (weight,) = kept
        assert type(weight) is RandomWeight
        outputs = [F.linear(torch.ones(4, 3), weight)]
    outputs.append(F.linear(torch.ones(4, 3), weight))
    expected = F.linear(torch.ones(4, 3), trace.nodes["w"]["value"])
    for output in outputs:
        assert type(output) is Tensor
        assert torch.equal(output, expected)
    assert not torch.equal(inside, expected)
    assert type(weight.exp()) is type(weight + 1) is type(weight.T) is Tensor

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..layouts import LAYOUTS
from ..registry import FAMILIES
from ..sampling import layout_gradients
from .closed_form import COLUMNS, ROWS, Classes, Program, assert_same, gradients


def _pair(program):
    """A value and its antithetic twin, from one uniform."""
    noise, probs = torch.rand_like(program.logits), program.logits.sigmoid()
    return (noise < probs).double(), (1 - noise < probs).double()


@pytest.mark.parametrize("num_pairs", [1, 2])
def test_same_seed_closed_form(num_pairs):
    program = Program()
    elbo = pre.TraceEstimator_ELBO(pre.DisARM(num_pairs), max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    logits, weight = program.parameters()
    pairs = [_pair(program) for _ in range(num_pairs)]
    alpha, expected, total = logits.detach(), 0.0, 0.0
    for b, twin in pairs:
        cost, twin_cost = (program.cost(x, alpha, weight) for x in (b, twin))
        sign = torch.where(twin == 1, -1.0, 1.0) * (b != twin)
        difference = (cost - twin_cost).detach()[:, None]
        expected = expected + 0.5 * difference * sign * alpha.abs().sigmoid() / num_pairs
        total = total + (cost + twin_cost).sum() / (2 * num_pairs)
    assert_same(actual, expected, torch.autograd.grad(total, weight)[0])


def test_same_seed_closed_form_of_classes():
    """Of three classes: a turn to class 2, and if that is not taken, one to class 1."""
    program = Classes()
    actual = gradients(pre.TraceEstimator_ELBO(pre.DisARM(), max_plate_nesting=1), program, seed=5)
    torch.manual_seed(5)
    noise = torch.rand(ROWS, COLUMNS, 3, dtype=torch.float64)  # the third decides nothing
    logits, weight = program.parameters()
    alphas = (
        logits[..., 2] - logits[..., :2].logsumexp(-1),
        logits[..., 1] - logits[..., 0],
    )
    turns = [
        [(u < alpha.sigmoid()).long() for alpha, u in zip(alphas, noises.unbind(-1), strict=False)]
        for noises in (noise, 1 - noise)
    ]
    z, twin = (torch.where(first == 1, 2, second) for first, second in turns)
    costs = [program.cost(x, logits.detach(), weight) for x in (z, twin)]
    difference = (costs[0] - costs[1]).detach()[:, None]
    (first, second), (first_twin, second_twin) = turns
    surrogate = difference * (first - first_twin) * alphas[0].abs().sigmoid().detach() * alphas[0]
    p = alphas[1].sigmoid().detach()
    both = (second - second_twin) * alphas[1].abs().sigmoid().detach()
    alone = torch.where(first == 0, second - p, p - second_twin)
    gain = torch.where((first == 0) & (first_twin == 0), both, alone)
    gain = torch.where((first == 1) & (first_twin == 1), 0.0, gain)
    surrogate = 0.5 * (surrogate + difference * gain * alphas[1]).sum()
    expected = torch.autograd.grad(surrogate, logits)[0]
    assert_same(actual, expected, torch.autograd.grad(sum(costs).sum() / 2, weight)[0])


def _two_layers(rows=20, wide=8, narrow=4):
    """A two-layer Bernoulli guide in a plate, with a decoder that records what it is given."""
    generator = torch.Generator().manual_seed(2)

    def weights(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    data = (weights(rows, 6) > 0).double()
    encoder, second, middle, decoder = (
        weights(6, wide),
        0.5 * weights(wide, narrow),
        weights(narrow, wide),
        weights(wide, 6),
    )
    seen = []

    def guide():
        a, b = pyro.param("encoder", encoder.clone()), pyro.param("second", second.clone())
        with pyro.plate("data", rows):
            z1 = pyro.sample("z1", dist.Bernoulli(logits=data @ a).to_event(1))
            pyro.sample("z2", dist.Bernoulli(logits=z1 @ b).to_event(1))

    def model():
        c, d = pyro.param("middle", middle.clone()), pyro.param("decoder", decoder.clone())
        with pyro.plate("data", rows):
            prior = torch.zeros(rows, narrow, dtype=torch.float64)
            z2 = pyro.sample("z2", dist.Bernoulli(logits=prior).to_event(1))
            z1 = pyro.sample("z1", dist.Bernoulli(logits=z2 @ c).to_event(1))
            seen.append(z1.shape)
            pyro.sample("x", dist.Bernoulli(logits=torch.tanh(z1 @ d)).to_event(1), obs=data)

    return model, guide, seen


def test_two_layers_cost_three_evaluations():
    from ..sampling import gradients

    model, guide, seen = _two_layers()
    elbo = pre.TraceEstimator_ELBO(pre.DisARM(), max_plate_nesting=1)
    gradients(elbo, model, guide, ["encoder", "second"], 4)
    seen.clear()  # the first calls, and some later ones, are compared with plain runs
    gradients(elbo, model, guide, ["encoder", "second"], 3)
    assert len(seen) == 3 and all(shape[0] == 3 for shape in seen)


def test_rows_of_two_sites():
    layout = LAYOUTS["hierarchy"](FAMILIES["Bernoulli-event"])
    elbo = pre.TraceEstimator_ELBO(pre.DisARM(num_pairs=2))
    layout_gradients(elbo, layout, 1)
    assert pre.DisARM(2).evaluations(dist.Bernoulli(torch.zeros(3)).to_event(1)) == 4

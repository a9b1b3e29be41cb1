import pyro
import pytest
import torch

import pyro_reparam_ext as pre

from .closed_form import COLUMNS, ROWS, Classes, Program, assert_same, gradients


def elbo_of(estimator):
    return pre.TraceEstimator_ELBO(estimator, max_plate_nesting=1)


def coupled(first, count):
    """Uniforms in the copula of Dirichlet weights, given the first of them."""
    parts = -torch.rand(count - 1, *first.shape, dtype=first.dtype).log()
    weight = 1 - first ** (1 / (count - 1))
    weights = torch.cat([weight[None], (1 - weight) * parts / parts.sum(0)])
    return (1 - weights) ** (count - 1)


def test_same_seed_closed_form(count=3):
    program = Program()
    actual = gradients(elbo_of(pre.ARMS(count)), program, seed=5)
    torch.manual_seed(5)
    alpha, weight = program.parameters()
    p = alpha.detach().sigmoid()
    noise = torch.rand(ROWS, COLUMNS, 1, dtype=torch.float64)
    uniform = coupled(torch.where(p[..., None] > 0.5, 1 - noise, noise), count).squeeze(-1)
    values = torch.where(p > 0.5, uniform > 1 - p, uniform < p).double()
    both = (2 * (0.5 - (0.5 - p).abs()) ** 0.5 - 1).clamp(min=0) ** 2
    both = torch.where(p > 0.5, 2 * p - 1 + both, both)  # both are 1
    debias = p * (1 - p) / (p - both)
    costs = torch.stack([program.cost(z, alpha.detach(), weight) for z in values])
    centred = (costs - costs.mean(0)).detach()[..., None]
    expected = (centred * (values - p) * debias).sum(0) / (count - 1)
    assert_same(actual, expected, torch.autograd.grad(costs.mean(0).sum(), weight)[0])


@pytest.mark.parametrize("program", [Program(), Classes()])
def test_two_samples_are_a_pair_of_disarm(program):
    two, pair = (
        gradients(elbo_of(estimator), program, seed=2) for estimator in (pre.ARMS(2), pre.DisARM())
    )
    for name, gradient in pair.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-9, atol=1e-9)


def test_fewer_than_two_samples():
    with pytest.raises(pre.EstimatorError, match="num_samples must be 2 or more, was given 1"):
        pre.ARMS(num_samples=1)


@pytest.mark.parametrize("estimator", [pre.ARM(), pre.ARMS(), pre.DisARM(num_pairs=2)], ids=repr)
@pytest.mark.parametrize("program", [Program(), Classes()])
def test_a_value_that_a_handler_gives(program, estimator):
    """The noise behind it is drawn given the value, once: evaluations and surrogate agree on it."""
    trace = pyro.poutine.trace(program.guide).get_trace()
    pyro.clear_param_store()
    torch.manual_seed(0)
    guide = pyro.poutine.replay(program.guide, trace)
    loss = elbo_of(estimator).loss_and_grads(program.model, guide)
    assert torch.tensor(loss).isfinite() and pyro.param("logits").grad.isfinite().all()

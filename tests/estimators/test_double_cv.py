import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre

from ..sampling import gradients as rows_of_gradients
from .closed_form import Program, assert_same, gradients
from .samples import at_the_ends, slopes, values

ALPHA = -0.7


def elbo_of(num_samples, alpha=ALPHA, **options):
    """An ELBO whose coefficient is ``alpha`` from the first call on."""
    elbo = pre.TraceEstimator_ELBO(pre.DoubleCV(num_samples), **options)
    gradients(elbo, Program(), 0)
    elbo.states["z/DoubleCV"].alpha.data.fill_(alpha)
    return elbo


def expected(program, z, alpha):
    """The estimate in the logits, sample by sample."""
    cost, slope = program.cost(z, program.logits, program.weight), slopes(program, z)
    probs, count = program.logits.sigmoid(), len(z)
    added = []
    for k in range(count):
        rest = [j for j in range(count) if j != k]
        added.append(alpha * (slope[rest].mean(0) * (z[k] - probs)).sum(-1))
    total = torch.zeros_like(probs)
    for k in range(count):
        rest = [j for j in range(count) if j != k]
        baseline = sum(cost[j] + added[j] for j in rest) / (count - 1)
        total = total + (cost[k] + added[k] - baseline)[:, None] * (z[k] - probs)
        total = total - alpha * slope[k] * probs * (1 - probs)
    return total / count


@pytest.mark.parametrize("num_samples", [2, 3])
def test_same_seed_closed_form(num_samples):
    program = Program()
    elbo = elbo_of(num_samples, max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, (_, weight) = values(program, num_samples), program.parameters()
    cost = program.cost(z, program.logits, weight).mean(0).sum()
    found = torch.autograd.grad(cost, weight)[0]
    assert_same(actual, expected(program, z, ALPHA), found)


def test_the_coefficient_is_trained_on_the_square_of_the_gradient():
    program = Program()
    elbo = elbo_of(2, max_plate_nesting=1)
    parameter = elbo.states["z/DoubleCV"].alpha
    parameter.grad = None
    gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, alpha = values(program, 2), torch.tensor(ALPHA, dtype=torch.float64, requires_grad=True)
    loss = expected(program, z, alpha).square().sum()
    torch.testing.assert_close(parameter.grad, torch.autograd.grad(loss, alpha)[0])


def test_exact_where_costs_are_linear_also_near_0_and_1():
    elbo = pre.TraceEstimator_ELBO(pre.DoubleCV())
    at_the_ends(elbo, 1)
    elbo.states["z/DoubleCV"].alpha.data.fill_(-1.0)
    found, exact = at_the_ends(elbo, 3)
    torch.testing.assert_close(found, exact.expand_as(found), rtol=1e-3, atol=0)


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_slopes_of_a_site_outside_of_plates(mode):
    """Its value is given more dims than it was drawn with; costs are linear, and the estimate exact."""
    data = torch.tensor([[0.5, -0.3], [1.0, 0.2]])

    def guide():
        logits = pyro.param("logits", torch.tensor([0.3, -0.8]))
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.4, 0.5])).to_event(1))
        with pyro.plate("columns", 2, dim=-1), pyro.plate("rows", 2, dim=-2):
            pyro.factor("cost", data * (z[..., 0] - 2 * z[..., 1]))

    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(pre.DoubleCV(), max_plate_nesting=2, vectorize_particles=mode)
    rows_of_gradients(elbo, model, guide, ["logits"], 1)
    elbo.states["z/DoubleCV"].alpha.data.fill_(-1.0)
    rows = rows_of_gradients(elbo, model, guide, ["logits"], 5)[:, 1:]
    exact = pre.TraceEstimator_ELBO(pre.Enumeration(), max_plate_nesting=2)
    truth = rows_of_gradients(exact, model, guide, ["logits"], 1)[:, 1:]
    torch.testing.assert_close(rows, truth.expand_as(rows), rtol=1e-4, atol=1e-5)


def test_a_value_that_was_given_has_no_slope():
    program = Program()
    trace = poutine.trace(program.guide).get_trace()
    given = poutine.replay(program.guide, trace=trace)
    elbo = pre.TraceEstimator_ELBO(pre.DoubleCV(), max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match="'z': DoubleCV.*given one by a handler"):
        elbo.loss_and_grads(program.model, given)


@pytest.mark.parametrize("make", [pre.DoubleCV, pre.RODEO])
@pytest.mark.parametrize("num_samples", [1, 2.0])
def test_too_few_samples(make, num_samples):
    with pytest.raises(pre.EstimatorError, match="num_samples must be an integer of at least 2"):
        make(num_samples)

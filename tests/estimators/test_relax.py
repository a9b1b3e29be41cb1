import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.discrete_noise import noise_given, noisy_logits_given

from ..registry import layout_of
from ..sampling import layout_gradients
from ..statistics import assert_mean
from .closed_form import COLUMNS, Program, assert_same, gradients
from .samples import at_the_ends

SCALE, TEMPERATURE = 0.8, 0.6


def network(out=1):
    generator = torch.Generator().manual_seed(1)
    made = nn.Sequential(nn.Linear(COLUMNS, 5), nn.Tanh(), nn.Linear(5, out)).double()
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


def elbo_of(estimator):
    """An ELBO with something learned."""
    elbo = pre.TraceEstimator_ELBO(estimator, max_plate_nesting=1)
    gradients(elbo, Program(), 0)
    (state,) = elbo.states.values()
    state.scale.data.fill_(SCALE)
    state.log_temperature.data.copy_(torch.tensor(TEMPERATURE).log())
    for parameter in state.parameters():
        parameter.grad = None
    return elbo, state


def test_same_seed_closed_form():
    program = Program()
    elbo, state = elbo_of(pre.RELAX(network()))
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    b, (logits, weight) = program.value(), program.parameters()
    fixed, alpha = weight.detach(), logits.detach()
    scale, temperature = state.scale.double(), state.log_temperature.double().exp()

    def control(z):
        y = (z / temperature).sigmoid()
        return scale * program.cost(y, alpha, fixed) + state.network(y).squeeze(-1)

    z = logits + noise_given(dist.Bernoulli(logits=alpha), b)
    tilde = noisy_logits_given(dist.Bernoulli(logits=logits), b)  # moves with the logits
    cost, relaxed, second = program.cost(b, alpha, weight), control(z), control(tilde)
    (reparameterised,) = torch.autograd.grad((relaxed - second).sum(), logits, create_graph=True)
    gradient = (cost.detach() - second)[:, None] * (b - alpha.sigmoid()) + reparameterised
    assert_same(actual, gradient.detach(), torch.autograd.grad(cost.sum(), weight)[0])
    # The score's derivative is none of the control variate's: the logits are held there.
    learned = list(state.network.parameters())
    square = torch.autograd.grad(gradient.square().sum(), learned)
    for parameter, found in zip(learned, square, strict=True):
        torch.testing.assert_close(parameter.grad, found, rtol=1e-4, atol=1e-4)


def test_rebar_until_the_default_network_has_learned():
    program = Program()
    elbo, _ = elbo_of(pre.RELAX())
    other, _ = elbo_of(pre.REBAR())
    ours, theirs = gradients(elbo, program, seed=5), gradients(other, program, seed=5)
    assert_same(ours, theirs["logits"], theirs["weight"])


@pytest.mark.parametrize("family", ["Bernoulli", "OneHotCategorical-event"])
def test_unbiased_with_anything_learned(family):
    layout = layout_of("plate", family)
    elbo = pre.TraceEstimator_ELBO(pre.RELAX(), num_particles=100)
    layout_gradients(elbo, layout, 1)
    (state,) = elbo.states.values()
    state.network.out.weight.data.normal_()
    assert_mean(layout_gradients(elbo, layout, 40), layout.exact_gradient())


def test_near_0_and_1():
    found, exact = at_the_ends(pre.TraceEstimator_ELBO(pre.RELAX()), 5)
    assert found.isfinite().all() and (found - exact).abs().max() < 1e-3


def test_a_network_of_another_shape():
    elbo = pre.TraceEstimator_ELBO(pre.RELAX(network(2)), max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match=r"'z': the control_variate.*\(2, 4, 2\)"):
        gradients(elbo, Program(), 0)


def test_what_is_no_network():
    with pytest.raises(pre.EstimatorError, match="control_variate must be None or an nn.Module"):
        pre.RELAX(0.5)


def test_another_network_has_a_state_of_its_own():
    first, second = network(), network()
    elbo = pre.TraceEstimator_ELBO(pre.RELAX(first), max_plate_nesting=1)
    gradients(elbo, Program(), 0)
    elbo.estimators = pre.RELAX(second)
    gradients(elbo, Program(), 0)
    assert elbo.states["z/RELAX"].network is second

import pyro
import pyro.distributions as dist
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation.noise import noise_given, noisy_logits_given

from ..registry import layout_of
from ..sampling import layout_gradients
from ..statistics import assert_mean
from .closed_form import Program, assert_same, gradients


def test_same_seed_closed_form():
    program, temperature = Program(), 0.6
    elbo = pre.TraceEstimator_ELBO(pre.REBAR(temperature), max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    b, (logits, weight) = program.value(), program.parameters()
    fixed, alpha = weight.detach(), logits.detach()
    z = logits + noise_given(dist.Bernoulli(logits=alpha), b)
    tilde = noisy_logits_given(dist.Bernoulli(logits=logits), b)
    cost = program.cost(b, alpha, weight)
    y, y_tilde = (z / temperature).sigmoid(), (tilde / temperature).sigmoid()
    relaxed, relaxed_tilde = (program.cost(v, alpha, fixed) for v in (y, y_tilde))
    score = program.log_q(b, logits) * (cost - relaxed_tilde).detach()
    loss = (score + relaxed - relaxed_tilde).sum()
    assert_same(
        actual,
        torch.autograd.grad(loss, logits)[0],
        torch.autograd.grad(cost.sum(), weight)[0],
    )


def test_model_parameters_learn_from_hard_values_only():
    layout = layout_of("hierarchy", "Bernoulli-event")
    rows = []
    for estimator in (pre.REBAR(), pre.ScoreFunction()):
        pyro.clear_param_store()
        torch.manual_seed(3)
        elbo = pre.TraceEstimator_ELBO(estimator)
        rows.append(layout_gradients(elbo, layout, 1)[0])
    model = -sum(layout.initial[n].numel() for n in ("prior_1", "prior_2", "theta"))
    torch.testing.assert_close(rows[0][model:], rows[1][model:])


def test_svi_trains_the_control_variate_and_the_gradient_stays_unbiased():
    layout = layout_of("plate", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO(pre.REBAR())
    svi = pyro.infer.SVI(layout.model, layout.guide, pyro.optim.SGD({"lr": 1e-3}), elbo)
    svi.step()
    (state,) = elbo.states.values()
    assert state.scale.item() != 1.0
    assert state.log_temperature.item() != torch.tensor(0.5).log().item()
    for _ in range(30):
        svi.step()
    pyro.clear_param_store()
    elbo.num_particles = 1
    samples = layout_gradients(elbo, layout, 600)
    assert_mean(samples, layout.exact_gradient())


def test_learned_scale_lowers_the_variance():
    layout = layout_of("plate", "Bernoulli-event")
    elbo = pre.TraceEstimator_ELBO(pre.REBAR())
    before = layout_gradients(elbo, layout, 200)[:, 1:7].var(0).sum()
    (state,) = elbo.states.values()
    optimiser = torch.optim.Adam(state.parameters(), 0.02)
    for _ in range(200):
        layout_gradients(elbo, layout, 1)
        optimiser.step()
    after = layout_gradients(elbo, layout, 200)[:, 1:7].var(0).sum()
    assert after < before

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.discrete_noise import noise_given, noisy_logits_given

from ..registry import layout_of
from ..sampling import gradients as rows_of_gradients
from ..sampling import layout_gradients
from ..slow import one_in, slow
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


@slow
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


P = pre.distributions
RECIPROCAL = dist.transforms.PowerTransform(torch.tensor(-1.0))


def shape(z):
    return 1.2 + 1.5 * z


DOWNSTREAM = {
    "Gamma": (lambda z: P.Gamma(shape(z), 1.0 + z), lambda z: dist.Gamma(shape(z), 1.0 + z)),
    "Beta": (lambda z: P.Beta(shape(z), 2.0 - z), lambda z: dist.Beta(shape(z), 2.0 - z)),
    "StudentT": (
        lambda z: P.StudentT(4.0 + 2 * z, z, 1.0 + z),
        lambda z: dist.StudentT(4.0 + 2 * z, z, 1.0 + z),
    ),
    "Dirichlet": (
        lambda z: P.Dirichlet(torch.stack([shape(z), 1.0 + 0 * z, 2.0 - z], -1)),
        lambda z: dist.Dirichlet(torch.stack([shape(z), 1.0 + 0 * z, 2.0 - z], -1)),
    ),
    "LogGamma": (lambda z: P.LogGamma(shape(z), 1.0 + z), None),
    "LogBeta": (lambda z: P.LogBeta(shape(z), 2.0 - z), None),
    "LogDirichlet": (
        lambda z: P.LogDirichlet(torch.stack([shape(z), 1.0 + 0 * z, 2.0 - z], -1)),
        None,
    ),
    "InverseGamma": (
        lambda z: dist.TransformedDistribution(P.Gamma(shape(z) + 2, 1.0 + z), RECIPROCAL),
        lambda z: dist.InverseGamma(shape(z) + 2, 1.0 + z),
    ),
    "Chi2": (lambda z: P.Gamma(shape(z), 0.5), lambda z: dist.Chi2(2 * shape(z))),
    "Wishart": (lambda z: P.Wishart(5.0 + z, torch.eye(2)), None),
}


def downstream(make, prior=None):
    """A Bernoulli site of REBAR, a site downstream of it, and a cost of both."""
    prior = make if prior is None else prior

    def guide():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))
        pyro.sample("w", make(z))

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
        w = pyro.sample("w", prior(z))
        fn = make(z)
        x = cost_of(w, len(fn.event_shape))
        pyro.sample("x", dist.Normal(x + z, 0.7), obs=torch.tensor(1.0))

    return model, guide


def cost_of(w, event_dim):
    """A nonlinear function of the first component."""
    for _ in range(event_dim):
        w = w[..., 0]
    return torch.tanh(w)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def exact_gradient(marginal):
    """In the logit, by quadrature over the first component of ``w`` given ``z``."""
    logit = torch.tensor(0.4, requires_grad=True)
    q, total = logit.sigmoid(), 0.0
    for z, weight in ((0.0, 1 - q), (1.0, q)):
        prior = 0.3 if z else 0.7
        frozen = marginal(z)

        def likelihood(w, z=z):
            return stats.norm(np.tanh(w) + z, 0.7).logpdf(1.0)

        x = frozen.expect(likelihood)
        total = total + weight * (weight.log() - math.log(prior) - x)
    return torch.autograd.grad(total, logit)[0]


MARGINALS = {
    "Gamma": lambda z: stats.gamma(1.2 + 1.5 * z, scale=1 / (1 + z)),
    "Beta": lambda z: stats.beta(1.2 + 1.5 * z, 2 - z),
    "StudentT": lambda z: stats.t(4 + 2 * z, z, 1 + z),
    "Dirichlet": lambda z: stats.beta(1.2 + 1.5 * z, 3 - z),
}


@pytest.mark.parametrize("name", one_in(4, MARGINALS))
def test_unbiased_upstream_of_the_gamma_family(double, name):
    """Also after its control variate has learned, by second derivatives of the sampler downstream."""
    model, guide = downstream(DOWNSTREAM[name][0])
    elbo = pre.TraceEstimator_ELBO({"z": pre.REBAR()}, num_particles=200, max_plate_nesting=1)
    optimiser = None
    for _ in range(30):
        elbo.loss_and_grads(model, guide)
        (state,) = elbo.states.values()
        optimiser = optimiser or torch.optim.Adam(state.parameters(), 0.02)
        assert all(p.grad.isfinite() for p in state.parameters())
        optimiser.step()
        optimiser.zero_grad()
    assert state.log_temperature.item() != math.log(0.5)
    samples = rows_of_gradients(elbo, model, guide, ["logit"], 60)[:, 1:]
    assert_mean(samples, exact_gradient(MARGINALS[name]).reshape(1))


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("name", DOWNSTREAM)
def test_learns_upstream_of_samplers_with_a_second_derivative(double, name, vectorize):
    model, guide = downstream(DOWNSTREAM[name][0])
    elbo = pre.TraceEstimator_ELBO(
        {"z": pre.REBAR()}, max_plate_nesting=0, vectorize_particles=vectorize
    )
    for _ in range(5):
        elbo.loss_and_grads(model, guide)
    (state,) = elbo.states.values()
    assert all(p.grad.isfinite() and p.grad != 0 for p in state.parameters())


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("name", [name for name, (_, theirs) in DOWNSTREAM.items() if theirs])
def test_names_a_sampler_of_torch_without_a_second_derivative(double, name, vectorize):
    """Some of them would leave a part of the derivative out; the remedies of the error work."""
    model, guide = downstream(DOWNSTREAM[name][1])
    options = {"max_plate_nesting": 0, "vectorize_particles": vectorize}
    elbo = pre.TraceEstimator_ELBO({"z": pre.REBAR()}, **options)
    with pytest.raises(pre.EstimatorError, match=r"'z': REBAR.*site 'w'.*AutoPathwise"):
        elbo.loss_and_grads(model, guide)
    assert not list(pyro.get_param_store().keys())
    elbo.loss_and_grads(model, pre.reparam.AutoPathwise()(guide))
    for estimator in (pre.LocalExpectation(), pre.ScoreFunction()):
        pre.TraceEstimator_ELBO({"z": estimator}, **options).loss_and_grads(model, guide)


def test_a_sampler_that_does_not_depend_on_the_site_needs_no_second_derivative(double):
    for vectorize in (True, False):
        pyro.clear_param_store()
        model, guide = downstream(
            lambda z: dist.Gamma(pyro.param("shape", torch.tensor(1.5)), 1.0),
            lambda z: dist.Gamma(1.0 + z, 1.0),
        )
        elbo = pre.TraceEstimator_ELBO(
            {"z": pre.REBAR()}, max_plate_nesting=0, vectorize_particles=vectorize
        )
        elbo.loss_and_grads(model, guide)
        assert pyro.param("logit").grad.isfinite()


@pytest.mark.parametrize("vectorize", [True, False])
def test_names_the_site_where_another_derivative_is_missing(double, vectorize):
    """A function of the user's, in the model."""
    _, guide = downstream(lambda z: dist.Normal(z, 1.0))

    def failing():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
        pyro.sample("w", dist.Normal(z, 1.0))
        pyro.sample("x", dist.Normal(Once.apply(z), 0.7), obs=torch.tensor(1.0))

    elbo = pre.TraceEstimator_ELBO(
        {"z": pre.REBAR()}, max_plate_nesting=0, vectorize_particles=vectorize
    )
    with pytest.raises(pre.EstimatorError, match="site 'z': REBAR.*no second derivative.*Use Local"):
        elbo.loss_and_grads(failing, guide)


class Once(torch.autograd.Function):
    """A cube, whose derivative has none."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return Raising.apply(3 * gradient * x**2)


class Raising(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no second derivative")

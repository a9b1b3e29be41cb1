"""The divergence in closed form: exact at a site, unbiased beside others, refused where it is wrong."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal

import pyro_reparam_ext as pre

from ..compiled.steps import assert_same_steps
from ..sampling import gradients
from ..statistics import assert_mean

DOUBLE = torch.float64
ZERO, ONE = torch.zeros((), dtype=DOUBLE), torch.ones((), dtype=DOUBLE)
X = torch.tensor([[0.5, -1.0], [1.0, 0.3], [-0.4, 0.8]], dtype=DOUBLE)
MODES = (True, "vmap", False)


def guide():
    """An encoder-like guide: a vector in a plate, and a global site before it."""
    scale = pyro.param("scale", torch.full((3, 2), 0.5, dtype=DOUBLE), dist.constraints.positive)
    a = pyro.param("a", 2 * ONE.clone(), dist.constraints.positive)
    pyro.sample("g", dist.Gamma(a, 1.5 * ONE))
    with pyro.plate("data", 3):
        pyro.sample("z", dist.Normal(pyro.param("loc", 0.5 * X), scale).to_event(1))


def model():
    g = pyro.sample("g", dist.Gamma(3 * ONE, 2.0))
    with pyro.plate("data", 3):
        z = pyro.sample(
            "z", dist.Normal(g.unsqueeze(-1) * torch.ones(2, dtype=DOUBLE), 1.0).to_event(1)
        )
        pyro.sample("x", dist.Normal((z * X).sum(-1).sin(), 0.5), obs=X[:, 0])


NAMES = ["scale", "a", "loc"]


def elbo_of(estimators, mode=True, num_particles=1):
    bound = 1 + (num_particles > 1)
    return pre.TraceEstimator_ELBO(
        estimators, num_particles=num_particles, vectorize_particles=mode, max_plate_nesting=bound
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_particles", [1, 3])
def test_it_is_the_mean_field_elbo(mode, num_particles):
    """Where every site has its divergence, the same numbers as Pyro's, at the same noise."""
    found = []
    for elbo in (
        TraceMeanField_ELBO(num_particles=num_particles, vectorize_particles=num_particles > 1),
        elbo_of(pre.AnalyticKL(), mode, num_particles),
    ):
        elbo.max_plate_nesting = 1 + (num_particles > 1)
        elbo.loss(model, guide)
        if mode is not True and num_particles > 1:
            continue  # the noise is drawn in another order
        pyro.set_rng_seed(2)
        found.append(gradients(elbo, model, guide, NAMES, 1)[0])
    if len(found) == 2:
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("names", [("z",), ("g", "z")])
def test_unbiased(names, mode):
    mixed = elbo_of({name: pre.AnalyticKL() for name in names}, mode)
    rows = gradients(mixed, model, guide, NAMES, 1000 if mode else 400)
    plain = gradients(Trace_ELBO(), model, guide, NAMES, len(rows))
    assert_mean(rows - plain, torch.zeros(rows.shape[1]))
    assert rows[:, 0].var() < plain[:, 0].var()


def switching_guide():
    b = pyro.sample("b", dist.Bernoulli(logits=pyro.param("logit", ZERO + 0.3)))
    pyro.sample("z", dist.Normal(pyro.param("shift", ZERO + 0.5) * b, 0.7 * ONE))


def switching_model():
    b = pyro.sample("b", dist.Bernoulli(0.4 * ONE))
    z = pyro.sample("z", dist.Normal(b - 0.5, 1.2))
    pyro.sample("x", dist.Normal(z + b, 1.0), obs=X[0, 0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "upstream",
    [pre.REBAR(), pre.LocalExpectation(), pre.Enumeration(), pre.ScoreFunction(), pre.ARMS()],
    ids=lambda x: type(x).__name__,
)
def test_behind_a_discrete_site(upstream, mode):
    """Its divergence is that of each evaluation: of the ordinary one, and of each alternative."""
    names, draws = ["logit", "shift"], 800 if mode else 300
    elbo = elbo_of({"b": upstream, "z": pre.AnalyticKL()}, mode)
    rows = gradients(elbo, switching_model, switching_guide, names, draws)[:, 1:]
    exact = elbo_of({"b": pre.Enumeration()})
    plain = gradients(exact, switching_model, switching_guide, names, draws)[:, 1:]
    assert_mean(rows - plain, torch.zeros(2))


def test_captured():
    def programs():
        return model, guide, elbo_of({"z": pre.AnalyticKL()}, num_particles=2)

    assert_same_steps(programs, tolerance=1e-9)


def behind_its_own_value():
    z = pyro.sample("z", dist.Normal(pyro.param("loc", ZERO.clone()), 1.0))
    pyro.sample("w", dist.Normal(pyro.param("weight", ONE.clone()) * z, 1.0))


def top_down():
    w = pyro.sample("w", dist.Normal(ZERO, 1.0))
    pyro.sample("z", dist.Normal(w, 1.0))


def other_family():
    pyro.sample("z", dist.Laplace(ZERO, 1.0))


def one_site():
    pyro.sample("z", dist.Normal(pyro.param("loc", ZERO.clone()), 1.0))


def gumbel():
    pyro.sample("z", dist.StudentT(3.0, pyro.param("loc", ZERO.clone()), 1.0))


def without():
    pyro.factor("cost", ZERO)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("other", "program", "message"),
    [
        (top_down, behind_its_own_value, "'z'.*depends on 'w'.*draws by that value"),
        (other_family, gumbel, "'z'.*StudentT in the guide and Laplace in the model.*registered"),
        (without, one_site, "'z'.*does not have"),
        (poutine.scale(one_site, 0.5), one_site, "'z'.*scale or mask"),
        (poutine.mask(one_site, torch.tensor(False)), one_site, "'z'.*scale or mask"),
    ],
    ids=["dependent", "family", "absent", "scale", "mask"],
)
def test_what_it_can_not_serve_is_named(other, program, message, mode):
    elbo = elbo_of({"z": pre.AnalyticKL()}, mode)
    with pytest.raises(pre.EstimatorError, match=message):
        elbo.loss_and_grads(other, program)


def test_auxiliary_sites_of_an_autoguide_are_named():
    guide = AutoNormal(one_site)
    with pytest.raises(pre.EstimatorError, match="'z_unconstrained'.*auxiliary"):
        elbo_of(pre.AnalyticKL()).loss_and_grads(one_site, guide)


def test_a_scale_on_both_sides_is_that_of_the_divergence():
    def scaled(program):
        return poutine.scale(program, 0.3)

    def half():
        pyro.sample("z", dist.Normal(pyro.param("loc", ONE.clone()), 1.0))

    def prior():
        pyro.sample("z", dist.Normal(ZERO, 1.0))

    loss = elbo_of({"z": pre.AnalyticKL()}).loss_and_grads(scaled(prior), scaled(half))
    assert loss == pytest.approx(0.3 * 0.5)
    assert pyro.param("loc").grad == pytest.approx(0.3)


def test_a_bound_by_several_particles_is_refused():
    def program():
        pyro.sample(
            "z", dist.Normal(pyro.param("loc", ONE.clone()), 1.0), infer={"estimator": pre.AnalyticKL()}
        )

    with pytest.raises(pre.EstimatorError, match="'z'.*bound by several particles"):
        pre.ImportanceWeighted_ELBO(2).loss_and_grads(program, program)


def test_its_second_derivative_is_that_of_the_divergence():
    def program(loc):
        return lambda: pyro.sample("z", dist.Normal(loc, 2.0))

    loc = torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)
    elbo = elbo_of({"z": pre.AnalyticKL()})
    loss = elbo.differentiable_loss(program(ZERO), program(loc))
    (gradient,) = torch.autograd.grad(loss, loc, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient, loc)
    assert gradient.item() == pytest.approx(0.7 / 4) and curvature.item() == pytest.approx(1 / 4)

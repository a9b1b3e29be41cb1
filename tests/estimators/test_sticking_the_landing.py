"""Sticking the landing: no noise where the guide is the posterior, whatever it is made of."""

import copy
import random
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as transforms
import pytest
import torch
from pyro.infer import autoguide

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..statistics import assert_mean

DOUBLE = torch.float64
LEAST = 1e-10
"""Of the variance of a gradient where the guide is the posterior."""


GENERATOR = torch.Generator()


def double(*x):
    return torch.tensor(x, dtype=DOUBLE)


def variance(model, guide, estimator, **options):
    elbo = pre.TraceEstimator_ELBO(estimator, **options)
    elbo.loss_and_grads(model, guide)  # makes the parameters
    rows = gradients(elbo, model, guide, list(pyro.get_param_store()), 30)[:, 1:]
    return rows.var(0).sum().item()


def normal(name, loc, scale):
    positive = dist.constraints.positive
    return dist.Normal(pyro.param(f"{name}_loc", loc), pyro.param(f"{name}_scale", scale, positive))


def vector():
    pyro.sample("z", normal("z", double(0.3, -1.0), double(0.5, 2.0)).to_event(1))


def vector_model():
    pyro.sample("z", dist.Normal(double(0.3, -1.0), double(0.5, 2.0)).to_event(1))


def in_plates():
    with pyro.plate("rows", 3, dim=-2), pyro.plate("columns", 2, dim=-1):
        pyro.sample("z", normal("z", double(0.3, -1.0), double(0.5, 2.0)).expand((3, 2)))


def in_plates_model():
    with pyro.plate("rows", 3, dim=-2), pyro.plate("columns", 2, dim=-1):
        pyro.sample("z", dist.Normal(double(0.3, -1.0), double(0.5, 2.0)).expand((3, 2)))


TRIL = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=DOUBLE)


def multivariate():
    tril = pyro.param("tril", TRIL, dist.constraints.lower_cholesky)
    pyro.sample("z", dist.MultivariateNormal(pyro.param("loc", double(1.0, 2.0)), scale_tril=tril))


def multivariate_model():
    pyro.sample("z", dist.MultivariateNormal(double(1.0, 2.0), scale_tril=TRIL))


def mixture():
    logits = pyro.param("logits", double(0.2, -0.3))
    components = normal("c", double(-1.0, 2.0), double(0.5, 1.0))
    pyro.sample("z", pre.distributions.MixtureSameFamily(dist.Categorical(logits=logits), components))


def mixture_model():
    components = dist.Normal(double(-1.0, 2.0), double(0.5, 1.0))
    weights = dist.Categorical(logits=double(0.2, -0.3))
    pyro.sample("z", pre.distributions.MixtureSameFamily(weights, components))


@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize(
    ("model", "guide"),
    [
        (vector_model, vector),
        (in_plates_model, in_plates),
        (multivariate_model, multivariate),
        (mixture_model, mixture),
    ],
    ids=["to_event", "plates", "multivariate", "mixture"],
)
def test_no_noise_at_the_posterior(model, guide, num_particles):
    bound = {"max_plate_nesting": 2 + (num_particles > 1)}
    there = {"num_particles": num_particles, **bound}
    assert variance(model, guide, pre.StickingTheLanding(), **there) < LEAST
    pyro.clear_param_store()
    assert variance(model, guide, pre.Pathwise(), **there) > 1e-3


def flow_of(size):
    torch.manual_seed(0)
    maps = [transforms.affine_coupling(size, hidden_dims=[8]).double() for _ in range(2)]
    for number, part in enumerate(maps):
        pyro.module(f"flow{number}", part)
    return maps


def test_no_noise_at_the_posterior_of_a_flow():
    maps = flow_of(3)
    held = copy.deepcopy(maps)
    base = dist.Normal(torch.zeros(3, dtype=DOUBLE), 1.0).to_event(1)

    def guide():
        for number, part in enumerate(maps):
            pyro.module(f"flow{number}", part)
        pyro.sample("z", dist.TransformedDistribution(base, maps))

    def model():
        with torch.no_grad():
            fn = dist.TransformedDistribution(base, held)
        pyro.sample("z", fn)

    assert variance(model, guide, pre.StickingTheLanding()) < LEAST
    assert variance(model, guide, pre.Pathwise()) > 1e-3


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (autoguide.AutoNormal, DOUBLE),
        (autoguide.AutoDiagonalNormal, DOUBLE),
        (autoguide.AutoMultivariateNormal, DOUBLE),
        (autoguide.AutoLowRankMultivariateNormal, DOUBLE),
        # Pyro inverts its autoregressive flows in float32 only.
        (lambda model: autoguide.AutoIAFNormal(model, hidden_dim=[8], num_transforms=1), torch.float32),
    ],
    ids=["normal", "diagonal", "multivariate", "low rank", "flow"],
)
def test_no_noise_at_the_posterior_of_an_autoguide(make, dtype):
    torch.manual_seed(0)
    prior = {"fn": dist.Normal(torch.zeros(3, dtype=dtype), 1.0).to_event(1)}

    def model():
        pyro.sample("z", prior["fn"])

    guide = make(model)
    guide()
    guide = guide.to(dtype)
    held = copy.deepcopy(guide) if dtype == DOUBLE else make(model)
    held()
    held.load_state_dict(guide.state_dict())
    if isinstance(guide, autoguide.AutoNormal):
        prior["fn"] = dist.Normal(held.locs.z.detach(), held.scales.z.detach()).to_event(1)
    else:
        with torch.no_grad():
            prior["fn"] = held.get_posterior()
    assert variance(model, guide, pre.StickingTheLanding()) < LEAST


def test_parameters_that_the_model_shares_are_held_in_the_guide_alone():
    """Against the ELBO in closed form, in which the guide's entropy cancels a term of the model."""
    start = {"m": 0.4, "s": 0.7}

    def scale():
        return pyro.param("s", double(start["s"])[0], dist.constraints.positive)

    def model():
        z = pyro.sample("z", dist.Normal(double(0.0)[0], 1.0))
        pyro.sample("x", dist.Normal(z, scale()), obs=double(1.0)[0])

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("m", double(start["m"])[0]), scale()))

    elbo = pre.TraceEstimator_ELBO(pre.StickingTheLanding(), num_particles=20)
    elbo.loss_and_grads(model, guide)
    rows = gradients(elbo, model, guide, ["m", "s"], 2000)[:, 1:]
    m, s = (pyro.param(x).unconstrained().detach().clone().requires_grad_() for x in "ms")
    sd = s.exp()
    loss = sd.log() + ((1 - m) ** 2 + sd**2) / (2 * sd**2) + 0.5 * (m**2 + sd**2) - sd.log()
    assert_mean(rows, torch.stack(torch.autograd.grad(loss, [m, s])))


def test_it_can_not_be_differentiated_twice():
    elbo = pre.TraceEstimator_ELBO(pre.StickingTheLanding())
    loss = elbo.differentiable_loss(vector_model, vector)
    leaves = [x.unconstrained() for x in pyro.get_param_store().values()]
    once = torch.autograd.grad(loss, leaves, create_graph=True)
    with pytest.raises(pre.EstimatorError, match="StickingTheLanding"):
        torch.autograd.grad(sum(g.sum() for g in once), leaves)


@pytest.mark.parametrize(
    "number",
    [
        lambda: random.choice([0.2, 2.0]),
        lambda: float(np.random.choice([0.2, 2.0])),
        lambda: torch.rand((), generator=GENERATOR) + 0.1,
    ],
    ids=["python", "numpy", "a generator"],
)
def test_a_guide_that_is_another_one_when_it_is_run_again(number):
    def model():
        z = pyro.sample("z", dist.Normal(1.0, 1.0))
        pyro.sample("w", dist.Normal(z, 1.0))

    def guide():
        scale = number()
        z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)) * scale, scale))
        pyro.sample("w", dist.Normal(pyro.param("slope", torch.tensor(0.3)) * z, scale))

    elbo = pre.TraceEstimator_ELBO(pre.StickingTheLanding(), num_particles=10, max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match="'w'.*random numbers outside of its sample sites"):
        elbo.loss_and_grads(model, guide)


def test_a_guide_is_not_run_again_where_only_parameters_move_its_sites():
    runs = []

    def model():
        pyro.sample("z", dist.Normal(1.0, 1.0))
        pyro.sample("w", dist.Normal(1.0, 1.0))

    def guide():
        runs.append(1)
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), 1.0))
        pyro.sample("w", dist.Normal(pyro.param("other", torch.tensor(0.3)), 1.0))

    elbo = pre.TraceEstimator_ELBO(pre.StickingTheLanding(), num_particles=10, max_plate_nesting=1)
    for _ in range(2):
        elbo.loss_and_grads(model, guide)
    before = len(runs)
    elbo.loss_and_grads(model, guide)
    assert len(runs) == before + 1


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_the_log_density_of_a_function_of_other_values_is_not_held(mode):
    """A Jacobian that moves with parameters: what it adds has no mean of zero."""

    def model():
        pyro.sample("z", dist.Normal(double(1.0)[0], 2.0))

    def guide():
        m = pyro.param("m", double(0.3)[0])
        s = pyro.param("s", double(0.6)[0], dist.constraints.positive)
        e = pyro.sample("e", dist.Normal(double(0.0)[0], 1.0), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Delta(m + s * e, log_density=-s.log()))

    elbo = pre.TraceEstimator_ELBO(
        pre.StickingTheLanding(),
        num_particles=4,
        vectorize_particles=mode,
        max_plate_nesting=int(mode is not False),
    )
    elbo.loss_and_grads(model, guide)
    rows = gradients(elbo, model, guide, ["m", "s"], 500)[:, 1:]
    assert_mean(rows, double((0.3 - 1) / 4, 0.6**2 / 4 - 1))


def test_a_straight_through_value_keeps_its_soft_one():
    def model():
        pyro.sample("z", dist.Bernoulli(logits=double(0.4)[0]))

    def guide():
        logits = pyro.param("logits", double(0.3)[0])
        pyro.sample("z", dist.RelaxedBernoulliStraightThrough(double(0.5)[0], logits=logits))

    losses = []
    for estimator in (pre.Pathwise(), pre.StickingTheLanding()):
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO(estimator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its gradient is biased
            elbo.loss_and_grads(model, guide)
            torch.manual_seed(0)
            losses.append(elbo.loss_and_grads(model, guide))
    assert losses[0] == pytest.approx(losses[1])


def test_the_parameters_of_a_plain_module_are_held():
    """In a hierarchy, where the guide is run again: those that the parameter store does not know."""

    class Guide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc, self.slope = (torch.nn.Parameter(double(x)[0]) for x in (0.0, 0.5))

        def forward(self):
            a = pyro.sample("a", dist.Normal(self.loc, 1.0))
            pyro.sample("z", dist.Normal(self.slope * a, 2.0))

    class Model(torch.nn.Module):
        def forward(self):
            a = pyro.sample("a", dist.Normal(double(0.0)[0], 1.0))
            pyro.sample("z", dist.Normal(0.5 * a, 2.0))

    guide = Guide()
    pre.TraceEstimator_ELBO(pre.StickingTheLanding())(Model(), guide)().backward()
    assert max(abs(guide.loc.grad), abs(guide.slope.grad)) < 1e-12


def test_a_flow_without_an_inverse_is_refused():
    flow = transforms.planar(2).double()

    def guide():
        pyro.module("flow", flow)
        base = dist.Normal(pyro.param("loc", double(0.0, 1.0)), 1.0).to_event(1)
        pyro.sample("z", dist.TransformedDistribution(base, [flow]))

    elbo = pre.TraceEstimator_ELBO(pre.StickingTheLanding())
    with pytest.raises(pre.EstimatorError, match="'z'.*density at draws of its own only"):
        elbo.loss_and_grads(vector_model, guide)


def test_an_autoguide_whose_values_are_functions_of_standard_noise():
    """AutoStructured has its scales in Jacobians alone: against the divergence in closed form."""
    prior = dist.Normal(double(1.0, -0.5), double(2.0, 0.5))

    def model():
        pyro.sample("z", prior.to_event(1))

    torch.manual_seed(0)
    guide = autoguide.AutoStructured(model, conditionals="normal", dependencies="linear")
    elbo = pre.TraceEstimator_ELBO(pre.StickingTheLanding(), num_particles=4, max_plate_nesting=1)
    elbo.loss_and_grads(model, guide)
    names = list(pyro.get_param_store())
    rows = gradients(elbo, model, guide, names, 500)[:, 1:]
    divergence = torch.distributions.kl_divergence(dist.Normal(guide.locs.z, guide.scales.z), prior)
    free = [pyro.get_param_store()[name].unconstrained() for name in names]
    exact = torch.autograd.grad(divergence.sum(), free, materialize_grads=True)
    assert_mean(rows, torch.cat([x.flatten() for x in exact]))

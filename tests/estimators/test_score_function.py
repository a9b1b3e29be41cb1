import contextlib
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import affine_autoregressive
from torch import nn

import pyro_reparam_ext as pre

from .closed_form import Program, assert_same, gradients


def test_same_seed_closed_form():
    program = Program()
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(), max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, (logits, weight) = program.value(), program.parameters()
    cost = program.cost(z, logits.detach(), weight)
    score = (program.log_q(z, logits) * cost.detach()).sum()
    assert_same(
        actual,
        torch.autograd.grad(score, logits)[0],
        torch.autograd.grad(cost.sum(), weight)[0],
    )


def test_moving_average_is_of_past_costs_only():
    program = Program()
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction("ema"), max_plate_nesting=1)
    costs = []
    for seed in (1, 2, 3):
        actual = gradients(elbo, program, seed)
        torch.manual_seed(seed)
        z, (logits, weight) = program.value(), program.parameters()
        cost = program.cost(z, logits.detach(), weight)
        weights = [0.9 ** (len(costs) - 1 - i) for i in range(len(costs))]
        past = sum(w * c for w, c in zip(weights, costs, strict=True)) / sum(weights) if costs else 0.0
        score = (program.log_q(z, logits) * (cost.detach() - past)).sum()
        torch.testing.assert_close(
            actual["logits"], torch.autograd.grad(score, logits)[0], rtol=1e-4, atol=1e-6
        )
        costs.append(cost.detach().mean())


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1, dtype=torch.float64)

    def forward(self, x):
        return self.linear(x)


def _nvil(x, network, upstream):
    def guide():
        scale = pyro.param("scale", torch.ones((), dtype=torch.float64))
        with pyro.plate("data", 3):
            features = x * scale if upstream else x
            infer = {"estimator": pre.ScoreFunction(network), "baseline_input": features}
            logits = pyro.param("logits", torch.zeros(3, dtype=torch.float64))
            pyro.sample("z", dist.Bernoulli(logits=logits), infer=infer)

    def model():
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.3, dtype=torch.float64)))
            pyro.sample("y", dist.Normal(z, 1.0), obs=torch.ones(3, dtype=torch.float64))

    return model, guide


def test_network_learns_by_squared_error_and_nothing_else_does():
    x, network = torch.randn(3, 2, dtype=torch.float64), _Net()
    model, guide = _nvil(x, network, upstream=True)
    elbo = pre.TraceEstimator_ELBO()
    elbo.loss_and_grads(model, guide)
    assert network.linear.weight.grad.abs().sum() > 0
    assert pyro.param("scale").grad is None or pyro.param("scale").grad == 0
    before = network.linear.weight.detach().clone()
    svi = pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), elbo)
    svi.step()
    assert not torch.equal(before, network.linear.weight)


def test_svi_fits_the_network_to_the_cost():
    x, network = torch.eye(3, 2, dtype=torch.float64), _Net()
    model, guide = _nvil(x, network, upstream=False)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), pre.TraceEstimator_ELBO())
    losses = [svi.step() for _ in range(300)]
    mean_cost = sum(losses[-100:]) / 100 / 3
    torch.testing.assert_close(network(x).mean().item(), mean_cost, rtol=0.3, atol=0.1)


PLATE = 6


class _Returns(nn.Module):
    """A baseline that is the same at every call, of the shape that it is given in."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, *inputs):
        return self.value


def _step(network, num_particles, shape=(PLATE,), nesting=None, **options):
    """The gradient of logits and baseline in one step, at the same draws for every baseline."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    plates = [pyro.plate(f"d{i}", n, dim=i - len(shape)) for i, n in enumerate(shape)]

    def sample(logits):
        with contextlib.ExitStack() as stack:
            for plate in plates:
                stack.enter_context(plate)
            return pyro.sample("z", dist.Bernoulli(logits=logits.expand(shape)))

    def guide():
        sample(pyro.param("logits", torch.zeros(shape, dtype=torch.float64)))

    def model():
        z = sample(torch.zeros((), dtype=torch.float64) + 0.4)
        with contextlib.ExitStack() as stack:
            for plate in plates:
                stack.enter_context(plate)
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.arange(math.prod(shape)).reshape(shape))

    options |= {"num_particles": num_particles, "max_plate_nesting": nesting or len(shape)}
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(network), **options)
    elbo.loss_and_grads(model, guide)
    return pyro.param("logits").grad


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("num_particles", [1, 2, PLATE])
@pytest.mark.parametrize(
    "make",
    [
        lambda per_element, particles: per_element,
        lambda per_element, particles: per_element.unsqueeze(-1),
        lambda per_element, particles: per_element.unsqueeze(0),
        lambda per_element, particles: per_element.unsqueeze(0).unsqueeze(-1),
        lambda per_element, particles: per_element.expand(particles, PLATE),
        lambda per_element, particles: per_element.expand(particles, 1, PLATE).squeeze(1).unsqueeze(-1),
    ],
    ids=["N", "N,1", "1,N", "1,N,1", "P,N", "P,N,1"],
)
def test_baseline_per_element_in_every_shape(make, num_particles, vectorized):
    """All of these shapes are the same numbers, at any number of particles."""
    per_element = torch.arange(1.0, PLATE + 1, dtype=torch.float64)
    particles = num_particles if vectorized else 1
    options = {"vectorize_particles": vectorized}
    expected = _step(_Returns(per_element), num_particles, **options)
    network = _Returns(make(per_element, particles))
    actual = _step(network, num_particles, **options)
    torch.testing.assert_close(actual, expected)
    trained = network.value.grad.reshape(-1, PLATE).sum(0)  # each number by its own element's costs
    reference = _Returns(per_element.clone())
    _step(reference, num_particles, **options)
    torch.testing.assert_close(trained, reference.value.grad)


@pytest.mark.parametrize("num_particles", [1, 2, PLATE])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_baseline_of_one_number(shape, num_particles):
    number = torch.tensor(2.0, dtype=torch.float64)
    expected = _step(_Returns(number.expand(PLATE)), num_particles)
    torch.testing.assert_close(_step(_Returns(number.reshape(shape)), num_particles), expected)


def test_baseline_per_particle():
    """As a network makes it from a value outside the plate."""
    numbers = torch.arange(3.0, dtype=torch.float64)
    expected = _step(_Returns(numbers.unsqueeze(-1).expand(3, PLATE)), 3)
    torch.testing.assert_close(_step(_Returns(numbers.reshape(3, 1, 1)), 3), expected)


@pytest.mark.parametrize(
    ("given", "shape", "num_particles", "match"),
    [
        ((5,), (PLATE,), 1, "broadcasts"),
        ((5, 1), (PLATE,), 2, "broadcasts"),
        ((3, 1), (PLATE,), 3, "broadcasts"),
        ((PLATE, PLATE), (PLATE,), 2, "broadcasts"),
        ((4, 1), (4, 4), 1, "in two ways"),
        ((4, 1), (4, 4), 2, "in two ways"),
        ((2, 4, 1, 1), (4, 3), 3, "broadcasts"),
    ],
)
def test_baseline_of_a_shape_that_does_not_fit(given, shape, num_particles, match):
    with pytest.raises(pre.EstimatorError, match=f"(?s)'z'.*{match}.*baseline_input"):
        _step(_Returns(torch.zeros(given, dtype=torch.float64)), num_particles, shape)


@pytest.mark.parametrize("num_particles", [1, 2, 4])
def test_baseline_in_two_plates(num_particles):
    rows = torch.arange(1.0, 5.0, dtype=torch.float64)
    for full, short in (
        (rows.unsqueeze(-1).expand(4, 3), rows.unsqueeze(-1)),
        (rows[:3].expand(4, 3), rows[:3]),
        (rows[:3].expand(4, 3), rows[:3].unsqueeze(-1)),
    ):
        expected = _step(_Returns(full.contiguous()), num_particles, (4, 3))
        torch.testing.assert_close(_step(_Returns(short), num_particles, (4, 3)), expected)


@pytest.mark.parametrize("shape", [(PLATE,), (PLATE, 1), (2, 1, 1, PLATE), (2, 1, 1, PLATE, 1)])
def test_baseline_where_other_sites_take_more_plates(shape):
    per_element = torch.arange(1.0, PLATE + 1, dtype=torch.float64)
    expected = _step(_Returns(per_element), 2)
    particles = shape[0] if len(shape) > 2 else 1
    given = per_element.expand(particles, PLATE).reshape(shape)
    torch.testing.assert_close(_step(_Returns(given), 2, nesting=3), expected)


class _Fails(nn.Module):
    def forward(self):
        raise TypeError("mine")


class _TakesTwo(nn.Module):
    def forward(self, first, second):
        return first


def test_error_of_the_network_is_raised():
    with pytest.raises(TypeError, match="mine"):
        _step(_Fails(), 1)


def test_network_that_takes_other_inputs():
    with pytest.raises(pre.EstimatorError, match="'z'.*0 inputs.*baseline_input"):
        _step(_TakesTwo(), 1)


def test_the_score_of_a_flow():
    """A flow keeps of a value that it makes what it needs to score it: here made without a gradient."""
    torch.manual_seed(0)
    flow = affine_autoregressive(2, hidden_dims=[4])
    scale = torch.tensor([1.0, 2.0])

    def guide():
        pyro.module("flow", flow)
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        return pyro.sample("z", dist.TransformedDistribution(base, [flow]))

    def model():
        pyro.sample("z", dist.Normal(torch.zeros(2), scale).to_event(1))

    torch.manual_seed(1)
    parameters = list(flow.parameters())
    loss = pre.TraceEstimator_ELBO(pre.ScoreFunction()).differentiable_loss(model, guide)
    found = torch.autograd.grad(loss, parameters)
    torch.manual_seed(1)
    with torch.no_grad():
        value = guide().clone()
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    log_q = dist.TransformedDistribution(base, [flow]).log_prob(value)
    cost = log_q.detach() - dist.Normal(torch.zeros(2), scale).log_prob(value).sum()
    torch.testing.assert_close(found, torch.autograd.grad(cost * log_q, parameters))

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.protocol import Branch, Draw, Evaluations, Site
from pyro_reparam_ext.estimators.rodeo import _change, _moved, _probability

from .closed_form import COLUMNS, Program, assert_same, gradients
from .samples import at_the_ends, slopes, values

ALPHA, BETA = 0.6, -0.4


def elbo_of(num_samples):
    """An ELBO whose control variates count from the first call on."""
    elbo = pre.TraceEstimator_ELBO(pre.RODEO(num_samples), max_plate_nesting=1)
    gradients(elbo, Program(), 0)
    state = elbo.states["z/RODEO"]
    state.alpha.data.fill_(ALPHA), state.beta.data.fill_(BETA)
    return elbo, state


def expected(program, z, state):
    """The estimate in the logits: every neighbour of every sample, one by one."""
    cost, slope = program.cost(z, program.logits, program.weight), slopes(program, z)
    probs, count = program.logits.sigmoid(), len(z)

    def surrogate(k, at):
        """Both functions of sample ``k``, a mean over the others."""
        found = []
        for j in range(count):
            if j != k:
                change = (slope[j] * (at - z[j])).sum(-1)
                found.append(state.network(torch.stack([change, cost[j]], -1)))
        return sum(found) / (count - 1)

    scalars, vectors = [], []
    for k in range(count):
        scalar, vector = 0.0, 0.0
        for d in range(COLUMNS):
            neighbour = z[k].clone()
            neighbour[:, d] = 1 - neighbour[:, d]
            weight = torch.where(neighbour[:, d] == 1, probs[:, d], 1 - probs[:, d])[:, None]
            there, here = surrogate(k, neighbour), surrogate(k, z[k])
            scalar = scalar + weight * (there - here)[:, :1]
            vector = vector + weight * (
                there[:, 1:] * (neighbour - probs) - here[:, 1:] * (z[k] - probs)
            )
        scalars.append(scalar[:, 0] / COLUMNS)
        vectors.append(vector / COLUMNS)
    total = 0.0
    for k in range(count):
        rest = [j for j in range(count) if j != k]
        baseline = sum(cost[j] + state.alpha * scalars[j] for j in rest) / (count - 1)
        total = total + (cost[k] - baseline)[:, None] * (z[k] - probs) + state.beta * vectors[k]
    return total / count


@pytest.mark.parametrize("num_samples", [2, 3])
def test_same_seed_closed_form(num_samples):
    program = Program()
    elbo, state = elbo_of(num_samples)
    for parameter in state.parameters():
        parameter.grad = None
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, (_, weight) = values(program, num_samples), program.parameters()
    cost = program.cost(z, program.logits, weight).mean(0).sum()
    found = expected(program, z, state)
    assert_same(actual, found.detach(), torch.autograd.grad(cost, weight)[0])
    learned = torch.autograd.grad(found.square().sum(), list(state.parameters()))
    for parameter, gradient in zip(state.parameters(), learned, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_neighbours_of_one_hot_values():
    """Coordinate by coordinate, class by class; the steps weighed are the transpose of the changes."""
    base = dist.OneHotCategorical(logits=torch.randn(2, 4))
    value, slope, weight = base.sample(), torch.randn(2, 4), torch.randn(2, 4)
    probs, neighbours = base.probs, torch.eye(4)
    steps = neighbours - value[:, None]  # shape: (coordinates, neighbours, classes)
    torch.testing.assert_close(_change(base, value, slope), (steps * slope[:, None]).sum(-1))
    torch.testing.assert_close(_moved(base, value, weight), (steps * weight[..., None]).sum(1))
    torch.testing.assert_close(_probability(base, probs, value), probs)


def test_near_0_and_1():
    elbo = pre.TraceEstimator_ELBO(pre.RODEO())
    at_the_ends(elbo, 1)
    state = elbo.states["z/RODEO"]
    state.alpha.data.fill_(ALPHA), state.beta.data.fill_(BETA)
    found, exact = at_the_ends(elbo, 3)
    # Both samples are at the likelier value: what is left is the Stein operator, of order 1e-6.
    assert found.isfinite().all() and (found.abs() < 100 * exact.abs()).all()


def every_pair(base):
    """All pairs of values of two coordinates, on the second dim, and their probabilities."""
    support = base.enumerate_support(expand=False).squeeze(1)  # shape: (values, *event)
    joint = support[torch.cartesian_prod(*[torch.arange(len(support))] * 2)]
    numbers = torch.cartesian_prod(*[torch.arange(len(joint))] * 2)
    values = joint[numbers].transpose(0, 1)  # shape: (2, pairs, 2, *event)
    probs = base.log_prob(values).sum(-1).exp().prod(0)
    return values, numbers.T, probs


BASES = {
    "Bernoulli": lambda logits: dist.Bernoulli(logits=logits[:, 0]),
    "OneHotCategorical": lambda logits: dist.OneHotCategorical(logits=logits),
}


@pytest.mark.parametrize("family", BASES)
@pytest.mark.parametrize("make", [pre.DoubleCV, pre.RODEO])
def test_mean_over_all_pairs_whatever_was_learned(make, family):
    """And whatever the slopes are. The contract tests see these estimators before they have learned."""
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    values, numbers, probs = every_pair(BASES[family](logits.detach()))
    count = int(numbers.max()) + 1
    cost = 3 * torch.randn(count, dtype=torch.float64)
    slope = torch.randn(count, *values.shape[2:], dtype=torch.float64)
    fn = BASES[family](logits).expand((len(probs), 2)).to_event(1)
    site = Site("z", fn, Draw(values[0]), fn.log_prob(values[0]), make())
    site.state = site.estimator.new_state(site)
    for parameter in site.state.parameters():
        parameter.data.normal_()
    branches = Branch.at_ordinary(values[0], order=1), Branch.of(values[1:], weights=0.5, order=1)
    slopes = slope[numbers[0]], slope[numbers[1:]]
    evaluations = Evaluations(site, cost[numbers], branches, slopes)
    mean = (probs * site.estimator.surrogate(evaluations)).sum()
    exact = (fn.log_prob(values[0]).exp().unflatten(0, (count, count))[:, 0] * cost).sum()
    found, expected = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (mean, exact))
    torch.testing.assert_close(found, expected)

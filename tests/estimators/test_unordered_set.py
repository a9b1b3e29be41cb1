"""Values drawn without replacement: closed forms, exactness, impossible and rare ones."""

from itertools import combinations, permutations

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..compiled.steps import assert_same_steps
from ..families import Family
from ..registry import layout_of
from ..sampling import gradients as rows_of
from ..sampling import layout_gradients
from ..statistics import assert_mean
from .closed_form import COLUMNS, ROWS, Classes, assert_same, gradients

DOUBLE = torch.float64
LOGITS = torch.tensor([0.9, -0.5, 0.2, 1.4, -1.1], dtype=DOUBLE)
SCORES = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.5], dtype=DOUBLE)


def _gumbel():
    uniform = torch.rand(ROWS, COLUMNS, 3, dtype=DOUBLE)
    return -(-uniform.add(torch.finfo(DOUBLE).eps / 8).log()).log()


def test_same_seed_closed_form():
    """Of two classes a and b at each coordinate, with q_a + q_b < 1.

    The gradient is that of their difference of logits, times the difference of costs and
    ``(1 - q_a) (1 - q_b) / (2 - q_a - q_b)``.
    """
    program = Classes()
    elbo = pre.TraceEstimator_ELBO(pre.UnorderedSet(2), max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    logits, weight = program.parameters()
    alpha, rest = logits.detach(), 1 - logits.detach().softmax(-1)
    first = (alpha + _gumbel()).argmax(-1)
    second = (alpha + _gumbel()).scatter(-1, first[..., None], -torch.inf).argmax(-1)
    expected, total = 0.0, 0.0
    for d in range(COLUMNS):
        other = torch.where(torch.arange(COLUMNS) == d, second, first)
        f, g = (program.cost(z, alpha, weight) for z in (first, other))
        a, b = (z[:, d, None] for z in (first, second))
        rest_a, rest_b = (rest[:, d].gather(-1, x).squeeze(-1) for x in (a, b))
        gain = rest_a * rest_b / (rest_a + rest_b) * (f - g).detach()
        difference = (logits[:, d].gather(-1, a) - logits[:, d].gather(-1, b)).squeeze(-1)
        expected = expected + (gain * difference).sum()
        total = total + ((rest_b * f + rest_a * g) / (rest_a + rest_b)).sum() / COLUMNS
    expected = torch.autograd.grad(expected, logits)[0]
    assert_same(actual, expected, torch.autograd.grad(total, weight)[0])


def rows(estimator, logits, law=dist.Categorical, calls=1, particles=1):
    """Rows of the gradient of ``E[SCORES[z]]`` in logits and scores.

    Not finite where the program has seen an impossible class, by its log density.
    """
    scores = SCORES[: len(logits)].to(logits.dtype)

    def guide():
        pyro.sample("z", law(logits=pyro.param("logits", logits.clone())))

    def model():
        z = pyro.sample("z", law(logits=pyro.param("logits").detach()))
        one_hot = z if law is dist.OneHotCategorical else torch.eye(len(logits), dtype=scores.dtype)[z]
        pyro.factor("score", -(one_hot * pyro.param("scores", scores.clone())).sum(-1))

    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=particles, max_plate_nesting=0)
    found = []
    for _ in range(calls):
        for parameter in pyro.get_param_store().values():
            parameter.grad = None
        elbo.loss_and_grads(model, guide)
        found.append(torch.cat([pyro.param(name).grad for name in ("logits", "scores")]))
    return torch.stack(found)


def exact(logits):
    logits = logits.clone().requires_grad_()
    probs, scores = logits.softmax(-1), SCORES[: len(logits)]
    (gradient,) = torch.autograd.grad(probs @ scores, logits)
    return torch.cat([gradient, probs.detach()])


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("num_samples", [3, 4])
def test_mean(num_samples, baseline):
    estimator = pre.UnorderedSet(num_samples, baseline=baseline)
    assert_mean(rows(estimator, LOGITS, calls=30, particles=100), exact(LOGITS))


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("law", [dist.Categorical, dist.OneHotCategorical])
@pytest.mark.parametrize("num_samples", [5, 7])
def test_all_classes_are_exact(num_samples, law, baseline):
    found = rows(pre.UnorderedSet(num_samples, baseline), LOGITS, law, calls=3)
    torch.testing.assert_close(found, exact(LOGITS).expand(3, -1))


@pytest.mark.parametrize("possible", [1, 2])
@pytest.mark.parametrize("law", [dist.Categorical, dist.OneHotCategorical])
@pytest.mark.parametrize("num_samples", [2, 3, 5])
def test_impossible_classes_are_never_seen(num_samples, law, possible):
    """Where no more classes are possible than are drawn, the gradient is exact."""
    logits = LOGITS.clone()
    logits[possible:] = -torch.inf
    found = rows(pre.UnorderedSet(num_samples), logits, law, calls=4)
    torch.testing.assert_close(found, exact(logits).expand(4, -1))


def test_impossible_classes_among_more_possible_ones():
    logits = LOGITS.clone()
    logits[1] = -torch.inf
    found = rows(pre.UnorderedSet(3), logits, calls=30, particles=100)
    assert (found[:, [1, 6]] == 0).all()
    assert_mean(found, exact(logits))


@pytest.mark.parametrize("rare", [1e-6, 1e-30])
def test_rare_classes_in_float32(rare):
    """The gradient is one of two, by which of the rare classes is in the set."""
    logits = torch.tensor([1.0, rare, rare]).log()
    found = rows(pre.UnorderedSet(2), logits, calls=20)[:, :3].double() / rare
    share = 2 * (SCORES[0] - SCORES[1:3])
    one = torch.stack([share[0], -share[0], torch.zeros((), dtype=DOUBLE)])
    two = torch.stack([share[1], torch.zeros((), dtype=DOUBLE), -share[1]])
    either = torch.where(found[:, 1:2].abs() > 1, one, two)
    torch.testing.assert_close(found, either, rtol=1e-4, atol=1e-4)
    whole = rows(pre.UnorderedSet(3), logits)[0, :3].double() / rare
    torch.testing.assert_close(whole, (one + two) / 2, rtol=1e-4, atol=1e-4)


def test_evaluations():
    vector = dist.Categorical(torch.ones(3, 6)).to_event(1)
    assert pre.UnorderedSet(4).evaluations(vector) == 1 + 3 * 3
    assert pre.UnorderedSet(9).evaluations(vector) == 1 + 3 * 5
    assert not pre.UnorderedSet(2).contributes(dist.Categorical(torch.ones(1)))


@pytest.mark.parametrize("num_samples", [1, 13])
def test_number_of_samples(num_samples):
    with pytest.raises(pre.EstimatorError, match=f"from 2 to 12, was given {num_samples}"):
        pre.UnorderedSet(num_samples)


# Whole events: subsets and orders

Subset, Order = pre.distributions.ConditionalBernoulli, pre.distributions.PlackettLuce
SURE = torch.tensor([torch.inf, -torch.inf], dtype=DOUBLE)


def family(name, size, make, every, score):
    """A family by all of its values; ``score``: their log probabilities but for a constant."""

    def stacked(theta):
        values = every.reshape(len(every), *(1,) * (theta.dim() - 1), *every.shape[1:])
        return values.expand(len(every), *theta.shape[:-1], *every.shape[1:])

    def log_prob(theta, value):
        return score(theta, value) - score(theta, stacked(theta)).logsumexp(0)

    def expect(theta):
        values = stacked(theta)
        return values, log_prob(theta, values).exp()

    def features(value):
        return value.flatten(1 - every.dim())

    return Family(name, size, every[0].numel(), make, features, expect, log_prob)


def subsets(n, k):
    return torch.eye(n, dtype=DOUBLE)[torch.tensor(list(combinations(range(n), k)))].sum(1)


def in_order(theta, value):
    """Each rank has an item of those that are left."""
    ranked = (value * theta.unsqueeze(-2)).sum(-1)
    return (ranked - ranked.flip(-1).logcumsumexp(-1).flip(-1)).sum(-1)


def with_sure(theta):
    return torch.cat([theta, SURE.to(theta).expand(*theta.shape[:-1], 2)], -1)


PAIR, EYE = torch.cartesian_prod(torch.arange(3), torch.arange(3)), torch.eye(3, dtype=DOUBLE)
SUBSETS = family(
    "subset", 4, lambda x: Subset(2, logits=x), subsets(4, 2), lambda x, z: (z * x).sum(-1)
)
WITH_SURE = family(
    "subset, infinite logits",
    4,
    lambda x: Subset(3, logits=with_sure(x)),
    torch.cat([subsets(4, 2), torch.tensor([1.0, 0.0], dtype=DOUBLE).expand(6, 2)], -1),
    lambda x, z: (z[..., :4] * x).sum(-1),
)
ORDERS = family("order", 3, Order, EYE[torch.tensor(list(permutations(range(3))))], in_order)
PAIRS = family(
    "two subsets",
    6,
    lambda x: Subset(1, logits=x.unflatten(-1, (2, 3))).to_event(1),
    EYE[PAIR],
    lambda x, z: (z * x.unflatten(-1, (2, 3))).sum((-1, -2)),
)
WHOLE = [SUBSETS, WITH_SURE, ORDERS]


def whole(layout, kind, estimator, **options):
    """A layout, and the ELBO of its program."""
    program = layout_of(layout, kind)
    return program, pre.TraceEstimator_ELBO(dict.fromkeys(program.sites, estimator), **options)


@pytest.mark.parametrize(
    ("kind", "layout", "num_samples", "baseline"),
    [
        (SUBSETS, "no_plate", 4, False),
        (SUBSETS, "nested_plates", 3, True),
        (WITH_SURE, "plate", 3, True),
        (ORDERS, "hierarchy", 4, True),
        (ORDERS, "plate", 3, False),
        (PAIRS, "plate", 2, True),
    ],
    ids=str,
)
def test_mean_of_whole_events(kind, layout, num_samples, baseline):
    estimator = pre.UnorderedSet(num_samples, baseline)
    program, elbo = whole(layout, kind, estimator, num_particles=100)
    assert_mean(layout_gradients(elbo, program, 25), program.exact_gradient())


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("kind", WHOLE, ids=str)
def test_all_values_are_exact(kind, baseline):
    program, elbo = whole("plate", kind, pre.UnorderedSet(9, baseline))
    found = layout_gradients(elbo, program, 3)
    torch.testing.assert_close(found[:, 1:], program.exact_gradient()[1:].expand(3, -1))


def test_mean_in_a_loop_of_whole_events():
    program, elbo = whole("hierarchy", ORDERS, pre.UnorderedSet(3), vectorize_particles=False)
    assert_mean(layout_gradients(elbo, program, 60), program.exact_gradient())


@pytest.mark.parametrize("kind", WHOLE, ids=str)
def test_vmap_of_whole_events_is_broadcasting(kind):
    found = []
    for mode in (True, "vmap"):
        pyro.clear_param_store()
        options = {"num_particles": 2, "vectorize_particles": mode}
        program, elbo = whole("nested_plates", kind, pre.UnorderedSet(3), **options)
        program.current()
        torch.manual_seed(3)
        found.append(layout_gradients(elbo, program, 2))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [WITH_SURE, ORDERS], ids=str)
def test_whole_events_captured(kind):
    def programs():
        program, elbo = whole("no_plate", kind, pre.UnorderedSet(2))
        return program.model, program.guide, elbo

    assert_same_steps(programs, tolerance=1e-9)


@pytest.mark.parametrize("kind", WHOLE, ids=str)
def test_a_peaked_law_in_float32(kind):
    """All values, one of which has nearly all of the probability, against float64."""
    start = 20 * torch.tensor([1.0, 0.0, -1.0, -2.0])[: kind.size]
    reward = torch.arange(float(kind.num_features)).cos()

    def guide():
        pyro.sample("z", kind.make(pyro.param("logits", start.clone())))

    def model():
        z = pyro.sample("z", kind.make(pyro.param("logits").detach()))
        pyro.factor("reward", (kind.features(z) @ reward).square())

    found = rows_of(pre.TraceEstimator_ELBO(pre.UnorderedSet(6)), model, guide, ["logits"], 1)[0, 1:]
    logits = start.double().requires_grad_()
    z, probs = kind.expect(logits)
    cost = -(probs * (kind.features(z) @ reward.double()).square()).sum()
    (exact,) = torch.autograd.grad(cost, logits)
    assert 0 < exact.abs().max() < 1e-7
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5 * exact.abs().max().item())


def test_relaxed_orders_are_refused():
    def program():
        pyro.sample("z", Order(torch.zeros(3), 0.5, straight_through=True))

    elbo = pre.TraceEstimator_ELBO({"z": pre.UnorderedSet()})
    with pytest.raises(pre.EstimatorError, match=r"site 'z'(.|\n)*PlackettLuce.*without a temperature"):
        elbo.loss_and_grads(program, program)


def test_evaluations_of_whole_events():
    assert pre.UnorderedSet(4).evaluations(Subset(7, logits=torch.zeros(20))) == 4
    assert pre.UnorderedSet(9).evaluations(Order(torch.zeros(5, 3)).to_event(1)) == 1 + 5 * 5
    assert not pre.UnorderedSet().contributes(Subset(3, logits=torch.zeros(3)))

"""Hard values from real keys, and the law of the keys."""

import copy
import pickle

import pytest
import torch
from torch.distributions import biject_to, constraints, transform_to

from pyro_reparam_ext.distributions import StraightThroughBernoulli, StraightThroughOneHotCategorical
from pyro_reparam_ext.noise import gumbel_like, logistic_like

from ...statistics import assert_mean

SUPPORTS = {
    "boolean": StraightThroughBernoulli(0.3, logits=torch.zeros(())).support,
    **{
        f"{k} classes": StraightThroughOneHotCategorical(0.3, logits=torch.zeros(k)).support
        for k in (1, 2, 3, 1000)
    },
}
every = pytest.mark.parametrize("name", list(SUPPORTS))


def values_of(name):
    if name == "boolean":
        return torch.tensor([0.0, 1.0])
    return torch.eye(int(name.split()[0]))


@every
@pytest.mark.parametrize("registry", [biject_to, transform_to])
def test_inverse_maps_back_to_exactly_this_value(name, registry):
    transform = registry(SUPPORTS[name])
    for dtype in (torch.float32, torch.float64):
        values = values_of(name).to(dtype)
        assert torch.equal(transform(transform.inv(values)), values)


@every
def test_any_key_leads_to_a_valid_value(name):
    values = values_of(name)
    keys = 3 * torch.randn(1000, *values.shape[1:])
    keys[0] = 0  # a tie
    assert SUPPORTS[name].check(biject_to(SUPPORTS[name])(keys)).all()


def test_gradient_is_that_of_the_relaxed_value():
    keys = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(keys)
    for name, soft in (
        ("boolean", 1 / (1 + (-keys / 0.3).exp())),
        ("3 classes", (keys / 0.3).exp() / (keys / 0.3).exp().sum(-1, keepdim=True)),
    ):
        value = biject_to(SUPPORTS[name])(keys)
        (found,) = torch.autograd.grad((weight * value).sum(), keys)
        (expected,) = torch.autograd.grad((weight * soft).sum(), keys)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_law_of_a_key_integrates_to_one_for_each_value():
    x = torch.linspace(-60, 60, 2_000_001, dtype=torch.float64)
    transform = biject_to(SUPPORTS["boolean"])
    density = transform.log_abs_det_jacobian(x, transform(x)).exp()
    for value in (0, 1):
        total = torch.trapezoid(density * (transform(x) == value), x)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_law_of_the_keys_integrates_to_one_for_each_value(classes):
    """Over all keys the laws given the K values, which don't overlap, make K."""
    line = torch.linspace(-5, 30, {1: 4001, 2: 1001, 3: 121}[classes], dtype=torch.float64)
    x = torch.cartesian_prod(*[line] * classes).reshape(-1, classes)
    transform = biject_to(SUPPORTS[f"{classes} classes"])
    value = transform(x)
    density = transform.log_abs_det_jacobian(x, value).exp()
    cell = (line[1] - line[0]) ** classes
    total = density.sum() * cell
    torch.testing.assert_close(total, torch.full_like(total, classes), rtol=1e-5, atol=0)
    tied = (x == x.max(-1, keepdim=True).values).double()
    share = tied / tied.sum(-1, keepdim=True)
    each = (density.unsqueeze(-1) * share).sum(0) * cell
    torch.testing.assert_close(each, torch.ones_like(each), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["boolean", "3 classes"])
def test_inverse_is_the_mean_of_the_keys(name):
    """Of standard noise given the value that it leads to."""
    transform, values = biject_to(SUPPORTS[name]), values_of(name).double()
    noise = logistic_like if name == "boolean" else gumbel_like
    keys = noise(torch.zeros((40_000, *values.shape[1:]), dtype=torch.float64))
    for value in values:
        hit = transform(keys) == value
        mine = keys[hit if name == "boolean" else hit.all(-1)]
        assert_mean(mine.reshape(len(mine), -1), transform.inv(value).reshape(-1))


def test_sums_over_event_dims():
    fn = StraightThroughBernoulli(torch.tensor([0.3, 0.5]), logits=torch.zeros(3, 2)).to_event(2)
    transform = biject_to(fn.support)
    keys = torch.randn(7, 3, 2)
    value = transform(keys)
    assert fn.support.event_dim == 2
    assert fn.support.check(value).all()
    single = biject_to(SUPPORTS["boolean"]).log_abs_det_jacobian(keys, value)
    torch.testing.assert_close(transform.log_abs_det_jacobian(keys, value), single.sum((-1, -2)))


@every
def test_copies_and_pickles(name):
    support = SUPPORTS[name]
    for twin in (copy.deepcopy(support), pickle.loads(pickle.dumps(support))):
        assert isinstance(twin, constraints.Constraint)
        assert twin.is_discrete and twin.event_dim == support.event_dim
        assert twin.temperature == support.temperature
    assert not support.temperature.requires_grad


def test_a_learned_temperature_is_held_fixed():
    """Else a guide, which keeps the support of its first run, would keep that run's graph."""
    temperature = torch.tensor(0.5, requires_grad=True)
    fn = StraightThroughBernoulli(temperature.exp(), logits=torch.zeros(()))
    assert not fn.support.temperature.requires_grad


def test_errors_name_the_support():
    for name, start in (
        ("boolean", "StraightThroughBoolean("),
        ("2 classes", "StraightThroughOneHot("),
    ):
        assert repr(SUPPORTS[name]).startswith(start)

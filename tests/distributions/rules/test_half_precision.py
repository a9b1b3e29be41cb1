"""Parameters in half precision, of every distribution."""

import pytest
import torch
from torch.distributions import constraints

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import Gamma, InverseGaussian
from pyro_reparam_ext.distributions.rules.half_precision import HALF, half_of, in_single

from ...slow import one_in
from ..entry import tensors
from ..registry import REGISTRY

DTYPES = pytest.mark.parametrize("dtype", HALF)
SCORED = [n for n, entry in REGISTRY.items() if getattr(entry, "log_prob", True)]
IN_OWN_PRECISION = {"RelaxedBernoulli", "RelaxedOneHotCategorical", "HardConcrete"}
"""Values are held off the ends at a distance that depends on the dtype, and scored so."""
NEARLY_SINGULAR = {"Wishart", "InverseWishart"}
"""Rounding takes the definiteness of a few draws."""


class Everything(constraints.Constraint):
    def __init__(self, events):
        self.events = events

    def check(self, value):
        return value.new_ones(value.shape[: value.dim() - self.events], dtype=torch.bool)


def at(name, dtype, **options):
    entry = REGISTRY[name]
    parameters = entry.points[entry.typical]
    return entry.at(parameters, dtype, validate_args=False, **options)


def leaves_at(name, dtype):
    entry = REGISTRY[name]
    return {k: x.requires_grad_() for k, x in tensors(entry.points[entry.typical], dtype).items()}


@DTYPES
@pytest.mark.parametrize("name", list(REGISTRY))
def test_draws_are_in_the_support_and_the_dtype(name, dtype):
    fn = at(name, dtype)
    value = fn.sample((300,))
    assert value.dtype == dtype
    assert value.isfinite().all()
    inside = getattr(fn, "_scored", fn.support).check(value).float().mean()
    assert inside == 1 or (name.split("-")[0] in NEARLY_SINGULAR and inside > 0.8)


@DTYPES
@pytest.mark.parametrize("name", [n for n in SCORED if n.split("-")[0] not in IN_OWN_PRECISION])
def test_log_prob_is_that_of_single_precision(name, dtype):
    fn = at(name, dtype)
    value = fn.sample((300,))
    value = value[getattr(fn, "_scored", fn.support).check(value)]
    log_prob, exact = fn.log_prob(value), scored_in_single(name, dtype, value)
    assert log_prob.dtype == dtype
    close = {"rtol": torch.finfo(dtype).eps, "atol": torch.finfo(dtype).eps}
    torch.testing.assert_close(log_prob.float(), exact.to(dtype).float(), **close)


def scored_in_single(name, dtype, value):
    """At the parameters and the value as they are rounded, on the support or not."""
    entry = REGISTRY[name]
    parameters = tensors(entry.points[entry.typical], dtype)
    fn = entry.make(**{k: x.float() for k, x in parameters.items()}, validate_args=False)
    fn._scored = Everything(len(fn.event_shape))
    return fn.log_prob(value.float())


@DTYPES
@pytest.mark.parametrize("name", list(REGISTRY))
def test_gradients_reach_the_parameters(name, dtype):
    entry, leaves = REGISTRY[name], leaves_at(name, dtype)
    fn = entry.make(**leaves, validate_args=False)
    scored = getattr(entry, "log_prob", True)
    value = fn.rsample((20,)) if fn.has_rsample else fn.sample((20,))
    if scored:
        value = value[getattr(fn, "_scored", fn.support).check(value.detach())]
    total = value.float().sum() + (fn.log_prob(value.detach()).float().sum() if scored else 0)
    for k, leaf in leaves.items():
        (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)
        assert gradient is None or (gradient.dtype == dtype and gradient.isfinite().all()), k
    assert total.requires_grad


@DTYPES
def test_a_draw_is_rounded_to_the_inside(dtype):
    """One that underflows, and one that overflows."""
    info = torch.finfo(dtype)
    tiny = InverseGaussian(torch.tensor(1e-4, dtype=dtype), torch.tensor(1e-4, dtype=dtype))
    assert (tiny.sample((1_000,)) > 0).all()
    large = Gamma(torch.tensor(1.0, dtype=dtype), torch.tensor(1e-5, dtype=dtype))
    assert (large.sample((1_000,)) <= info.max).all()
    ends = pre.distributions.Kumaraswamy(torch.tensor(0.1, dtype=dtype), torch.tensor(0.1, dtype=dtype))
    assert ((ends.sample((1_000,)) > 0) & (ends.sample((1_000,)) < 1)).all()


def test_half_of_and_in_single():
    fn = Gamma(torch.tensor(1.0, dtype=torch.float16), torch.tensor(2.0, dtype=torch.float16))
    assert half_of(fn) == torch.float16
    assert in_single(fn).rate.dtype == torch.float32
    assert half_of(Gamma(1.0, 2.0)) is None
    assert in_single(Gamma(1.0, 2.0)).concentration.dtype == torch.float32


@pytest.mark.parametrize("dtype", one_in(2, HALF))
def test_compiles_into_one_graph(dtype):
    def objective(concentration, rate):
        fn = Gamma(concentration, rate, validate_args=False)
        value = fn.rsample((3,))
        return value, fn.log_prob(value.detach())

    given = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in (2.0, 1.0)]
    torch._dynamo.reset()
    value, log_prob = torch.compile(objective, backend="eager", fullgraph=True)(*given)
    assert value.dtype == log_prob.dtype == dtype
    expected = Gamma(*given, validate_args=False).log_prob(value.detach())
    torch.testing.assert_close(log_prob, expected)

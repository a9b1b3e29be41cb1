import math

import pyro
import pytest
import torch
from scipy import stats
from torch.func import vmap
from torch.nn.functional import binary_cross_entropy_with_logits

from pyro_reparam_ext import gradient_study
from pyro_reparam_ext.study.substitution import BatchedDraws

from ..statistics import assert_follows, assert_z


@pytest.mark.parametrize(
    "fill, distribution",
    [
        (lambda x: x.normal_(), torch.distributions.Normal(0.0, 1.0)),
        (lambda x: x.uniform_(), torch.distributions.Uniform(0.0, 1.0)),
        (lambda x: x.exponential_(), torch.distributions.Exponential(1.0)),
        (lambda x: x.cauchy_(), torch.distributions.Cauchy(0.0, 1.0)),
    ],
    ids=["normal", "uniform", "exponential", "cauchy"],
)
def test_random_fills_are_batched_with_the_right_law(fill, distribution):
    with BatchedDraws({}):
        draws = vmap(lambda _: fill(torch.empty(50)), randomness="different")(torch.arange(100))
    uniform = distribution.cdf(draws.double())
    assert_follows(uniform, stats.uniform.cdf)


@pytest.mark.parametrize("fill", [lambda x: x.normal_(), lambda x: x.uniform_(), lambda x: x.cauchy_()])
def test_a_new_tensor_keeps_what_it_is_filled_with(fill):
    """As a name of its own, not only as what the fill returns."""

    def program(_):
        x = torch.zeros(50)
        returned = fill(x)
        x.mul_(2)
        return x + 0, returned

    with BatchedDraws({}):
        x, returned = vmap(program, randomness="different")(torch.arange(3))
    assert (x != 0).all() and (x[0] != x[1]).all()
    assert torch.equal(x, returned)


@pytest.mark.parametrize(
    "part", [lambda x: x, lambda x: x[:2], lambda x: x.data], ids=["", "part", "data"]
)
def test_a_tensor_that_outlives_the_call_is_filled_in_place(part):
    """In all draws alike, hence not under ``vmap``."""
    held = torch.zeros(4)
    with BatchedDraws({}), pytest.raises(RuntimeError, match="randomness on an unbatched tensor"):
        vmap(lambda _: part(held).normal_(), randomness="different")(torch.arange(3))
    with BatchedDraws({}):
        part(held).normal_()
    assert (part(held) != 0).all()


def held_noise(fill, *, before):
    """A gradient with the variance 1 of noise that is held, drawn before it is used or after."""
    held = torch.zeros(())

    def model():
        weight = pyro.param("weight", torch.tensor(0.5))
        if before:
            fill(held)
        pyro.factor("loss", weight * held.clone())
        if not before:
            fill(held)

    return gradient_study(model, lambda: None, estimators={"held": None}, num_draws=500).summary()


@pytest.mark.parametrize("before", [True, False])
def test_a_study_of_noise_that_is_held(before):
    row = held_noise(lambda x: x.normal_(), before=before).loc["held"]
    assert not row["batched"]
    error = math.log(row["variance_high"] / row["variance_low"]) / (2 * 1.96)
    assert_z(math.log(row["variance"]) / error)


def test_cross_entropy_is_the_same():
    logits, target = torch.randn(5, 4) * 30, torch.rand(5, 4)
    for options in ({"reduction": "none"}, {}, {"reduction": "sum"}):
        expected = binary_cross_entropy_with_logits(logits, target, **options)
        with BatchedDraws({}):
            given = binary_cross_entropy_with_logits(logits, target, **options)
        torch.testing.assert_close(given, expected)

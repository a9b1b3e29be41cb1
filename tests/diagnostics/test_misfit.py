"""Causes of a bad fit, from log weights that are made by hand."""

import numpy as np
import pytest

from pyro_reparam_ext.diagnostics.misfit import causes

RNG = np.random.default_rng(1)
A, B = RNG.normal(size=2000), RNG.normal(size=(2000, 3))
NOISE = RNG.normal(size=2000)


def found(log_weights, parents=None):
    values = {"b": B, "a": np.exp(A)}  # of any support: ranks are all that is used
    return causes(log_weights, values, parents or {})


def test_a_dependence_is_named_by_its_coordinates():
    first = found(A * B[:, 2] + 0.3 * NOISE)[0]
    assert (first.kind, first.first, first.second) == ("dependence", ("a", ""), ("b", "2"))


def test_a_funnel_needs_a_parent():
    log_weights = A * (B**2).sum(1) + 0.3 * NOISE
    first = found(log_weights, {"b": frozenset({"a"})})[0]
    assert (first.kind, first.first[0], first.second[0]) == ("funnel", "a", "b")
    assert all(cause.kind != "funnel" for cause in found(log_weights))


@pytest.mark.parametrize("rise, kind", [(np.abs, "tails"), (lambda x: x, "mode")])
def test_a_rise_of_the_outer_draws(rise, kind):
    first = found(3 * np.maximum(rise(B[:, 1]) - 1.8, 0) + 0.1 * NOISE)[0]
    assert (first.kind, first.first) == (kind, ("b", "1"))


@pytest.mark.parametrize("log_weights", [NOISE, 0 * NOISE, A - B[:, 0] ** 2], ids=["n", "0", "own"])
def test_nothing_is_found_where_nothing_is(log_weights):
    assert found(log_weights, {"b": frozenset({"a"})}) == []


def test_a_site_of_one_value_has_no_part():
    assert causes(NOISE, {"point": np.ones((2000, 2))}, {}) == []

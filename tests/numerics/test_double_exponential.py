"""Integrals with powers and logarithms at the ends, against their closed forms."""

import math

import pytest
import torch

from pyro_reparam_ext.numerics.double_exponential import double_exponential

ONE = torch.ones((), dtype=torch.float64)
CASES = {
    "smooth": (lambda log_u, log_rest: log_u.exp().sin(), 1 - math.cos(1)),
    "logarithm": (lambda log_u, log_rest: log_u * log_rest, 2 - math.pi**2 / 6),
    "power": (lambda log_u, log_rest: (-0.5 * log_u).exp(), 2.0),
    "both powers": (
        lambda log_u, log_rest: (-0.7 * log_u - 0.5 * log_rest).exp(),
        math.gamma(0.3) * math.gamma(0.5) / math.gamma(0.8),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_integral(name):
    function, exact = CASES[name]
    nodes = double_exponential(ONE)
    found = (nodes.weights * function(nodes.log_u, nodes.log_rest)).sum().item()
    assert found == pytest.approx(exact, rel=1e-12)


def test_precision_and_dims_are_those_of_the_tensor():
    nodes = double_exponential(torch.zeros(2, 3), 10)
    assert nodes.weights.shape == (21, 1, 1) and nodes.weights.dtype is torch.float32

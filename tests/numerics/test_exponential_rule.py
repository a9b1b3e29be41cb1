"""Quadrature of what moves in an upper tail."""

import mpmath
import pytest
import torch

from pyro_reparam_ext.numerics.exponential_rule import (
    BETA_SINGLE,
    GAMMA_SINGLE,
    gauss_laguerre,
    tail_moments,
)


def test_gauss_laguerre_is_exact_for_polynomials():
    """The mean of r^k is k!."""
    nodes, weights = (torch.tensor(x, dtype=torch.float64) for x in gauss_laguerre(5))
    for k, expected in enumerate((1.0, 1.0, 2.0, 6.0, 24.0, 120.0)):
        torch.testing.assert_close((weights * nodes**k).sum().item(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("rule", "rtol"), [(gauss_laguerre(16), 1e-9), (GAMMA_SINGLE, 1e-6), (BETA_SINGLE, 1e-5)]
)
def test_tail_moments(rule, rtol):
    """Of u = 1 + r / x at x = 5, for u^2 and u^2 log(u)."""
    power, x = torch.tensor(2.0, dtype=torch.float64), 5.0
    factors = (torch.tensor(1 + r / x, dtype=torch.float64) for r in rule.nodes)
    mass, moment = tail_moments(factors, power, rule)
    density = lambda r: mpmath.exp(-r) * (1 + r / x) ** 2  # noqa: E731
    expected = mpmath.quad(density, [0, 5, 20, 80])
    torch.testing.assert_close(mass.item(), float(expected), rtol=rtol, atol=0)
    expected = mpmath.quad(lambda r: density(r) * mpmath.log(1 + r / x), [0, 5, 20, 80])
    torch.testing.assert_close(moment.item(), float(expected), rtol=rtol, atol=0)

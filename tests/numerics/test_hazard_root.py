"""Roots of the hazard, and their derivatives, against mpmath."""

import mpmath as mp
import pytest
import torch

from pyro_reparam_ext.numerics.hazard_root import excess_at_hazard, skewed_mode


def hazard(u):
    return mp.npdf(u) / mp.ncdf(-u)


def with_gradient(function, x, dtype):
    x = torch.tensor(x, dtype=dtype, requires_grad=True)
    y = function(x)
    (gradient,) = torch.autograd.grad(y, x)
    return mp.mpf(x.item()), y.item(), gradient.item()


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 3e-14), (torch.float32, 2e-5)])
@pytest.mark.parametrize("k", [1e-3, 0.1, 0.79, 0.8, 2.0, 30.0, 1e4])
def test_excess_where_the_hazard_is_given(k, dtype, rel):
    with mp.workdps(40):
        k, found, gradient = with_gradient(excess_at_hazard, k, dtype)
        u = mp.findroot(lambda u: mp.log(hazard(u) / k), k - mp.mpf(found))
        excess = k - u
        assert found == pytest.approx(float(excess), rel=rel)
        assert gradient == pytest.approx(float(1 - 1 / (k * excess)), rel=rel, abs=rel)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 3e-14), (torch.float32, 2e-5)])
@pytest.mark.parametrize("alpha", [0.0, 1e-6, -0.3, 2.0, -10.0, 1e3, 1e6])
def test_mode_of_a_skewed_normal(alpha, dtype, rel):
    with mp.workdps(40):
        alpha, found, gradient = with_gradient(skewed_mode, alpha, dtype)
        step = mp.mpf(10) ** -15 * max(1, abs(alpha))
        low, z, high = (
            mp.findroot(lambda z, a=a: a * hazard(-a * z) - z, mp.mpf(found))
            for a in (alpha - step, alpha, alpha + step)
        )
        assert found == pytest.approx(float(z), rel=rel)
        assert gradient == pytest.approx(float((high - low) / (2 * step)), rel=rel)


def test_second_derivatives():
    x = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(excess_at_hazard, x)
    assert torch.autograd.gradgradcheck(skewed_mode, x)

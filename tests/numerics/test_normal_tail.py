import mpmath as mp
import pytest
import torch
from scipy import special

from pyro_reparam_ext.numerics.normal_tail import (
    excess_hazard,
    hazard_and_excess,
    log_ndtr,
    tail_quantile,
)

PRECISION = {torch.float32: 6e-7, torch.float64: 1e-13}
every_dtype = pytest.mark.parametrize("dtype", PRECISION)


def survival(z):
    return mp.erfc(z / mp.sqrt(2)) / 2


def hazard(z):
    with mp.workdps(300):
        return mp.npdf(mp.mpf(z)) / survival(mp.mpf(z))


@every_dtype
def test_excess_hazard(dtype):
    z = torch.cat([torch.linspace(0, 20, 101), torch.logspace(-6, 1.5, 50)]).to(dtype)
    exact = [float(hazard(float(x)) - float(x)) for x in z]
    torch.testing.assert_close(
        excess_hazard(z).double(),
        torch.tensor(exact, dtype=torch.float64),
        rtol=PRECISION[dtype],
        atol=0,
    )


@every_dtype
def test_excess_hazard_far_out(dtype):
    z = torch.tensor([1e3, 1e5, 1e6], dtype=dtype)
    square = z.double() ** -2
    exact = ((1 - 2 * square + 10 * square**2) / z.double()).to(dtype)
    torch.testing.assert_close(excess_hazard(z), exact, rtol=PRECISION[dtype], atol=0)
    assert excess_hazard(torch.tensor(3e38, dtype=dtype)).isfinite()


@every_dtype
def test_hazard_of_both_signs(dtype):
    z = torch.linspace(-6, 6, 61, dtype=dtype)
    ours = hazard_and_excess(z)
    exact = torch.tensor([float(hazard(float(x))) for x in z], dtype=torch.float64)
    # The rounding of exp(-z**2 / 2) is part of it.
    torch.testing.assert_close(ours[0].double(), exact, rtol=10 * PRECISION[dtype], atol=0)
    torch.testing.assert_close(
        ours[1].double(), exact - z.double(), rtol=3 * PRECISION[dtype], atol=1e-14
    )


def test_derivatives():
    z = torch.tensor([0.1, 1.0, 5.0, 11.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(excess_hazard, z)
    assert torch.autograd.gradgradcheck(excess_hazard, z)
    z = torch.tensor([-7.0, -0.4, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_ndtr, z)
    assert torch.autograd.gradgradcheck(log_ndtr, z)


@every_dtype
def test_log_ndtr(dtype):
    z = torch.cat([torch.linspace(-40, 8, 200), torch.tensor([-1e4, 0.0, 30.0])]).to(dtype)
    exact = torch.as_tensor(special.log_ndtr(z.double().numpy()))
    torch.testing.assert_close(
        log_ndtr(z).double(), exact, rtol=4 * PRECISION[dtype], atol=torch.finfo(dtype).tiny
    )


@every_dtype
@pytest.mark.parametrize("start", [1.0, 1.7, 4.0, 40.0, 1e4])
def test_tail_quantile(dtype, start):
    """Q(a + d) = Q(a) exp(-t), to the precision of t."""
    t = torch.tensor([1e-4, 0.01, 0.5, 3.0, 16.0, 80.0], dtype=dtype)
    distance = tail_quantile(torch.tensor(start, dtype=dtype), t)
    with mp.workdps(60):
        a = mp.mpf(start)
        # From the relation of hazards, as Q itself underflows even here.
        exact = []
        for x, d in zip(t, distance, strict=True):
            d, z = mp.mpf(float(d)), a + mp.mpf(float(d))
            h = [z + _excess(z), a + _excess(a)]
            exact.append(float((d * (a + d / 2) + mp.log(h[0] / h[1])) / mp.mpf(float(x)) - 1))
    error = torch.tensor(exact, dtype=torch.float64).abs()
    allowed = 10 * torch.finfo(dtype).eps * (1 + 1 / t.double())
    assert (error < allowed).all(), error / allowed


def _excess(z):
    if z < 30:
        return mp.npdf(z) / survival(z) - z
    fraction = z
    for k in range(80, 1, -1):
        fraction = z + k / fraction
    return 1 / fraction


def test_log_ndtr_is_twice_differentiable_at_0():
    z = torch.tensor([0.0, -0.0, 1e-8], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_ndtr(z).sum(), z, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    torch.testing.assert_close(curvature, torch.full_like(z, -2 / torch.pi), rtol=1e-7, atol=0)
    assert torch.autograd.gradgradcheck(log_ndtr, z)

import itertools

import mpmath as mp
import pytest
import torch
from scipy import integrate
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.inverse_gaussian import _velocity

InverseGaussian = pre.distributions.InverseGaussian
SCALES = list(itertools.product((1e-3, 1.0, 1e3, 1e6), repeat=2))


def survival(z):
    return mp.erfc(z / mp.sqrt(2)) / 2


def mills_ratio(b):
    if b < 40:
        return survival(b) / mp.npdf(b)
    fraction = b
    for k in range(100, 0, -1):
        fraction = b + k / fraction
    return 1 / fraction


def exact_velocity(x, loc, concentration):
    with mp.workdps(50):
        x, loc, concentration = (mp.mpf(v) for v in (x, loc, concentration))
        mills = mills_ratio(mp.sqrt(concentration / x) * (x / loc + 1))
        d_loc = 2 * mp.sqrt(concentration * x**3) / loc**2 * mills
        return float(d_loc), float((x - loc * d_loc) / concentration)


@pytest.mark.parametrize(("loc", "concentration"), SCALES)
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_velocity(loc, concentration, dtype, precision):
    loc, concentration = torch.tensor([loc, concentration], dtype=dtype)
    value = InverseGaussian(loc, concentration).sample((30,))
    ours = [g.double() for g in _velocity(value, loc, concentration)]
    given = [(x, float(loc), float(concentration)) for x in value.tolist()]
    exact = torch.tensor([exact_velocity(*x) for x in given], dtype=torch.float64)
    torch.testing.assert_close(ours[0], exact[:, 0], rtol=precision, atol=0)
    # The other one has a zero near the mean: relative to x / concentration there.
    error = (ours[1] - exact[:, 1]).abs() * concentration.double() / value.double()
    assert (error < precision).all()


@pytest.mark.parametrize("ratio", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_cdf(ratio, dtype, precision):
    """Concentration over loc up to 1e6, where exp(2 concentration / loc) overflows."""
    fn = InverseGaussian(*torch.tensor([1.0, ratio], dtype=dtype))
    value = fn.sample((20,))
    exact = []
    with mp.workdps(50):
        for x in value.tolist():
            x, c = mp.mpf(x), mp.mpf(float(fn.concentration))
            root = mp.sqrt(c / x)
            a, b = root * (x - 1), root * (x + 1)
            exact.append(float(survival(-a) + mp.npdf(a) * mills_ratio(b)))
    exact = torch.tensor(exact, dtype=torch.float64)
    torch.testing.assert_close(fn.cdf(value).double(), exact, rtol=precision, atol=precision)


def test_kl():
    p = InverseGaussian(*torch.tensor([0.8, 1.7], dtype=torch.float64))
    q = InverseGaussian(*torch.tensor([1.3, 0.6], dtype=torch.float64))

    def integrand(x):
        x = torch.tensor(x, dtype=torch.float64)
        log_p = p.log_prob(x)
        return float(log_p.exp() * (log_p - q.log_prob(x)))

    expected = integrate.quad(integrand, 1e-6, 60, limit=400, epsabs=1e-11)[0]
    assert float(kl_divergence(p, q)) == pytest.approx(expected, rel=1e-7)
    assert float(kl_divergence(p, p)) == 0


def test_second_derivative():
    value = torch.tensor([0.4, 1.0, 3.0], dtype=torch.float64)
    parameters = [torch.full((3,), x, dtype=torch.float64, requires_grad=True) for x in (0.8, 1.7)]
    assert torch.autograd.gradcheck(lambda *p: _velocity(value, *p), parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("concentration", [1e-6, 1.0, 1e3])
def test_log_prob_in_tails(concentration, dtype):
    for x in (1e-37, 1e-30, 1e-10, 0.5, 1.0, 1e10, 1e30, 1e37):
        leaves = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in (x, 1.0, concentration)]
        fn = InverseGaussian(*leaves[1:])
        ours = fn.log_prob(leaves[0])
        d_x, d_loc, d_concentration = torch.autograd.grad(ours, leaves)
        with mp.workdps(60):
            x, loc, c = (mp.mpf(v.item()) for v in leaves)
            energy = c * (x - loc) ** 2 / (loc**2 * x)
            exact = (mp.log(c) - mp.log(2 * mp.pi) - energy) / 2 - 1.5 * mp.log(x)
            exact_d_x = -1.5 / x - c * (1 / loc**2 - 1 / x**2) / 2
            exact_d_loc = c * (x - loc) / loc**3
            exact_d_c = (1 - energy) / (2 * c)
        largest = torch.finfo(dtype).max
        tolerance = 30 * torch.finfo(dtype).eps
        if abs(exact) < largest:
            assert ours.item() == pytest.approx(float(exact), rel=tolerance, abs=tolerance)
        else:
            assert ours == -torch.inf
        assert d_x.isfinite() and d_concentration.isfinite()
        if abs(exact_d_x) < 1e-8 * largest:
            scale = float(1.5 / x + c / x**2 / 2)
            assert d_x.item() == pytest.approx(float(exact_d_x), rel=tolerance, abs=tolerance * scale)
        if abs(exact_d_loc) < largest:
            assert d_loc.item() == pytest.approx(float(exact_d_loc), rel=tolerance)
        if abs(exact_d_c) < 1e-8 * largest:
            scale = float(1 / c)
            assert d_concentration.item() == pytest.approx(
                float(exact_d_c), rel=tolerance, abs=tolerance * scale
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cdf_in_the_lower_tail(dtype):
    """Relative: both of its terms are tails."""
    fn = InverseGaussian(*torch.tensor([1.0, 1.0], dtype=dtype))
    for x in (0.01, 0.02, 0.05):
        value = torch.tensor(x, dtype=dtype)
        with mp.workdps(60):
            x = mp.mpf(value.item())
            a, b = (x - 1) / mp.sqrt(x), (x + 1) / mp.sqrt(x)
            exact = survival(-a) + mp.npdf(a) * mills_ratio(b)
        assert fn.cdf(value).item() == pytest.approx(
            float(exact), rel=500 * torch.finfo(dtype).eps, abs=0
        )

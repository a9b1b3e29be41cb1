import mpmath as mp
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.exponentially_modified_gaussian import _velocity

from ..statistics import assert_mean

ExGaussian = pre.distributions.ExponentiallyModifiedGaussian


def exact_log_prob(x, scale, rate):
    with mp.workdps(80):
        z, k = mp.mpf(x) / scale, mp.mpf(rate) * scale
        tail = mp.erfc((k - z) / mp.sqrt(2)) / 2
        return float(mp.log(rate) + k * k / 2 - k * z + mp.log(tail))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [1e-4, 0.1, 1.0, 10.0, 1e4])
def test_log_prob_in_tails(rate, dtype):
    fn = ExGaussian(*torch.tensor([0.0, 1.0, rate], dtype=dtype))
    x = torch.tensor([-25.0, -4.0, 0.0, 1.0, 6.0, 30.0], dtype=dtype)
    exact = [exact_log_prob(v, 1.0, float(fn.rate)) for v in x.tolist()]
    exact = torch.tensor(exact, dtype=torch.float64)
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        fn.log_prob(x), exact.to(dtype), rtol=tolerance, atol=tolerance * max(1, rate / 10)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [1e-3, 0.3, 1.0, 20.0, 1e3])
def test_velocity_at_all_rates(rate, dtype):
    """From the hazard in arbitrary precision: no cancellation at either end."""
    loc, scale, rate = torch.tensor([0.0, 1.0, rate], dtype=dtype)
    value = ExGaussian(loc, scale, rate).sample((40,))
    ours = torch.stack(_velocity(value, loc, scale, rate), -1).double()
    exact = []
    with mp.workdps(400):
        for x in value.tolist():
            k = mp.mpf(float(rate))
            w = k - mp.mpf(x)
            if w > 40:
                fraction = w
                for j in range(200, 1, -1):
                    fraction = w + j / fraction
                excess = 1 / fraction
            else:
                excess = mp.npdf(w) / (mp.erfc(w / mp.sqrt(2)) / 2) - w
            exact.append([1.0, float(x - excess), float(-excess / k)])
    exact = torch.tensor(exact, dtype=torch.float64)
    eps = torch.finfo(dtype).eps
    size = 1 + 1 / float(rate) * (float(rate) < 1)
    error = (ours - exact).abs()
    # In scale relative to 1 or to the draw, in rate relative to the velocity; x is rounded itself.
    assert (error[:, 1] < 20 * eps * size).all()
    assert (error[:, 2] < 30 * eps * exact[:, 2].abs() * max(1.0, float(rate) / 20)).all()


def test_moments_of_the_gradient():
    """E of the velocity: d E[x] / d(rate) = -1 / rate**2 and d E[x] / d(scale) = 0, closed."""
    loc, scale, rate = (torch.full((50_000,), x, requires_grad=True) for x in (0.0, 1.0, 2.0))
    value = ExGaussian(loc, scale, rate).rsample()
    d_scale, d_rate = torch.autograd.grad(value.sum(), [scale, rate])
    exact = torch.tensor([0.0, -0.25])
    assert_mean(torch.stack([d_scale, d_rate], -1), exact)


def test_cdf_tends_to_one():
    fn = ExGaussian(0.0, 1.0, 1e-3)
    x = torch.tensor([-50.0, -3.0, 0.0, 1e3, 1e5])
    cdf = fn.cdf(x)
    assert cdf.isfinite().all() and (cdf.diff() >= 0).all()
    assert float(cdf[-1]) == pytest.approx(1.0)
    assert float(cdf[3]) == pytest.approx(1 - 0.36788, abs=1e-3)


def exact_cdf(z, k):
    """Also where the two terms agree to a hundred digits."""
    with mp.workdps(200):
        z, k = mp.mpf(z), mp.mpf(k)
        tail = mp.exp(k * k / 2 - k * z) * mp.erfc((k - z) / mp.sqrt(2)) / 2
        return mp.erfc(-z / mp.sqrt(2)) / 2 - tail


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 2e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.01, 0.05, 0.09, 0.15, 0.3, 1.0, 30.0])
def test_cdf_and_its_gradients(rate, dtype, precision):
    leaves = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in (0.0, 1.0, rate)]
    fn = ExGaussian(*leaves)
    z = torch.tensor([-12.0, -8.0, -5.0, -3.0, -1.0, -0.1, 0.0, 0.2, 1.0, 4.0, 50.0], dtype=dtype)
    k = leaves[2].item()
    exact = [exact_cdf(x, k) for x in z.tolist()]
    for ours, x, theirs in zip(fn.cdf(z).tolist(), z.tolist(), exact, strict=True):
        assert ours == pytest.approx(float(theirs), rel=precision * max(1, x * x / 30), abs=0), x
    x = z[3].clone().requires_grad_()
    d_x, d_loc, d_scale, d_rate = torch.autograd.grad(fn.cdf(x), [x, *leaves])
    with mp.workdps(60):
        density = mp.exp(mp.mpf(exact_log_prob(x.item(), 1.0, k)))
        slope = mp.diff(lambda k: exact_cdf(x.item(), k), mp.mpf(k), h=mp.mpf(k) * mp.mpf(10) ** -15)
        scaled = mp.diff(
            lambda s: exact_cdf(mp.mpf(x.item()) / s, k * s), mp.mpf(1), h=mp.mpf(10) ** -15
        )
    loose = 10 * precision
    assert d_x.item() == pytest.approx(float(density), rel=loose)
    assert d_loc.item() == pytest.approx(-float(density), rel=loose)
    assert d_rate.item() == pytest.approx(float(slope), rel=loose)
    assert d_scale.item() == pytest.approx(float(scaled), rel=loose)


def test_cdf_is_not_negative():
    cdf = ExGaussian(0.0, 1.0, 0.01).cdf(torch.linspace(-12.0, -1.0, 1000))
    assert (cdf > 0).all() and (cdf.diff() > 0).all()

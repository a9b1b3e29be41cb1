import mpmath as mp
import pytest
import torch

from pyro_reparam_ext.numerics.truncated_standard_normal import (
    cdf_of,
    frame_of,
    log_mass,
    quadrature,
    quantile,
)

INF = float("inf")
WIDE = [
    (-1.0, 2.0),
    (-2.0, 1.0),
    (0.5, 0.75),
    (1.5, INF),
    (12.0, 13.0),
    (-INF, -40.0),
    (3.0, 3.0 + 2**-12),
]


def frame(low, high, dtype=torch.float64):
    return frame_of(*(torch.tensor(x, dtype=dtype) for x in (0.0, 1.0, low, high)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bounds", WIDE)
def test_quantile_inverts_cdf(bounds, dtype):
    u = torch.linspace(0.001, 0.999, 41, dtype=dtype)
    its = frame(*bounds, dtype)
    tolerance = 100 * torch.finfo(dtype).eps / min(1.0, bounds[1] - bounds[0])
    torch.testing.assert_close(cdf_of(its, quantile(its, u)), u, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bounds", [*WIDE, (8.0, 8.0 + 2**-17), (-1e-3, 2e-3), (500.0, 500.004)])
def test_log_mass(bounds, dtype):
    low, high = (float(torch.tensor(x, dtype=dtype)) for x in bounds)
    its = frame(low, high, dtype)
    with mp.workdps(60):
        a, b = (mp.mpf(float(x)) for x in (its.a, its.b))
        end = min(b, a + 80 / max(a, 5))
        reference = mp.mpf(float(its.reference))
        exact = mp.quad(
            lambda x: mp.exp(-(x - reference) * (x + reference) / 2), [a, (a + end) / 2, end]
        )
        exact = float(mp.log(exact))
    eps = torch.finfo(dtype).eps
    assert float(log_mass(its)) == pytest.approx(exact, abs=100 * eps, rel=20 * eps)


@pytest.mark.parametrize("bounds", WIDE)
def test_quadrature_has_unit_mass_within(bounds):
    its = frame(*bounds)
    position, weights = quadrature(its)
    z = position + its.reference
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-14)
    assert ((z >= its.a) & (z <= its.b)).all()

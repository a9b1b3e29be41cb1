"""The CDF of the Beta distribution, against scipy."""

import numpy as np
import pytest
import torch
from scipy import special

from pyro_reparam_ext.numerics.beta_cdf import beta_tails

from .exact_tails import beta_tail

CONCENTRATIONS = (1e-3, 0.5, 3.0, 200.0, 2900.0, 3100.0, 1e6)


@pytest.mark.parametrize("b", CONCENTRATIONS)
@pytest.mark.parametrize("a", CONCENTRATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 3e-6), (torch.float32, 1e-5)])
def test_both_tails_have_relative_precision(a, b, dtype, tolerance):
    levels = np.concatenate(
        [np.logspace(-8, -1, 15), np.linspace(0.11, 0.89, 15), 1 - np.logspace(-8, -1, 15)]
    )
    x = special.betaincinv(a, b, levels).astype(np.float32 if dtype == torch.float32 else np.float64)
    x = torch.as_tensor(x[(x > 1e-30) & (x < 1)])
    given = torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype)
    below, above = beta_tails(x, *given)
    a, b = (float(p) for p in given)
    x = x.double().numpy()
    for ours, exact in ((below, special.betainc(a, b, x)), (above, special.betaincc(a, b, x))):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours.double().numpy(), exact, rtol=tolerance)


def test_the_complement_may_be_known_more_precisely():
    y = torch.tensor(1e-20, dtype=torch.float64)
    a, b = torch.tensor(2.0, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    _, above = beta_tails(1 - y, a, b, complement=y)
    assert above.item() == pytest.approx(special.betainc(0.5, 2.0, 1e-20), rel=1e-10)


@pytest.mark.parametrize(("a", "b"), [(3001.0, 3001.0), (3100.0, 4e4), (1e5, 4e8), (1e9, 1e9)])
def test_both_tails_of_large_concentrations(a, b):
    given = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    for z in (-25.0, -4.0, -0.003, 0.003, 0.7, 6.0, 25.0):
        x = a / (a + b) + z * (a * b / (a + b) ** 3) ** 0.5
        ours = beta_tails(torch.tensor(x, dtype=torch.float64), *given)[z > 0]
        exact = float(beta_tail(a, b, x, upper=z > 0))
        assert ours.item() == pytest.approx(exact, rel=1e-9, abs=0)

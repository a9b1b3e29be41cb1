"""The law of the first k arrivals, against enumeration over orders."""

import itertools
import math

import mpmath
import pytest
import torch
from scipy.integrate import quad

from pyro_reparam_ext.numerics.subset_law import inclusion_probabilities, log_subset_probability


def over_orders(logits, subset):
    """Log probability of the subset: the sum over its orders."""
    with mpmath.workdps(150):
        rates = [mpmath.e**x for x in logits]
        total = mpmath.mpf(0)
        for order in itertools.permutations(subset):
            left, p = sum(rates), mpmath.mpf(1)
            for i in order:
                p *= rates[i] / left
                left -= rates[i]
            total += p
        return float(mpmath.log(total))


def subsets(n, k, dtype=torch.float64):
    chosen = list(itertools.combinations(range(n), k))
    return chosen, torch.stack([torch.eye(n, dtype=dtype)[list(c)].sum(0) for c in chosen])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize(("n", "k", "scale"), [(4, 1, 1), (4, 2, 3), (6, 3, 100), (6, 5, 20)])
def test_vertices(n, k, scale, dtype, tolerance):
    logits = (torch.arange(n) * 1.7).sin().to(dtype) * scale
    chosen, values = subsets(n, k, dtype)
    log_p = log_subset_probability(values, logits, k)
    exact = torch.tensor([over_orders(logits.tolist(), c) for c in chosen], dtype=torch.float64)
    torch.testing.assert_close(log_p.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("n", "k"), [(40, 20), (101, 100)])
def test_large_subsets_of_equals(n, k):
    value = (torch.arange(n) < k).double()
    log_p = log_subset_probability(value, torch.zeros(n, dtype=torch.float64), k)
    exact = math.lgamma(k + 1) + math.lgamma(n - k + 1) - math.lgamma(n + 1)
    torch.testing.assert_close(log_p.item(), exact, rtol=0, atol=1e-10)


def test_relaxed_values():
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)
    value = torch.tensor([0.9, 0.3, 0.1, 0.7], dtype=torch.float64)
    rest = ((1 - value) * logits.exp()).sum().item()
    powers = [x / rest for x in logits.exp().tolist()]

    def integrand(v):
        return math.prod((1 - v**c) ** y for c, y in zip(powers, value.tolist(), strict=True))

    exact, _ = quad(integrand, 0, 1, epsabs=1e-13, epsrel=1e-13)
    log_p = log_subset_probability(value, logits, 2)
    torch.testing.assert_close(log_p.exp().item(), exact, rtol=1e-9, atol=0)


def test_gradients():
    """Inside, and from a vertex inwards."""
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    inside = torch.tensor([0.9, 0.3, 0.1, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y, x: log_subset_probability(y, x, 2), (inside, logits))
    vertex = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    direction = torch.tensor([-1.0, 1.0, 0.5, -0.5], dtype=torch.float64)
    slope = torch.func.grad(log_subset_probability)(vertex, logits.detach(), 2) @ direction
    step = 1e-6
    at = [log_subset_probability(vertex + i * step * direction, logits.detach(), 2) for i in range(3)]
    torch.testing.assert_close(slope, (4 * at[1] - 3 * at[0] - at[2]) / (2 * step), rtol=1e-4, atol=0)


def test_probabilities_of_all_subsets():
    """They sum to 1 whatever the logits are, so the sum has no gradient."""
    logits = torch.tensor([3.0, -2.0, 0.5, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    _, values = subsets(5, 3)
    total = log_subset_probability(values, logits, 3).exp().sum()
    torch.testing.assert_close(total.item(), 1.0, rtol=0, atol=1e-10)
    assert torch.autograd.grad(total, logits)[0].abs().max() < 1e-10


@pytest.mark.parametrize(("n", "k", "scale"), [(5, 1, 1), (5, 3, 2), (6, 4, 30)])
def test_inclusion(n, k, scale):
    logits = (torch.arange(n, dtype=torch.float64) * 1.7).sin() * scale
    chosen, values = subsets(n, k)
    p = torch.tensor([over_orders(logits.tolist(), c) for c in chosen], dtype=torch.float64).exp()
    found = inclusion_probabilities(logits, k)
    torch.testing.assert_close(found, p @ values, rtol=0, atol=1e-10)
    batch = torch.stack([logits, -logits])
    torch.testing.assert_close(inclusion_probabilities(batch, k)[0], found)

"""The velocity of the logit of a Beta draw, against an independent one of many digits."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special

from pyro_reparam_ext.numerics.beta_velocity import logit_beta_velocity
from pyro_reparam_ext.numerics.log1mexp import log_sigmoids

CONCENTRATIONS = (1e-3, 0.08, 0.9, 2.5, 20.0, 1e5)


def exact(logit, a, b):
    """By quadrature of the lower tail over the logit, which needs x < a / (a + b)."""
    with mpmath.workdps(25):
        a, b, logit = (mpmath.mpf(v) for v in (a, b, logit))
        expected = mpmath.digamma(a) - mpmath.digamma(a + b)

        def logs(v):
            return (-mpmath.log1p(mpmath.exp(-v)) if v > -200 else v), -mpmath.log1p(mpmath.exp(v))

        log_x, log_rest = logs(logit)
        x = mpmath.exp(log_x)

        def integrand(t):
            lx, lr = logs(logit - t)
            return (expected - lx) * mpmath.exp(a * (lx - log_x) + b * (lr - log_rest))

        slope = max(a * (1 - x) - b * x, 0)
        width = 1 / max(slope, mpmath.sqrt((a + b) * x * (1 - x)))
        near = [width * k for k in (0, 0.25, 1, 3, 10, 40)]
        far = [k for k in (1, 3, 10, 30, 2 / a, 10 / a, 40 / a, 200 / a) if k > near[-1]]
        return float(mpmath.quad(integrand, sorted(near + far)))


def cases():
    for a, b in itertools.product(CONCENTRATIONS, CONCENTRATIONS):
        a, b = float(np.float32(a)), float(np.float32(b))
        for u in (1e-4, 0.3):
            x = special.betaincinv(a, b, u)
            if 1e-30 < x < a / (a + b) and x < 0.999:
                yield a, b, float(np.float32(math.log(x) - math.log1p(-x)))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1.5e-5), (torch.float64, 1e-8)])
def test_against_many_digits(dtype, rtol):
    points = list(cases())
    assert len(points) > 30
    a, b, logit = torch.tensor(points, dtype=torch.float64).T
    expected = torch.tensor([exact(t, a, b) for a, b, t in points], dtype=torch.float64)
    log_x, log_rest = log_sigmoids(logit.to(dtype))
    velocity = logit_beta_velocity(log_x, log_rest, a.to(dtype), b.to(dtype)).double()
    torch.testing.assert_close(velocity, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-5), (torch.float64, 2e-8)])
def test_both_tails_where_the_law_is_closed(dtype, rtol):
    """At b = 1, F = x^a: d logit(x) / da = -log(x) / (a (1 - x)); for all x, also close to 1."""
    a = torch.tensor([1e-3, 0.1, 1.0, 5.0, 9.0, 1e4], dtype=dtype)[:, None]
    logit = torch.linspace(-60, 15, 61, dtype=dtype)
    log_x, log_rest = (x.expand(6, -1) for x in log_sigmoids(logit))
    velocity = logit_beta_velocity(log_x, log_rest, a, torch.ones_like(a))
    expected = -log_x / a * (-log_rest).exp()
    likely = a * log_x > math.log(1e-12)
    torch.testing.assert_close(velocity[likely], expected[likely], rtol=rtol, atol=0)
    torch.testing.assert_close(velocity, expected, rtol=2e-4, atol=0)
    # In the other concentration, at a = 1: F = 1 - (1 - x)^b.
    other = logit_beta_velocity(log_rest, log_x, torch.ones_like(a), a)
    assert (other > 0).all()


def test_leading_terms_at_the_ends():
    a, b = torch.tensor(0.01, dtype=torch.float64), torch.tensor(0.02, dtype=torch.float64)
    log_x, log_rest = log_sigmoids(torch.tensor([-2000.0, 2000.0], dtype=torch.float64))
    low, high = logit_beta_velocity(log_x, log_rest, a, b)
    expected = (torch.digamma(a + 1) - torch.digamma(a + b) - log_x[0]) / a
    torch.testing.assert_close(low, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(high, (torch.digamma(a + b) - torch.digamma(a)) / b, rtol=1e-8, atol=0)


def test_upper_tail_in_float32():
    """Where fitted nodes are used: against those of float64, which are others."""
    a = torch.tensor([0.01, 0.5, 3.0, 7.5], dtype=torch.float64)[:, None, None]
    b = torch.tensor([1.25, 4.0, 64.0, 1e5], dtype=torch.float64)[:, None]
    logit = (2.6 + 0.7 * a).log() - b.log() + torch.tensor([0.01, 0.5, 2.0], dtype=torch.float64)
    logit, a, b = (x.contiguous() for x in torch.broadcast_tensors(logit.float().double(), a, b))
    a = a.float().double()
    expected = logit_beta_velocity(*log_sigmoids(logit), a, b)
    velocity = logit_beta_velocity(*log_sigmoids(logit.float()), a.float(), b.float())
    torch.testing.assert_close(velocity.double(), expected, rtol=1e-5, atol=0)

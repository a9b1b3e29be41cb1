"""Quantiles of Beta variables: the mass that is asked for, from small concentrations to large ones."""

import math

import numpy as np
import torch
from scipy import special

from pyro_reparam_ext.numerics.beta_cdf import beta_tails
from pyro_reparam_ext.numerics.beta_quantile import logit_beta_quantile
from pyro_reparam_ext.numerics.log1mexp import log_sigmoids


def test_against_scipy():
    generator = np.random.default_rng(0)
    a, b = 10 ** generator.uniform(-1, 3, (2, 2000))
    u = generator.uniform(1e-6, 0.5, 2000)
    given = (torch.tensor(x) for x in (a, b))
    logit = logit_beta_quantile(torch.tensor(u).log(), torch.zeros(2000, dtype=torch.bool), *given)
    kept = special.betaincinv(a, b, u) > 1e-290
    np.testing.assert_allclose(logit.sigmoid()[kept], special.betaincinv(a, b, u)[kept], rtol=1e-9)


def test_the_mass_of_random_tails():
    """From any start the steps have arrived: concentrations of 1e-3 to 1e5, masses down to 1e-300."""
    torch.manual_seed(0)
    a, b = 10 ** (8 * torch.rand(2, 20_000, dtype=torch.float64) - 3)
    upper = torch.rand(20_000) < 0.5
    log_mass = -math.log(2) - 690 * torch.rand(20_000, dtype=torch.float64) ** 3
    logit = logit_beta_quantile(log_mass, upper, a, b)
    log_x, log_rest = log_sigmoids(logit)
    below, above = beta_tails(log_x.exp(), a, b, complement=log_rest.exp())
    reached = torch.where(upper, above, below).log()
    floats = torch.where(upper, log_rest, log_x) > -700
    assert floats.sum() > 15_000
    torch.testing.assert_close(reached[floats], log_mass[floats], rtol=0, atol=1e-7)
    assert ((reached - log_mass)[floats].abs() < 1e-9).double().mean() > 0.99


def test_below_the_floats():
    """By the leading term of the mass, x^a / (a B(a, b))."""
    a, b, log_mass = (torch.tensor([x], dtype=torch.float64) for x in (0.02, 0.1, -60.0))
    logit = logit_beta_quantile(log_mass, torch.tensor([False]), a, b)
    expected = (-60.0 + math.log(0.02) + special.betaln(0.02, 0.1)) / 0.02
    assert math.isclose(logit.item(), expected, rel_tol=1e-12)

"""The support of gates."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from scipy import integrate
from torch.distributions import biject_to, transform_to

from pyro_reparam_ext.distributions import HardConcrete

STRETCHES = pytest.mark.parametrize("low, high", [(-0.1, 1.1), (-10.0, 1.1), (-0.01, 3.0)])


def gate(low=-0.1, high=1.1):
    return HardConcrete(torch.tensor(0.6, dtype=torch.float64), logits=-0.3, low=low, high=high)


@STRETCHES
def test_joint_law_has_the_masses_of_the_gate(low, high):
    fn = gate(low, high)
    transform = biject_to(fn.support)

    def density(x):
        x = torch.tensor(x, dtype=torch.float64)
        z = transform(x)
        return float((fn.log_prob(z) + transform.log_abs_det_jacobian(x, z)).exp())

    start, end = math.log(-low / high), math.log((1 - low) / (high - 1))
    zero = integrate.quad(density, -math.inf, start - 1e-9)[0]
    inside = integrate.quad(density, start + 1e-9, end - 1e-9)[0]
    one = integrate.quad(density, end + 1e-9, math.inf)[0]
    masses = fn.log_prob(torch.tensor([0.0, 1.0], dtype=torch.float64)).exp()
    np.testing.assert_allclose([zero, one], masses, rtol=1e-6)
    np.testing.assert_allclose(inside, 1 - masses.sum(), rtol=1e-6)


@STRETCHES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reaches_the_ends_and_back(low, high, dtype):
    transform = transform_to(gate(low, high).support)
    z = torch.tensor([0.0, 0.3, 1.0], dtype=dtype)
    torch.testing.assert_close(transform(transform.inv(z)), z)
    assert torch.equal(transform(transform.inv(z))[[0, 2]], z[[0, 2]])


def test_jacobian_within():
    transform = biject_to(gate().support)
    x = torch.tensor(0.4, dtype=torch.float64)
    slope = torch.func.grad(transform)(x).log()
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, transform(x)), slope)


def test_autoguide_reaches_the_ends():
    """Where the data want a closed gate, its values are 0."""

    def model():
        z = pyro.sample("z", HardConcrete(0.5, 0.5))
        pyro.factor("cost", -20 * z)

    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    losses = [svi.step() for _ in range(150)]
    assert torch.tensor(losses).isfinite().all()
    with torch.no_grad():
        values = torch.stack([guide()["z"] for _ in range(50)])
    assert (values == 0).double().mean() > 0.8


def test_names_its_stretch():
    assert repr(gate().support) == "StretchedInterval(-0.1, 1.1)"
    assert biject_to(gate().support) == biject_to(gate().support)
    assert biject_to(gate().support) != biject_to(gate(-0.2, 1.1).support)

"""Factors of covariances: a diagonal one is the same as a triangle that is diagonal."""

import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.estimators.gaussian_factor import factor_of

DOUBLE = torch.float64
SCALE = torch.tensor([0.5, 2.0, 1.5], dtype=DOUBLE)
TRIL = torch.tensor([[0.5, 0.0, 0.0], [0.3, 2.0, 0.0], [-0.4, 0.7, 1.5]], dtype=DOUBLE)


def diagonal():
    return factor_of(dist.Normal(torch.zeros(3, dtype=DOUBLE), SCALE))


def triangle(tril=TRIL):
    return factor_of(dist.MultivariateNormal(torch.zeros(3, dtype=DOUBLE), scale_tril=tril))


@pytest.mark.parametrize("factor", [diagonal(), triangle()], ids=["diagonal", "triangle"])
def test_noise_and_values(factor):
    noise = torch.randn(4, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(factor.whitened(factor.colored(noise)), noise)


def test_a_diagonal_triangle_is_a_scale():
    generator = torch.Generator().manual_seed(0)
    slope, noise = torch.randn(2, 4, 3, dtype=DOUBLE, generator=generator)
    one, other = diagonal(), triangle(SCALE.diag())
    for name in ("colored", "whitened", "pulled_back"):
        torch.testing.assert_close(getattr(one, name)(noise), getattr(other, name)(noise))
    product = other.outer(slope, noise).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(one.outer(slope, noise), product)
    torch.testing.assert_close(one.inverse(), other.inverse().diagonal())


@pytest.mark.parametrize("factor", [diagonal(), triangle()], ids=["diagonal", "triangle"])
def test_slopes_are_those_of_autograd(factor):
    """The gradient of a function of the value in the factor; and of the log density in the value."""
    generator = torch.Generator().manual_seed(0)
    slope, noise = torch.randn(2, 3, dtype=DOUBLE, generator=generator)
    parameter = factor.parameter.clone().requires_grad_()
    moved = type(factor)(parameter).colored(noise)
    (found,) = torch.autograd.grad((slope * moved).sum(), parameter)
    expected = factor.outer(slope, noise)
    torch.testing.assert_close(found.tril() if found.dim() == 2 else found, expected)
    tril = factor.parameter if found.dim() == 2 else factor.parameter.diag()
    value = moved.detach().requires_grad_()
    law = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=DOUBLE), scale_tril=tril)
    (density,) = torch.autograd.grad(law.log_prob(value), value)
    torch.testing.assert_close(factor.pulled_back(noise), -density)


@pytest.mark.parametrize("factor", [diagonal(), triangle()], ids=["diagonal", "triangle"])
def test_inverse_is_the_mean_of_what_is_pulled_back(factor):
    # The rows of a cube of signs have the second moments of the noise.
    noise = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=DOUBLE)] * 3)
    found = factor.outer(factor.pulled_back(noise), noise).mean(0)
    torch.testing.assert_close(found, factor.inverse().expand_as(found))

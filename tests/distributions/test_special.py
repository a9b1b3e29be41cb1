"""Kernels under vmap, and the nodes."""

import pytest
import torch

from pyro_reparam_ext.distributions.special import (
    dirichlet_grad,
    gauss_legendre,
    standard_gamma_grad,
)


@pytest.mark.parametrize(("in_dims"), [(0, 0), (0, None), (None, 0), (1, 0)])
def test_kernels_under_vmap(in_dims):
    x, a = torch.rand(3, 3) + 0.1, torch.rand(3) + 0.5
    for kernel in (standard_gamma_grad, lambda x, a: dirichlet_grad(x / 2, a, a + 1)):
        batched = torch.func.vmap(kernel, in_dims)(x, a)
        rows = [
            kernel(*(v if d is None else v.select(d, i) for v, d in zip((x, a), in_dims, strict=True)))
            for i in range(3)
        ]
        torch.testing.assert_close(batched, torch.stack(rows))


def test_no_second_derivative():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="second time"):
        standard_gamma_grad(x, torch.ones(2)).sum().backward()


def test_gauss_legendre_integrates_polynomials():
    nodes, weights = gauss_legendre(5)
    assert sum(w * x**9 for x, w in zip(nodes, weights, strict=True)) == pytest.approx(0.1, rel=1e-12)

import numpy as np
import torch
from scipy import special

from pyro_reparam_ext.numerics.owens_t import owens_t


def test_against_scipy():
    h = np.concatenate([[0.0], np.logspace(-8, 2, 80)])
    a = np.concatenate([[0.0, 1.0], np.logspace(-8, 8, 80)])
    h, a = np.meshgrid(np.concatenate([h, -h]), np.concatenate([a, -a]))
    ours = owens_t(torch.as_tensor(h), torch.as_tensor(a)).numpy()
    np.testing.assert_allclose(ours, special.owens_t(h, a), rtol=1e-10, atol=1e-15)


def test_single_precision():
    h, a = torch.meshgrid(torch.linspace(-6, 6, 41), torch.linspace(-20, 20, 41), indexing="ij")
    exact = special.owens_t(h.double().numpy(), a.double().numpy())
    np.testing.assert_allclose(owens_t(h, a).numpy(), exact, rtol=0, atol=1e-7)


def test_derivatives():
    h = torch.tensor([-2.0, -0.3, 0.0, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    a = torch.tensor([0.5, -1.5, 0.3, 1.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(owens_t, (h, a))
    assert torch.autograd.gradgradcheck(owens_t, (h, a))


def test_broadcasts_and_batches():
    h, a = torch.randn(3, 1), torch.randn(4)
    assert owens_t(h, a).shape == (3, 4)
    torch.testing.assert_close(torch.func.vmap(lambda h: owens_t(h, a))(h), owens_t(h, a))

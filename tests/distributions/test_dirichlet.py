"""Dirichlet at small concentrations, and as Pyro's."""

import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import pathwise_at
from pyro_reparam_ext.numerics.chunked import PIECE

from ..statistics import assert_mean

Dirichlet = pre.distributions.Dirichlet


def test_no_uniform_vectors():
    """At 1e-3 the largest of three components is above 0.9 in all but about 1 % of the draws."""
    x = Dirichlet(torch.full((3,), 1e-3)).sample((50_000,))
    exact = 3 * stats.beta(1e-3, 2e-3).sf(0.9)
    assert exact > 0.98
    assert_mean((x > 0.9).any(-1, keepdim=True).double(), torch.tensor([exact]))
    assert_mean(x, torch.full((3,), 1 / 3))


def test_gradient_at_small_concentrations_in_float32():
    alpha = torch.full((50_000, 3), 1e-3, requires_grad=True)
    x = Dirichlet(alpha).rsample()
    (gradient,) = torch.autograd.grad(x[:, 0].sum(), alpha)
    assert_mean(gradient, torch.tensor([2.0, -1.0, -1.0]) / 0.009)


def test_logarithms_have_the_gradient_of_the_draw():
    alpha = torch.full((50_000, 3), 0.01, requires_grad=True)
    x = Dirichlet(alpha).rsample()
    (gradient,) = torch.autograd.grad(x[:, 0].log().sum(), alpha)
    small, large = (torch.polygamma(1, torch.tensor(v)) for v in (0.01, 0.03))
    assert_mean(gradient * 1e-4, torch.stack([small - large, -large, -large]) * 1e-4)


def test_two_components_are_a_beta():
    alpha = torch.tensor([0.7, 3.0], dtype=torch.float64, requires_grad=True)
    value = torch.tensor([0.2, 0.8], dtype=torch.float64)
    x = pathwise_at(Dirichlet(alpha), value)
    (gradient,) = torch.autograd.grad(x[0], alpha)
    twin = pathwise_at(pre.distributions.Beta(alpha[0], alpha[1]), value[0])
    torch.testing.assert_close(gradient, torch.autograd.grad(twin, alpha)[0])


def test_moves_within_the_simplex():
    alpha = torch.tensor([0.3, 1.0, 20.0], dtype=torch.float64, requires_grad=True)
    x = Dirichlet(alpha).rsample((10,))
    (gradient,) = torch.autograd.grad(x.sum(), alpha)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_stays_a_dirichlet_of_pyro():
    p, q = Dirichlet(torch.tensor([2.0, 1.0])), dist.Dirichlet(torch.tensor([0.5, 3.0]))
    assert isinstance(p, dist.Dirichlet)
    twin = dist.Dirichlet(p.concentration)
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(twin, q))
    torch.testing.assert_close(p.entropy(), twin.entropy())


def test_vectors_longer_than_a_piece():
    alpha = torch.ones(2 * PIECE, dtype=torch.float64, requires_grad=True)
    x = Dirichlet(alpha).rsample()
    torch.testing.assert_close(x.sum(), torch.ones_like(x.sum()))
    (gradient,) = torch.autograd.grad(x.sum(), alpha)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_pieces_with_parameters_of_their_own():
    alpha = torch.rand(PIECE, 3, dtype=torch.float64, requires_grad=True)
    value = Dirichlet(alpha).sample()
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (whole,) = torch.autograd.grad((pathwise_at(Dirichlet(alpha), value) @ weight).sum(), alpha)
    few = alpha[:5].detach().requires_grad_()
    (part,) = torch.autograd.grad((pathwise_at(Dirichlet(few), value[:5]) @ weight).sum(), few)
    torch.testing.assert_close(whole[:5], part)


def test_pieces_with_common_parameters():
    alpha = torch.tensor([0.3, 2.0, 9.0], dtype=torch.float64, requires_grad=True)
    value = Dirichlet(alpha).sample((PIECE,))
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (whole,) = torch.autograd.grad((pathwise_at(Dirichlet(alpha), value) @ weight).sum(), alpha)
    own = alpha.detach().expand(value.shape).clone().requires_grad_()
    (each,) = torch.autograd.grad((pathwise_at(Dirichlet(own), value) @ weight).sum(), own)
    torch.testing.assert_close(whole, each.sum(0))


def test_at_a_face_of_the_simplex():
    alpha = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    for value in ([0.0, 0.5, 0.5], [0.0, 0.0, 1.0]):
        x = pathwise_at(Dirichlet(alpha), torch.tensor(value, dtype=torch.float64))
        assert torch.autograd.grad(x[1:] @ x[1:], alpha)[0].isfinite().all()


def test_density_is_that_of_pyro():
    alpha = torch.tensor([0.3, 2.0, 50.0], dtype=torch.float64)
    x = Dirichlet(alpha).sample((5,))
    torch.testing.assert_close(Dirichlet(alpha).log_prob(x), dist.Dirichlet(alpha).log_prob(x))


def test_density_of_large_concentrations_in_float32():
    alpha = torch.tensor([1e5, 2e5, 1e5])
    x = torch.tensor([0.25, 0.5, 0.25])
    exact = dist.Dirichlet(alpha.double()).log_prob(x.double())
    torch.testing.assert_close(Dirichlet(alpha).log_prob(x).double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [(0.2, 0.5, 1.3), (3.0, 7.9, 20.0)])
@pytest.mark.parametrize("cls", [Dirichlet, pre.distributions.LogDirichlet])
def test_second_derivatives(cls, alpha):
    """Against differences of the first ones along the path on which a draw moves."""
    alpha = torch.tensor(alpha, dtype=torch.float64)
    value = cls(alpha).sample()

    def velocity(value, alpha):
        leaf = alpha.detach().requires_grad_()
        return leaf, torch.stack(
            [
                torch.autograd.grad(x, leaf, create_graph=True)[0]
                for x in pathwise_at(cls(leaf), value.detach()).unbind(-1)
            ]
        )

    leaf, first = velocity(value, alpha)
    second = torch.stack(
        [torch.autograd.grad(v, leaf, retain_graph=True)[0] for v in first.flatten()]
    ).reshape(3, 3, 3)
    step = 1e-5
    for j in range(3):
        unit = step * torch.eye(3, dtype=torch.float64)[j]
        ends = [velocity(value + s * step * first[:, j], alpha + s * unit)[1] for s in (1, -1)]
        numerical = (ends[0] - ends[1]).detach() / (2 * step)
        scale = float(numerical.abs().max())
        torch.testing.assert_close(second[..., j], numerical, rtol=1e-6, atol=1e-6 * scale)


def test_mode_in_a_corner():
    """That of the largest concentration where none is above 1; torch's is the first one."""
    alpha = torch.tensor([[0.2, 0.9, 0.5], [0.2, 3.0, 2.0], [0.1, 0.2, 1.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 2 / 3, 1 / 3], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(Dirichlet(alpha).mode, expected)

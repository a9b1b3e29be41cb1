"""Wishart: its three parametrisations, draws in float32, moments and KL against torch's."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

from pyro_reparam_ext.distributions import Wishart

from ..statistics import assert_mean
from .families.matrices import FACTOR, SCALE

DOUBLE = torch.float64
MATRICES = {
    "scale_tril": torch.tensor(FACTOR, dtype=DOUBLE),
    "covariance_matrix": torch.tensor(SCALE, dtype=DOUBLE),
    "precision_matrix": torch.linalg.inv(torch.tensor(SCALE, dtype=DOUBLE)),
}
DF = torch.tensor([5.5, 9.0], dtype=DOUBLE)


@pytest.mark.parametrize("name", MATRICES)
def test_parametrisations(name):
    fn = Wishart(DF, **{name: MATRICES[name]}, validate_args=True)
    reference = dist.Wishart(DF, covariance_matrix=MATRICES["covariance_matrix"])
    assert isinstance(fn, dist.Wishart)
    value = fn.sample((4,))
    torch.testing.assert_close(fn.log_prob(value), reference.log_prob(value))
    for attribute in (*MATRICES, "mean", "mode", "variance"):
        torch.testing.assert_close(getattr(fn, attribute), getattr(reference, attribute))
    torch.testing.assert_close(fn.entropy(), reference.entropy())
    wider = fn.expand((3, 2))
    assert getattr(wider, name).shape == (3, 2, 3, 3)
    torch.testing.assert_close(wider.variance, fn.variance.expand(3, 2, 3, 3))


def test_gradient_in_the_precision():
    """E[X] = df P^-1, so d tr E[X] / dP = -df P^-2."""
    precision = MATRICES["precision_matrix"].expand(20_000, 3, 3).clone().requires_grad_()
    value = Wishart(torch.tensor(6.0, dtype=DOUBLE), precision_matrix=precision).rsample()
    trace = value.diagonal(dim1=-2, dim2=-1).sum()
    (gradient,) = torch.autograd.grad(trace, precision)
    scale = MATRICES["covariance_matrix"]
    assert_mean(gradient.flatten(1), (-6 * scale @ scale).flatten())


def test_velocity_of_one_dimension():
    """A chi-squared variable."""
    df = torch.full((100,), 2.5, dtype=DOUBLE, requires_grad=True)
    value = Wishart(df, scale_tril=torch.full((1, 1), 1.5, dtype=DOUBLE)).rsample()[:, 0, 0]
    (gradient,) = torch.autograd.grad(value.sum(), df)
    x = value.detach().numpy() / 2.25
    slope = (stats.chi2(2.5 + 1e-5).cdf(x) - stats.chi2(2.5 - 1e-5).cdf(x)) / 2e-5
    np.testing.assert_allclose(gradient.numpy(), -2.25 * slope / stats.chi2(2.5).pdf(x), rtol=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 10, 50])
@pytest.mark.parametrize("excess", [1e-3, 0.5, 100.0])
def test_draws_are_positive_definite_in_float32(dim, excess):
    df = torch.full((100,), dim - 1 + excess, requires_grad=True)
    fn = Wishart(df, scale_tril=torch.eye(dim))
    value = fn.rsample()
    assert fn.support.check(value).all()
    assert fn.log_prob(value.detach()).isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), df)
    assert gradient.isfinite().all()


def test_backward_again_and_for_a_sample_shape():
    leaf = MATRICES["covariance_matrix"].clone().requires_grad_()
    fn = Wishart(torch.tensor(5.0, dtype=DOUBLE), covariance_matrix=leaf)
    for _ in range(2):
        fn.rsample((3,)).sum().backward()
        fn.log_prob(fn.sample()).backward()
        fn.mean.sum().backward()
    assert leaf.grad.isfinite().all()


def test_what_is_above_the_diagonal_does_not_count():
    full = MATRICES["scale_tril"] + torch.ones(3, 3, dtype=DOUBLE).triu(1)
    df = torch.tensor(5.0, dtype=DOUBLE)
    ours, theirs = (
        Wishart(df, scale_tril=x, validate_args=False) for x in (full, MATRICES["scale_tril"])
    )
    value = theirs.sample()
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))
    torch.testing.assert_close(ours.mean, theirs.mean)


def test_mode_is_nan_where_there_is_none():
    fn = Wishart(torch.tensor([2.5, 5.0]), scale_tril=torch.eye(3))
    assert fn.mode[0].isnan().all() and fn.mode[1].isfinite().all()
    assert fn.df[0] == 2.5


def test_kl_divergence():
    other = torch.tensor([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [0.1, -0.2, 0.6]], dtype=DOUBLE)
    pairs = [
        (torch.tensor(5.5, dtype=DOUBLE), MATRICES["scale_tril"]),
        (torch.tensor(8.0, dtype=DOUBLE), other),
    ]
    theirs = [dist.Wishart(df, scale_tril=x) for df, x in pairs]
    ours = [Wishart(df, scale_tril=x) for df, x in pairs]
    for p, q in ((0, 1), (1, 0)):
        exact = kl_divergence(theirs[p], theirs[q])
        for a, b in ((ours, ours), (ours, theirs), (theirs, ours)):
            torch.testing.assert_close(kl_divergence(a[p], b[q]), exact)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Wishart(3.0), "Exactly one"),
        (lambda: Wishart(3.0, torch.eye(2), torch.eye(2)), "Exactly one"),
        (lambda: Wishart(3.0, torch.ones(2)), "matrix"),
        (lambda: Wishart(1.0, torch.eye(3), validate_args=True), "df"),
        (lambda: Wishart(4.0, -torch.eye(3), validate_args=True), "covariance_matrix"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()

"""InverseWishart: both parametrisations, moments, draws in float32 and KL."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import InverseGamma, kl_divergence

from pyro_reparam_ext.distributions import InverseWishart, Wishart

from ..statistics import assert_mean
from .families.matrices import FACTOR, SCALE

DOUBLE = torch.float64
TRIL, MATRIX = torch.tensor(FACTOR, dtype=DOUBLE), torch.tensor(SCALE, dtype=DOUBLE)


def test_moments_and_entropy():
    df = torch.tensor(15.0, dtype=DOUBLE)
    for fn in (InverseWishart(df, MATRIX), InverseWishart(df, scale_tril=TRIL)):
        value = fn.sample((20_000,))
        assert_mean(value.flatten(1), fn.mean.flatten())
        assert_mean((value - fn.mean).square().flatten(1), fn.variance.flatten())
        assert_mean(-fn.log_prob(value)[:, None], fn.entropy()[None])
        torch.testing.assert_close(fn.scale_matrix, MATRIX)
        torch.testing.assert_close(fn.scale_tril, TRIL)
        law = stats.invwishart(15, MATRIX.numpy())
        np.testing.assert_allclose(fn.mean, law.mean())
        np.testing.assert_allclose(fn.mode, law.mode())
        np.testing.assert_allclose(fn.variance, law.var())


def test_moments_are_nan_where_there_are_none():
    fn = InverseWishart(torch.tensor([3.5, 5.0, 7.0]), scale_tril=torch.eye(3))
    assert fn.mean.isnan().flatten(1).all(1).tolist() == [True, False, False]
    assert fn.variance.isnan().flatten(1).all(1).tolist() == [True, True, False]


def test_gradient_of_the_mean():
    df = torch.full((20_000,), 14.0, dtype=DOUBLE, requires_grad=True)
    value = InverseWishart(df, MATRIX).rsample()
    (gradient,) = torch.autograd.grad(value[:, 0, 1].sum(), df)
    assert_mean(gradient[:, None], -MATRIX[0, 1:2] / 100)


def test_one_dimension_is_the_inverse_gamma():
    df = torch.full((100,), 2.5, dtype=DOUBLE, requires_grad=True)
    fn = InverseWishart(df, torch.full((1, 1), 3.0, dtype=DOUBLE))
    value = fn.rsample()
    reference = InverseGamma(1.25, torch.tensor(1.5, dtype=DOUBLE))
    torch.testing.assert_close(fn.log_prob(value), reference.log_prob(value[:, 0, 0]))
    (gradient,) = torch.autograd.grad(value.sum(), df)
    x = value.detach().numpy()[:, 0, 0]
    law = lambda shift: stats.invgamma(1.25 + shift, scale=1.5)  # noqa: E731
    slope = (law(1e-5).cdf(x) - law(-1e-5).cdf(x)) / 4e-5
    np.testing.assert_allclose(gradient.numpy(), -slope / law(0).pdf(x), rtol=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 10, 50])
@pytest.mark.parametrize("excess", [0.01, 0.5, 100.0])
def test_draws_are_positive_definite_in_float32(dim, excess):
    df = torch.full((100,), dim - 1 + excess, requires_grad=True)
    fn = InverseWishart(df, scale_tril=torch.eye(dim))
    value = fn.rsample()
    assert value.isfinite().all()
    assert fn.support.check(value).all()
    (gradient,) = torch.autograd.grad(value.sum(), df)
    assert gradient.isfinite().all()


def test_kl_divergence_is_that_of_the_inverses():
    other = torch.tensor([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [0.1, -0.2, 0.6]], dtype=DOUBLE)
    pairs = [(torch.tensor(5.5, dtype=DOUBLE), TRIL), (torch.tensor(8.0, dtype=DOUBLE), other)]
    p, q = (InverseWishart(df, scale_tril=x) for df, x in pairs)
    inverse_p, inverse_q = (Wishart(df, precision_matrix=x @ x.mT) for df, x in pairs)
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(inverse_p, inverse_q))
    value = p.sample((20_000,))
    assert_mean((p.log_prob(value) - q.log_prob(value))[:, None], kl_divergence(p, q)[None])


def test_backward_again():
    leaf = MATRIX.clone().requires_grad_()
    fn = InverseWishart(torch.tensor(9.0, dtype=DOUBLE), leaf)
    for _ in range(2):
        fn.rsample((3,)).sum().backward()
        fn.log_prob(fn.sample()).backward()
        fn.variance.sum().backward()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: InverseWishart(3.0), "Exactly one"),
        (lambda: InverseWishart(3.0, torch.eye(2), torch.eye(2)), "Exactly one"),
        (lambda: InverseWishart(3.0, torch.ones(2)), "matrix"),
        (lambda: InverseWishart(1.0, torch.eye(3), validate_args=True), "df"),
        (lambda: InverseWishart(4.0, -torch.eye(3), validate_args=True), "scale_matrix"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_constraints_are_known_of_the_class():
    assert set(InverseWishart.arg_constraints) == {"df", "scale_matrix", "scale_tril"}
    one = InverseWishart(9.0, scale_tril=TRIL)
    for fn in (one, one.expand((3,))):
        assert set(fn.arg_constraints) == {"df", "scale_tril"}
        assert fn.arg_constraints["df"].lower_bound == TRIL.shape[-1] - 1

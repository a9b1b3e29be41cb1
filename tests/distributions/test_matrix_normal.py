"""The matrix normal law against the multivariate normal one with the Kronecker product."""

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.func import jacrev

from pyro_reparam_ext.distributions import MatrixNormal

from ..statistics import assert_mean

ROWS, COLUMNS = 3, 2


def parameters(*batch):
    def tril(size):
        x = torch.randn(*batch, size, size, dtype=torch.float64)
        return x.tril(-1) + torch.diag_embed(x.diagonal(dim1=-2, dim2=-1).exp())

    loc = torch.randn(*batch, ROWS, COLUMNS, dtype=torch.float64)
    return loc, tril(ROWS), tril(COLUMNS)


def oracle(loc, row_tril, column_tril):
    return MultivariateNormal(loc.flatten(), scale_tril=torch.kron(row_tril, column_tril))


def test_density_entropy_and_moments():
    given = parameters()
    law, expected = MatrixNormal(*given), oracle(*given)
    value = torch.randn(4, ROWS, COLUMNS, dtype=torch.float64)
    torch.testing.assert_close(law.log_prob(value), expected.log_prob(value.flatten(1)))
    torch.testing.assert_close(law.entropy(), expected.entropy())
    torch.testing.assert_close(law.mean.flatten(), expected.mean)
    torch.testing.assert_close(law.variance.flatten(), expected.variance)


@pytest.mark.parametrize("argnum", range(3))
def test_gradient_of_the_density(argnum):
    given = parameters()
    value = torch.randn(ROWS, COLUMNS, dtype=torch.float64)

    def ours(*given):
        return MatrixNormal(*given, validate_args=False).log_prob(value)

    def theirs(loc, row_tril, column_tril):
        scale_tril = torch.kron(row_tril, column_tril)
        law = MultivariateNormal(loc.flatten(), scale_tril=scale_tril, validate_args=False)
        return law.log_prob(value.flatten())

    # Above the diagonal a factor is not read.
    ours, theirs = (jacrev(f, argnum)(*given) for f in (ours, theirs))
    torch.testing.assert_close(*((x if argnum == 0 else x.tril()) for x in (ours, theirs)))


def test_covariance_of_samples():
    given = parameters()
    centred = (MatrixNormal(*given).rsample((40_000,)) - given[0]).flatten(1)
    products = centred[:, :, None] * centred[:, None]
    assert_mean(products.flatten(1), oracle(*given).covariance_matrix.flatten())


def test_batches():
    """Each matrix of a batch has its own law, expanded or not."""
    loc, row_tril, column_tril = parameters(4)
    law = MatrixNormal(loc, row_tril[0], column_tril)
    assert law.batch_shape == (4,)
    value = law.expand((5, 4)).rsample((2,))
    assert value.shape == (2, 5, 4, ROWS, COLUMNS)
    expected = torch.stack(
        [
            oracle(loc[i], row_tril[0], column_tril[i]).log_prob(value[..., i, :, :].flatten(-2))
            for i in range(4)
        ],
        -1,
    )
    torch.testing.assert_close(law.log_prob(value), expected)


def test_a_sample_moves_with_the_parameters():
    given = [x.requires_grad_() for x in parameters()]
    law = MatrixNormal(*given)
    value = law.rsample()
    direct = torch.autograd.grad(value.sin().sum(), given)
    again = torch.autograd.grad(law._at(value.detach()).sin().sum(), given)
    torch.testing.assert_close(again, direct)


def test_shapes_that_do_not_fit():
    loc, row_tril, column_tril = parameters()
    with pytest.raises(ValueError, match=r"loc is 3 by 2, but row_tril has the shape \(2, 2\)"):
        MatrixNormal(loc, column_tril, row_tril)

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import CholeskyReparam

DIM = 3


def symmetric():
    tril = torch.tensor([[1.2, 0.0, 0.0], [0.3, 0.8, 0.0], [-0.5, 0.4, 1.5]], dtype=torch.float64)
    return (tril @ tril.mT).requires_grad_()


def loc():
    return torch.arange(12, dtype=torch.float64).reshape(4, DIM).requires_grad_()


def tril_of(matrix):
    return torch.linalg.cholesky(matrix)


def factor():
    return torch.tensor([[1.0], [0.5], [-0.7]], dtype=torch.float64, requires_grad=True)


def diagonal():
    return torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)


FAMILIES = {
    "covariance": (lambda a, m: dist.MultivariateNormal(a, covariance_matrix=m), [loc, symmetric]),
    "precision": (lambda a, m: dist.MultivariateNormal(a, precision_matrix=m), [loc, symmetric]),
    "scale_tril": (lambda a, m: dist.MultivariateNormal(a, scale_tril=tril_of(m)), [loc, symmetric]),
    "low rank": (dist.LowRankMultivariateNormal, [loc, factor, diagonal]),
    "student": (
        lambda a, m, d: dist.MultivariateStudentT(d, a, tril_of(m)),
        [loc, symmetric, lambda: torch.full((4,), 3.0, dtype=torch.float64, requires_grad=True)],
    ),
}


def made(name):
    make, parts = FAMILIES[name]
    leaves = [part() for part in parts]
    return make(*leaves), leaves


@pytest.mark.parametrize("name", FAMILIES)
def test_identities(name):
    fn, leaves = made(name)
    reparam = CholeskyReparam()
    reparam.check("x", fn)
    noise_fn = reparam.noise(fn)
    assert noise_fn.batch_shape == (4,) and noise_fn.event_shape == (DIM,)
    noise = noise_fn.sample()
    x = reparam.forward(fn, noise)
    torch.testing.assert_close(reparam.inverse(fn, x), noise)

    jacobian = torch.autograd.functional.jacobian(lambda e: reparam.forward(fn, e).sum(0), noise)
    log_abs_det = reparam.log_abs_det(fn, noise)
    torch.testing.assert_close(log_abs_det, jacobian.permute(1, 0, 2).slogdet().logabsdet)

    log_prob = noise_fn.log_prob(noise) - log_abs_det
    torch.testing.assert_close(log_prob, fn.log_prob(x))
    options = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
    one = torch.autograd.grad(log_prob.sum(), leaves, **options)
    other = torch.autograd.grad(fn.log_prob(x).sum(), leaves, **options)
    for g, h in zip(one, other, strict=True):
        torch.testing.assert_close(g, h)


def test_noise_is_white():
    fn, _ = made("covariance")
    noise = CholeskyReparam().noise(fn)
    assert isinstance(noise.base_dist, dist.Normal) and noise.reinterpreted_batch_ndims == 1
    assert torch.equal(noise.mean, torch.zeros(4, DIM).double())
    assert torch.equal(noise.variance, torch.ones(4, DIM).double())

    student, leaves = made("student")
    noise = CholeskyReparam().noise(student)
    assert isinstance(noise, dist.MultivariateStudentT)
    assert torch.equal(noise.df, leaves[2]) and torch.equal(noise.loc, torch.zeros(4, DIM).double())
    assert torch.equal(noise.scale_tril, torch.eye(DIM).double().expand(4, DIM, DIM))


@pytest.mark.parametrize("name", FAMILIES)
def test_expanded_batches(name):
    fn, _ = made(name)
    reparam = CholeskyReparam()
    expanded = fn.expand([5, 4])
    noise = reparam.noise(expanded).sample()
    rows = [reparam.forward(fn, e) for e in noise]
    torch.testing.assert_close(reparam.forward(expanded, noise), torch.stack(rows))
    assert reparam.log_abs_det(expanded, noise).shape == (5, 4)


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(0.0, 1.0),
        dist.Normal(torch.zeros(2), 1.0).to_event(1),
        dist.Dirichlet(torch.ones(3)),
        dist.TransformedDistribution(
            dist.MultivariateNormal(torch.zeros(2), torch.eye(2)), dist.transforms.ExpTransform()
        ),
    ],
    ids=lambda fn: type(fn).__name__,
)
def test_refuses(fn):
    program = poutine.reparam(lambda: pyro.sample("x", fn), config={"x": CholeskyReparam()})
    match = "site 'x': CholeskyReparam was given .*MultivariateNormal, .*StandardizeReparam"
    with pytest.raises(pre.EstimatorError, match=match):
        program()

"""MixtureOfDiagNormals beside Pyro's class, and its special cases."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.distributions import (
    MixtureOfDiagNormals,
    MixtureOfDiagNormalsSharedCovariance,
    MixtureSameFamily,
    pathwise_at,
)

from ..statistics import LEVEL, assert_mean, p_value

# Two components on a line that does not pass through 0: there the logits' gradient of Pyro's classes is
# biased.
LOCS = torch.tensor([[1.0, 3.0], [2.0, 3.0]], dtype=torch.float64)
LOGITS = torch.tensor([0.3, -0.3], dtype=torch.float64)
PAIRS = {
    "full": (MixtureOfDiagNormals, dist.MixtureOfDiagNormals, torch.ones(2, 2)),
    "shared": (
        MixtureOfDiagNormalsSharedCovariance,
        dist.MixtureOfDiagNormalsSharedCovariance,
        torch.ones(2),
    ),
}
each_pair = pytest.mark.parametrize("name", PAIRS)


def objective(x):
    return (x[..., 0] + x[..., 1]).cos()


def exact():
    """d E[objective] / d logits, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = torch.as_tensor(np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1))
    weights = torch.as_tensor(np.outer(weights, weights) / weights.sum() ** 2)
    given = torch.stack([(weights * objective(loc + grid)).sum() for loc in LOCS])
    probs = LOGITS.softmax(-1)
    return probs * (given - (probs * given).sum())


def gradients(cls, scale, draws):
    scale = scale.double()
    logits = LOGITS.expand(draws, 2).clone().requires_grad_()
    fn = cls(LOCS.expand(draws, 2, 2), scale.expand((draws,) + scale.shape), logits)
    return torch.autograd.grad(objective(fn.rsample()).sum(), logits)[0]


@each_pair
def test_the_gradient_in_the_logits_is_unbiased_at_a_hundredth_of_the_variance(name):
    ours, theirs, scale = PAIRS[name]
    rows, other = gradients(ours, scale, 100_000), gradients(theirs, scale, 100_000)
    assert_mean(rows, exact())
    assert p_value(other, exact()) < LEVEL
    assert (rows.var(0) <= other.var(0) / 100).all()


@each_pair
def test_the_same_distribution_as_in_pyro(name):
    ours, theirs, scale = PAIRS[name]
    locs, logits = torch.randn(4, 3, 5), torch.randn(4, 3)
    scale = torch.rand((4, 3, 5) if name == "full" else (4, 5)) + 0.5
    one, two = ours(locs, scale, logits), theirs(locs, scale, logits)
    assert not isinstance(one, theirs)
    assert (one.batch_shape, one.event_shape) == (two.batch_shape, two.event_shape)
    value = one.rsample()
    assert value.shape == two.rsample().shape
    value = one.sample((6,))  # Pyro's can't draw several of a batch
    torch.testing.assert_close(one.log_prob(value), two.log_prob(value))
    torch.testing.assert_close(one.probs, two.probs)
    torch.testing.assert_close(one.categorical.logits, two.categorical.logits)
    assert one.dim == two.dim


def test_agrees_with_the_general_class():
    leaves = [torch.randn(4, 3, 5), torch.rand(4, 3, 5) + 0.5, torch.randn(4, 3)]
    leaves = [x.double().requires_grad_() for x in leaves]
    locs, scale, logits = leaves
    fn = MixtureOfDiagNormals(*leaves)
    general = MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(locs, scale).to_event(1))
    value = fn.sample((6,))
    torch.testing.assert_close(fn.mean, general.mean)
    torch.testing.assert_close(fn.variance, general.variance)
    torch.testing.assert_close(fn.log_prob(value), general.log_prob(value))
    one, two = (
        torch.autograd.grad(pathwise_at(f, value).square().sum(), leaves) for f in (fn, general)
    )
    torch.testing.assert_close(one, two)


def test_the_shared_covariance_is_that_of_equal_scales():
    leaves = [torch.randn(3, 5), torch.rand(5) + 0.5, torch.randn(3)]
    locs, scale, logits = (x.double().requires_grad_() for x in leaves)
    shared = MixtureOfDiagNormalsSharedCovariance(locs, scale, logits)
    full = MixtureOfDiagNormals(locs, scale.expand(3, 5), logits)
    value = shared.sample((6,))
    torch.testing.assert_close(shared.variance, full.variance)
    one, two = (
        torch.autograd.grad(pathwise_at(f, value).square().sum(), (locs, scale, logits))
        for f in (shared, full)
    )
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("dim", [1, 784])
def test_one_and_many_coordinates(dim):
    locs, scale = torch.randn(8, 10, dim), torch.rand(8, 10, dim) + 0.5
    leaves = [x.requires_grad_() for x in (locs, scale, torch.randn(8, 10))]
    gradients = torch.autograd.grad(MixtureOfDiagNormals(*leaves).rsample().sum(), leaves)
    assert all(g.isfinite().all() for g in gradients)


def test_float32_keeps_the_precision_of_many_coordinates():
    leaves = [0.3 * torch.randn(4, 3, 200), torch.rand(4, 3, 200) + 0.5, torch.randn(4, 3)]
    value = MixtureOfDiagNormals(*leaves).sample()

    def gradients(dtype):
        given = [x.to(dtype).detach().requires_grad_() for x in leaves]
        moved = pathwise_at(MixtureOfDiagNormals(*given), value.to(dtype))
        return torch.autograd.grad(moved.sum(), given)

    for single, double in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        error = (single.double() - double).norm() / double.norm()
        assert error < 1e-4


@pytest.mark.parametrize(
    ("cls", "shapes", "match"),
    [
        (MixtureOfDiagNormals, ((3, 2), (3, 1), (3,)), "coord_scale"),
        (MixtureOfDiagNormals, ((3, 2), (3, 2), (2,)), "component_logits"),
        (MixtureOfDiagNormalsSharedCovariance, ((3, 2), (3,), (3,)), "coord_scale"),
    ],
)
def test_errors(cls, shapes, match):
    with pytest.raises(ValueError, match=match):
        cls(*(torch.ones(shape) for shape in shapes))


def test_a_second_derivative_raises():
    locs = torch.randn(2, 3, requires_grad=True)
    value = MixtureOfDiagNormals(locs, torch.ones(2, 3), torch.zeros(2)).rsample()
    (gradient,) = torch.autograd.grad(value.square().sum(), locs, create_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        gradient.sum().backward()

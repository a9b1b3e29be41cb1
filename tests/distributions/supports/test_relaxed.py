import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch.distributions import biject_to, transform_to

from pyro_reparam_ext.distributions import RelaxedBernoulli, RelaxedOneHotCategorical
from pyro_reparam_ext.distributions.supports.relaxed import edge_of, floor_of

from ...statistics import assert_mean

LOGITS = torch.tensor([0.5, -0.3, 1.0])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def relaxed(family, temperature, **options):
    if family == "binary":
        return RelaxedBernoulli(temperature, logits=LOGITS[0], **options)
    return RelaxedOneHotCategorical(temperature, logits=LOGITS, **options)


families = pytest.mark.parametrize("family", ["binary", "one-hot"])


@families
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_unconstrained_density_integrates_to_one(family, temperature):
    fn = relaxed(family, temperature)
    proposal = dist.Cauchy(0.0, 10.0).expand([1 if family == "binary" else 2]).to_event(1)
    x = proposal.sample((200_000,))
    log_proposal = proposal.log_prob(x)
    x = x.squeeze(-1) if family == "binary" else x
    transform = biject_to(fn.support)
    y = transform(x)
    log_weights = fn.log_prob(y) + transform.log_abs_det_jacobian(x, y) - log_proposal
    assert_mean(log_weights.exp().unsqueeze(-1), torch.ones(1))


@families
def test_jacobian_within(family):
    transform = biject_to(relaxed(family, 1.0).support)
    x = torch.tensor(0.7 if family == "binary" else [0.7, -1.3], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(transform, x)
    rows = jacobian[:-1] if x.dim() else jacobian.reshape(1, 1)
    actual = transform.log_abs_det_jacobian(x, transform(x))
    torch.testing.assert_close(actual, torch.linalg.slogdet(rows).logabsdet)


@families
@DTYPES
def test_far_points(family, dtype):
    """Values, Jacobians and their gradients stay finite, and come back as they are."""
    fn = relaxed(family, torch.tensor(0.05, dtype=dtype), validate_args=True)
    transform = biject_to(fn.support)
    far = torch.tensor([-1e4, -80.0, 0.0, 80.0, 1e4], dtype=dtype)
    x = far if family == "binary" else torch.cartesian_prod(far, far)
    x = x.clone().requires_grad_()
    y = transform(x)
    score = fn.log_prob(y) + transform.log_abs_det_jacobian(x, y)
    assert score.isfinite().all()
    assert torch.autograd.grad(score.sum(), x)[0].isfinite().all()
    assert transform.inv(y).isfinite().all()
    torch.testing.assert_close(transform(transform.inv(y)), y, rtol=1e-3, atol=1e-6)


@DTYPES
def test_ends_are_exact_in_either_dtype(dtype):
    edge, floor = edge_of(dtype), floor_of(dtype)
    for number in (edge, 1 - edge, floor):
        assert torch.tensor(number, dtype=dtype).item() == number
    assert math.isfinite(1 / torch.tensor(floor, dtype=dtype).item())


def test_check():
    simplex = relaxed("one-hot", 1.0).support
    values = torch.tensor([[0.2, 0.8], [0.2, 0.81], [-0.1, 1.1], [float("nan"), 1.0]])
    assert simplex.check(values).tolist() == [True, False, False, False]
    many = torch.full((100_000,), 1e-5) * (1 + 1e-5)
    assert simplex.check(many)
    interval = relaxed("binary", 1.0).support
    assert interval.check(torch.tensor([0.0, 1.0, 1.1, float("nan")])).tolist() == [
        True,
        True,
        False,
        False,
    ]


@families
def test_softmax_and_its_inverse(family):
    fn = relaxed(family, 0.05)
    transform = transform_to(fn.support)
    value = fn.sample((20,))
    torch.testing.assert_close(transform(transform.inv(value)), value, rtol=1e-4, atol=1e-6)


@families
@pytest.mark.parametrize("make", [AutoNormal, AutoDelta])
def test_autoguides(family, make):
    """In float32, where most draws of the prior are censored."""

    def model():
        with pyro.plate("items", 4):
            y = pyro.sample("y", relaxed(family, torch.tensor(0.05)))
            centre = y if family == "binary" else y[..., 0]
            pyro.sample("x", dist.Normal(centre, 0.1), obs=torch.tensor([0.0, 1.0, 0.5, 1.0]))

    guide = make(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.3}), Trace_ELBO(num_particles=2))
    losses = torch.tensor([svi.step() for _ in range(30)])
    assert losses.isfinite().all()
    assert losses[-10:].mean() < losses[:10].mean()
    assert all(p.isfinite().all() for p in guide.parameters())
    y = guide()["y"]
    centre = y if family == "binary" else y[..., 0]
    assert relaxed(family, 0.05).support.check(y).all()
    assert centre[0] < centre[1]

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..statistics import assert_mean
from .hard import LOGITS, bernoulli_slope, far_towards, one_hot_jacobian, slope_of_softmax

GENERATOR = torch.Generator().manual_seed(5)
HESSIAN = torch.randn(4, 4, generator=GENERATOR, dtype=torch.float64)
LINEAR = torch.randn(4, generator=GENERATOR, dtype=torch.float64)


def quadratic(z: Tensor) -> Tensor:
    return z @ HESSIAN @ z + LINEAR @ z


def cubic(z: Tensor) -> Tensor:
    return quadratic(z) + (LINEAR @ z) ** 3


@pytest.mark.parametrize("temperature", [1.0, 1.4])
def test_formula(temperature):
    """``2 J((softmax(l / T) + b) / 2) - J(softmax(l)) / 2``."""
    law, cooled = LOGITS.softmax(-1), (LOGITS / temperature).softmax(-1)
    for index in range(4):
        noise = far_towards(index)
        hard = torch.eye(4, dtype=torch.float64)[index]
        expected = 2 * slope_of_softmax((cooled + hard) / 2) - slope_of_softmax(law) / 2
        found = one_hot_jacobian(pre.ReinMax(temperature), noise)
        torch.testing.assert_close(found, expected)


def test_formula_of_a_bernoulli_variable():
    """Half the probability of the other value, without loss of digits near 0 and 1."""
    logits = torch.tensor([-13.8, -1.0, 0.4, 13.8])
    for noise, other in ((40.0, -logits), (-40.0, logits)):
        found = bernoulli_slope(pre.ReinMax(), logits, torch.full((4,), noise))
        torch.testing.assert_close(found, other.sigmoid() / 2, rtol=1e-5, atol=0)


def mean_of_gradient(estimator, f) -> tuple[Tensor, Tensor]:
    """By all classes: that of the estimator, and the exact one."""
    law, classes = LOGITS.softmax(-1), torch.eye(4, dtype=torch.float64)
    mean = sum(
        law[k]
        * torch.autograd.functional.jacobian(f, classes[k])
        @ one_hot_jacobian(estimator, far_towards(k))
        for k in range(4)
    )
    return mean, torch.stack([f(z) for z in classes]) @ slope_of_softmax(law)


def test_exact_where_the_cost_is_quadratic():
    torch.testing.assert_close(*mean_of_gradient(pre.ReinMax(), quadratic))


@pytest.mark.parametrize(
    "estimator, f",
    [(pre.ReinMax(), cubic), (pre.ReinMax(1.4), quadratic), (pre.StraightThrough(), quadratic)],
    ids=["cubic cost", "another temperature", "first order"],
)
def test_inexact_elsewhere(estimator, f):
    mean, exact = mean_of_gradient(estimator, f)
    assert (mean - exact).norm() > 0.05 * exact.norm()


def test_elbo_of_a_gaussian_likelihood_is_unbiased():
    """Its costs are quadratic in each of two one-hot vectors and three bits, and linear in KL terms."""
    weight = torch.randn(11, generator=GENERATOR, dtype=torch.float64)

    def sample(h: Tensor) -> Tensor:
        k = pyro.sample("k", dist.OneHotCategorical(logits=h[:8].reshape(2, 4)).to_event(1))
        b = pyro.sample("b", dist.Bernoulli(logits=h[8:]).to_event(1))
        return torch.cat([k.flatten(-2), b], -1)

    def model():
        z = sample(torch.zeros(11, dtype=torch.float64))
        pyro.sample("y", dist.Normal((z * weight).sum(-1), 0.5), obs=torch.tensor(0.7).double())

    def guide():
        sample(pyro.param("h", weight.flip(0)))

    exact_elbo = pre.TraceEstimator_ELBO(pre.Enumeration(), vectorize_particles="vmap")
    exact = gradients(exact_elbo, model, guide, ["h"], 1)[0]
    elbo = pre.TraceEstimator_ELBO(pre.ReinMax(), num_particles=500, vectorize_particles="vmap")
    assert_mean(gradients(elbo, model, guide, ["h"], 30), exact)


def test_a_parameter_is_refused():
    with pytest.raises(pre.EstimatorError, match="ReinMax: temperature can't be learned"):
        pre.ReinMax(torch.nn.Parameter(torch.tensor(1.0)))

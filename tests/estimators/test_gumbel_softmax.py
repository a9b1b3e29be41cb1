import pytest
import torch
from torch.nn.functional import logsigmoid

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.relaxation import linear_log_prob, relaxed_log_prob

from ..families import FAMILIES, ONE_HOT
from ..sampling import gradients
from ..statistics import assert_mean
from . import relaxed


def expected(temperature, score):
    """Loss and gradient of the relaxed problem, by quadrature.

    With the discrete score the guide's density is held fixed in its parameters.
    """
    logit, weight = relaxed.parameters()
    noise, probability = relaxed.logistic_quadrature()
    x = (logit + noise) / temperature
    y = x.sigmoid()
    if score == "discrete":
        cost = relaxed.cost(y, logit.detach(), weight)
    else:

        def log_density(location):
            d = location - temperature * x
            return logsigmoid(d) + logsigmoid(-d)

        prior = torch.tensor(relaxed.PRIOR, dtype=torch.float64)
        cost = log_density(logit) - log_density(prior) - relaxed.log_likelihood(y, weight)
    return relaxed.mean_and_gradient((probability * cost).sum(), logit, weight)


@pytest.mark.parametrize("score", ["relaxed", "discrete"])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_mean_of_gradient(temperature, score):
    estimator = pre.GumbelSoftmax(temperature, score)
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=2000)
    samples = gradients(elbo, relaxed.model, relaxed.guide, relaxed.NAMES, 25)
    assert_mean(samples, expected(temperature, score))


def test_bias_vanishes_with_the_temperature():
    biases = [
        (expected(temperature, "discrete") - relaxed.exact())[1:].norm()
        for temperature in (1.0, 0.3, 0.1, 0.03)
    ]
    assert biases == sorted(biases, reverse=True)
    assert biases[-1] < 0.1 * biases[0]


@pytest.mark.parametrize("family", ["Bernoulli", *ONE_HOT])
def test_linear_score_equals_the_discrete_one_at_vertices(family):
    family = FAMILIES[family]
    theta = torch.randn(family.size, dtype=torch.float64)
    values, weights = family.expect(theta)
    fn = family.make(theta)
    base = fn.base_dist if family.name.endswith("event") else fn
    actual = linear_log_prob(base, values)
    actual = actual.sum(-1) if family.name.endswith("event") else actual
    torch.testing.assert_close(actual, weights.log())


def test_relaxed_density_integrates_to_one():
    import pyro.distributions as dist

    x = torch.linspace(-60, 60, 100_001, dtype=torch.float64)
    base = dist.Bernoulli(logits=torch.tensor(0.7, dtype=torch.float64))
    density = relaxed_log_prob(base, x, 0.5).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1.0, abs=1e-8)


def test_model_of_another_kind_cannot_score_a_relaxed_value():
    import pyro
    import pyro.distributions as dist

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    elbo = pre.TraceEstimator_ELBO(pre.GumbelSoftmax(0.5))
    with pytest.raises(pre.EstimatorError, match="'z'.*score"):
        elbo.loss_and_grads(model, relaxed.guide)


def test_learned_temperature_is_trained():
    import pyro

    temperature = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    elbo = pre.TraceEstimator_ELBO({"z": pre.GumbelSoftmax(temperature)})
    svi = pyro.infer.SVI(relaxed.model, relaxed.guide, pyro.optim.SGD({"lr": 0.01}), elbo)
    svi.step()
    assert temperature.item() != 0.5

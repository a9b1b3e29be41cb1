import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence
from torch.nn.functional import logsigmoid

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import RelaxedBernoulli, pathwise_at
from pyro_reparam_ext.distributions.supports.relaxed import edge_of
from pyro_reparam_ext.numerics.relaxation import bernoulli_linear, hard_bernoulli

from ..statistics import assert_mean
from .censored import binary_points, expected, log_weights, pathwise

F64 = torch.float64


def double(x):
    return torch.tensor(x, dtype=F64)


def end_of(dtype):
    return -math.log(edge_of(dtype))


def parameters(temperature, dtype, count=None):
    """Of a guide and of a model at another temperature."""
    values = (temperature, 0.7, 1.3 * temperature, -0.4)
    shape = () if count is None else (count,)
    return [torch.full(shape, x, dtype=dtype, requires_grad=True) for x in values]


def pair(t, logits, s, others):
    return RelaxedBernoulli(t, logits=logits), RelaxedBernoulli(s, logits=others)


def exact_divergence(temperature, dtype):
    """E[log q - log p] of the censored laws and its gradient in all parameters."""
    given = parameters(temperature, dtype)
    q, p = pair(*given)
    points = binary_points(temperature, end_of(dtype))
    value = q._at((points / temperature).sigmoid().clamp(edge_of(dtype), 1 - edge_of(dtype)).to(dtype))
    value = value.detach()
    mean = expected(q, points, temperature, q.log_prob(value) - p.log_prob(value))
    return mean.detach(), torch.stack(torch.autograd.grad(mean, given)).double()


@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.1, 0.02])
def test_gradient_of_the_divergence_is_unbiased(temperature):
    """Of draws in float32, most of which are censored at the lowest temperature."""
    draws = 100_000
    given = parameters(temperature, torch.float32, draws)
    q, p = pair(*given)
    value = q.rsample()
    loss = q.log_prob(value) - p.log_prob(value)
    mean, gradient = exact_divergence(temperature, torch.float32)
    assert_mean(loss.unsqueeze(-1), mean.unsqueeze(-1))
    assert_mean(torch.stack(torch.autograd.grad(loss.sum(), given), -1), gradient)


@pytest.mark.parametrize(("temperature", "dtype"), [(0.02, torch.float32), (0.01, F64)])
def test_gradient_by_draws_is_that_by_the_density(temperature, dtype):
    given = parameters(temperature, dtype)
    q, p = pair(*given)
    points = binary_points(temperature, end_of(dtype))
    value = (points / temperature).sigmoid().clamp(edge_of(dtype), 1 - edge_of(dtype)).to(dtype)
    value = pathwise_at(q, value)
    mean = pathwise(q, points, temperature, q.log_prob(value) - p.log_prob(value))
    actual = torch.stack(torch.autograd.grad(mean, given)).double()
    torch.testing.assert_close(actual, exact_divergence(temperature, dtype)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
def test_expected_weights_are_one(temperature):
    """So that the ELBO is a bound at any temperature."""
    q, p = pair(*parameters(temperature, torch.float32))
    points = binary_points(temperature, end_of(torch.float32))
    edge = edge_of(torch.float32)
    value = (points / temperature).sigmoid().clamp(edge, 1 - edge).float()
    log_ratio = (p.log_prob(value) - q.log_prob(value)).double()
    total = (log_weights(q, points, temperature) + log_ratio).exp().sum()
    torch.testing.assert_close(total.item(), 1.0, rtol=1e-4, atol=0)


def test_divergence_is_below_that_without_censoring():
    for temperature in (1.0, 0.1, 0.02):
        t, logits, _, others = parameters(temperature, F64)
        exact = kl_divergence(*pair(t, logits, t, others))
        points = binary_points(temperature, end_of(torch.float32))
        q, p = (
            RelaxedBernoulli(fn.temperature.float(), logits=fn.logits.float())
            for fn in pair(t, logits, t, others)
        )
        edge = edge_of(torch.float32)
        value = (points / temperature).sigmoid().clamp(edge, 1 - edge).float()
        censored = expected(q, points, temperature, q.log_prob(value) - p.log_prob(value))
        assert censored < exact * (1 + 1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_density_is_that_of_pyro(temperature):
    t, logits = double(temperature), double([-2.0, 0.3, 1.0])
    fn = RelaxedBernoulli(t, logits=logits)
    value = fn.sample((50,))
    twin = dist.RelaxedBernoulli(t, logits=logits, validate_args=False)
    torch.testing.assert_close(fn.log_prob(value), twin.log_prob(value), rtol=1e-10, atol=1e-10)


def test_censored_values_have_the_probability_of_all_beyond():
    t, logits = double(0.02), double(0.7)
    fn = RelaxedBernoulli(t, logits=logits)
    edge = edge_of(F64)
    ends = double([0.0, edge, 1 - edge, 1.0])
    end = math.log((1 - edge) / edge)
    low, high = logsigmoid(-logits - t * end), logsigmoid(logits - t * end)
    torch.testing.assert_close(fn.log_prob(ends), torch.stack([low, low, high, high]))
    drawn = fn.sample((100_000,))
    shares = torch.stack([drawn == edge, drawn == 1 - edge], -1).double()
    assert_mean(shares, torch.stack([low, high]).exp())


def test_linear_score():
    logits = double([0.7, -3.0])
    fn = RelaxedBernoulli(0.5, logits=logits, score="discrete")
    value = double([0.0, 1.0])
    torch.testing.assert_close(fn.log_prob(value), dist.Bernoulli(logits=logits).log_prob(value))
    value = double([0.25, 0.6]).requires_grad_()
    (slope,) = torch.autograd.grad(fn.log_prob(value).sum(), value)
    torch.testing.assert_close(slope, logits)
    torch.testing.assert_close(fn.expand((3, 2)).log_prob(value)[0], bernoulli_linear(logits, value))


def quantiles(count=200_001):
    u = (torch.arange(count, dtype=F64) + 0.5) / count
    return u.logit()


@pytest.mark.parametrize("temperature", [0.02, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("logit", [0.0, 0.7, -4.0])
def test_moments(temperature, logit):
    t, logits = double(temperature).requires_grad_(), double(logit).requires_grad_()
    fn = RelaxedBernoulli(t, logits=logits)
    y = ((logits + quantiles()) / t).sigmoid()
    exact = torch.stack([y.mean(), y.var()])
    actual = torch.stack([fn.mean, fn.variance])
    torch.testing.assert_close(actual, exact, rtol=1e-4, atol=1e-6)
    for a, e in zip(actual, exact, strict=True):
        a_grad, e_grad = (torch.autograd.grad(x, [t, logits], retain_graph=True) for x in (a, e))
        torch.testing.assert_close(torch.stack(a_grad), torch.stack(e_grad), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_entropy(temperature):
    t, logits = double(temperature), double([0.7, -4.0])
    points = binary_points(temperature, 1.0).unsqueeze(-1)
    log_density = dist.RelaxedBernoulli(t, logits=logits).base_dist.log_prob(points / t)
    log_jacobian = logsigmoid(points / t) + logsigmoid(-points / t)
    weights = log_density.softmax(0)
    exact = -(weights * (log_density - log_jacobian)).sum(0)
    torch.testing.assert_close(
        RelaxedBernoulli(t, logits=logits).entropy(), exact, rtol=1e-5, atol=1e-5
    )


def test_mode_and_probabilities():
    probs = double([0.2, 0.9, 0.0, 1.0])
    fn = RelaxedBernoulli(0.3, probs)
    torch.testing.assert_close(fn.probs, probs)
    assert fn.mode.tolist() == [0, 1, 0, 1]
    assert hard_bernoulli(fn.logits).tolist() == [0, 1, 0, 1]
    assert fn.logits.isfinite().all()
    assert fn.log_prob(fn.sample()).isfinite().all()
    torch.testing.assert_close(RelaxedBernoulli(0.3, probs).mean[2:], double([0.0, 1.0]))


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_divergence_of_relaxed(ratio):
    t, logits, others = double(0.6), double(0.7), double(-2.0)
    p, q = RelaxedBernoulli(t, logits=logits), RelaxedBernoulli(t / ratio, logits=others)
    points = binary_points(0.6, 1.0)
    x = points / t
    densities = [
        dist.RelaxedBernoulli(fn.temperature, logits=fn.logits).base_dist.log_prob(x) for fn in (p, q)
    ]
    exact = (densities[0].softmax(0) * (densities[0] - densities[1])).sum()
    torch.testing.assert_close(kl_divergence(p, q), exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("bernoulli", [torch.distributions.Bernoulli, dist.Bernoulli])
def test_divergence_of_relaxed_and_discrete(bernoulli):
    t, logits, others = double(0.6), double([0.7, -2.0]), double([0.1, 0.3])
    p = RelaxedBernoulli(t, logits=logits)
    q = RelaxedBernoulli(t, logits=others)
    relaxed = kl_divergence(p, q)
    torch.testing.assert_close(kl_divergence(p, bernoulli(logits=others)), relaxed)
    torch.testing.assert_close(kl_divergence(bernoulli(logits=logits), q), relaxed)
    p = RelaxedBernoulli(t, logits=logits, score="discrete")
    q = RelaxedBernoulli(t, logits=others, score="discrete")
    discrete = kl_divergence(bernoulli(logits=logits), bernoulli(logits=others))
    torch.testing.assert_close(kl_divergence(bernoulli(logits=logits), q), discrete)
    actual = kl_divergence(p, bernoulli(logits=others))
    torch.testing.assert_close(kl_divergence(p, q), actual)
    value = p.sample((100_000,))
    assert_mean(p.log_prob(value) - q.log_prob(value), actual)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: RelaxedBernoulli(0.5), "RelaxedBernoulli: expected exactly one of probs and logits"),
        (lambda: RelaxedBernoulli(0.5, 0.5, 0.0), "expected exactly one of probs and logits"),
        (lambda: RelaxedBernoulli(0.5, 1.5), "probs"),
        (lambda: RelaxedBernoulli(0.5, 0.5, score="hard"), "score must be 'relaxed' or 'discrete'"),
        (
            lambda: kl_divergence(
                RelaxedBernoulli(0.5, 0.5), RelaxedBernoulli(0.5, 0.5, score="discrete")
            ),
            "same score",
        ),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_losses_of_one_object_are_differentiated_apart():
    logits = torch.tensor(0.3, requires_grad=True)
    fn = pre.distributions.RelaxedBernoulli(0.5, logits=logits)
    for _ in range(2):
        fn.log_prob(torch.tensor(0.4)).backward()
    fn.mean.backward()

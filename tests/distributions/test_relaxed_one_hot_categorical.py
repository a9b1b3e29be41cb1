import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from pyro_reparam_ext.distributions import RelaxedBernoulli, RelaxedOneHotCategorical, pathwise_at
from pyro_reparam_ext.distributions.supports.relaxed import floor_of
from pyro_reparam_ext.numerics.relaxation import hard_one_hot

from ..statistics import assert_mean
from .censored import expected, log_weights, one_hot_points, pathwise

F64 = torch.float64
HALVES = torch.tensor([0.5, 0.5])


def double(x):
    return torch.tensor(x, dtype=F64)


def parameters(classes, temperature, dtype, count=None):
    """Of a guide and of a model at another temperature."""
    values = (temperature, [0.5, -0.3, 0.0][:classes], 1.3 * temperature, [-0.2, 0.4, 0.1][:classes])
    tensors = [torch.tensor(x, dtype=dtype) for x in values]
    if count is not None:
        tensors = [x.expand((count, *x.shape)).clone() for x in tensors]
    return [x.requires_grad_() for x in tensors]


def pair(t, logits, s, others):
    return RelaxedOneHotCategorical(t, logits=logits), RelaxedOneHotCategorical(s, logits=others)


def at_points(classes, temperature, dtype):
    points = one_hot_points(classes, temperature, -math.log(floor_of(dtype)))
    return points, (points / temperature).softmax(-1).to(dtype).clamp(min=floor_of(dtype))


def flat(gradients):
    return torch.cat([g.reshape(-1) if g.dim() < 2 else g for g in gradients], -1).double()


def exact_divergence(classes, temperature, dtype):
    """E[log q - log p] of the censored laws and its gradient in all parameters."""
    given = parameters(classes, temperature, dtype)
    q, p = pair(*given)
    points, value = at_points(classes, temperature, dtype)
    mean = expected(q, points, temperature, q.log_prob(value) - p.log_prob(value))
    return mean.detach(), flat(torch.autograd.grad(mean, given))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.1, 0.02])
def test_gradient_of_the_divergence_is_unbiased(temperature, classes):
    """Of draws in float32; at the lowest temperature many components are censored."""
    draws = 50_000
    given = parameters(classes, temperature, torch.float32, draws)
    q, p = pair(*given)
    value = q.rsample()
    loss = q.log_prob(value) - p.log_prob(value)
    gradients = torch.autograd.grad(loss.sum(), given)
    rows = torch.cat([g.reshape(draws, -1) for g in gradients], -1)
    mean, gradient = exact_divergence(classes, temperature, torch.float32)
    assert_mean(loss.unsqueeze(-1), mean.unsqueeze(-1))
    assert_mean(rows, gradient)


@pytest.mark.parametrize(
    ("classes", "temperature", "dtype"),
    [(2, 0.02, torch.float32), (3, 0.02, torch.float32), (2, 0.002, F64)],
)
def test_gradient_by_draws_is_that_by_the_density(classes, temperature, dtype):
    given = parameters(classes, temperature, dtype)
    q, p = pair(*given)
    points, value = at_points(classes, temperature, dtype)
    value = pathwise_at(q, value)
    mean = pathwise(q, points, temperature, q.log_prob(value) - p.log_prob(value))
    actual = flat(torch.autograd.grad(mean, given))
    exact = exact_divergence(classes, temperature, dtype)[1]
    torch.testing.assert_close(actual, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
def test_expected_weights_are_one(temperature, classes):
    """So that the ELBO is a bound at any temperature."""
    q, p = pair(*parameters(classes, temperature, torch.float32))
    points, value = at_points(classes, temperature, torch.float32)
    log_ratio = (p.log_prob(value) - q.log_prob(value)).double()
    total = (log_weights(q, points, temperature) + log_ratio).exp().sum()
    torch.testing.assert_close(total.item(), 1.0, rtol=1e-4, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_density_is_that_of_pyro(temperature):
    t, logits = double(temperature), double([[-2.0, 0.3, 1.0], [0.0, 0.0, 3.0]])
    fn = RelaxedOneHotCategorical(t, logits=logits)
    value = fn.sample((50,))
    twin = dist.RelaxedOneHotCategorical(t, logits=logits, validate_args=False)
    torch.testing.assert_close(fn.log_prob(value), twin.log_prob(value), rtol=1e-10, atol=1e-10)


def test_two_classes_are_a_bernoulli():
    t, logits = double(0.5), double(0.7)
    two = RelaxedOneHotCategorical(t, logits=torch.stack([logits, 0 * logits]))
    one = RelaxedBernoulli(t, logits=logits)
    y = two.sample((20,))
    torch.testing.assert_close(two.log_prob(y), one.log_prob(y[:, 0]))
    for t in (0.05, 1.0, 3.0):
        two = RelaxedOneHotCategorical(double(t), logits=double([0.7, 0.0]))
        one = RelaxedBernoulli(double(t), logits=logits)
        torch.testing.assert_close(two.mean[0], one.mean, rtol=1e-9, atol=0)
        torch.testing.assert_close(two.variance, one.variance.expand(2), rtol=1e-8, atol=0)
        torch.testing.assert_close(two.entropy(), one.entropy(), rtol=1e-7, atol=1e-7)
    p, q = (RelaxedOneHotCategorical(0.5, logits=double([x, 0.0])) for x in (0.7, -3.0))
    one_p, one_q = (RelaxedBernoulli(0.5, logits=double(x)) for x in (0.7, -3.0))
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(one_p, one_q))


@pytest.mark.parametrize("temperature", [0.2, 0.7, 2.5])
def test_moments_of_three_classes(temperature):
    t = double(temperature).requires_grad_()
    logits = double([0.5, -1.0, 0.1]).requires_grad_()
    fn = RelaxedOneHotCategorical(t, logits=logits)
    points = one_hot_points(3, 1.0, 1.0)
    value = (points / temperature).softmax(-1)
    weights = log_weights(fn, points, temperature).exp()
    mean = weights @ value
    exact = torch.cat([mean, weights @ value.square() - mean.square()])
    actual = torch.cat([fn.mean, fn.variance])
    torch.testing.assert_close(actual, exact, rtol=1e-6, atol=1e-8)
    for a, e in zip(actual, exact, strict=True):
        a_grad, e_grad = (torch.autograd.grad(x, [t, logits], retain_graph=True) for x in (a, e))
        torch.testing.assert_close(flat(a_grad), flat(e_grad), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.2, 2.5])
def test_moments_and_entropy_of_ten_classes(temperature):
    torch.manual_seed(1)
    logits = torch.randn(10, dtype=F64)
    fn = RelaxedOneHotCategorical(double(temperature), logits=logits)
    value = fn.sample((100_000,))
    assert_mean(value, fn.mean)
    assert_mean((value - fn.mean).square(), fn.variance)
    assert_mean(-fn.log_prob(value).unsqueeze(-1), fn.entropy().unsqueeze(-1))


def test_moments_of_many_classes_sum_to_one():
    fn = RelaxedOneHotCategorical(double(0.3), logits=torch.linspace(-3, 3, 200, dtype=F64))
    torch.testing.assert_close(fn.mean.sum().item(), 1.0, rtol=1e-8, atol=0)
    assert (fn.mean.diff() > 0).all()


def test_linear_score():
    logits = double([0.7, -3.0, 0.0]).log_softmax(-1)
    fn = RelaxedOneHotCategorical(0.5, logits=logits, score="discrete")
    torch.testing.assert_close(fn.log_prob(torch.eye(3, dtype=F64)), logits)
    value = double([0.2, 0.3, 0.5]).requires_grad_()
    (slope,) = torch.autograd.grad(fn.log_prob(value), value)
    torch.testing.assert_close(slope, logits)


def test_mode_and_probabilities():
    probs = double([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]]).requires_grad_()
    fn = RelaxedOneHotCategorical(0.3, probs)
    torch.testing.assert_close(fn.probs, probs)
    assert fn.mode.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert hard_one_hot(probs).tolist() == fn.mode.tolist()
    value = fn.rsample((10,))
    loss = fn.log_prob(value).sum() + fn.mean.sum() + fn.variance.sum()
    assert torch.autograd.grad(loss, probs)[0].isfinite().all()


def test_divergence_of_relaxed():
    logits, others = double([0.5, -1.0, 0.1]), double([-2.0, 0.3, 1.0])
    p = RelaxedOneHotCategorical(double(0.6), logits=logits)
    q = RelaxedOneHotCategorical(double(0.6), logits=others)
    points = one_hot_points(3, 1.0, 1.0)
    value = (points / 0.6).softmax(-1)
    exact = expected(p, points, 0.6, p.log_prob(value) - q.log_prob(value))
    torch.testing.assert_close(kl_divergence(p, q), exact, rtol=1e-6, atol=0)


def test_divergence_of_many_classes():
    torch.manual_seed(2)
    t, logits, others = double(0.6), torch.randn(300, dtype=F64), torch.randn(300, dtype=F64)
    p, q = pair(t, logits, t, others)
    value = p.sample((5_000,))
    assert_mean(
        (p.log_prob(value) - q.log_prob(value)).unsqueeze(-1), kl_divergence(p, q).unsqueeze(-1)
    )
    assert kl_divergence(p, p).abs() < 1e-9


@pytest.mark.parametrize("one_hot", [torch.distributions.OneHotCategorical, dist.OneHotCategorical])
def test_divergence_of_relaxed_and_discrete(one_hot):
    t, logits, others = double(0.6), double([0.5, -1.0, 0.1]), double([-2.0, 0.3, 1.0])
    p, q = pair(t, logits, t, others)
    relaxed = kl_divergence(p, q)
    torch.testing.assert_close(kl_divergence(p, one_hot(logits=others)), relaxed)
    torch.testing.assert_close(kl_divergence(one_hot(logits=logits), q), relaxed)
    p = RelaxedOneHotCategorical(t, logits=logits, score="discrete")
    q = RelaxedOneHotCategorical(t, logits=others, score="discrete")
    discrete = kl_divergence(one_hot(logits=logits), one_hot(logits=others))
    torch.testing.assert_close(kl_divergence(one_hot(logits=logits), q), discrete)
    actual = kl_divergence(p, one_hot(logits=others))
    torch.testing.assert_close(kl_divergence(p, q), actual)
    value = p.sample((100_000,))
    assert_mean((p.log_prob(value) - q.log_prob(value)).unsqueeze(-1), actual.unsqueeze(-1))


def test_divergence_of_other_temperatures():
    t, logits = double([0.6, 0.5]), double([0.5, -1.0, 0.1])
    p = RelaxedOneHotCategorical(t, logits=logits)
    q = RelaxedOneHotCategorical(double(0.6), logits=2 * logits)
    with pytest.raises(ValueError, match="temperatures"):
        kl_divergence(p, q)
    p._validate_args = q._validate_args = False
    assert kl_divergence(p, q).isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: RelaxedOneHotCategorical(0.5), "expected exactly one of probs and logits"),
        (lambda: RelaxedOneHotCategorical(0.5, double([0.5, 0.6])), "probs"),
        (lambda: RelaxedOneHotCategorical(0.5, double([0.5, 0.5]), score="x"), "score must be"),
        (
            lambda: kl_divergence(
                RelaxedOneHotCategorical(0.5, double([1.0])), RelaxedOneHotCategorical(0.5, HALVES)
            ),
            r"\(1,\) .* \(2,\): expected the same event shape",
        ),
        (
            lambda: kl_divergence(
                dist.OneHotCategorical(double([1.0])), RelaxedOneHotCategorical(0.5, HALVES)
            ),
            "expected the same event shape",
        ),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()

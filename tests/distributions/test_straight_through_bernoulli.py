import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.distributions import StraightThroughBernoulli
from pyro_reparam_ext.noise import logistic_like

from ..statistics import assert_mean


@pytest.mark.parametrize("temperature", [2.0, 0.1, 0.01])
def test_law_is_the_discrete_one(temperature):
    probs = torch.tensor([0.03, 0.5, 0.9])
    for fn in (
        StraightThroughBernoulli(temperature, probs=probs),
        StraightThroughBernoulli(temperature, logits=probs.logit()),
    ):
        torch.testing.assert_close(fn.mean, probs)
        assert_mean(fn.rsample((20_000,)), probs)
        assert_mean(fn.sample((20_000,)), probs)


def test_gradient_is_that_of_the_relaxed_sample():
    """The same noise, in closed form."""
    logits = torch.tensor([[-1.0, 0.2, 3.0]] * 2, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor([[0.3], [1.7]], dtype=torch.float64, requires_grad=True)
    fn = StraightThroughBernoulli(temperature, logits=logits)
    torch.manual_seed(2)
    value = fn.rsample((4,))
    torch.manual_seed(2)
    x = logits + logistic_like(logits.expand(4, 2, 3))
    assert torch.equal(value, (x > 0).double())
    weight = torch.randn_like(value)
    found = torch.autograd.grad((weight * value).sum(), [logits, temperature])
    soft = 1 / (1 + (-x / temperature).exp())
    expected = torch.autograd.grad((weight * soft).sum(), [logits, temperature])
    torch.testing.assert_close(found, expected)


def test_probabilities_0_and_1_are_certain():
    """The clamped logits of probability 0 alone would give a 1 in 8 million draws."""
    probs = torch.tensor([0.0, 1.0, 0.5], requires_grad=True)
    fn = StraightThroughBernoulli(0.5, probs=probs, validate_args=True)
    value = fn.rsample((1000,))
    assert (value[:, 0] == 0).all() and (value[:, 1] == 1).all()
    total = fn.log_prob(value).sum() + value.sum()
    assert total.isfinite()
    assert torch.autograd.grad(total, probs)[0].isfinite().all()


def test_never_draws_what_is_impossible(monkeypatch):
    """Whatever the noise."""
    from pyro_reparam_ext.distributions import straight_through_bernoulli as module

    for noise, probs in ((1e3, 0.0), (-1e3, 1.0)):
        monkeypatch.setattr(module, "logistic_like", lambda x, noise=noise: torch.full_like(x, noise))
        assert StraightThroughBernoulli(0.5, probs=torch.tensor(probs)).sample() == probs


def test_gradients_are_finite_in_float32_at_small_temperatures():
    logits = torch.linspace(-60, 60, 1000).requires_grad_()
    temperature = torch.tensor(0.01, requires_grad=True)
    fn = StraightThroughBernoulli(temperature, logits=logits, validate_args=True)
    value = fn.rsample((20,))
    log_prob = fn.log_prob(value)
    assert log_prob.isfinite().all()
    gradients = torch.autograd.grad((log_prob + value).sum(), [logits, temperature])
    assert all(g.isfinite().all() for g in gradients)


def test_moments_and_entropy_are_the_discrete_ones():
    logits = torch.tensor([-2.0, 0.3])
    fn, plain = StraightThroughBernoulli(0.5, logits=logits), dist.Bernoulli(logits=logits)
    for name in ("mean", "variance", "probs", "mode"):
        torch.testing.assert_close(getattr(fn, name), getattr(plain, name))
    torch.testing.assert_close(fn.entropy(), plain.entropy())
    torch.testing.assert_close(fn.enumerate_support(), plain.enumerate_support())

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

from pyro_reparam_ext.distributions import StraightThroughOneHotCategorical
from pyro_reparam_ext.noise import gumbel_like

from ..slow import slow
from ..statistics import assert_mean


@pytest.mark.parametrize("temperature", [2.0, 0.1, 0.01])
def test_law_is_the_discrete_one(temperature):
    probs = torch.tensor([[0.08, 0.35, 0.57], [0.9, 0.06, 0.04]])
    for fn in (
        StraightThroughOneHotCategorical(temperature, probs=3 * probs),
        StraightThroughOneHotCategorical(temperature, logits=probs.log() + 2),
    ):
        torch.testing.assert_close(fn.mean, probs)
        assert_mean(fn.rsample((20_000,)).flatten(1), probs.flatten())
        assert_mean(fn.sample((20_000,)).flatten(1), probs.flatten())


def test_gradient_is_that_of_the_relaxed_sample():
    """The same noise, in closed form."""
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor([0.3, 0.7, 1.7], dtype=torch.float64, requires_grad=True)
    fn = StraightThroughOneHotCategorical(temperature, logits=logits)
    torch.manual_seed(2)
    value = fn.rsample((5,))
    torch.manual_seed(2)
    x = logits + gumbel_like(logits.expand(5, 2, 3, 4))
    assert torch.equal(
        value.sort(-1).values[..., -2:], torch.tensor([0.0, 1]).expand(5, 2, 3, 2).double()
    )
    weight = torch.randn_like(value)
    found = torch.autograd.grad((weight * value).sum(), [logits, temperature])
    power = (x / temperature.unsqueeze(-1)).exp()
    soft = power / power.sum(-1, keepdim=True)
    expected = torch.autograd.grad((weight * soft).sum(), [logits, temperature])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_scale(dtype):
    """A thousand classes whose probabilities span all that the dtype has."""
    logits = torch.linspace(-200, 0, 1000, dtype=dtype).requires_grad_()
    temperature = torch.tensor(0.01, dtype=dtype, requires_grad=True)
    fn = StraightThroughOneHotCategorical(temperature, logits=logits, validate_args=True)
    value = fn.rsample((50,))
    log_prob = fn.log_prob(value)
    assert log_prob.isfinite().all()
    gradients = torch.autograd.grad((log_prob + value[..., -1]).sum(), [logits, temperature])
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("by", ["probs", "logits"])
def test_impossible_classes(by):
    """They are never drawn, cost nothing where they are not hit, and leave gradients finite."""
    probs = torch.tensor([0.0, 0.3, 0.7, 0.0])
    parameter = (probs if by == "probs" else probs.log()).requires_grad_()
    temperature = torch.tensor(0.3, requires_grad=True)
    fn = StraightThroughOneHotCategorical(temperature, **{by: parameter}, validate_args=True)
    value = fn.rsample((2000,))
    assert (value[:, [0, 3]] == 0).all()
    log_prob = fn.log_prob(value)
    assert log_prob.isfinite().all()
    entropy_term = fn.score_parts(value).entropy_term
    total = (log_prob + entropy_term + value[:, 1]).sum()
    for gradient in torch.autograd.grad(total, [parameter, temperature]):
        assert gradient.isfinite().all()
    torch.testing.assert_close(fn.log_prob(torch.eye(4)), probs.log())


def test_never_draws_what_is_impossible(monkeypatch):
    """Whatever the noise: the clamped logits of probability 0 alone would be hit now and then."""
    from pyro_reparam_ext.distributions import straight_through_one_hot_categorical as module

    noise = torch.tensor([1e3, 0.0, 0.0])
    monkeypatch.setattr(module, "gumbel_like", lambda x: noise.expand(x.shape))
    value = StraightThroughOneHotCategorical(0.5, probs=torch.tensor([0.0, 0.4, 0.6])).sample()
    assert value.tolist() == [0, 0, 1]


def test_moments_and_entropy_are_the_discrete_ones():
    logits = torch.randn(2, 5)
    fn = StraightThroughOneHotCategorical(0.5, logits=logits)
    plain = dist.OneHotCategorical(logits=logits)
    for name in ("mean", "variance", "probs", "mode"):
        torch.testing.assert_close(getattr(fn, name), getattr(plain, name))
    torch.testing.assert_close(fn.entropy(), plain.entropy())
    torch.testing.assert_close(fn.enumerate_support(), plain.enumerate_support())


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_linear_costs_have_their_stationary_point_at_the_posterior(temperature):
    """The mean of the gradient: zero at the posterior, at any temperature, not elsewhere."""
    posterior = torch.tensor([0.08, 0.35, 0.57], dtype=torch.float64)
    for q, stationary in ((posterior, True), (torch.ones(3, dtype=torch.float64), False)):
        logits = q.log().expand(4000, 3).clone().requires_grad_()
        fn = StraightThroughOneHotCategorical(temperature, logits=logits)
        z = fn.rsample()
        cost = fn.score_parts(z).entropy_term - (z * posterior.log()).sum(-1)
        (gradient,) = torch.autograd.grad(cost.sum(), logits)
        t = (gradient.mean(0) / (gradient.std(0) / 4000**0.5).clamp(min=1e-12)).abs().max()
        assert (gradient.abs().max() < 1e-12) if stationary else (t > 8)


def train(classes, temperature, log_likelihood, steps):
    """A default run of SVI in float32; every value that the model sees has to be hard."""

    def model():
        prior = StraightThroughOneHotCategorical(temperature, logits=torch.zeros(classes))
        z = pyro.sample("z", prior)
        assert ((z == 0) | (z == 1)).all() and z.sum() == 1
        pyro.factor("y", log_likelihood(z), has_rsample=True)

    def guide():
        logits = pyro.param("logits", torch.zeros(classes))
        pyro.sample("z", StraightThroughOneHotCategorical(temperature, logits=logits))

    svi = SVI(model, guide, Adam({"lr": 0.02}), Trace_ELBO())
    with pyro.validation_enabled():
        losses = [svi.step() for _ in range(steps)]
    assert all(map(math.isfinite, losses))
    return pyro.param("logits").softmax(-1).detach()


def total_variation(p, q):
    return 0.5 * (p - q).abs().sum()


@slow
def test_default_svi_run_of_ten_classes():
    """2,000 steps at T = 0.1 without a rejected sample, to the exact posterior."""
    classes = 3 * torch.linspace(0, 3, 10).sin()
    posterior = classes.softmax(-1)
    q = train(10, 0.1, lambda z: (z * classes).sum(-1), steps=2000)
    assert total_variation(q, posterior) < 0.05


def test_default_svi_run_of_three_classes():
    """The exact posterior is found by enumeration; a normal likelihood isn't linear in the value."""
    means, y = torch.tensor([-1.0, 0.4, 1.5]), torch.tensor(1.35)
    posterior = dist.Normal(means, 1.2).log_prob(y).softmax(-1)
    assert total_variation(posterior, torch.tensor([0.08, 0.35, 0.57])) < 0.05
    linear = train(3, 0.1, lambda z: (z * dist.Normal(means, 1.2).log_prob(y)).sum(-1), steps=1000)
    assert total_variation(linear, posterior) < 0.01

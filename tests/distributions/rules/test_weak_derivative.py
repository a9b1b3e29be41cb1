"""Weak derivatives of each law against the derivative of its exact expectation."""

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.weak_derivative import classes, weak_derivatives

from ...statistics import assert_mean

DOUBLE = torch.float64
DRAWS = 20_000


def f(x):
    """Neither linear nor monotone, and smooth, so that quadrature has it."""
    return (1.3 * x).sin() + 0.2 * x


def counts(size):
    return torch.arange(size).double()


def grid(low, high):
    return torch.linspace(low, high, 40_001).double()


LAWS = {
    "Bernoulli-logits": (dist.Bernoulli, {"logits": 0.7}, counts(2)),
    "Bernoulli-probs": (dist.Bernoulli, {"probs": 0.2}, counts(2)),
    "Categorical-logits": (dist.Categorical, {"logits": [0.3, -0.4, 1.0]}, counts(3)),
    "Categorical-probs": (dist.Categorical, {"probs": [0.3, 0.5, 0.2]}, counts(3)),
    "Poisson": (dist.Poisson, {"rate": 2.5}, counts(80)),
    "Binomial-logits": (dist.Binomial, {"logits": 0.4, "total_count": 6}, counts(7)),
    "Binomial-probs": (dist.Binomial, {"probs": 0.3, "total_count": 6}, counts(7)),
    "Geometric-logits": (dist.Geometric, {"logits": -0.6}, counts(400)),
    "Geometric-probs": (dist.Geometric, {"probs": 0.4}, counts(400)),
    "NegativeBinomial-logits": (
        dist.NegativeBinomial,
        {"logits": -0.3, "total_count": 2.5},
        counts(400),
    ),
    "NegativeBinomial-probs": (dist.NegativeBinomial, {"probs": 0.4, "total_count": 0.7}, counts(400)),
    "Normal": (dist.Normal, {"loc": 0.4, "scale": 1.3}, grid(-12, 12)),
    "Exponential": (dist.Exponential, {"rate": 0.8}, grid(0, 60)),
    "Gamma": (dist.Gamma, {"concentration": 2.4, "rate": 0.8}, grid(1e-9, 60)),
    "Gamma of this package": (
        pre.distributions.Gamma,
        {"concentration": 2.4, "rate": 0.8},
        grid(1e-9, 60),
    ),
    "Weibull": (dist.Weibull, {"scale": 1.4, "concentration": 2.2}, grid(1e-9, 12)),
    "Uniform": (dist.Uniform, {"low": -0.5, "high": 1.7}, None),
}


def law(label, size):
    """A batch of one law, and its parameters, those leaves that a derivative is asked in."""
    make, given, _ = LAWS[label]
    parameters = {k: torch.tensor(x, dtype=DOUBLE) for k, x in given.items()}
    parameters = {k: x.expand(size, *x.shape).clone() for k, x in parameters.items()}
    leaves = [x.requires_grad_() for k, x in parameters.items() if k not in FIXED[make]]
    return make(**parameters), leaves


FIXED = {make: weak_derivatives(make).without for make, _, _ in LAWS.values()}
FIXED[dist.Binomial] = ("total_count",)


def exact(label):
    fn, leaves = law(label, 1)
    points = LAWS[label][2]
    if points is None:  # between ends that move
        share = grid(0, 1)
        expectation = torch.trapezoid(f(fn.low + (fn.high - fn.low) * share), share)
    else:
        terms = fn.log_prob(points.unsqueeze(-1)).exp().squeeze(-1) * f(points)
        continuous = not fn.support.is_discrete
        expectation = torch.trapezoid(terms, points) if continuous else terms.sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(expectation.sum(), leaves)])


@pytest.mark.parametrize("label", LAWS)
def test_derivative_of_an_expectation(label):
    fn, leaves = law(label, DRAWS)
    value = fn.sample()
    total = 0.0
    rule = weak_derivatives(type(fn))
    derivatives = rule.at(fn, value)
    for parameter, constant, plus, minus in derivatives:
        plus, minus = (value if x is None else x.to(value.dtype) for x in (plus, minus))
        assert fn.support.check(plus).all() and fn.support.check(minus).all()
        total = total + (constant * (f(plus) - f(minus)) * parameter).sum()
    ends = sum(x is not None for d in derivatives for x in (d.plus, d.minus))
    assert ends == rule.values(fn)
    gradients = torch.autograd.grad(total, leaves)
    assert_mean(torch.cat([g.reshape(DRAWS, -1) for g in gradients], -1), exact(label))


def test_every_law_is_here():
    tried = {make for make, _, _ in LAWS.values()}
    assert all(any(issubclass(make, cls) for make in tried) for cls in classes())


@pytest.mark.parametrize("label", ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial"])
@pytest.mark.parametrize("odds", [1e-6, 1 - 1e-6])
def test_ends_of_the_range(label, odds):
    """What one more is worth is the derivative of the mean, also in float32."""
    make = getattr(dist, label)
    logits = torch.tensor(odds, dtype=DOUBLE).logit().requires_grad_()
    more = {"total_count": 3} if "Binomial" in label else {}
    (slope,) = torch.autograd.grad(make(logits=logits, **more).mean, logits)
    fn = make(logits=logits.detach().float(), **more)
    (derivative,) = weak_derivatives(make).at(fn, torch.zeros(()))
    assert derivative.plus.isfinite().all()
    sign = -1.0 if label == "Geometric" else 1.0
    torch.testing.assert_close(
        sign * torch.as_tensor(derivative.constant).abs(), slope.float(), rtol=1e-5, atol=0
    )


class Zeros(dist.Poisson):
    """Of another law, by a sampler of its own."""

    def sample(self, sample_shape=()):
        return torch.zeros(sample_shape + self.batch_shape)


def test_another_law_has_no_rule():
    assert weak_derivatives(Zeros) is None
    assert weak_derivatives(type("Mine", (dist.Poisson,), {})) is not None

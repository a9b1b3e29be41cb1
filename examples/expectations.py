"""Expectations whose gradients are known, and how their estimators scatter, by mathematics alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from scipy import integrate, stats
from torch import Tensor, nn


class Gaussian:
    """The law N(theta, scale), of one draw for each element of its parameters."""

    def __init__(self, theta: Tensor, scale: Tensor) -> None:
        self.theta, self.scale = theta, scale

    def rsample(self) -> Tensor:
        return self.theta + self.scale * torch.randn_like(self.theta)

    def sample(self) -> Tensor:
        return self.rsample().detach()

    def log_prob(self, x: Tensor) -> Tensor:
        return -(((x - self.theta) / self.scale) ** 2) / 2 - self.scale.log()  # up to a constant


class Bernoulli:
    """1 with the probability sigmoid(logit), else 0: no function of noise that has a derivative."""

    def __init__(self, logit: Tensor) -> None:
        self.logit, self.probability = logit, logit.sigmoid()

    def sample(self) -> Tensor:
        return torch.bernoulli(self.probability.detach())

    def log_prob(self, x: Tensor) -> Tensor:
        return x * self.logit - nn.functional.softplus(self.logit)


@dataclass(frozen=True)
class Truth:
    """Mean and variance of one draw of an estimator, for each partial derivative."""

    mean: tuple[float, ...]
    variance: tuple[float, ...]


@dataclass(frozen=True)
class Expectation:
    """An expected cost, where to differentiate it, and what is true there.

    Args:
        name: it in words.
        law: the parameters -> the law, written out.
        pyro_law: the parameters -> the law as Pyro has it.
        cost: a value and the parameters -> the cost.
        at: the parameters.
        mean: the expectation.
        gradient: its partial derivatives.
        truths: label of an estimator -> its moments.
    """

    name: str
    law: Callable[..., Gaussian | Bernoulli]
    pyro_law: Callable[..., dist.TorchDistribution]
    cost: Callable[..., Tensor]
    at: dict[str, float]
    mean: float
    gradient: tuple[float, ...]
    truths: dict[str, Truth]


def fixed_law(theta: float) -> Expectation:
    """x ~ N(0, 1) does not depend on theta, only the cost (x - theta)^2 does."""
    return Expectation(
        "x ~ N(0, 1), f = (x - t)^2",
        lambda t: Gaussian(torch.zeros_like(t), torch.ones_like(t)),
        lambda t: dist.Normal(torch.zeros_like(t), 1.0),
        lambda x, t: (x - t) ** 2,
        {"t": theta},
        1 + theta**2,
        (2 * theta,),
        {"derivative inside": Truth((2 * theta,), (4.0,))},
    )


def square(theta: float, scale: float) -> Expectation:
    """x ~ N(theta, scale) and f(x) = x^2."""
    t, s, gradient = theta**2, scale**2, (2 * theta, 2 * scale)
    centred = (8 * t + 10 * s, 40 * t + 56 * s)
    truths = {
        "score function": Truth(
            gradient, (t * t / s + 14 * t + 15 * s, 2 * t * t / s + 60 * t + 74 * s)
        ),
        "baseline E[f]": Truth(gradient, centred),
        "leave-one-out, 2 samples": Truth(
            gradient,
            tuple(
                _leave_one_out(variance, partial, 4 * t * s + 2 * s * s, score)
                for variance, partial, score in zip(centred, gradient, (1 / s, 2 / s), strict=True)
            ),
        ),
        "pathwise": Truth(gradient, (4 * s, 4 * t + 8 * s)),
    }
    at = {"t": theta, "s": scale}
    name = "x ~ N(t, s), f = x^2"
    return Expectation(name, Gaussian, dist.Normal, lambda x, *_: x**2, at, t + s, gradient, truths)


def wave(theta: float, k: float) -> Expectation:
    """x ~ N(theta, 1) and f(x) = sin(k x), whose slope goes up to k while it stays below 1."""
    damped, twice = math.exp(-(k**2) / 2), math.exp(-2 * k**2) * math.cos(2 * k * theta)
    exact = k * damped * math.cos(k * theta)
    truths = {
        "score function": Truth((exact,), ((1 - (1 - 4 * k**2) * twice) / 2 - exact**2,)),
        "pathwise": Truth((exact,), (k**2 * (1 + twice) / 2 - exact**2,)),
    }
    return Expectation(
        f"x ~ N(t, 1), f = sin({k:g} x)",
        lambda t: Gaussian(t, torch.ones_like(t)),
        lambda t: dist.Normal(t, 1.0),
        lambda x, *_: torch.sin(k * x),
        {"t": theta},
        damped * math.sin(k * theta),
        (exact,),
        truths,
    )


def binary(logit: float, target: float = 0.45) -> Expectation:
    """b ~ Bernoulli(sigmoid(logit)) and f(b) = (b - target)^2."""
    p = 1 / (1 + math.exp(-logit))
    b, weights = np.array([0.0, 1.0]), np.array([1 - p, p])
    cost, score = (b - target) ** 2, b - p
    mean = weights @ cost
    plain, centred = (_moments((cost - b) * score, weights) for b in (0.0, mean))
    exact = p * (1 - p) * (1 - 2 * target)
    spread = weights @ (cost - mean) ** 2
    pairs = _leave_one_out(centred.variance[0], exact, spread, p * (1 - p))
    truths = {
        "score function": plain,
        "baseline E[f]": centred,
        "leave-one-out, 2 samples": Truth((exact,), (pairs,)),
        "enumeration": Truth((exact,), (0.0,)),
        "straight-through": _moments(2 * (b - target) * p * (1 - p), weights),
        "Gumbel-Softmax, T = 1": _relaxed(logit, target, 1.0),
        "Gumbel-Softmax, T = 0.1": _relaxed(logit, target, 0.1),
    }
    return Expectation(
        f"b ~ Bernoulli(sigmoid(a)), f = (b - {target})^2",
        Bernoulli,
        lambda a: dist.Bernoulli(logits=a),
        lambda x, *_: (x - target) ** 2,
        {"a": logit},
        mean,
        (exact,),
        truths,
    )


def _leave_one_out(variance: float, gradient: float, of_cost: float, of_score: float) -> float:
    """The variance of the sample covariance of cost and score, for two samples.

    Args:
        variance: of one score-function draw with baseline E[f].
        gradient: its mean.
        of_cost: the variance of the cost.
        of_score: the variance of the score.
    """
    return (variance + gradient**2 + of_cost * of_score) / 2


def _moments(values: np.ndarray, weights: np.ndarray) -> Truth:
    mean = weights @ values
    return Truth((mean,), (weights @ (values - mean) ** 2,))


def _relaxed(logit: float, target: float, temperature: float) -> Truth:
    """Moments of the slope of (y - target)^2 at y = sigmoid((logit + noise) / T), by quadrature."""

    def moment(power: int) -> float:
        def integrand(noise: float) -> float:
            y = 1 / (1 + math.exp(-(logit + noise) / temperature))
            slope = 2 * (y - target) * y * (1 - y) / temperature
            return slope**power * stats.logistic.pdf(noise)

        pieces = ((-40, -logit), (-logit, 40))  # a low temperature makes a step in between
        return sum(integrate.quad(integrand, *piece, limit=500)[0] for piece in pieces)

    return Truth((moment(1),), (moment(2) - moment(1) ** 2,))


def p_value(draws: Tensor, exact: float) -> float:
    """That the mean of the draws is exact, by a t-test; 1 or 0 where they have no variance."""
    mean, error = draws.mean().item(), draws.std().item() / math.sqrt(len(draws))
    if error <= 1e-10 * abs(exact) + 1e-14:
        return float(math.isclose(mean, exact, rel_tol=1e-5, abs_tol=1e-12))
    return float(2 * stats.t.sf(abs(mean - exact) / error, len(draws) - 1))

"""Distributions that a site may have, each with its exact expectation in plain torch."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_reparam_ext.distributions import ConditionalBernoulli

CLASSES, COORDINATES, NODES, COUNTS, TOTAL = 3, 2, 241, 25, 3
DTYPE = torch.float64


@dataclass(frozen=True)
class Family:
    """A distribution with ``size`` parameters on the last dim of a tensor ``theta``.

    - ``make(theta)``: the Pyro distribution;
    - ``features(value)``: the value as ``num_features`` real numbers on the last dim;
    - ``expect(theta)``: values on a new leftmost dim and their weights, so that the weighted sum is
      the expectation, differentiable in ``theta``: enumeration, or quadrature through the sampler;
    - ``log_prob(theta, value)``: written without Pyro.
    """

    name: str
    size: int
    num_features: int
    make: Callable[[Tensor], dist.TorchDistribution]
    features: Callable[[Tensor], Tensor]
    expect: Callable[[Tensor], tuple[Tensor, Tensor]]
    log_prob: Callable[[Tensor, Tensor], Tensor]

    def __repr__(self) -> str:
        return self.name


def _enumerated(support: Tensor, event_dim: int, log_prob: Callable) -> Callable:
    def expect(theta: Tensor) -> tuple[Tensor, Tensor]:
        batch = theta.shape[:-1]
        event = support.shape[support.dim() - event_dim :]
        values = support.reshape((len(support),) + (1,) * len(batch) + event)
        values = values.expand((len(support),) + batch + event)
        return values, log_prob(theta, values).exp()

    return expect


def _bits(count: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)), dtype=DTYPE)


def _classes(theta: Tensor) -> Tensor:
    return theta.unflatten(-1, (COORDINATES, CLASSES))


_eye = torch.eye(CLASSES, dtype=DTYPE)
_numbers = torch.tensor(list(itertools.product(range(TOTAL + 1), repeat=COORDINATES)), dtype=DTYPE)
_indices = torch.tensor(list(itertools.product(range(CLASSES), repeat=COORDINATES)))


def _bernoulli(theta: Tensor, z: Tensor) -> Tensor:
    return z * logsigmoid(theta[..., 0]) + (1 - z) * logsigmoid(-theta[..., 0])


def _bernoullis(theta: Tensor, z: Tensor) -> Tensor:
    return (z * logsigmoid(theta) + (1 - z) * logsigmoid(-theta)).sum(-1)


def _one_hot(theta: Tensor, z: Tensor) -> Tensor:
    return (z * theta.log_softmax(-1)).sum(-1)


def _one_hots(theta: Tensor, z: Tensor) -> Tensor:
    return (z * _classes(theta).log_softmax(-1)).sum((-1, -2))


def _subset(theta: Tensor, z: Tensor) -> Tensor:
    """Of all but one: the odds of the one left out are the inverse of its own."""
    return _one_hot(-theta, 1 - z)


def _categorical(theta: Tensor, z: Tensor) -> Tensor:
    return _one_hot(theta, _eye[z])


def _categoricals(theta: Tensor, z: Tensor) -> Tensor:
    return _one_hots(theta, _eye[z])


def _normal(theta: Tensor, z: Tensor) -> Tensor:
    loc, log_scale = theta[..., 0], 0.2 * theta[..., 1]
    return normal_log_prob(z, loc, log_scale.exp())


def normal_log_prob(x: Tensor, loc: Tensor, scale: Tensor | float) -> Tensor:
    scale = torch.as_tensor(scale, dtype=DTYPE)
    return -0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


def normal_expect(theta: Tensor) -> tuple[Tensor, Tensor]:
    """By the trapezoidal rule, to 1e-7 also of second derivatives."""
    shape = (NODES,) + (1,) * (theta.dim() - 1)
    noise = torch.linspace(-9, 9, NODES, dtype=DTYPE).reshape(shape)
    weight = (-0.5 * noise.square()).softmax(0)
    values = theta[..., 0] + (0.2 * theta[..., 1]).exp() * noise
    return values, weight.expand(values.shape)


def _poisson(theta: Tensor, z: Tensor) -> Tensor:
    log_rate = 0.3 * theta[..., 0] - 0.5
    return z * log_rate - log_rate.exp() - torch.lgamma(z + 1)


def _mixture_parts(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log weights, means and a scale of two normal components."""
    weights = torch.stack([theta[..., 0], -theta[..., 0]], -1).log_softmax(-1)
    return (
        weights,
        theta[..., 1:3] + torch.tensor([-1.5, 1.5], dtype=DTYPE),
        (0.2 * theta[..., 3]).exp(),
    )


def _mixture(theta: Tensor, z: Tensor) -> Tensor:
    weights, loc, scale = _mixture_parts(theta)
    return (weights + normal_log_prob(z.unsqueeze(-1), loc, scale.unsqueeze(-1))).logsumexp(-1)


def _make_mixture(theta: Tensor) -> dist.TorchDistribution:
    weights, loc, scale = _mixture_parts(theta)
    components = dist.Normal(loc, scale.unsqueeze(-1).expand(loc.shape))
    return dist.MixtureSameFamily(dist.Categorical(logits=weights), components)


def _mixture_expect(theta: Tensor) -> tuple[Tensor, Tensor]:
    """By the trapezoidal rule on one grid for all."""
    grid = torch.linspace(-14, 14, 2 * NODES, dtype=DTYPE)
    values = grid.reshape((-1,) + (1,) * (theta.dim() - 1)).expand(-1, *theta.shape[:-1])
    return values, _mixture(theta, values).exp() * (grid[1] - grid[0])


def _log_choices(z: Tensor) -> Tensor:
    """The logarithm of the number of ways to choose ``z`` out of ``TOTAL``."""
    return math.lgamma(TOTAL + 1) - torch.lgamma(z + 1) - torch.lgamma(TOTAL - z + 1)


def _binomial(theta: Tensor, z: Tensor) -> Tensor:
    logit = theta[..., 0]
    return _log_choices(z) + z * logsigmoid(logit) + (TOTAL - z) * logsigmoid(-logit)


def _binomials(theta: Tensor, z: Tensor) -> Tensor:
    return _binomial(theta.unsqueeze(-1), z).sum(-1)


def _concentrations(theta: Tensor) -> tuple[Tensor, Tensor]:
    return (0.5 * theta[..., 0]).exp(), (0.5 * theta[..., 1] + 0.3).exp()


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _beta_binomial(theta: Tensor, z: Tensor) -> Tensor:
    a, b = _concentrations(theta)
    return _log_choices(z) + _log_beta(z + a, TOTAL - z + b) - _log_beta(a, b)


def _scalar(z: Tensor) -> Tensor:
    return z.unsqueeze(-1)


def _bounded(z: Tensor) -> Tensor:
    return torch.tanh(0.8 * z).unsqueeze(-1)


NORMAL = Family(
    "Normal",
    2,
    1,
    lambda t: dist.Normal(t[..., 0], (0.2 * t[..., 1]).exp()),
    _bounded,
    normal_expect,
    _normal,
)

FAMILIES = {
    family.name: family
    for family in (
        Family(
            "Bernoulli",
            1,
            1,
            lambda t: dist.Bernoulli(logits=t[..., 0]),
            _scalar,
            _enumerated(torch.tensor([0.0, 1.0], dtype=DTYPE), 0, _bernoulli),
            _bernoulli,
        ),
        Family(
            "Bernoulli-event",
            COORDINATES,
            COORDINATES,
            lambda t: dist.Bernoulli(logits=t).to_event(1),
            lambda z: z,
            _enumerated(_bits(COORDINATES), 1, _bernoullis),
            _bernoullis,
        ),
        Family(
            "OneHotCategorical",
            CLASSES,
            CLASSES,
            lambda t: dist.OneHotCategorical(logits=t),
            lambda z: z,
            _enumerated(_eye, 1, _one_hot),
            _one_hot,
        ),
        Family(
            "OneHotCategorical-event",
            COORDINATES * CLASSES,
            COORDINATES * CLASSES,
            lambda t: dist.OneHotCategorical(logits=_classes(t)).to_event(1),
            lambda z: z.flatten(-2),
            _enumerated(_eye[_indices], 2, _one_hots),
            _one_hots,
        ),
        Family(
            "Categorical",
            CLASSES,
            CLASSES,
            lambda t: dist.Categorical(logits=t),
            lambda z: _eye[z],
            _enumerated(torch.arange(CLASSES), 0, _categorical),
            _categorical,
        ),
        Family(
            "Categorical-event",
            COORDINATES * CLASSES,
            COORDINATES * CLASSES,
            lambda t: dist.Categorical(logits=_classes(t)).to_event(1),
            lambda z: _eye[z].flatten(-2),
            _enumerated(_indices, 1, _categoricals),
            _categoricals,
        ),
        Family(
            "Binomial-event",
            COORDINATES,
            COORDINATES,
            lambda t: dist.Binomial(TOTAL, logits=t).to_event(1),
            lambda z: torch.tanh(0.8 * z),
            _enumerated(_numbers, 1, _binomials),
            _binomials,
        ),
        Family(
            "BetaBinomial",
            2,
            1,
            lambda t: dist.BetaBinomial(*_concentrations(t), total_count=TOTAL),
            _bounded,
            _enumerated(torch.arange(TOTAL + 1, dtype=DTYPE), 0, _beta_binomial),
            _beta_binomial,
        ),
        NORMAL,
        Family(
            "Poisson",
            1,
            1,
            lambda t: dist.Poisson((0.3 * t[..., 0] - 0.5).exp()),
            _bounded,
            _enumerated(torch.arange(COUNTS, dtype=DTYPE), 0, _poisson),
            _poisson,
        ),
        Family(
            "Subset",
            CLASSES,
            CLASSES,
            lambda t: ConditionalBernoulli(CLASSES - 1, logits=t),
            lambda z: z,
            _enumerated(1 - _eye, 1, _subset),
            _subset,
        ),
        Family("Mixture", 4, 1, _make_mixture, _bounded, _mixture_expect, _mixture),
    )
}

BERNOULLI = ("Bernoulli", "Bernoulli-event")
ONE_HOT = ("OneHotCategorical", "OneHotCategorical-event")
CATEGORICAL = ("Categorical", "Categorical-event")
SUBSET = ("Subset",)
BINOMIAL = ("Binomial-event", "BetaBinomial")

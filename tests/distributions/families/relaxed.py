"""Relaxed and discrete distributions: their laws by quadrature over the noise, or by enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import torch
from scipy import integrate, special, stats
from torch import Tensor
from torch.nn.functional import logsigmoid

import pyro_reparam_ext as pre

from ..entry import grid
from ..oracle import Joint, Parameters, Univariate, quantile_nodes
from ..relaxed import Relaxed

NOISE = "differentiable function of noise"
NO_TEMPERATURE = ("temperature",)
HARD_MODE = {"test_mode": "the likelier hard value, not where the density is largest"}
COMPILED = {"test_compiles_into_one_graph": "with and without a score, in test_relaxed_contract.py"}
BIASED = {
    "test_gradient_of_an_expectation": "it is that of the relaxed value, on purpose",
    "test_vmap": "draws may be equal: in test_relaxed_contract.py",
}
NO_DENSITY = {
    test: "no tractable density"
    for test in (
        "test_log_prob",
        "test_finite_at_the_extremes",
        "test_dtype",
        "test_shapes",
        "test_copies_and_pickles",
        "test_vmap",
        "test_vmap_of_log_prob",
        "test_stays_on_its_device",
        "test_validates_values",
        "test_refuses_values_outside",
        "test_as_a_site_of_a_guide",
        "test_compiles_without_gradients",
    )
}
NO_RSAMPLE = {
    test: "permutation matrices have no pathwise gradient"
    for test in ("test_gradient_of_an_expectation", "test_finite_at_the_extremes", "test_vmap")
}
SCALARS = grid(temperature=(0.5, 1.3), logits=(-0.8, 0.7))
VECTORS = grid(temperature=(0.5, 1.3), logits=([0.6, -0.5, 0.2],))
FAR = grid(temperature=(0.02, 20.0), logits=([-30.0, 30.0, 0.0],))

# Expectations over the noise


def axis(reach: float, width: float) -> Tensor:
    """Midpoints of cells."""
    return (torch.arange(-round(reach / width), round(reach / width)).double() + 0.5) * width


def plane(reach: float, width: float) -> Tensor:
    return torch.cartesian_prod(axis(reach, width), axis(reach, width))


def over_logistic(of: Callable[[Tensor], Tensor], loc: Tensor) -> Tensor:
    """The mean of features of a logistic variable."""
    width = 0.01
    x = axis(35.0, width)
    return (logsigmoid(x - loc) + logsigmoid(loc - x)).exp() @ of(x) * width


def over_keys(of: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """The mean of features of three keys with Gumbel noise, less the last of them."""
    width = 0.16
    keys = torch.nn.functional.pad(plane(26.0, width), (0, 1))
    return 2 * (logits - keys).log_softmax(-1).sum(-1).exp() @ of(keys) * width**2


def over_normals(of: Callable[[Tensor], Tensor]) -> Tensor:
    width = 0.06
    noise = plane(8.0, width)
    return (-0.5 * noise.square().sum(-1)).exp() @ of(noise) * width**2 / (2 * math.pi)


def of_scalar(value: Tensor) -> Tensor:
    return torch.stack([value, value.square()], -1)


def of_vector(value: Tensor) -> Tensor:
    return torch.cat([value, value.square()], -1)


def of_matrix(value: Tensor) -> Tensor:
    return of_vector(value.flatten(-2))


def mean_of(choices: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """The mean of a discrete vector or matrix, flat."""

    def expectation(**parameters: Tensor) -> Tensor:
        values, probs = choices(**parameters)
        return probs @ values.flatten(1)

    return expectation


# Bits


class RelaxedBernoulli:
    """A logistic variable through a sigmoid."""

    def __init__(self, temperature: float, logits: float) -> None:
        self.temperature, self.logits = temperature, logits

    def logpdf(self, y: np.ndarray) -> np.ndarray:
        d = self.logits - self.temperature * special.logit(y)
        slope = np.log(self.temperature) - np.log(y) - np.log1p(-y)
        return special.log_expit(d) + special.log_expit(-d) + slope

    def cdf(self, y: np.ndarray) -> np.ndarray:
        return special.expit(self.temperature * special.logit(y) - self.logits)

    def ppf(self, u: np.ndarray) -> np.ndarray:
        return special.expit((self.logits + special.logit(u)) / self.temperature)

    def mean(self) -> float:
        u, weights = quantile_nodes
        return float(weights @ self.ppf(u))

    def var(self) -> float:
        u, weights = quantile_nodes
        return float(weights @ (self.ppf(u) - self.mean()) ** 2)

    def entropy(self) -> float:
        """That of the logistic variable over T, 2 - log T, and the mean of log y (1 - y)."""
        noise = np.arange(-40, 40, 0.01)
        x = (self.logits + noise) / self.temperature
        slope = special.log_expit(x) + special.log_expit(-x)
        return 2 - np.log(self.temperature) + stats.logistic.pdf(noise) @ slope * 0.01


class DiscreteScore(Univariate):
    """The same law, with the score of the Bernoulli distribution."""

    def log_prob(self, value: Tensor, parameters: Parameters) -> Tensor:
        return bernoulli_score(value, **parameters)


def bernoulli_score(value: Tensor, logits: float | Tensor, temperature: Any = None) -> Tensor:
    logits = torch.as_tensor(logits, dtype=value.dtype)
    return value * logsigmoid(logits) + (1 - value) * logsigmoid(-logits)


def bits(logits: Tensor, temperature: Any = None) -> tuple[Tensor, Tensor]:
    return torch.tensor([0.0, 1.0]).double(), torch.stack([-logits, logits]).sigmoid()


LOW, HIGH = -0.1, 1.1


def gate(x: Tensor) -> Tensor:
    return (LOW + (HIGH - LOW) * x.sigmoid()).clamp(0, 1)


def gate_log_density(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    d = logits - temperature * ((value - LOW) / (HIGH - value)).log()
    inside = (temperature * (HIGH - LOW)).log() - ((value - LOW) * (HIGH - value)).log()
    inside = inside + logsigmoid(d) + logsigmoid(-d)
    return torch.where(value == 0, logsigmoid(-d), torch.where(value == 1, logsigmoid(d), inside))


# One-hot vectors


def classes(logits: Tensor, temperature: Any = None) -> tuple[Tensor, Tensor]:
    return torch.eye(logits.shape[-1]).double(), logits.softmax(-1)


def categorical_score(value: Tensor, logits: Tensor, temperature: Any = None) -> Tensor:
    return (value * logits.log_softmax(-1)).sum(-1)


def relaxed_log_density(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    scores = (logits - temperature * value.log()).log_softmax(-1)
    return math.log(2) + 2 * temperature.log() + (scores - value.log()).sum(-1)


def softmax_features(temperature: Tensor, logits: Tensor) -> Tensor:
    return over_keys(lambda keys: of_vector((keys / temperature).softmax(-1)), logits)


def gaussian_log_density(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    x = (value[..., :-1] / value[..., -1:]).log()
    normal = torch.distributions.Normal(logits / temperature, 1 / temperature)
    return normal.log_prob(x).sum(-1) - value.log().sum(-1)


def gaussian_features(temperature: Tensor, logits: Tensor) -> Tensor:
    def of(noise: Tensor) -> Tensor:
        x = torch.nn.functional.pad((logits + noise) / temperature, (0, 1))
        return of_vector(x.softmax(-1))

    return over_normals(of)


def gaussian_classes(logits: Tensor, temperature: Any = None) -> tuple[Tensor, Tensor]:
    a, b = logits.tolist()

    def largest(x: float, loc: float, other: float) -> float:
        return stats.norm.pdf(x - loc) * stats.norm.cdf(x - other)

    first, second = (
        integrate.quad(largest, 0, 12, args=args, epsabs=1e-10)[0] for args in ((a, b), (b, a))
    )
    return torch.eye(3).double(), torch.tensor([first, second, 1 - first - second]).double()


# Permutations


def orders(logits: Tensor, temperature: Any = None) -> tuple[Tensor, Tensor]:
    """Items are drawn in turn, without replacement."""
    values, probs = [], []
    for order in permutations(range(len(logits))):
        values.append(torch.eye(len(logits)).double()[list(order)])
        left = logits[list(order)]
        probs.append(sum(left[i] - left[i:].logsumexp(-1) for i in range(len(left))).exp())
    return torch.stack(values), torch.stack(probs)


def order_score(value: Tensor, logits: Tensor, temperature: Any = None) -> Tensor:
    left = (1 - value.cumsum(-2) + value).clamp(min=0)
    return ((value * logits).sum(-1) - (left * logits.exp()).sum(-1).log()).sum(-1)


def soft_sort_features(temperature: Tensor, logits: Tensor) -> Tensor:
    def of(keys: Tensor) -> Tensor:
        distance = keys.sort(-1, descending=True).values.unsqueeze(-1) - keys.unsqueeze(-2)
        return of_matrix((-distance.abs() / temperature).softmax(-1))

    return over_keys(of, logits)


def matching_features(temperature: Tensor, logits: Tensor) -> Tensor:
    """Of two rows and columns: what is left of the noise are its differences within columns."""
    width = 0.2  # the error of the rule is below 1e-20: the nearest pole is 1.5 away from the real axis
    first, second = plane(26.0, width).unbind(-1)
    u, v = (logits[0] - logits[1]).unbind()
    density = sum(logsigmoid(x) + logsigmoid(-x) for x in (first - u, second - v)).exp()
    ones = torch.ones_like(first)
    value = torch.stack([(first / temperature).exp(), (second / temperature).exp(), ones, ones], -1)
    value = value.reshape(-1, 2, 2)
    for _ in range(20):
        value = value / value.sum(-2, keepdim=True)
        value = value / value.sum(-1, keepdim=True)
    return density @ of_matrix(value) * width**2


def matchings(logits: Tensor, temperature: Any = None) -> tuple[Tensor, Tensor]:
    u, v = (logits[0] - logits[1]).tolist()
    straight = integrate.quad(lambda x: stats.logistic.pdf(x - u) * stats.logistic.cdf(x - v), -60, 60)
    eye = torch.eye(2).double()
    return torch.stack([eye, eye.flip(0)]), torch.tensor([straight[0], 1 - straight[0]]).double()


# Subsets of two items of three


def subsets(logits: Tensor, temperature: Any = None) -> tuple[Tensor, Tensor]:
    """Both orders of the two, whose last item is the one left out."""
    values, probs = orders(logits)
    out = 1 - torch.eye(3).double()
    last = values[:, -1].argmax(-1)
    return out, torch.stack([probs[last == i].sum() for i in range(3)])


def subset_score(value: Tensor, logits: Tensor, temperature: Any = None) -> Tensor:
    weights = logits.exp().numpy()

    def one(y: np.ndarray) -> float:
        rates = weights / ((1 - y) * weights).sum()
        return math.log(integrate.quad(lambda v: np.prod((1 - v**rates) ** y), 0, 1, epsabs=1e-12)[0])

    rows = value.detach().reshape(-1, 3).numpy()
    return torch.tensor([one(y) for y in rows]).double().reshape(value.shape[:-1])


def top_two_features(temperature: Tensor, logits: Tensor) -> Tensor:
    def of(keys: Tensor) -> Tensor:
        first = (keys / temperature).softmax(-1)
        rest = torch.stack([first[:, 1] + first[:, 2], first[:, 0] + first[:, 2]], -1)
        rest = torch.cat([rest, (first[:, 0] + first[:, 1]).unsqueeze(-1)], -1)
        total = first + ((keys + rest.log()) / temperature).softmax(-1)
        # At most one is above 1: the others then share what it leaves.
        largest = total.amax(-1, keepdim=True)
        shared = total / (2 - largest)
        return of_vector(torch.where(largest > 1, shared.clamp(max=1), total))

    return over_keys(of, logits)


def subset(temperature: Tensor, logits: Tensor, **options: Any) -> Any:
    k = 2 if logits.shape[-1] < 100 else 20
    return pre.distributions.RelaxedSubset(temperature, logits, k, **options)


def by_logits(cls: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda temperature, logits, **options: cls(temperature, logits=logits, **fixed, **options)


ENTRIES = (
    Relaxed(
        "RelaxedBernoulli",
        by_logits(pre.distributions.RelaxedBernoulli),
        points=SCALARS,
        extremes=grid(temperature=(0.02, 20.0), logits=(-30.0, 0.0, 30.0)),
        oracle=Univariate(RelaxedBernoulli),
        sampler=NOISE,
        precision=1e-6,
        exempt=COMPILED | HARD_MODE,
        choices=bits,
        event=(),
        large=(1000,),
    ),
    Relaxed(
        "RelaxedBernoulli-discrete",
        by_logits(pre.distributions.RelaxedBernoulli, score="discrete"),
        points=SCALARS,
        extremes=grid(temperature=(0.02, 20.0), logits=(-30.0, 0.0, 30.0)),
        oracle=DiscreteScore(RelaxedBernoulli),
        sampler=NOISE,
        precision=1e-6,
        not_scored=NO_TEMPERATURE,
        exempt=COMPILED | HARD_MODE,
        choices=bits,
        event=(),
        large=(1000,),
    ),
    Relaxed(
        "RelaxedOneHotCategorical",
        by_logits(pre.distributions.RelaxedOneHotCategorical),
        points=VECTORS,
        extremes=FAR,
        oracle=Joint(relaxed_log_density, of_vector, softmax_features),
        sampler=NOISE,
        exempt=COMPILED,
        choices=classes,
        event=(5,),
        large=(1000,),
    ),
    Relaxed(
        "RelaxedOneHotCategorical-discrete",
        by_logits(pre.distributions.RelaxedOneHotCategorical, score="discrete"),
        points=VECTORS,
        extremes=FAR,
        oracle=Joint(categorical_score, of_vector, softmax_features),
        sampler=NOISE,
        not_scored=NO_TEMPERATURE,
        exempt=COMPILED,
        choices=classes,
        event=(5,),
        large=(1000,),
    ),
    Relaxed(
        "StraightThroughBernoulli",
        by_logits(pre.distributions.StraightThroughBernoulli),
        points=SCALARS,
        extremes=grid(temperature=(0.02, 20.0), logits=(-30.0, 0.0, 30.0)),
        oracle=Joint(
            bernoulli_score,
            lambda z: z.unsqueeze(-1),
            lambda logits, temperature: logits.sigmoid()[None],
        ),
        sampler=NOISE,
        not_scored=NO_TEMPERATURE,
        exempt=COMPILED | BIASED,
        choices=bits,
        event=(),
        large=(1000,),
        hard=True,
    ),
    Relaxed(
        "StraightThroughOneHotCategorical",
        by_logits(pre.distributions.StraightThroughOneHotCategorical),
        points=VECTORS,
        extremes=FAR,
        oracle=Joint(categorical_score, lambda z: z, mean_of(classes)),
        sampler=NOISE,
        not_scored=NO_TEMPERATURE,
        exempt=COMPILED | BIASED,
        choices=classes,
        event=(5,),
        large=(1000,),
        hard=True,
    ),
    Relaxed(
        "InvertibleGaussian",
        lambda temperature, logits, **options: pre.distributions.InvertibleGaussian(
            temperature, logits, torch.ones_like(logits), **options
        ),
        points=grid(temperature=(0.5, 1.3), logits=([0.6, -0.5],)),
        extremes=grid(temperature=(0.02, 20.0), logits=([-30.0, 30.0],)),
        oracle=Joint(gaussian_log_density, of_vector, gaussian_features),
        sampler=NOISE,
        exempt=COMPILED
        | {"test_validates_parameters": "under other names: in test_relaxed_contract.py"},
        choices=gaussian_classes,
        event=(5,),
        large=(1000,),
        parameters=("temperature", "loc"),
    ),
    Relaxed(
        "HardConcrete",
        by_logits(pre.distributions.HardConcrete),
        points=SCALARS,
        extremes=grid(temperature=(0.05, 20.0), logits=(-30.0, 0.0, 30.0)),
        oracle=Joint(
            gate_log_density,
            of_scalar,
            lambda temperature, logits: over_logistic(
                lambda x: of_scalar(gate(x / temperature)), logits
            ),
        ),
        sampler=NOISE,
        exempt=COMPILED | {"test_vmap": "draws may be equal: in test_relaxed_contract.py"},
        choices=bits,
        event=(),
        large=(1000,),
    ),
    Relaxed(
        "GumbelSinkhorn",
        lambda temperature, logits, **options: pre.distributions.GumbelSinkhorn(
            temperature, logits, **options
        ),
        points=grid(temperature=(0.5, 1.3), logits=([[0.6, -0.5], [0.2, 0.4]],)),
        extremes=grid(temperature=(0.02, 20.0), logits=([[-30.0, 30.0], [0.0, 1.0]],)),
        oracle=Joint(lambda value, **_: value, of_matrix, matching_features),
        sampler=NOISE,
        exempt=COMPILED | NO_DENSITY,
        choices=matchings,
        event=(3, 3),
        large=(30, 30),
        log_prob=False,
        no_bijection=True,
    ),
    Relaxed(
        "PlackettLuce",
        lambda temperature=None, logits=None, **options: pre.distributions.PlackettLuce(
            logits, **options
        ),
        points=grid(logits=([0.6, -0.5, 0.2], [3.0, 0.0, -1.0])),
        extremes=grid(logits=([-30.0, 30.0, 0.0],)),
        oracle=Joint(order_score, lambda z: z.flatten(-2), mean_of(orders)),
        sampler="sorted keys",
        exempt=COMPILED | NO_RSAMPLE,
        choices=orders,
        event=(4,),
        large=(100,),
        parameters=("logits",),
        hard=True,
        no_bijection=True,
    ),
    Relaxed(
        "PlackettLuce-relaxed",
        lambda temperature, logits, **options: pre.distributions.PlackettLuce(
            logits, temperature, **options
        ),
        points=VECTORS,
        extremes=FAR,
        oracle=Joint(order_score, of_matrix, soft_sort_features),
        sampler=NOISE,
        not_scored=NO_TEMPERATURE,
        exempt=COMPILED,
        choices=orders,
        event=(4,),
        large=(100,),
        no_bijection=True,
    ),
    Relaxed(
        "RelaxedSubset",
        subset,
        points=VECTORS,
        extremes=FAR,
        oracle=Joint(subset_score, of_vector, top_two_features),
        sampler=NOISE,
        not_scored=NO_TEMPERATURE,
        exempt=COMPILED,
        choices=subsets,
        event=(5,),
        large=(1000,),
        no_bijection=True,
    ),
    Relaxed(
        "RelaxedSubset-straight-through",
        lambda temperature, logits, **options: subset(
            temperature, logits, straight_through=True, **options
        ),
        points=VECTORS,
        extremes=FAR,
        oracle=Joint(subset_score, lambda z: z, mean_of(subsets)),
        sampler=NOISE,
        not_scored=NO_TEMPERATURE,
        exempt=COMPILED | BIASED,
        choices=subsets,
        event=(5,),
        large=(1000,),
        hard=True,
        no_bijection=True,
    ),
)

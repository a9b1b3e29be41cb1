"""Models and guides of one or two sites, each with its exact negative ELBO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from .families import DTYPE, Family

Parameters = dict[str, Tensor]
"""Those of the guide have a name that begins so; the others are the model's."""
GUIDE = "guide "
SCALE = 0.8
"""The standard deviation of what is observed."""


class Program(ABC):
    """A model and a guide, as functions of their parameters.

    ``sites`` are those of the family under test, in the order in which they are sampled.
    """

    name: str
    sites: tuple[str, ...] = ("z",)

    def __init__(self, family: Family, dtype: torch.dtype = DTYPE) -> None:
        self.family, self.dtype = family, dtype
        self.generator = torch.Generator().manual_seed(7)
        self.initial = self.parameters()

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=self.generator, dtype=self.dtype)

    @abstractmethod
    def parameters(self) -> Parameters:
        """Where the gradient is taken."""

    @abstractmethod
    def model(self, p: Parameters) -> None:
        """Has parameters of its own, and costs that are no linear function of the values."""

    @abstractmethod
    def guide(self, p: Parameters) -> None:
        """Has parameters that the elements of a plate share."""

    @abstractmethod
    def exact(self, p: Parameters) -> Tensor:
        """The negative ELBO."""

    def exact_gradient(self) -> tuple[Tensor, Parameters]:
        """The negative ELBO and its gradient."""
        p = self.leaves()
        loss = self.exact(p)
        return loss.detach(), dict(zip(p, torch.autograd.grad(loss, list(p.values())), strict=True))

    def leaves(self) -> Parameters:
        """Copies of the parameters that require a gradient."""
        return {name: x.clone().requires_grad_() for name, x in self.initial.items()}

    def stored_model(self) -> None:
        """The model, with its parameters in the parameter store."""
        self.model(self._stored())

    def stored_guide(self) -> None:
        """The guide, with its parameters in the parameter store."""
        self.guide(self._stored())

    def _stored(self) -> Parameters:
        return {name: pyro.param(name, x.clone()) for name, x in self.initial.items()}

    def cost(self, theta: Tensor, prior: Tensor, value: Tensor) -> Tensor:
        """The cost of a site by itself, ``log q - log p``."""
        return self.family.make(theta).log_prob(value) - self.family.make(prior).log_prob(value)


class Sites(Program):
    """``w``, if there is one, in some of the plates; then ``z`` given ``w``, and data, in all."""

    plates: tuple[int, ...] = ()
    outer: int | None = None
    """In how many of the plates ``w`` lies; None: there is no ``w``."""

    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.x, self.y = self.normal(*self.plates, 2), self.normal(*self.plates)
        p = {
            f"{GUIDE}z": self.normal(2, size, scale=0.7),
            "prior of z": self.normal(size, scale=0.5),
            "network of z": self.normal(features, 2),
        }
        if self.outer is not None:
            p[f"{GUIDE}w"] = self.normal(2, size, scale=0.7)
            p[f"{GUIDE}z given w"] = self.normal(features, size)
            p["prior of w"] = self.normal(size, scale=0.5)
            p["network of w"] = self.normal(features, 2)
        return p

    def model(self, p: Parameters) -> None:
        w = None
        with ExitStack() as stack:
            if self.outer is not None:
                stack.enter_context(self._plates(0, self.outer))
                prior = p["prior of w"].expand(*self._shape_of_w, -1)
                w = pyro.sample("w", self.family.make(prior))
            stack.enter_context(self._plates(self.outer or 0, len(self.plates)))
            z = pyro.sample("z", self.family.make(p["prior of z"].expand(*self.plates, -1)))
            pyro.sample("y", dist.Normal(self._loc(p, w, z), SCALE), obs=self.y)

    def guide(self, p: Parameters) -> None:
        w = None
        with ExitStack() as stack:
            if self.outer is not None:
                stack.enter_context(self._plates(0, self.outer))
                w = pyro.sample("w", self.family.make(self._theta_of_w(p)))
            stack.enter_context(self._plates(self.outer or 0, len(self.plates)))
            pyro.sample("z", self.family.make(self._theta(p, w)))

    def exact(self, p: Parameters) -> Tensor:
        if self.outer is None:
            return self._below(p, None).sum()
        theta = self._theta_of_w(p)
        w, weight = self.family.expect(theta)
        prior = p["prior of w"].expand(*self._shape_of_w, -1)
        inner = tuple(range(self.outer - len(self.plates), 0))
        below = self._below(p, w)
        below = below.sum(inner, keepdim=True) if inner else below
        return (weight * (self.cost(theta, prior, w) + below)).sum()

    def _below(self, p: Parameters, w: Tensor | None) -> Tensor:
        """The expected costs of ``z`` and of the data, for each value of ``w``."""
        theta = self._theta(p, w)
        z, weight = self.family.expect(theta)
        log_y = dist.Normal(self._loc(p, w, z), SCALE).log_prob(self.y)
        return (weight * (self.cost(theta, p["prior of z"], z) - log_y)).sum(0)

    @property
    def _shape_of_w(self) -> tuple[int, ...]:
        outer = self.outer or 0
        return (*self.plates[:outer], *(1 for _ in self.plates[outer:]))

    def _theta_of_w(self, p: Parameters) -> Tensor:
        inner = tuple(range(len(self._shape_of_w)))[self.outer or 0 :]
        x = self.x.mean(inner, keepdim=True) if inner else self.x
        return x @ p[f"{GUIDE}w"]

    def _theta(self, p: Parameters, w: Tensor | None) -> Tensor:
        theta = self.x @ p[f"{GUIDE}z"]
        if w is None:
            return theta
        return theta + self.family.features(w).to(theta.dtype) @ p[f"{GUIDE}z given w"]

    def _loc(self, p: Parameters, w: Tensor | None, z: Tensor) -> Tensor:
        loc = _network(self.family.features(z), p["network of z"])
        return loc if w is None else loc * (1 + _network(self.family.features(w), p["network of w"]))

    @contextmanager
    def _plates(self, start: int, stop: int) -> Iterator[None]:
        with ExitStack() as stack:
            for number in range(start, stop):
                dim = number - len(self.plates)
                stack.enter_context(pyro.plate(f"plate {number}", self.plates[number], dim=dim))
            yield


class OneSite(Sites):
    name = "one site"


class InAPlate(Sites):
    name = "in a plate"
    plates = (3,)


class NestedPlates(Sites):
    name = "nested plates"
    plates, outer = (2, 3), 1
    sites = ("w", "z")


class InSequence(Sites):
    name = "two sites in a plate"
    plates, outer = (2,), 1
    sites = ("w", "z")


class CostOutside(Program):
    """``z`` in a plate, and a cost outside of it that depends on all its elements."""

    name = "a cost outside the plate"

    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.x, self.y = self.normal(2, 2), self.normal(1)
        return {
            f"{GUIDE}z": self.normal(2, size, scale=0.7),
            "prior of z": self.normal(size, scale=0.5),
            "network of z": self.normal(features, 2),
        }

    def model(self, p: Parameters) -> None:
        with pyro.plate("plate", 2, dim=-1):
            z = pyro.sample("z", self.family.make(p["prior of z"].expand(2, -1)))
        loc = _network(self.family.features(z), p["network of z"]).prod(-1, keepdim=True)
        pyro.sample("y", dist.Normal(loc, SCALE), obs=self.y)

    def guide(self, p: Parameters) -> None:
        with pyro.plate("plate", 2, dim=-1):
            pyro.sample("z", self.family.make(self.x @ p[f"{GUIDE}z"]))

    def exact(self, p: Parameters) -> Tensor:
        theta = self.x @ p[f"{GUIDE}z"]
        z, weight = self.family.expect(theta)
        value = _network(self.family.features(z), p["network of z"])
        log_y = dist.Normal(value[:, None, 0] * value[None, :, 1], SCALE).log_prob(self.y)
        joint = weight[:, None, 0] * weight[None, :, 1]
        return (weight * self.cost(theta, p["prior of z"], z)).sum() - (joint * log_y).sum()


def _network(features: Tensor, weight: Tensor) -> Tensor:
    """A smooth function of all features, with parameters."""
    features = features.to(weight.dtype)
    return 1.5 * torch.tanh(features @ weight).prod(-1) + (features @ weight).sin().sum(-1)


PROGRAMS: tuple[type[Program], ...] = (OneSite, InAPlate, NestedPlates, InSequence)
"""Those whose costs all lie inside the plates of the sites that they depend on."""

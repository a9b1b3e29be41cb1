"""Pairs of model and guide, each with its exact ELBO in plain torch.

Every guide has parameters that the elements of a plate share, every model has parameters of its own,
and costs are nonlinear functions of all coordinates. ``exact`` is the negative ELBO as a function of
the parameters: enumeration or quadrature, independent of the package.
"""

from abc import ABC, abstractmethod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from .families import DTYPE, NORMAL, Family, normal_expect, normal_log_prob

Parameters = dict[str, Tensor]


class Layout(ABC):
    """``sites`` are the sites of the family under test, in the order they are sampled."""

    sites: tuple[str, ...] = ("z",)
    inside = True
    """Whether every cost lies in the plates of the sites that it depends on."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.generator = torch.Generator().manual_seed(7)
        self.initial = self.parameters()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=DTYPE)

    def current(self) -> Parameters:
        """The parameters, from the parameter store."""
        return {name: pyro.param(name, value.clone()) for name, value in self.initial.items()}

    def model(self) -> None:
        self.generate(self.current())

    def guide(self) -> None:
        self.infer(self.current())

    def exact_gradient(self) -> Tensor:
        """The negative ELBO, then its gradient, flat."""
        parameters = {k: v.clone().requires_grad_() for k, v in self.initial.items()}
        loss = self.exact(parameters)
        gradient = torch.autograd.grad(loss, list(parameters.values()))
        return torch.cat([loss.detach().reshape(1), *(g.flatten() for g in gradient)])

    @abstractmethod
    def parameters(self) -> Parameters: ...

    @abstractmethod
    def generate(self, p: Parameters) -> None: ...

    @abstractmethod
    def infer(self, p: Parameters) -> None: ...

    @abstractmethod
    def exact(self, p: Parameters) -> Tensor: ...


def network(features: Tensor, weight: Tensor) -> Tensor:
    """A nonlinear function of all features, with parameters."""
    return 1.5 * torch.tanh(features @ weight).prod(-1) + (features @ weight).sin().sum(-1)


class NoPlate(Layout):
    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.y = torch.tensor(1.2, dtype=DTYPE)
        return {
            "phi": self.normal(size),
            "prior": 0.5 * self.normal(size),
            "theta": self.normal(features, 2),
        }

    def generate(self, p: Parameters) -> None:
        z = pyro.sample("z", self.family.make(p["prior"]))
        loc = network(self.family.features(z), p["theta"])
        pyro.sample("y", dist.Normal(loc, 0.8), obs=self.y)

    def infer(self, p: Parameters) -> None:
        pyro.sample("z", self.family.make(p["phi"]))

    def exact(self, p: Parameters) -> Tensor:
        z, weight = self.family.expect(p["phi"])
        loc = network(self.family.features(z), p["theta"])
        cost = self.family.log_prob(p["phi"], z) - self.family.log_prob(p["prior"], z)
        return (weight * (cost - normal_log_prob(self.y, loc, 0.8))).sum()


class Plate(Layout):
    elements = 3
    subsample: int | None = None

    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.x, self.y = self.normal(self.elements, 2), self.normal(self.elements)
        return {
            "phi": 0.7 * self.normal(2, size),
            "local": 0.5 * self.normal(self.elements, size),
            "prior": 0.5 * self.normal(size),
            "theta": self.normal(features, 2),
        }

    def plate(self) -> pyro.plate:
        return pyro.plate("data", self.elements, subsample_size=self.subsample, dim=-1)

    def generate(self, p: Parameters) -> None:
        with self.plate() as i:
            z = pyro.sample("z", self.family.make(p["prior"].expand(len(i), -1)))
            loc = network(self.family.features(z), p["theta"])
            pyro.sample("y", dist.Normal(loc, 0.8), obs=self.y[i])

    def infer(self, p: Parameters) -> None:
        with self.plate() as i:
            pyro.sample("z", self.family.make(self.x[i] @ p["phi"] + p["local"][i]))

    def exact(self, p: Parameters) -> Tensor:
        logits = self.x @ p["phi"] + p["local"]
        z, weight = self.family.expect(logits)
        loc = network(self.family.features(z), p["theta"])
        cost = self.family.log_prob(logits, z) - self.family.log_prob(p["prior"], z)
        return (weight * (cost - normal_log_prob(self.y, loc, 0.8))).sum()


class SubsampledPlate(Plate):
    elements = 4
    subsample = 2


class NestedPlates(Layout):
    """``w`` in the outer plate, ``z`` given ``w`` in both."""

    sites = ("w", "z")

    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.x, self.y = self.normal(2, 3, 2), self.normal(2, 3)
        return {
            "phi_w": 0.7 * self.normal(2, size),
            "phi_z": 0.7 * self.normal(2, size),
            "phi_wz": self.normal(features, size),
            "prior": 0.5 * self.normal(size),
            "theta_w": self.normal(features, 2),
            "theta_z": self.normal(features, 2),
        }

    def _loc(self, p: Parameters, w: Tensor, z: Tensor) -> Tensor:
        features = self.family.features
        return network(features(z), p["theta_z"]) * (1 + network(features(w), p["theta_w"]))

    def _logits(self, p: Parameters) -> Tensor:
        return self.x.mean(1, keepdim=True) @ p["phi_w"]

    def _logits_z(self, p: Parameters, w: Tensor) -> Tensor:
        return self.x @ p["phi_z"] + self.family.features(w) @ p["phi_wz"]

    def generate(self, p: Parameters) -> None:
        with pyro.plate("outer", 2, dim=-2):
            w = pyro.sample("w", self.family.make(p["prior"].expand(2, 1, -1)))
            with pyro.plate("inner", 3, dim=-1):
                z = pyro.sample("z", self.family.make(p["prior"].expand(2, 3, -1)))
                pyro.sample("y", dist.Normal(self._loc(p, w, z), 1.0), obs=self.y)

    def infer(self, p: Parameters) -> None:
        with pyro.plate("outer", 2, dim=-2):
            w = pyro.sample("w", self.family.make(self._logits(p)))
            with pyro.plate("inner", 3, dim=-1):
                pyro.sample("z", self.family.make(self._logits_z(p, w)))

    def exact(self, p: Parameters) -> Tensor:
        family, logits = self.family, self._logits(p)
        w, weight_w = family.expect(logits)
        logits_z = self._logits_z(p, w)
        z, weight_z = family.expect(logits_z)
        cost_w = family.log_prob(logits, w) - family.log_prob(p["prior"], w)
        cost_z = family.log_prob(logits_z, z) - family.log_prob(p["prior"], z)
        cost_z = cost_z - normal_log_prob(self.y, self._loc(p, w, z), 1.0)
        inner = (weight_z * cost_z).sum(0).sum(-1, keepdim=True)
        return (weight_w * (cost_w + inner)).sum()


class Hierarchy(Layout):
    """``z1``, then ``z2`` given ``z1``, in one plate."""

    sites = ("z1", "z2")

    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.x, self.y = self.normal(2, 2), self.normal(2)
        return {
            "phi_1": 0.7 * self.normal(2, size),
            "phi_2": self.normal(features, size),
            "phi_x": 0.7 * self.normal(2, size),
            "prior_1": 0.5 * self.normal(size),
            "prior_2": self.normal(features, size),
            "theta": self.normal(2 * features, 2),
        }

    def _loc(self, p: Parameters, z1: Tensor, z2: Tensor) -> Tensor:
        f1, f2 = self.family.features(z1), self.family.features(z2)
        f1, f2 = torch.broadcast_tensors(f1, f2)
        return network(torch.cat([f1, f2], -1), p["theta"])

    def generate(self, p: Parameters) -> None:
        family = self.family
        with pyro.plate("data", 2, dim=-1):
            z1 = pyro.sample("z1", family.make(p["prior_1"].expand(2, -1)))
            z2 = pyro.sample("z2", family.make(family.features(z1) @ p["prior_2"]))
            pyro.sample("y", dist.Normal(self._loc(p, z1, z2), 0.8), obs=self.y)

    def infer(self, p: Parameters) -> None:
        family = self.family
        with pyro.plate("data", 2, dim=-1):
            z1 = pyro.sample("z1", family.make(self.x @ p["phi_1"]))
            pyro.sample("z2", family.make(family.features(z1) @ p["phi_2"] + self.x @ p["phi_x"]))

    def exact(self, p: Parameters) -> Tensor:
        family = self.family
        logits_1 = self.x @ p["phi_1"]
        z1, weight_1 = family.expect(logits_1)
        logits_2 = family.features(z1) @ p["phi_2"] + self.x @ p["phi_x"]
        z2, weight_2 = family.expect(logits_2)
        cost = family.log_prob(logits_1, z1) - family.log_prob(p["prior_1"], z1)
        cost = cost + family.log_prob(logits_2, z2)
        cost = cost - family.log_prob(family.features(z1) @ p["prior_2"], z2)
        cost = cost - normal_log_prob(self.y, self._loc(p, z1, z2), 0.8)
        return (weight_1 * weight_2 * cost).sum()


class PathwiseUpstream(Layout):
    """A reparameterised ``e``, then ``z`` given ``e``, in one plate."""

    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.x, self.y = self.normal(2, 2), self.normal(2)
        return {
            "phi_e": 0.7 * self.normal(2, 2),
            "phi_z": 0.7 * self.normal(2, size),
            "phi_ez": self.normal(1, size),
            "prior": 0.5 * self.normal(size),
            "theta": self.normal(features + 1, 2),
        }

    def _loc(self, p: Parameters, e: Tensor, z: Tensor) -> Tensor:
        features, e = self.family.features(z), torch.tanh(e).unsqueeze(-1)
        shape = torch.broadcast_shapes(features.shape[:-1], e.shape[:-1])
        joined = torch.cat([features.expand(*shape, -1), e.expand(*shape, -1)], -1)
        return network(joined, p["theta"])

    def generate(self, p: Parameters) -> None:
        with pyro.plate("data", 2, dim=-1):
            e = pyro.sample("e", dist.Normal(torch.zeros((), dtype=DTYPE), 1.0))
            z = pyro.sample("z", self.family.make(p["prior"].expand(2, -1)))
            pyro.sample("y", dist.Normal(self._loc(p, e, z), 0.8), obs=self.y)

    def infer(self, p: Parameters) -> None:
        with pyro.plate("data", 2, dim=-1):
            e = pyro.sample("e", NORMAL.make(self.x @ p["phi_e"]))
            pyro.sample("z", self.family.make(self._logits(p, e)))

    def _logits(self, p: Parameters, e: Tensor) -> Tensor:
        return self.x @ p["phi_z"] + torch.tanh(e).unsqueeze(-1) @ p["phi_ez"]

    def exact(self, p: Parameters) -> Tensor:
        family, theta = self.family, self.x @ p["phi_e"]
        e, weight_e = normal_expect(theta)
        logits = self._logits(p, e)
        z, weight_z = family.expect(logits)
        cost = NORMAL.log_prob(theta, e) - normal_log_prob(e, torch.zeros(()), 1.0)
        cost = cost + family.log_prob(logits, z) - family.log_prob(p["prior"], z)
        cost = cost - normal_log_prob(self.y, self._loc(p, e, z), 0.8)
        return (weight_e * weight_z * cost).sum()


class PathwiseDownstream(PathwiseUpstream):
    """``z``, then a reparameterised ``e`` given ``z``, in one plate."""

    def parameters(self) -> Parameters:
        features = self.family.num_features
        parameters = {**super().parameters(), "phi_ze": 0.7 * self.normal(features, 2)}
        del parameters["phi_ez"]
        return parameters

    def _theta(self, p: Parameters, z: Tensor) -> Tensor:
        return self.x @ p["phi_e"] + self.family.features(z) @ p["phi_ze"]

    def infer(self, p: Parameters) -> None:
        with pyro.plate("data", 2, dim=-1):
            z = pyro.sample("z", self.family.make(self.x @ p["phi_z"]))
            pyro.sample("e", NORMAL.make(self._theta(p, z)))

    def exact(self, p: Parameters) -> Tensor:
        family, logits = self.family, self.x @ p["phi_z"]
        z, weight_z = family.expect(logits)
        theta = self._theta(p, z)
        e, weight_e = normal_expect(theta)
        cost = NORMAL.log_prob(theta, e) - normal_log_prob(e, torch.zeros(()), 1.0)
        cost = cost + family.log_prob(logits, z) - family.log_prob(p["prior"], z)
        cost = cost - normal_log_prob(self.y, self._loc(p, e, z), 0.8)
        return (weight_e * weight_z * cost).sum()


class CostOutside(Layout):
    """``z`` in a plate, and a cost outside of it that depends on all its elements."""

    inside = False

    def parameters(self) -> Parameters:
        size, features = self.family.size, self.family.num_features
        self.x, self.y = self.normal(2, 2), torch.tensor([0.6], dtype=DTYPE)
        return {
            "phi": 0.7 * self.normal(2, size),
            "prior": 0.5 * self.normal(size),
            "theta": self.normal(features, 2),
        }

    def generate(self, p: Parameters) -> None:
        with pyro.plate("data", 2, dim=-1):
            z = pyro.sample("z", self.family.make(p["prior"].expand(2, -1)))
        loc = network(self.family.features(z), p["theta"]).prod(-1, keepdim=True)
        pyro.sample("y", dist.Normal(loc, 0.8), obs=self.y)

    def infer(self, p: Parameters) -> None:
        with pyro.plate("data", 2, dim=-1):
            pyro.sample("z", self.family.make(self.x @ p["phi"]))

    def exact(self, p: Parameters) -> Tensor:
        family, logits = self.family, self.x @ p["phi"]
        z, weight = family.expect(logits)
        cost = family.log_prob(logits, z) - family.log_prob(p["prior"], z)
        value = network(family.features(z), p["theta"])
        loc = value[:, None, 0] * value[None, :, 1]
        joint = weight[:, None, 0] * weight[None, :, 1]
        return (weight * cost).sum() - (joint * normal_log_prob(self.y, loc, 0.8)).sum()


LAYOUTS = {
    "no_plate": NoPlate,
    "plate": Plate,
    "subsampled_plate": SubsampledPlate,
    "nested_plates": NestedPlates,
    "hierarchy": Hierarchy,
    "pathwise_upstream": PathwiseUpstream,
    "pathwise_downstream": PathwiseDownstream,
    "cost_outside": CostOutside,
}

ALONE = ("no_plate", "plate", "nested_plates", "hierarchy")
"""Layouts of :data:`LAYOUTS` in which nothing but their ``sites`` is random."""

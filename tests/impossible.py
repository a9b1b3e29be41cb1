"""Programs with values of probability 0, each beside the same program with these removed by hand."""

import math
from dataclasses import dataclass
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from .layouts import network

ROWS, CLASSES = 3, 4
ALLOWED = ((0, 2, 3), (1, 2), (0, 1, 2, 3))
FORCED = ((1.0, None, 0.0, None), (None, None, 1.0, 1.0), (None, 0.0, None, None))
"""Per row: the classes that are possible; the bits that are certain."""

NAMES = ("phi", "prior", "theta")


@dataclass(frozen=True)
class Impossible:
    """A plate of rows whose classes, or bits, are partly impossible.

    ``by``: how the distributions are given. ``where``: whether guide and model exclude the values, or
    one of them.
    """

    family: Literal["Bernoulli", "OneHotCategorical", "Categorical"]
    by: Literal["logits", "probs"] = "logits"
    where: Literal["both", "guide", "model"] = "both"
    dtype: torch.dtype = torch.float64

    @property
    def is_binary(self) -> bool:
        return self.family == "Bernoulli"

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(11)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)

        initial = 0.7 * normal(ROWS, CLASSES), 0.5 * normal(CLASSES), normal(CLASSES, 2)
        self_y = normal(ROWS)
        object.__setattr__(self, "y", self_y)
        return tuple(pyro.param(name, x) for name, x in zip(NAMES, initial, strict=True))

    def _masked(self, logits: Tensor, excluded: bool) -> Tensor:
        logits = logits.expand(ROWS, CLASSES)
        if not excluded:
            return logits
        if self.is_binary:
            ends = [[0.0 if f is None else math.inf * (2 * f - 1) for f in row] for row in FORCED]
            ends = torch.tensor(ends, dtype=self.dtype)
            return torch.where(ends == 0, logits, ends)
        mask = torch.full((ROWS, CLASSES), -math.inf, dtype=self.dtype)
        for row, allowed in enumerate(ALLOWED):
            mask[row, list(allowed)] = 0
        return logits + mask

    def fn(self, logits: Tensor) -> dist.TorchDistribution:
        if self.is_binary:
            given = logits if self.by == "logits" else logits.sigmoid()
            return dist.Bernoulli(**{self.by: given}).to_event(1)
        given = logits if self.by == "logits" else logits.softmax(-1)
        return getattr(dist, self.family)(**{self.by: given})

    def _features(self, z: Tensor, classes: int = CLASSES) -> Tensor:
        if self.family != "Categorical":
            return z
        return torch.nn.functional.one_hot(z, classes).to(self.dtype)

    # -- as it is ---------------------------------------------------------------------------------

    def guide(self) -> None:
        phi, _, _ = self.parameters()
        with pyro.plate("rows", ROWS):
            pyro.sample("z", self.fn(self._masked(phi, self.where != "model")))

    def model(self) -> None:
        _, prior, theta = self.parameters()
        with pyro.plate("rows", ROWS):
            z = pyro.sample("z", self.fn(self._masked(prior, self.where != "guide")))
            loc = network(self._features(z), theta)
            pyro.sample("y", dist.Normal(loc, 0.8), obs=self.y)

    # -- by hand ----------------------------------------------------------------------------------

    def smaller_guide(self) -> None:
        phi, _, _ = self.parameters()
        for row in range(ROWS):
            self._small_sites(row, phi[row], score=False)

    def smaller_model(self) -> None:
        _, prior, theta = self.parameters()
        for row in range(ROWS):
            features = self._small_sites(row, prior, score=self.where == "guide")
            pyro.sample(f"y{row}", dist.Normal(network(features, theta), 0.8), obs=self.y[row])

    def _small_sites(self, row: int, logits: Tensor, score: bool) -> Tensor:
        """The features of a row; ``score``: the probability of what is left counts."""
        if self.is_binary:
            bits = []
            for column, forced in enumerate(FORCED[row]):
                one = dist.Bernoulli(logits=logits[column])
                if forced is None:
                    bits.append(pyro.sample(f"z{row}{column}", one))
                    continue
                bits.append(torch.tensor(forced, dtype=self.dtype))
                if score:
                    pyro.factor(f"f{row}{column}", one.log_prob(bits[-1]))
            return torch.stack(torch.broadcast_tensors(*bits), -1)
        left = list(ALLOWED[row])
        if score:
            pyro.factor(f"f{row}", logits.log_softmax(-1)[left].logsumexp(-1))
        z = pyro.sample(f"z{row}", getattr(dist, self.family)(logits=logits[left]))
        return self._features(z, len(left)) @ torch.eye(CLASSES, dtype=self.dtype)[left]

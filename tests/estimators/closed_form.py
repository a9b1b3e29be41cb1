"""Plates of Bernoulli vectors, or of classes, and their costs: for same-seed closed forms."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

ROWS, COLUMNS, CLASSES = 4, 3, 3


class Program:
    """``z ~ Bernoulli(logits)`` in a plate, ``y ~ Normal(loc(z), 1)``; costs per row."""

    def __init__(self, num_particles: int = 1) -> None:
        generator = torch.Generator().manual_seed(3)
        self.num_particles = num_particles
        self.logits = torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
        self.weight = torch.randn(COLUMNS, generator=generator, dtype=torch.float64)
        self.y = torch.randn(ROWS, generator=generator, dtype=torch.float64)

    def loc(self, z: Tensor, weight: Tensor) -> Tensor:
        return (z * weight).sum(-1).sin() * 2 + z.prod(-1)

    def model(self) -> None:
        weight = pyro.param("weight", self.weight.clone())
        with pyro.plate("data", ROWS):
            prior = torch.zeros(ROWS, COLUMNS, dtype=torch.float64)
            z = pyro.sample("z", dist.Bernoulli(logits=prior).to_event(1))
            pyro.sample("y", dist.Normal(self.loc(z, weight), 1.0), obs=self.y)

    def guide(self) -> None:
        logits = pyro.param("logits", self.logits.clone())
        with pyro.plate("data", ROWS):
            pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))

    def log_q(self, z: Tensor, logits: Tensor) -> Tensor:
        return (z * logsigmoid(logits) + (1 - z) * logsigmoid(-logits)).sum(-1)

    def cost(self, z: Tensor, logits: Tensor, weight: Tensor) -> Tensor:
        """``log q - log p`` per row; also where ``z`` is relaxed, extended linearly."""
        log_p = COLUMNS * torch.tensor(0.5).double().log()
        log_y = (
            -0.5 * (self.y - self.loc(z, weight)) ** 2
            - 0.5 * torch.tensor(2 * torch.pi, dtype=torch.float64).log()
        )
        return self.log_q(z, logits) - log_p - log_y

    def value(self) -> Tensor:
        """The draw that the guide makes first, and so under the same seed the same numbers."""
        shape = (self.num_particles,) if self.num_particles > 1 else ()
        return torch.bernoulli(self.logits.sigmoid().expand(*shape, ROWS, COLUMNS))

    def parameters(self) -> tuple[Tensor, Tensor]:
        return self.logits.clone().requires_grad_(), self.weight.clone().requires_grad_()


class Classes:
    """``z ~ Categorical(logits)`` in a plate, ``y ~ Normal(loc(z), 1)``; costs per row."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        shape = (ROWS, COLUMNS, CLASSES)
        self.logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.weight = torch.randn(COLUMNS, CLASSES, generator=generator, dtype=torch.float64)
        self.y = torch.randn(ROWS, generator=generator, dtype=torch.float64)

    def loc(self, z: Tensor, weight: Tensor) -> Tensor:
        chosen = weight[torch.arange(COLUMNS), z]
        return chosen.sum(-1).sin() * 2 + chosen.prod(-1)

    def model(self) -> None:
        weight = pyro.param("weight", self.weight.clone())
        with pyro.plate("data", ROWS):
            prior = torch.zeros(COLUMNS, CLASSES, dtype=torch.float64)
            z = pyro.sample("z", dist.Categorical(logits=prior).to_event(1))
            pyro.sample("y", dist.Normal(self.loc(z, weight), 1.0), obs=self.y)

    def guide(self) -> None:
        logits = pyro.param("logits", self.logits.clone())
        with pyro.plate("data", ROWS):
            pyro.sample("z", dist.Categorical(logits=logits).to_event(1))

    def cost(self, z: Tensor, logits: Tensor, weight: Tensor) -> Tensor:
        """``log q - log p`` per row, but for a constant."""
        log_q = logits.log_softmax(-1).expand(*z.shape, -1).gather(-1, z[..., None]).sum((-1, -2))
        return log_q + 0.5 * (self.y - self.loc(z, weight)) ** 2

    def parameters(self) -> tuple[Tensor, Tensor]:
        return self.logits.clone().requires_grad_(), self.weight.clone().requires_grad_()


def gradients(elbo, program: Program | Classes, seed: int) -> dict[str, Tensor]:
    """The ELBO's gradient under a seed."""
    pyro.clear_param_store()
    pyro.param("weight", program.weight.clone())
    pyro.param("logits", program.logits.clone())
    torch.manual_seed(seed)
    elbo.loss_and_grads(program.model, program.guide)
    return {name: pyro.param(name).grad for name in ("logits", "weight")}


def assert_same(actual: dict[str, Tensor], logits: Tensor, weight: Tensor) -> None:
    torch.testing.assert_close(actual["logits"], logits, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(actual["weight"], weight, rtol=1e-4, atol=1e-6)

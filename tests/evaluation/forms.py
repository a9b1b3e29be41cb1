"""Ways of writing a program that do not broadcast, each with what it computes from a vector."""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

SIZE, ROWS = 3, 4
_generator = torch.Generator().manual_seed(5)
X = torch.randn(ROWS, SIZE, generator=_generator, dtype=torch.float64)
W = torch.randn(2 * SIZE, generator=_generator, dtype=torch.float64)


def tensor(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def filled_in_place(z: Tensor) -> Tensor:
    filled = torch.zeros(SIZE, dtype=z.dtype)
    filled += z
    return filled.sum(-1)


def unpacked(z: Tensor) -> Tensor:
    a, b, c = z
    return a + 2 * b * c


@dataclass(frozen=True)
class Form:
    """``compute(z)`` of a vector of size 3, used in a plate of ``rows`` elements, if any."""

    compute: Callable[[Tensor], Tensor]
    rows: int = 0


FORMS = {
    "index": Form(lambda z: z[0] + 2 * z[1]),
    "sum": Form(lambda z: z.sum()),
    "mean of squares": Form(lambda z: (z - 0.3).square().mean()),
    "matmul": Form(lambda z: z @ X.T, ROWS),
    "linear": Form(lambda z: X @ z, ROWS),
    "cat": Form(lambda z: (torch.cat([z, 1 - z]) * W).sum(-1)),
    "stack": Form(lambda z: torch.stack([z[..., 0], z[..., 1]]), 2),
    "einsum": Form(lambda z: torch.einsum("i,ji->j", z, X), ROWS),
    "element by element": Form(lambda z: z, SIZE),
    "centred": Form(lambda z: ((z - z.mean()) * X[0]).sum(-1)),
    "softmax": Form(lambda z: (z.softmax(0) * X[0]).sum(-1)),
    "cumsum": Form(lambda z: (z.cumsum(0) * X[0]).sum(-1)),
    "flip": Form(lambda z: (z.flip(0) * X[0]).sum(-1)),
    "repeat": Form(lambda z: (z.repeat(2) * W).sum(-1)),
    "reshape": Form(lambda z: (z.reshape(SIZE) * X[0]).sum(-1)),
    "filled in place": Form(filled_in_place),
    "outer": Form(lambda z: (torch.outer(z, z) * (X.T @ X)).sum((-1, -2))),
    "outer by diag": Form(lambda z: (torch.diag(z) @ X[0]).sum(-1)),
    "norm": Form(lambda z: (z + 0.1).norm()),
    "dot": Form(lambda z: torch.dot(z, X[0])),
    "unpacking": Form(unpacked),
}

BROADCASTING = {
    "index": Form(lambda z: z[..., 0] + 2 * z[..., 1]),
    "sum": Form(lambda z: z.sum(-1)),
    "matmul": Form(lambda z: (X * z).sum(-1), ROWS),
    "cat": Form(lambda z: (torch.cat([z, 1 - z], -1) * W).sum(-1)),
    "centred": Form(lambda z: ((z - z.mean(-1, keepdim=True)) * X[0]).sum(-1)),
    "softmax": Form(lambda z: (z.softmax(-1) * X[0]).sum(-1)),
}


class Programs:
    """A model and a guide that compute a form of the guide's first site ``z``.

    Args:
        form: what is computed.
        place: "model": for the mean of ``x``; "guide": for the logits of ``w``.
        continuous: whether ``z`` is normal rather than binary.
    """

    names = ("l", "s")

    def __init__(self, form: Form, place: str = "model", continuous: bool = False) -> None:
        self.form, self.place, self.continuous = form, place, continuous
        self.runs = 0
        self.initialise()

    def initialise(self) -> None:
        """Makes the parameters."""
        pyro.param("l", torch.linspace(-0.4, 0.6, SIZE, dtype=torch.float64))
        pyro.param("s", tensor(0.7))

    def _latent(self, parameter: Tensor) -> dist.TorchDistribution:
        if self.continuous:
            return dist.Normal(parameter, 1.0).to_event(1)
        return dist.Bernoulli(logits=parameter).to_event(1)

    def _plate(self) -> Any:
        return pyro.plate("rows", self.form.rows) if self.form.rows else nullcontext()

    def guide(self) -> None:
        z = pyro.sample("z", self._latent(pyro.param("l")))
        if self.place == "guide":
            logits = self.form.compute(z)
            with self._plate():
                pyro.sample("w", dist.Bernoulli(logits=logits))

    def model(self) -> None:
        self.runs += 1
        z = pyro.sample("z", self._latent(torch.zeros(SIZE, dtype=torch.float64)))
        loc = self.form.compute(z) if self.place == "model" else None
        with self._plate():
            if self.place == "guide":
                loc = pyro.sample("w", dist.Bernoulli(tensor(0.4))) * 2
            pyro.sample("x", dist.Normal(loc * pyro.param("s"), 1.0), obs=self._data())

    def _data(self) -> Tensor:
        data = torch.linspace(0.2, 1.5, self.form.rows or 1, dtype=torch.float64)
        return data if self.form.rows else data.squeeze()

    def exact(self) -> Tensor:
        """The negative ELBO, then its gradient, by enumeration of plain runs."""
        parameters = [pyro.param(name).detach().clone().requires_grad_() for name in self.names]
        sizes = {"z": SIZE}
        if self.place == "guide":
            sizes["w"] = self.form.rows or 1
        loss = tensor(0.0)
        given = dict(zip(self.names, parameters, strict=True))
        with poutine.block(), poutine.substitute(data=given):
            for bits in itertools.product((0.0, 1.0), repeat=sum(sizes.values())):
                values, rest = {}, torch.tensor(bits, dtype=torch.float64)
                for name, size in sizes.items():
                    values[name], rest = rest[:size], rest[size:]
                if "w" in values and not self.form.rows:
                    values["w"] = values["w"].squeeze(-1)
                q, p = (
                    poutine.trace(poutine.condition(program, values)).get_trace().log_prob_sum()
                    for program in (self.guide, self.model)
                )
                loss = loss + q.exp() * (q - p)
        gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = zip(gradient, parameters, strict=True)
        flat = [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs]
        return torch.cat([loss.detach().reshape(1), *flat])

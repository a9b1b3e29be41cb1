"""Quadrature of normal sites beside the pathwise gradient: variance and bias at equal evaluations.

Random effects in a plate, of counts and of binary outcomes, and a logistic regression with all of its
coefficients in one site (``examples/regression.py``), each by a mean-field guide. The bias is the mean
difference from the same draws by many nodes.

``python -m tests.benchmarks.quadrature`` prints the table; ``--draws`` makes it shorter.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI
from pyro.optim import Adam
from sklearn.datasets import load_breast_cancer
from torch import Tensor

import pyro_reparam_ext as pre

FINE, STEPS = 24, 1000
NAMES = ("loc", "log_scale")


class Problem(NamedTuple):
    """A model, the shape of its latent site, of how many coordinates, and the nodes to be tried."""

    model: Callable[[], Any]
    plate: int
    coordinates: int
    nodes: tuple[int, ...]

    def guide(self) -> None:
        shape = (self.plate,) if self.plate > 1 else (self.coordinates,)
        loc = pyro.param("loc", torch.zeros(shape))
        fn = dist.Normal(loc, pyro.param("log_scale", torch.full(shape, -0.5)).exp())
        if self.plate > 1:
            with pyro.plate("groups", self.plate, dim=-1):
                pyro.sample("z", fn)
        else:
            pyro.sample("z", fn.to_event(1))


def counts() -> Problem:
    """One count for each of 50 groups, of a mean rate of 2."""
    y = torch.poisson((0.5 + 0.7 * torch.randn(50)).exp())

    def model() -> None:
        with pyro.plate("groups", 50, dim=-1):
            z = pyro.sample("z", dist.Normal(0.5, 0.7))
            pyro.sample("y", dist.Poisson(z.exp()), obs=y)

    return Problem(model, 50, 1, (3, 5, 8))


def outcomes() -> Problem:
    """Five binary outcomes for each of 50 groups, the effects of which differ much."""
    y = torch.distributions.Binomial(5, logits=1.5 * torch.randn(50)).sample()

    def model() -> None:
        with pyro.plate("groups", 50, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.5))
            pyro.sample("y", dist.Binomial(5, logits=z), obs=y)

    return Problem(model, 50, 1, (3, 5, 8))


def regression() -> Problem:
    """Breast cancer, 31 coefficients."""
    x, benign = load_breast_cancer(return_X_y=True)
    features = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    features = torch.cat([torch.ones(len(x), 1), features], 1)
    y = torch.tensor(benign, dtype=torch.float32)

    def model() -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(31), 1.0).to_event(1))
        with pyro.plate("cells", len(x), dim=-1):
            pyro.sample("benign", dist.Bernoulli(logits=(z * features).sum(-1)), obs=y)

    return Problem(model, 1, 31, (3, 5))


PROBLEMS = {"counts in groups": counts, "outcomes in groups": outcomes, "regression": regression}


def elbo_of(estimator: pre.estimators.Estimator, particles: int = 1, how: str = "independent") -> Any:
    return pre.TraceEstimator_ELBO(
        estimator,
        num_particles=particles,
        particles=how,
        max_plate_nesting=1 + (particles > 1),
        vectorize_particles="vmap",
    )


def gradients(elbo: Any, problem: Problem, draws: int) -> Tensor:
    """Shape ``(draws, 2, coordinates of all)``: in the means, and in the log scales."""
    pyro.set_rng_seed(1)
    rows = []
    for _ in range(draws):
        for name in NAMES:
            pyro.param(name).grad = None
        elbo.loss_and_grads(problem.model, problem.guide)
        rows.append(torch.stack([pyro.param(name).grad.double() for name in NAMES]))
    return torch.stack(rows)


def measured(problem: Problem, draws: int) -> list[dict[str, Any]]:
    """Of each estimator the variance, and of quadrature the squared bias, summed over coordinates."""
    fine = gradients(elbo_of(pre.GaussHermite(FINE)), problem, draws)
    rows = []
    for nodes in problem.nodes:
        evaluations = 1 + nodes * problem.coordinates
        found = gradients(elbo_of(pre.GaussHermite(nodes)), problem, draws)
        bias = (found - fine).mean(0).square().sum(-1)
        rows.append(_row(f"GaussHermite({nodes})", evaluations, found, bias))
        for name, estimator, how in (
            ("Pathwise", pre.Pathwise(), "independent"),
            ("StickingTheLanding", pre.StickingTheLanding(), "independent"),
            ("Pathwise, strata", pre.Pathwise(), "latin_hypercube"),
        ):
            found = gradients(elbo_of(estimator, evaluations, how), problem, draws)
            rows.append(_row(name, evaluations, found, None))
    return rows


def _row(name: str, evaluations: int, found: Tensor, bias: Tensor | None) -> dict[str, Any]:
    row: dict[str, Any] = {"estimator": name, "evaluations": evaluations}
    variance = found.var(0).sum(-1)
    for place, kind in enumerate(("means", "log scales")):
        row[f"variance, {kind}"] = _told(float(variance[place]))
        row[f"bias^2, {kind}"] = "" if bias is None else _told(float(bias[place]))
    return row


def _told(x: float) -> str:
    """Two digits, and nothing below what float32 rounds."""
    return "0" if x < 1e-9 else f"{x:.2g}"


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    tables = []
    for label, make in PROBLEMS.items():
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        problem = make()
        svi = SVI(problem.model, problem.guide, Adam({"lr": 0.02}), elbo_of(pre.Pathwise(), 16))
        for phase, steps in (("start", 0), ("end", args.steps)):
            for _ in range(steps):
                svi.step()
            if not steps:
                problem.guide()
            table = pd.DataFrame(measured(problem, args.draws))
            table.insert(0, "program", f"{label}, {phase}")
            tables.append(table)
    print(pd.concat(tables).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--steps", type=int, default=STEPS)
    main(parser.parse_args())

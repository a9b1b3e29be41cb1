"""When runs stop by themselves: too early, at the right time, or too late.

``python -m tests.benchmarks.convergence`` counts, for each stopping rule, the false stops among 1,000
synthetic traces of which it is known where they go to, and prints where ten runs of a regression with a
known optimum stop: beside the distance of the averaged parameters to it, that of the last iterates and
that of a run ten times as long.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

import pyro_reparam_ext as pre
from pyro_reparam_ext.convergence.result import Losses

from ..convergence.traces import falling, stationary, stopped, walk

ROWS = 2500
"""Of a trace: one is 10 steps."""
OFF = 0.5
"""Deviations of the iterates by which an average may be off from where its trace goes to."""


def traces(count: int) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Kinds of traces, their rows, and the means that they fall along; None where these go nowhere."""
    generator = torch.Generator().manual_seed(0)
    memories, coordinates = (0.0, 0.3, 0.6, 0.9), (1, 3, 10)
    for i in range(count):
        memory, width = memories[i % len(memories)], coordinates[i % len(coordinates)]
        first, second = torch.rand(2, generator=generator).tolist()
        if i % 10 < 5:
            height, time = 3 * 30**first, 20 * 10**second
            yield "exponential", *falling(ROWS, width, memory, generator, height, time)
        elif i % 10 < 8:
            yield "random walk", walk(ROWS, width, (0.0, 0.01, 0.1, 1.0)[i % 4], generator), None
        else:
            fall = 0.005 * 10**first * torch.arange(ROWS)[:, None]
            yield "linear", stationary(ROWS, width, memory, generator) - fall, None


def false_stops(count: int) -> pd.DataFrame:
    """For each kind of trace how many there are, how many are stopped, and how many too early."""
    rows = []
    for kind, trace, mean in traces(count):
        step, verdict = stopped(pre.Converged(), trace, torch.zeros(0))
        false = step is not None
        if false and mean is not None:
            false = bool(mean[step // 10 - verdict.averaged : step // 10].mean() > OFF)
        rows.append({"trace": kind, "traces": 1, "stopped": step is not None, "false": false})
    return pd.DataFrame(rows).groupby("trace").sum()


class Regression:
    """Three weights with a normal prior, which have a normal posterior."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(50, 3, generator=generator)
        noise = 0.5 * torch.randn(50, generator=generator)
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5]) + noise
        precision = torch.eye(3) + self.x.T @ self.x / 0.25
        loc = torch.linalg.solve(precision, self.x.T @ self.y / 0.25)
        self.best = torch.cat([loc, precision.diagonal().rsqrt().expm1().log()])
        """The unconstrained parameters of the best guide of independent factors."""

    def model(self) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("rows", len(self.x)):
            pyro.sample("y", dist.Normal(self.x @ w, 0.5), obs=self.y)

    def off(self) -> float:
        """The distance of the parameters to the best ones."""
        store = pyro.get_param_store()
        found = [store[name].unconstrained() for name in ("AutoNormal.locs.w", "AutoNormal.scales.w")]
        return float((torch.cat(found) - self.best).norm())

    def run(self, seed: int, rate: float, steps: int, until: pre.StoppingRule) -> Losses:
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        elbo = pre.TraceEstimator_ELBO(max_plate_nesting=1)
        svi = pre.CompiledSVI(self.model, AutoNormal(self.model), pyro.optim.Adam({"lr": rate}), elbo)
        return svi.run(steps, until=until, progress=False)


class At:
    """Stops after so many steps, with the mean over the last share of the iterates."""

    def __init__(self, steps: int, share: float) -> None:
        self.steps, self.rows = steps, int(share * steps) // 10

    def next_look(self, step: int) -> int:
        return self.steps

    def observe(self, losses: Tensor, iterates: Tensor) -> pre.Verdict:
        return pre.Verdict(len(losses) >= self.steps, averaged=self.rows)


def stops(rate: float, seeds: int, longer: int) -> pd.DataFrame:
    """Where runs stop, and how far parameters are from the best ones."""
    regression, rows = Regression(), []
    for seed in range(seeds):
        result = regression.run(seed, rate, 2_000_000, pre.Converged())
        off, steps = regression.off(), len(result.losses)
        last = (result.iterates[-100:] - regression.best).norm(dim=1).mean().item()
        # A run that ended where its loss rests knows no errors.
        errors = result.errors.values() or [math.nan] * len(regression.best)
        squares = [
            float((value - best) / error) ** 2
            for value, best, error in zip(
                result.iterates[result.steps > result.averaged[0]].mean(0),
                regression.best,
                errors,
                strict=True,
            )
        ]
        row = {"steps": steps, "iterates": last, "average": off, "z": (sum(squares) / 6) ** 0.5}
        if longer > 1:
            share = (result.averaged[1] - result.averaged[0]) / steps
            regression.run(seed, rate, longer * steps, At(longer * steps, share))
            row["longer"] = regression.off()
        rows.append(row)
    return pd.DataFrame(rows)


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    print(false_stops(args.traces).to_string())
    for rate in args.rates:
        print(f"\nAdam, learning rate {rate:g}")
        print(stops(rate, args.seeds, args.longer).to_string(float_format="%.4f"), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Where runs stop by themselves.")
    parser.add_argument("--traces", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rates", type=float, nargs="*", default=[1e-2, 1e-3])
    parser.add_argument("--longer", type=int, default=10, help="1 leaves out the longer run")
    main(parser.parse_args())

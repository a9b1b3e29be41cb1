"""Gradients of sub-samples: the variance by estimator and by the age of the snapshot, and what it buys.

A logistic regression of breast cancer (``examples/regression.py``) in mini-batches of 32 of 569, by a
mean-field guide and by one of full covariance. ``python -m tests.benchmarks.sub_samples`` prints the
tables; ``--draws`` and ``--guides`` make it shorter.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal
from pyro.optim import Adam
from sklearn.datasets import load_breast_cancer

import pyro_reparam_ext as pre

SIZE, EPOCH, RATE, RUNS = 32, 18, 0.02, 5
ESTIMATORS = {
    "Pathwise": pre.Pathwise(),
    "StickingTheLanding": pre.StickingTheLanding(),
    "TaylorControlVariate": pre.TaylorControlVariate(),
    "JointControlVariate": pre.JointControlVariate(),
}
KINDS = {"mean-field": AutoDiagonalNormal, "full covariance": AutoMultivariateNormal}


def regression(size: int | None) -> Callable[..., Any]:
    """Breast cancer, 31 coefficients; ``size`` of the sub-sample, unless its indices are given."""
    x, benign = load_breast_cancer(return_X_y=True)
    features = torch.tensor((x - x.mean(0)) / x.std(0))
    features = torch.cat([torch.ones(len(x), 1, dtype=features.dtype), features], 1)
    y = torch.tensor(benign, dtype=features.dtype)

    def model(given: torch.Tensor | None = None) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(31, dtype=y.dtype), 1.0).to_event(1))
        part = size if given is None else None
        with pyro.plate("cells", len(x), subsample_size=part, subsample=given, dim=-1) as index:
            logits = (z * features[index]).sum(-1)
            pyro.sample("benign", dist.Bernoulli(logits=logits), obs=y[index])

    return model


def elbo_of(name: str, particles: int = 1) -> Any:
    nesting = 1 + (particles > 1)
    return pre.TraceEstimator_ELBO(ESTIMATORS[name], num_particles=particles, max_plate_nesting=nesting)


def begun(
    kind: str, name: str, svi: type[SVI] = SVI, rate: float = RATE, seed: int = 0
) -> tuple[SVI, Any, Any, Any]:
    """An SVI from the start, with its model, guide and ELBO."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    model = regression(SIZE)
    guide = KINDS[kind](model, init_scale=0.1, init_loc_fn=pyro.infer.autoguide.init_to_mean)
    guide()
    guide.double()
    elbo = elbo_of(name)
    return svi(model, guide, Adam({"lr": rate}), elbo), model, guide, elbo


def trained(svi: SVI, model: Any, guide: Any, elbo: Any, steps: int, first: int = 0) -> None:
    """Steps, with a snapshot once an epoch."""
    for step in range(first, first + steps):
        if elbo.estimators is ESTIMATORS["JointControlVariate"] and step % EPOCH == 0:
            pre.take_snapshot(elbo, model, guide)
        svi.step()


def variance(elbo: Any, model: Any, guide: Any, draws: int) -> float:
    """Of the gradient, summed over all parameters; coefficients are fitted before."""
    rows = []
    for number in range(draws + 100):
        guide.zero_grad()
        elbo.loss_and_grads(model, guide)
        if number >= 100:
            rows.append(torch.cat([p.grad.flatten() for p in guide.parameters()]))
    return float(torch.stack(rows).var(0).sum())


def variances(kind: str, draws: int) -> list[dict[str, Any]]:
    """At some places of one run, from where the parameters of the guide were some steps before."""
    places: dict[int, dict[str, Any]] = {}
    svi, model, guide, elbo = begun(kind, "Pathwise")
    for step in range(3001):
        if step in {0, 182, 191, 200, 2940, 2982, 2991, 3000}:
            places[step] = {key: x.clone() for key, x in guide.state_dict().items()}
        svi.step()
    rows = []
    for place, ages in ((0, (0,)), (200, (0, 9, 18)), (3000, (0, 9, 18, 60))):
        guide.load_state_dict(places[place])
        row: dict[str, Any] = {"guide": kind, "step": place}
        for name in list(ESTIMATORS)[:-1]:
            row[name] = variance(elbo_of(name), model, guide, draws)
        row["all data"] = variance(elbo_of("Pathwise"), regression(None), guide, draws)
        for age in ages:
            elbo = elbo_of("JointControlVariate")
            guide.load_state_dict(places[place - age])
            pre.take_snapshot(elbo, model, guide)
            guide.load_state_dict(places[place])
            row[f"{age} steps old"] = variance(elbo, model, guide, draws)
        rows.append(row)
    return rows


def runs(kind: str) -> list[dict[str, Any]]:
    """The ELBO of all data on the way, by estimator and learning rate: means of some runs."""
    rows = []
    for rate in (0.02, 0.005):
        for name in ESTIMATORS:
            found = pd.DataFrame([run(kind, name, rate, seed) for seed in range(RUNS)])
            means, errors = found.mean(), found.std() / RUNS**0.5
            columns = {column: f"{means[column]:.1f} ± {errors[column]:.1f}" for column in found}
            rows.append({"guide": kind, "rate": rate, "estimator": name, **columns})
    return rows


def run(kind: str, name: str, rate: float, seed: int) -> dict[str, float]:
    """The ELBO of all data after some steps of one run."""
    parts, found = begun(kind, name, pre.CompiledSVI, rate, seed), {}
    for first, last in ((0, 300), (300, 1000), (1000, 3000)):
        trained(*parts, last - first, first)
        found[f"step {last}"] = -elbo_of("Pathwise", 2000).loss(regression(None), parts[2])
    return found


def seconds(kind: str) -> list[dict[str, Any]]:
    """CPU time of a step, without snapshots, and of a snapshot: medians of blocks in turns."""
    rows = []
    for svi in (SVI, pre.CompiledSVI):
        for name in ESTIMATORS:
            parts = begun(kind, name, svi)
            trained(*parts, 20)
            found = []
            for _ in range(15):
                start = time.process_time()
                for _ in range(50):
                    parts[0].step()
                found.append((time.process_time() - start) / 50 * 1e3)
            row = {"guide": kind, "svi": svi.__name__, "estimator": name}
            row["ms a step"] = statistics.median(found)
            if name == "JointControlVariate":
                every = [(torch.arange(569),)]
                for column, batches in (("ms a snapshot", None), ("of one batch", every)):
                    start = time.process_time()
                    for _ in range(10):
                        pre.take_snapshot(parts[3], parts[1], parts[2], batches)
                    row[column] = (time.process_time() - start) / 10 * 1e3
            rows.append(row)
    return rows


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for kind in args.guides or KINDS:
        for table in (variances(kind, args.draws), runs(kind), seconds(kind)):
            print(pd.DataFrame(table).to_markdown(index=False, floatfmt=".4g"), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--guides", nargs="*", choices=list(KINDS))
    main(parser.parse_args())

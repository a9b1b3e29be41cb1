"""Runs the benchmarks and prints their ratios."""

from __future__ import annotations

import argparse
import importlib

import pyro
import torch

from .timing import table

BENCHMARKS = (
    "compiled",
    "pathwise",
    "bernoulli_vae",
    "study",
    "distributions",
    "networks",
    "chain",
    "modes",
    "discrete_digits",
    "discrete_toy",
    "memory",
    "poisson_factors",
    "deep_digits",
    "storchastic",
    "subsets_and_orders",
)


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    rows = []
    for name in args.only or BENCHMARKS:
        pyro.clear_param_store()
        torch.manual_seed(0)
        rows += importlib.import_module(f".{name}", __package__).run(args.quick)
    if rows:
        print("CPU time a call, one thread; ratio: the median over interleaved repetitions\n")
        print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ratios of CPU times, one thread.")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="run only these")
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it run?")
    main(parser.parse_args())

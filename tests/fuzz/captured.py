"""Whether a captured step of a program is its eager step."""

from __future__ import annotations

import re
import warnings

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor

import pyro_reparam_ext as pre

from ..compiled.steps import GraphSVI, adam, taken
from .check import Outcome, elbo_of, guide_of
from .grammar import Program
from .source import compiled

STEPS = 4
TOLERANCE = 1e-6
"""REBAR learns in single precision."""


def check_captured(program: Program) -> Outcome:
    """Takes some steps of a program by ``SVI`` and as a graph, from one seed."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            eager = _steps(SVI, program)
        except Exception as error:
            return Outcome("refused", str(error))
        try:
            graph = _steps(GraphSVI, program)
        except pre.EstimatorError as error:
            honest = re.search(r"reads a value as a Python number.* at <program \d+>:\d+", str(error))
            return Outcome("refused" if honest else "failed", str(error))
        except Exception as error:
            return Outcome("failed", f"{type(error).__name__}: {error}")
    if eager.keys() != graph.keys():
        return Outcome("wrong", f"{sorted(eager)} are not {sorted(graph)}")
    for name, x in eager.items():
        if not torch.allclose(graph[name].double(), x.double(), rtol=TOLERANCE, atol=TOLERANCE):
            return Outcome("wrong", f"{name}: eager {x.tolist()}, captured {graph[name].tolist()}")
    return Outcome("right")


def _steps(cls: type[SVI], program: Program) -> dict[str, Tensor]:
    pyro.clear_param_store()
    run = compiled(program)
    svi = cls(run.model, guide_of(program, run), adam(), elbo_of(program))
    return taken(svi, lambda number: (), STEPS)

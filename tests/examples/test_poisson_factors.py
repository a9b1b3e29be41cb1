"""Poisson factors: gradients through counts are those of a sum over counts."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from torch import Tensor
from torch.distributions import Poisson
from torch.nn.functional import softplus

import pyro_reparam_ext as pre

from ..statistics import assert_mean

MOST = 25
"""Counts of a factor that are summed over: guides of a rate near 1 have no mass beyond."""


@pytest.fixture(scope="module")
def script(example) -> ModuleType:
    return example("poisson_factors")


def test_smoke(script, tmp_path, capsys):
    script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("table.md", "gradients.md", "picture.png"):
        assert f"wrote {tmp_path / name}" in printed
        assert (tmp_path / name).stat().st_size > 0
    studies = pd.read_csv(tmp_path / "gradients.csv")
    assert studies["evaluations"].unique().tolist() == [1, 2, 4]
    assert np.isfinite(studies["encoder: variance"]).all()


@pytest.fixture
def program(script):
    pyro.set_rng_seed(1)
    program = script.PoissonFactors(torch.tensor([1.0, 4.0, 2.0]), 2)
    program.guide(torch.ones(1, 3))
    program.model(torch.ones(1, 3))
    return program


@pytest.fixture
def x() -> Tensor:
    return torch.tensor([[0.0, 5.0, 2.0], [1.0, 3.0, 3.0]])


def exact_loss(script, program, x: Tensor) -> Tensor:
    """The negative ELBO as a sum over the counts of both factors."""
    grid = torch.arange(MOST + 1.0)
    z = torch.cartesian_prod(grid, grid)
    rate, factors, base = (pyro.param(name) for name in ("rate", "factors", "base"))
    loss = 0.0
    for row in x:
        guide = softplus(program.encoder((row - program.mean) / 4)) + script.LEAST
        log_q = Poisson(guide).log_prob(z).sum(-1)
        log_p = Poisson(rate).log_prob(z).sum(-1) + Poisson(z @ factors + base).log_prob(row).sum(-1)
        loss = loss + (log_q.exp() * (log_q - log_p)).sum()
    return loss


def test_gradients_are_those_of_a_sum_over_counts(script, program, x):
    parameters = [*program.encoder[2].parameters()]
    exact = torch.cat(
        [g.flatten() for g in torch.autograd.grad(exact_loss(script, program, x), parameters)]
    )
    names = {"encoder$$$2.weight": "weight", "encoder$$$2.bias": "bias"}
    study = pre.gradient_study(
        program.model,
        program.guide,
        x,
        estimators=script.candidates(2),
        num_draws=400,
        params=list(names),
        progress=False,
    )
    gradients = study.to_inferencedata().gradients
    for label in gradients["estimator"].values:
        draws = gradients.sel(estimator=label, chain=0)
        found = [torch.tensor(draws[name].values).flatten(1) for name in names]
        assert_mean(torch.cat(found, 1), exact)

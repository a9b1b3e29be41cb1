"""Gaussian guides of two regressions: the methods are unbiased, and some have less noise."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pandas as pd
import pyro
import pytest
import torch
from pyro.infer.autoguide import AutoNormal


@pytest.fixture(scope="module")
def script(example) -> ModuleType:
    return example("regression")


def test_smoke(script, tmp_path: Path, capsys):
    script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("table", "batches", "reached"):
        assert f"wrote {tmp_path / name}.md" in printed
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 3 * len(script.METHODS)
    assert (table[["means", "scales", "all"]] > 0).all(axis=None)
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_particles_that_are_drawn_together_have_less_noise(script):
    pyro.set_rng_seed(0)
    data = script.cells()
    guide = AutoNormal(script.logistic, init_scale=0.1)
    guide(*data)
    gains = script.gains(script.measured(script.logistic, guide, data, 60), "start")
    gains = gains.set_index("method")["all"]
    assert gains["pathwise"] == 1
    assert gains["antithetic"] > 10 and gains["landing, Sobol"] > 10


def test_when_a_run_is_near_the_best(script):
    runs = pd.DataFrame(
        {
            "method": ["a"] * 4 + ["b"] * 4,
            "steps": [1, 2, 3, 4] * 2,
            "seconds": [0.1, 0.2, 0.3, 0.4] * 2,
            "ELBO": [-5.0, -1.2, -2.0, -1.1, -9.0, -8.0, -7.0, -1.0],
        }
    )
    found = script.reached(runs).set_index("method")
    assert found["steps to 0.5 nats"].tolist() == [2, 4]
    assert found["CPU seconds"].tolist() == [0.2, 0.4]
    assert found["nats off, last 10 looks"].round(3).tolist() == [1.325, 5.25]


def test_a_batch_has_the_expected_density_of_all(script):
    """The plate scales what it looks at: the mean over batches is the density of all cells."""
    x, benign = script.cells()
    given = {"coefficients": torch.linspace(-0.3, 0.3, x.shape[1])}

    def density(batch):
        conditioned = pyro.poutine.condition(script.logistic, given)
        return pyro.poutine.trace(conditioned).get_trace(x, benign, batch).log_prob_sum()

    pyro.set_rng_seed(0)
    batches = torch.stack([density(64) for _ in range(400)])
    error = batches.std() / len(batches) ** 0.5
    assert (batches.mean() - density(None)).abs() < 4 * error

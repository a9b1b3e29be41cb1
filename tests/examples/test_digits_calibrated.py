"""Calibrated digits: the script runs, and its bins are those of the probabilities."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def script(example) -> ModuleType:
    return example("digits_calibrated")


def test_smoke(script, tmp_path, capsys):
    with pytest.warns(UserWarning, match="was not met in 4 steps"):
        script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    assert "s a draw" in printed
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == len(script.WEIGHTS) + 1
    assert table["calibration error"].between(0, 1).all()
    assert not table["converged"][: len(script.WEIGHTS)].astype(bool).any()
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_reliability(script):
    stated = torch.linspace(0.55, 0.95, 100)
    probabilities = torch.stack([stated, 1 - stated], -1)
    labels = torch.zeros(100, dtype=torch.long)
    labels[:10] = 1  # the ten that are stated the least surely are wrong
    problem, prediction = SimpleNamespace(test_y=labels), SimpleNamespace(probabilities=probabilities)
    curve = script.reliability(problem, prediction)
    assert curve["right"].tolist() == [0.0] + [1.0] * 9
    assert curve["stated"].tolist() == pytest.approx(stated.reshape(10, 10).mean(-1).tolist())

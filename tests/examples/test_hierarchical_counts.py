"""Hierarchical counts: a fit is right by quadrature, or says that it is not."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from scipy import stats

HEADER = "noise\n\n\n\n\n\n"
ROWS = """stops pop past.arrests precinct eth crime
75 100 191 3 1 1
36 100 57 3 1 2
17 950 0 3 2 1
18 950 7 3 3 1
10 500 20 5 1 1
11 500 20 5 2 1
12 500 20 5 3 1
13 500 20 5 3 2
"""


@pytest.fixture(scope="module")
def script(example) -> ModuleType:
    return example("hierarchical_counts")


@pytest.fixture(scope="module")
def counts(example, script) -> ModuleType:
    return example("counts")


def exact(data) -> dict[str, tuple[float, float]]:
    """Mean and sd of the mean and the scale of the pumps, by quadrature on a grid."""
    mu = np.linspace(-4.0, 3.0, 71)[:, None, None, None]
    scale = np.linspace(0.02, 4.0, 100)[:, None, None]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    y, exposure = (x.double().numpy()[:, None] for x in (data.counts, data.exposure))
    likelihood = stats.poisson.pmf(y, exposure * np.exp(mu + scale * nodes)) @ weights
    joint = (
        likelihood.prod(-1) * stats.norm.pdf(mu[..., 0, 0], 0, 5) * stats.halfnorm.pdf(scale[:, 0, 0])
    )
    joint /= joint.sum()
    moments = {}
    for name, x in (("mu", mu[..., 0, 0]), ("pump_scale", scale[:, 0, 0])):
        mean = (joint * x).sum()
        moments[name] = mean, (joint * (x - mean) ** 2).sum() ** 0.5
    return moments


def test_smoke(script, tmp_path: Path, capsys):
    with pytest.warns(UserWarning, match="not met in 20 steps"):
        script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("table", "sentences", "seconds"):
        assert f"wrote {tmp_path / name}.md" in printed
        assert "nan" not in (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    assert (tmp_path / "picture.png").stat().st_size > 0
    assert (pd.read_csv(tmp_path / "table.csv")["check"] == "not ok").all()


@pytest.mark.filterwarnings("ignore:LossConverged:UserWarning")
def test_a_fit_is_right_or_says_that_it_is_not(script, counts):
    data = counts.pumps()
    form = script.forms(data)["non-centred"]
    pyro.set_rng_seed(0)
    guide = AutoNormal(form)
    fit = script.fitted(form, guide, data, script.parse(["--steps", "300"]))
    found = script.posterior(form, guide, data, draws=100)
    for name, (mean, sd) in exact(data).items():
        off = abs(found.loc[(name, 0), "mean"] - mean) / sd
        ratio = found.loc[(name, 0), "sd"] / sd
        right = off < 0.5 + 4 / 100**0.5 and abs(np.log(ratio)) < 0.25 + 4 / 200**0.5
        assert right or not fit.check.ok, f"{name}: {off} sds off, sd {ratio} of the posterior's"


def test_both_forms_are_the_same_model(script, counts):
    data = counts.pumps()
    forms = script.forms(data)
    noise, scale = torch.linspace(-1, 1, 10), torch.tensor(0.7)
    given = {"mu": torch.tensor(-0.3), "pump_scale": scale}
    values = {
        "centred": {**given, "pump": scale * noise},
        "non-centred": {**given, "pump_decentered": noise},
    }
    log_probs = {
        name: pyro.poutine.trace(pyro.poutine.condition(form, values[name]))
        .get_trace(data)
        .log_prob_sum()
        for name, form in forms.items()
    }
    torch.testing.assert_close(log_probs["non-centred"], log_probs["centred"] + 10 * scale.log())


def test_stops_for_violent_crimes_where_few_are_black(counts, tmp_path: Path):
    path = tmp_path / counts.FRISK
    path.write_text(HEADER + ROWS, encoding="utf-8")
    data = counts.load(tmp_path)
    assert data.counts.tolist() == [75, 17, 18]
    assert data.exposure.tolist() == [191, 1, 7]
    assert {k: x.tolist() for k, x in data.levels.items()} == {
        "ethnicity": [0, 1, 2],
        "precinct": [0, 0, 0],
    }


def test_stops_for_weapons(counts, tmp_path: Path):
    (tmp_path / counts.FRISK).write_text(HEADER + ROWS, encoding="utf-8")
    assert counts.load(tmp_path, counts.WEAPONS).counts.tolist() == [13]


def test_bad_files_are_named(counts, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="--data-dir takes a folder with frisk_with_noise.dat"):
        counts.load(tmp_path)
    (tmp_path / counts.FRISK).write_text(HEADER + "a b\n1 2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected the columns .*, found .'a', 'b'."):
        counts.load(tmp_path)

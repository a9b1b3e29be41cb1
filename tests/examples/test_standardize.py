"""The example of standardisation: laws, gradients, and the same inside Pyro."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoNormal
from scipy import special

from ..compiled.steps import GraphSVI
from ..statistics import LEVEL, assert_follows, assert_mean, assert_p

DRAWS = 20_000


@pytest.fixture(scope="module")
def standardize(example) -> ModuleType:
    return example("standardize")


@pytest.fixture(scope="module")
def models(example) -> ModuleType:
    return example("standardize_models")


def test_smoke(standardize, tmp_path: Path, capsys):
    standardize.main(standardize.parse(["--smoke", "--out", str(tmp_path)]))
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table["transformation"]) > {"loc + scale e", "mu + L z", "CholeskyReparam"}
    for p in (*table["p"], *table["KS p"].dropna()):  # one of each law
        assert_p(p)
    assert "nan" not in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert (tmp_path / "picture.png").stat().st_size > 0
    printed = capsys.readouterr().out
    for name in ("table.md", "models.md", "picture.png"):
        assert f"wrote {tmp_path / name}" in printed


def test_each_law_and_its_gradient(standardize):
    for case in standardize.TRANSFORMATIONS:
        x, gradients = case.draws(DRAWS)
        assert_follows(x, case.cdf, case.name)
        assert_mean(gradients, case.exact())


CLOSED_FORMS = {
    "Normal(10, 5)": (20.0, 10.0),
    "Exponential(2)": (-0.5,),
    "Weibull(2, 1.5)": (
        4 * special.gamma(1 + 2 / 1.5),
        -4 * 2 / 1.5**2 * special.gamma(1 + 2 / 1.5) * special.digamma(1 + 2 / 1.5),
    ),
    "Gamma(2.5, 2)": (1.5, -2.1875),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_exact_gradients_agree_with_closed_forms(standardize, name):
    (case,) = (case for case in standardize.TRANSFORMATIONS if case.name == name)
    expected = torch.tensor(CLOSED_FORMS[name], dtype=torch.double)
    torch.testing.assert_close(case.exact(), expected, rtol=1e-6, atol=1e-8)


def test_exact_gradients_of_vectors_agree_with_autograd(standardize):
    mu, covariance, a = standardize.vector(5)
    leaves = mu.requires_grad_(), covariance.requires_grad_()
    expectation = (a @ mu).cos() * (-(a @ covariance @ a) / 2).exp()
    exact = standardize.exact_of_vector(mu, covariance, a)
    for name, gradient in zip(("mu", "Sigma"), torch.autograd.grad(expectation, leaves), strict=True):
        torch.testing.assert_close(exact[name], gradient)


@pytest.mark.parametrize("dim", [2, 5])
def test_gradients_of_vectors(standardize, dim):
    rows = pd.DataFrame(standardize.vectors(dim, standardize.draws_of_vector(dim, DRAWS)))
    assert len(rows) == 3
    for p in rows["p"]:
        assert_p(p)


@pytest.mark.parametrize(("dim", "least", "largest"), [(2, 10, 40), (5, 0.9, 25)])
def test_price_has_less_variance_though_not_in_every_coordinate(standardize, dim, least, largest):
    row = standardize.against_price(dim, standardize.draws_of_vector(dim, DRAWS))
    assert least < row["least, of a coordinate"] < row["of the norms"] < row["largest"] < largest
    assert (row["least, of a coordinate"] < 2) == (dim == 5)


def test_gradients_in_pyro(standardize):
    rows = pd.DataFrame(standardize.pyro_rows(DRAWS))
    assert len(rows) == 7
    for p in rows["p"]:
        assert_p(p)


def test_a_wrong_gradient_is_seen(standardize):
    exact = {"a": torch.tensor(1.0), "b": torch.tensor([[1.0, 2.0], [2.0, 3.0]])}
    draws = torch.tensor([1.0, 1.0, 2.0, 2.0, 3.2]) + 0.1 * torch.randn(1000, 5)
    rows = standardize.rows_of("", "", "", draws, exact)
    assert_p(rows[0]["p"])
    assert rows[1]["d/d"] == "b_22 (furthest off)" and rows[1]["p"] < LEVEL


def test_a_reparameterised_model_is_the_decentred_program(models):
    for reparam, centred, decentred in models.PROGRAMS.values():
        pyro.clear_param_store()
        written = models.schools(decentred)
        handled = pyro.poutine.reparam(models.schools(centred), config={"x": reparam})
        guide = AutoNormal(written)
        guide()
        loss, gradient = models.loss_and_gradient(handled, guide, seed=1)
        loss_by_hand, by_hand = models.loss_and_gradient(written, guide, seed=1)
        torch.testing.assert_close(loss, loss_by_hand)
        torch.testing.assert_close(gradient, by_hand)
        assert gradient.norm() > 0


@pytest.mark.parametrize("family", ["Normal", "MultivariateNormal"])
def test_a_graph_of_the_step_trains_alike(models, family):
    reparam, centred, _ = models.PROGRAMS[family]
    handled = pyro.poutine.reparam(models.schools(centred), config={"x": reparam})
    eager, graph = (models.trained(handled, 4, 0, svi) for svi in (SVI, GraphSVI))
    assert graph == pytest.approx(eager, rel=1e-5)
    assert eager != pytest.approx(models.trained(handled, 3, 0), rel=1e-5)

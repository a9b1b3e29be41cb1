"""The change point: its exact posterior against quadrature, and the check of a guide against both."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyro
import pytest
import torch
from scipy import integrate, stats

import pyro_reparam_ext as pre

from ..statistics import assert_z

FEW = torch.tensor([4.0, 2.0, 0.0, 1.0, 0.0], dtype=torch.float64)
"""Counts of five years."""


@pytest.fixture(scope="module")
def mining(example) -> ModuleType:
    return example("coal_mining")


def put(law, structured: bool) -> None:
    """Puts a law of year and rates into the parameters of a guide."""
    pyro.param("logits", law.probs.log())
    for name in ("early", "late"):
        mean, shape = law.shape[name] / law.rate[name], law.shape[name]
        plural = "s" if structured else ""
        pyro.param(f"{name}_mean{plural}", mean if structured else mean[0])
        pyro.param(f"{name}_shape{plural}", shape if structured else shape[0])


def test_smoke(example, tmp_path: Path, capsys):
    script = example("change_point")
    with pytest.warns(UserWarning, match="not met in 5 steps"):
        script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("table", "sentences", "sites", "marginals", "noise", "shares", "seconds"):
        assert f"wrote {tmp_path / name}.md" in printed
        assert "nan" not in (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    assert (tmp_path / "picture.png").stat().st_size > 0
    table = pd.read_csv(tmp_path / "table.csv").set_index("fit")
    assert (table["KL"] > 0).all() and table["KL"].idxmin() == "the best mean-field, exactly"


def test_the_data_are_those_of_1851_to_1962(mining):
    assert len(mining.DISASTERS) == 1962 - 1851 + 1
    assert mining.DISASTERS.sum() == 191


def test_exact_posterior_agrees_with_quadrature(mining):
    def integrand(rate: float, counts: torch.Tensor) -> float:
        return stats.expon.pdf(rate) * stats.poisson.pmf(counts.numpy(), rate).prod()

    def integral(counts: torch.Tensor, power: int) -> float:
        return integrate.quad(lambda x: x**power * integrand(x, counts), 0, math.inf)[0]

    log_evidence, posterior = mining.exact(FEW)
    parts = [[integral(part, 0) for part in (FEW[:k], FEW[k:])] for k in range(5)]
    joint = torch.tensor(parts, dtype=torch.float64).prod(-1) / 5
    assert log_evidence == pytest.approx(joint.sum().log().item(), abs=1e-8)
    torch.testing.assert_close(posterior.probs, joint / joint.sum(), rtol=1e-6, atol=0)

    first = torch.tensor([integral(FEW[:k], 1) / parts[k][0] for k in range(5)], dtype=torch.float64)
    second = torch.tensor([integral(FEW[:k], 2) / parts[k][0] for k in range(5)], dtype=torch.float64)
    mean = posterior.probs @ first
    moments = posterior.moments().loc["early"]
    assert moments["mean"] == pytest.approx(mean.item(), rel=1e-6)
    assert moments["sd"] ** 2 == pytest.approx((posterior.probs @ second - mean**2).item(), rel=1e-6)
    together = posterior.probs @ (
        (torch.arange(5) - posterior.probs @ torch.arange(5.0).double()) * first
    )
    sd_of_year = posterior.moments().loc["switch", "sd"]
    assert moments["with year"] == pytest.approx(together.item() / moments["sd"] / sd_of_year, rel=1e-6)


def test_years_given_rates(mining):
    early, late = torch.tensor([3.0, 1.0]).double(), torch.tensor([0.5, 2.0]).double()
    expected = torch.stack(
        [
            torch.distributions.Poisson(torch.where(torch.arange(5) < k, early[:, None], late[:, None]))
            .log_prob(FEW)
            .sum(-1)
            for k in range(5)
        ],
        -1,
    ).softmax(-1)
    torch.testing.assert_close(mining.switch_given(FEW, early, late), expected)


def test_nothing_independent_is_nearer_than_the_best(mining):
    counts = mining.DISASTERS
    best = mining.best_mean_field(counts)
    least = mining.divergence(best, counts)
    assert least == pytest.approx(0.0706, abs=1e-4)
    for factor in (0.99, 1.01):
        shape = {name: factor * x for name, x in best.shape.items()}
        rate = {name: factor * x for name, x in best.rate.items()}
        tempered = (factor * best.probs.log()).softmax(-1)
        for law in (
            mining.Law(best.probs, shape, best.rate),
            mining.Law(best.probs, shape, rate),
            mining.Law(tempered, best.shape, best.rate),
        ):
            assert mining.divergence(law, counts) > least


def test_the_check_tells_how_far_the_best_independent_guide_is_from_the_posterior(mining):
    counts = mining.DISASTERS
    best, (log_evidence, posterior) = mining.best_mean_field(counts), mining.exact(counts)
    put(best, structured=False)
    check = pre.check_guide(mining.model, mining.mean_field, counts, max_plate_nesting=1)
    assert check.ok
    assert_z((check.elbo - (log_evidence - mining.divergence(best, counts))) / check.elbo_error)
    ratio = posterior.moments().loc["switch", "sd"] / best.moments().loc["switch", "sd"]
    assert ratio > 1.08
    row = check.sites.loc["switch"]
    assert_z((row["sd_ratio"] - ratio) / row["sd_ratio_error"])


def test_the_structured_guide_holds_the_posterior(mining):
    counts = mining.DISASTERS
    put(mining.exact(counts)[1], structured=True)
    found = mining.law_of(mining.structured, counts)
    assert mining.divergence(found, counts) == pytest.approx(0.0, abs=1e-10)
    check = pre.check_guide(mining.model, mining.structured, counts, max_plate_nesting=1)
    assert check.ok and check.gap < 1e-8
    assert check.elbo == pytest.approx(mining.exact(counts)[0], abs=1e-8)


def test_a_guide_far_from_the_posterior_is_not_passed(mining):
    """Whatever it is called, not converged or too poor."""
    counts, best = mining.DISASTERS, mining.best_mean_field(mining.DISASTERS)
    narrow = {name: 9 * x for name, x in best.shape.items()}, {k: 9 * x for k, x in best.rate.items()}
    put(mining.Law(best.probs, *narrow), structured=False)
    check = pre.check_guide(mining.model, mining.mean_field, counts, max_plate_nesting=1)
    assert not check.ok

"""Variable selection: the exact posterior, the guides' laws, and whether a verdict is the truth."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from scipy import stats
from torch import Tensor

import pyro_reparam_ext as pre


@pytest.fixture(scope="module")
def models(example) -> ModuleType:
    return example("spike_and_slab_models")


@pytest.fixture(scope="module")
def data(models):
    return models.diabetes()


@pytest.fixture(scope="module")
def posterior(models, data):
    return models.exact(data)


def test_smoke(example, tmp_path, capsys, monkeypatch):
    script = example("spike_and_slab")
    # One guide of each kind: the others run by the same lines.
    kept = {k: script.GUIDES[k] for k in ("integrated out, independent", "kept, dependent")}
    monkeypatch.setattr(script, "GUIDES", kept)
    with pytest.warns(UserWarning, match="was not met in 3 steps"):
        script.main(script.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("table", "verdicts", "selection", "gradients", "coefficients"):
        assert f"wrote {tmp_path / name}.md" in printed
    assert (tmp_path / "picture.png").stat().st_size > 0
    table = pd.read_csv(tmp_path / "table.csv").set_index("guide")
    assert table.stack().between(0, 1).all()
    assert not pd.read_csv(tmp_path / "verdicts.csv")["guide ok"].any()  # after three steps


def test_exact_posterior_is_that_of_the_whole_data(models, data, posterior):
    from sklearn.datasets import load_diabetes

    x, y = (stats.zscore(v) for v in load_diabetes(return_X_y=True))
    variance = data.sigma.item() ** 2
    chosen = [0, 1, 340, 756, 1023]  # of 1,024 subsets
    z = models.subsets(10)[chosen].numpy()
    log_evidence = np.array(
        [
            stats.multivariate_normal.logpdf(
                y, cov=variance * np.eye(len(y)) + models.SLAB**2 * (x * row) @ (x * row).T
            )
            for row in z
        ]
    )
    ours = posterior.log_probs[chosen].numpy()
    np.testing.assert_allclose(ours - ours[0], log_evidence - log_evidence[0], atol=1e-8)
    assert posterior.log_probs.exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("features", ["Independent", "Dependent"])
def test_law_of_subsets(models, data, features):
    program = models.Integrated(data, getattr(models, features)(data))
    program.guide()
    for value in pyro.get_param_store().values():
        value.data.normal_()
    log_probs = models.log_probs(program)
    assert log_probs.exp().sum().item() == pytest.approx(1.0)
    z = program.features.guide()
    index = (z @ 2 ** torch.arange(9, -1, -1, dtype=torch.double)).long()
    assert models.subsets(10)[index].equal(z)


def test_a_guide_of_joint_coefficients_holds_the_posterior(models, data):
    program = models.KeptJointly(data, models.Dependent(data))
    unit = data.num_examples**0.5 / data.sigma
    gram = data.r.mT @ data.r / data.sigma**2
    pyro.param("factor", torch.linalg.cholesky(gram) / unit)
    pyro.param("weights", data.r.mT @ data.u / (data.sigma * unit) ** 2)
    z = models.subsets(10)[756]
    sites = program.features.sites(z)

    def log_weight() -> Tensor:
        guide = pyro.poutine.condition(program.guide, sites)
        drawn = pyro.poutine.trace(guide).get_trace()
        model = pyro.poutine.replay(pyro.poutine.condition(program.model, sites), trace=drawn)
        scored = pyro.poutine.trace(model).get_trace()
        return scored.log_prob_sum() - drawn.nodes["beta"]["fn"].log_prob(drawn.nodes["beta"]["value"])

    expected = models.evidence(data, z).log_prob(data.u) - 6 * np.log(2) - 4 * np.log(2)
    for _ in range(3):  # the same for any draw, since the guide is the posterior of the coefficients
        torch.testing.assert_close(log_weight(), expected, atol=1e-6, rtol=0)


def test_a_guide_on_one_mode_is_found_out(models, data, posterior):
    program = models.Integrated(data, models.Independent(data))
    models.set_to_best(program, posterior)
    inclusion = models.log_probs(program).exp() @ models.subsets(10)
    s3 = data.names.index("s3")
    assert inclusion[s3] > 0.98 and posterior.inclusion[s3] < 0.54
    check = pre.check_guide(program.model, program.guide, num_samples=1000)
    assert not check.ok
    assert "too poor" in check.advice and "let other sites depend" in check.advice


def test_a_guide_that_depends_is_right_and_called_right(models, data, posterior):
    program = models.Integrated(data, models.Dependent(data))
    models.set_to_best(program, posterior)
    check = pre.check_guide(program.model, program.guide, num_samples=1000)
    assert check.ok, check.advice
    inclusion = models.log_probs(program).exp() @ models.subsets(10)
    torch.testing.assert_close(inclusion, posterior.inclusion)
    gap = posterior.log_evidence - check.elbo
    law = models.log_probs(program)
    kl = (law.exp() @ (law - posterior.log_probs)).item()
    assert gap == pytest.approx(kl, abs=4 * check.elbo_error)

"""The Bayesian network: exact posterior against a sum over all states, guides, and what it claims."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import SVI
from torch.distributions import Bernoulli

import pyro_reparam_ext as pre

from ..compiled.steps import GraphSVI
from ..slow import one_in, slow

NODES = ("asia", "smoking", "tuberculosis", "lung_cancer", "bronchitis", "xray", "dyspnoea")
BIASED = {"GumbelSoftmax, T=0.5", "StraightThrough", "ST-GumbelSoftmax, T=0.5"}


@pytest.fixture(scope="module")
def network(example) -> ModuleType:
    return example("bayesian_network")


@pytest.fixture(scope="module")
def clinic(example, network) -> ModuleType:
    return example("chest_clinic")


def evidence_of(**answers: int) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(float(x), dtype=torch.float64) for name, x in answers.items()}


SICK = evidence_of(asia=1, xray=1, dyspnoea=1)


def joint(*state: int) -> float:
    """The probability of one state, by the tables of the paper, state by state."""
    asia, smoking, tub, lung, bronchitis, _, _ = state
    probs = [
        0.01,
        0.5,
        0.05 if asia else 0.01,
        0.1 if smoking else 0.01,
        0.6 if smoking else 0.3,
        0.98 if tub or lung else 0.05,
        (0.9 if bronchitis else 0.7) if tub or lung else (0.8 if bronchitis else 0.1),
    ]
    return math.prod(p if x else 1 - p for p, x in zip(probs, state, strict=True))


def posterior(clinic: ModuleType, evidence: dict[str, torch.Tensor]) -> tuple[float, np.ndarray]:
    """Log evidence, and the joint posterior of the latent nodes as an array of one dim per node."""
    sums = np.zeros((2,) * len(clinic.latents(evidence)))
    for state in itertools.product((0, 1), repeat=len(NODES)):
        named = dict(zip(NODES, state, strict=True))
        if all(named[name] == value for name, value in evidence.items()):
            sums[tuple(named[name] for name in clinic.latents(evidence))] += joint(*state)
    return math.log(sums.sum()), sums / sums.sum()


def put_posterior_into_the_autoregressive_guide(clinic: ModuleType) -> None:
    _, table = posterior(clinic, SICK)
    for i, name in enumerate(clinic.latents(SICK)):
        marginal = table.sum(axis=tuple(range(i + 1, table.ndim)))
        pyro.param(f"{name}_logits", torch.tensor(np.log(marginal[..., 1:] / marginal[..., :1])))


def test_smoke(network, tmp_path, capsys):
    network.main(network.parse(["--smoke", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    for name in ("table.md", "table.csv", "gradients.md", "gradients.csv", "picture.png"):
        assert f"wrote {tmp_path / name}" in printed
        assert (tmp_path / name).stat().st_size > 0
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["estimator"].tolist() == ["exact", *network.TRAINED]
    assert np.isfinite(table["KL"][1:]).all() and (table["KL"][1:] > 0).all()
    assert table[network.latents(SICK)].stack().between(0, 1).all()
    gradients = pd.read_csv(tmp_path / "gradients.csv")
    assert gradients.groupby(["guide", "state"]).size().tolist() == [len(network.ESTIMATORS)] * 2
    assert np.isfinite(gradients["deviation"]).all()
    assert "nan" not in Path(tmp_path / "gradients.md").read_text()


def test_every_estimator_for_bernoulli_sites_is_compared(network):
    # At a single bit BitFlip is LocalExpectation.
    classes = {getattr(pre, name) for name in pre.estimators.__all__} - {pre.Combine, pre.BitFlip}
    classes = {cls for cls in classes if not issubclass(cls, pre.Pathwise)}
    bernoulli = {cls for cls in classes if isinstance(Bernoulli(0.5), cls.supported)}
    assert {type(estimator) for estimator, _ in network.ESTIMATORS.values()} == bernoulli


@pytest.mark.parametrize(
    "evidence",
    [
        SICK,
        evidence_of(dyspnoea=1),
        evidence_of(asia=0, smoking=1, xray=0),
        evidence_of(asia=1, smoking=1, lung_cancer=0, bronchitis=0, xray=1, dyspnoea=1),
    ],
    ids=lambda evidence: "-".join(evidence),
)
def test_exact_posterior(clinic, evidence):
    log_evidence, table = posterior(clinic, evidence)
    value, marginals = clinic.exact(clinic.model, evidence)
    assert value == pytest.approx(log_evidence, abs=1e-10)
    for i, name in enumerate(clinic.latents(evidence)):
        assert marginals[name].item() == pytest.approx(table.take(1, axis=i).sum(), abs=1e-10)


def test_lookup(clinic):
    table = torch.arange(8.0).reshape(2, 2, 2) ** 2
    for bits in itertools.product((0, 1), repeat=3):
        assert clinic.lookup(table, *map(torch.tensor, bits)) == table[bits]
    probs = torch.tensor([0.2, 0.5, 0.9])
    expected = torch.einsum("abc,a,b,c->", table, *torch.stack([1 - probs, probs], -1))
    torch.testing.assert_close(clinic.lookup(table, *probs), expected)


def test_the_autoregressive_guide_holds_the_posterior(network, clinic):
    put_posterior_into_the_autoregressive_guide(clinic)
    assert network.divergence(clinic.autoregressive, SICK) == pytest.approx(0.0, abs=1e-10)


def test_divergence_of_the_mean_field_guide(network, clinic):
    _, table = posterior(clinic, SICK)
    marginals = [table.take(1, axis=i).sum() for i in range(table.ndim)]
    for name, p in zip(clinic.latents(SICK), marginals, strict=True):
        pyro.param(f"{name}_logits", torch.tensor([math.log(p / (1 - p))], dtype=torch.float64))
    product = np.array(1.0)
    for p in marginals:
        product = np.multiply.outer(product, [1 - p, p])
    expected = (product * np.log(product / table)).sum()
    assert network.divergence(clinic.mean_field, SICK) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("label", ["DisARM", "LocalExpectation"])
def test_twins_that_share_what_is_upstream_have_no_noise_at_the_posterior(network, clinic, label):
    put_posterior_into_the_autoregressive_guide(clinic)
    network.make_elbo(label).loss_and_grads(clinic.model, clinic.autoregressive, SICK)
    for name in clinic.latents(SICK):
        assert pyro.param(f"{name}_logits").unconstrained().grad.abs().max() < 1e-10


def test_bias_is_seen_where_it_is(network, clinic):
    labels = [*sorted(BIASED), "DisARM", "Enumeration"]
    table = network.gradients(clinic.autoregressive, SICK, 600, seed=0, labels=labels)
    table = table.set_index("estimator")
    assert set(table.index[table["bias"].notna()]) == BIASED
    assert table.loc["Enumeration", "deviation"] == 0


@slow
def test_training_approaches_the_evidence_as_far_as_the_guide_can(network, clinic):
    curve = network.train("DisARM", clinic.autoregressive, SICK, steps=100, runs=4)
    assert curve["divergence"].iloc[-1] < 0.25 < 0.8 < curve["divergence"].iloc[0]
    curve = network.train("Enumeration", clinic.mean_field, SICK, steps=100)
    assert 0.4 < curve["divergence"].iloc[-1] < 0.5


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["either=yes"], "'either=yes': expected NODE=yes or NODE=no, of asia"),
        (["xray=1"], "'xray=1': expected NODE=yes or NODE=no"),
        ([f"{name}=yes" for name in NODES], "leave at least one to infer"),
    ],
)
def test_bad_evidence_is_named(network, words, match, capsys):
    with pytest.raises(SystemExit):
        network.parse(["--evidence", *words])
    assert match in capsys.readouterr().err


@pytest.mark.parametrize(
    ("label", "guide"),
    one_in(2, [("DisARM", "autoregressive"), ("LocalExpectation", "mean-field")]),
)
def test_a_graph_of_the_step_trains_alike(network, clinic, label, guide):
    def curve(svi):
        pyro.set_rng_seed(0)
        return network.train(label, clinic.GUIDES[guide], SICK, steps=4, runs=2, svi=svi)

    eager, graph = (curve(svi)["divergence"] for svi in (SVI, GraphSVI))
    assert eager.nunique() == 5
    assert graph.tolist() == pytest.approx(eager.tolist(), rel=1e-6)

"""Shares of the variance, against those of programs in which they are known in closed form."""

import random
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.container import BarContainer
from pyro.infer import Trace_ELBO
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.study.plot_attribution import plot_shares

from ..statistics import assert_p

X = torch.tensor([0.5, -1.0, 2.0, 0.3, 1.4, -0.6])
W = torch.tensor([1.0, 0.2, 1.5, -0.8, 0.6, 1.2])
LOC_A, LOC_B, SCALE_A, SCALE_B, BATCH = 0.3, 0.7, 0.4, 0.5, 2


def linear_model():
    """``x = a + b w`` with noise, of which a plate shows two elements of six."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.sample("idle", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(X), subsample_size=BATCH) as index:
        pyro.sample("x", dist.Normal(a + b * W[index], 1.0), obs=X[index])


def linear_guide():
    loc_a = pyro.param("loc_a", lambda: torch.tensor(LOC_A))
    loc_b = pyro.param("loc_b", lambda: torch.tensor(LOC_B))
    pyro.sample("idle", dist.Normal(0.0, 1.0))
    pyro.sample("a", dist.Normal(loc_a, SCALE_A))
    pyro.sample("b", dist.Normal(loc_b, SCALE_B))


def linear_shares():
    """With ``W_k`` the scaled sum over the batch of ``w^k``, and ``X_k`` that of ``x w^k``.

    The gradients are ``(1 + N) a + b W_1 - X_0`` and ``b (1 + W_2) + a W_1 - X_1``.
    """
    batches = [list(c) for c in combinations(range(len(X)), BATCH)]
    w, x = W.double().numpy(), X.double().numpy()
    total = len(X) / BATCH
    w1, w2, x0, x1 = (
        np.array([total * f[batch].sum() for batch in batches]) for f in (w, w**2, x, x * w)
    )
    a, b = SCALE_A**2, SCALE_B**2
    parts = {
        "loc_a": [
            a * (1 + len(X)) ** 2,
            b * w1.mean() ** 2,
            np.var(LOC_B * w1 - x0),
            b * w1.var(),
        ],
        "loc_b": [
            a * w1.mean() ** 2,
            b * (1 + w2.mean()) ** 2,
            np.var(LOC_B * w2 + LOC_A * w1 - x1),
            a * w1.var() + b * w2.var(),
        ],
    }
    columns = ["site:a", "site:b", "plate:data", "interaction"]
    return {k: dict(zip(columns, np.array(v) / sum(v), strict=True)) for k, v in parts.items()}


def assert_shares(table, exact):
    """All shares of a table with intervals, by the largest deviation."""
    deviations = []
    for name, shares in exact.items():
        for source, share in shares.items():
            row = table.loc[name, source]
            error = (row["high"] - row["low"]) / (2 * stats.norm.ppf(0.975))
            if error < 1e-6:  # rounding
                assert row["share"] == pytest.approx(share, abs=1e-5)
            else:
                deviations.append((row["share"] - share) / error)
    p = 2 * stats.norm.sf(np.abs(deviations).max()) * len(deviations)
    assert_p(min(1.0, p), deviations)


def study_of(model, guide, **estimators):
    pyro.clear_param_store()
    return pre.gradient_study(model, guide, estimators=estimators, num_draws=20)


WAYS = {
    "broadcast": (lambda: pre.Pathwise(), 1000),
    "vmap": (lambda: pre.TraceEstimator_ELBO(vectorize_particles="vmap"), 1000),
    "loop": (lambda: pre.TraceEstimator_ELBO(vectorize_particles=False), 80),
    "Trace_ELBO": (lambda: Trace_ELBO(), 80),
}


@pytest.mark.parametrize("way", WAYS)
def test_shares_of_a_linear_program(way):
    made, num_pairs = WAYS[way]
    study = study_of(linear_model, linear_guide, here=made())
    shares = study.attribution(num_pairs=num_pairs)
    assert list(shares.columns) == ["site:idle", "site:a", "site:b", "plate:data", "interaction"]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares["site:idle"] == 0).all()
    table = study.attribution(num_pairs=num_pairs, intervals=True)
    assert_shares(table, linear_shares())


LOGIT, SLOPE, OBSERVED = 0.4, 1.5, 1.2


def mixed_model():
    b = pyro.sample("b", dist.Bernoulli(0.5))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z + SLOPE * b, 1.0), obs=torch.tensor(OBSERVED))


def mixed_guide():
    logit = pyro.param("logit", lambda: torch.tensor(LOGIT))
    loc = pyro.param("loc", lambda: torch.tensor(LOC_A))
    pyro.sample("b", dist.Bernoulli(logits=logit))
    pyro.sample("z", dist.Normal(loc, SCALE_A))


def mixed_shares():
    """DisARM's gradient is ``sigma(|logit|) / 2 [b != twin] (f(1, z) - f(0, z))``."""
    probability = 1 / (1 + np.exp(-LOGIT))
    differs = 2 * min(probability, 1 - probability)
    mean = LOGIT + 0.5 * SLOPE**2 - SLOPE * (OBSERVED - LOC_A)  # of f(1, z) - f(0, z)
    variance = (SLOPE * SCALE_A) ** 2
    spread = differs * (1 - differs)
    logit = np.array([spread * mean**2, differs**2 * variance, spread * variance])
    # d/dz: 2 z + the slope times the mean of value and twin, which is 1/2 if they differ, else 1.
    values, probabilities = np.array([0.5, float(LOGIT > 0)]), np.array([differs, 1 - differs])
    spread = probabilities @ values**2 - (probabilities @ values) ** 2
    loc = np.array([SLOPE**2 * spread, 4 * SCALE_A**2, 0.0])
    columns = ["site:b", "site:z", "interaction"]
    rows = {"logit": logit / logit.sum(), "loc": loc / loc.sum()}
    return {name: dict(zip(columns, row, strict=True)) for name, row in rows.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_shares_of_disarm_beside_a_pathwise_site(seed):
    study = study_of(mixed_model, mixed_guide, DisARM={"b": pre.DisARM()})
    table = study.attribution("DisARM", intervals=True, num_pairs=2000, seed=seed)
    assert_shares(table, mixed_shares())
    assert study.attribution("DisARM", num_pairs=2000, seed=seed).index.name == "parameter"


@pytest.mark.parametrize("count", [3, 6])
def test_noises_that_add_do_not_interact(count):
    """Exactly so for up to four sources; for more, in the mean."""
    sizes = [0.5 + 0.3 * number for number in range(count)]

    def guide():
        loc = pyro.param("loc", torch.tensor(0.2))
        for number, size in enumerate(sizes):
            pyro.sample(f"z{number}", dist.Normal(loc, size))

    def model():
        for number in range(count):
            pyro.sample(f"z{number}", dist.Normal(0.0, 1.0))

    table = study_of(model, guide, pathwise=pre.Pathwise()).attribution(intervals=True)
    exact = np.square(sizes) / np.square(sizes).sum()
    shares = {f"site:z{number}": share for number, share in enumerate(exact)}
    assert_shares(table, {"loc": {**shares, "interaction": 0.0}})
    interval = table.loc["loc", "interaction"]
    assert (interval["high"] - interval["low"] < 1e-5) == (count <= 4)


def test_errors_are_about_three_hundredths():
    """By default, as the documentation says."""
    study = study_of(mixed_model, mixed_guide, DisARM={"b": pre.DisARM()})
    table = study.attribution(intervals=True)
    widths = [(table[s]["high"] - table[s]["low"]) / 3.92 for s in ["site:b", "site:z", "interaction"]]
    assert 0.005 < max(map(max, widths)) < 0.04


def test_noise_of_a_layer_is_from_elsewhere():
    layer = pre.nn.GaussianLinear(1, 1)
    scale = layer.distribution(torch.ones(1)).stddev.item()

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        loc = z + layer(torch.ones(1)).squeeze(-1)
        pyro.sample("x", dist.Normal(loc, 1.0), obs=torch.tensor(1.0))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.2)), SCALE_A))

    study = study_of(model, guide, pathwise=pre.Pathwise())
    own = 4 * SCALE_A**2
    exact = {"site:z": own / (own + scale**2), "elsewhere": scale**2 / (own + scale**2)}
    table = study.attribution(intervals=True, num_pairs=300)
    assert list(table.columns.levels[0]) == ["site:z", "elsewhere", "interaction"]
    assert_shares(table, {"loc": exact})


def test_particles_are_one_source_together():
    """Of the plate's share: what particles don't average out."""
    exact = linear_shares()["loc_a"]
    floor, averaged = exact["plate:data"], 1 - exact["plate:data"]
    elbo = pre.TraceEstimator_ELBO(num_particles=4)
    table = study_of(linear_model, linear_guide, here=elbo).attribution(intervals=True, num_pairs=500)
    assert_shares(table, {"loc_a": {"plate:data": floor / (floor + averaged / 4)}})


def test_parameters_are_those_of_the_study():
    """Whatever has become of them since; and they stay what they are now."""
    study = study_of(mixed_model, mixed_guide, DisARM={"b": pre.DisARM()})
    before = study.attribution(num_pairs=20)
    again = study_of(mixed_model, mixed_guide, DisARM={"b": pre.DisARM()})
    pyro.clear_param_store()
    pyro.param("logit", torch.tensor(-3.0))
    torch.manual_seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert again.attribution(num_pairs=20).equals(before)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert list(pyro.get_param_store()) == ["logit"]
    assert pyro.param("logit").item() == -3.0


def test_a_site_that_is_met_late_is_named():
    def guide():
        loc = pyro.param("loc", torch.tensor(0.2))
        if pyro.sample("rare", dist.Bernoulli(0.05)).item():
            pyro.sample("late", dist.Normal(loc, 1.0))
        pyro.sample("z", dist.Normal(loc, 1.0))

    def model():
        if pyro.sample("rare", dist.Bernoulli(0.05)).item():
            pyro.sample("late", dist.Normal(0.0, 1.0))
        pyro.sample("z", dist.Normal(0.0, 1.0))

    study = study_of(model, guide, loop=pre.TraceEstimator_ELBO(vectorize_particles=False))
    with pytest.warns(UserWarning, match="'site:late' drew noise in few of the gradients"):
        shares = study.attribution(num_pairs=20)
    assert list(shares.columns) == ["site:rare", "site:z", "interaction"]
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_errors():
    study = study_of(mixed_model, mixed_guide, exact={"b": pre.Enumeration(), "z": pre.Pathwise()})
    with pytest.raises(pre.EstimatorError, match="expected one of 'exact', was given 'other'"):
        study.attribution("other")
    with pytest.raises(pre.EstimatorError, match="num_pairs: expected at least 2, was given 1"):
        study.attribution(num_pairs=1)

    def model():
        b = pyro.sample("b", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(b, 1.0), obs=torch.tensor(OBSERVED))

    def guide():
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(LOGIT))))

    study = study_of(model, guide, exact=pre.Enumeration())
    with pytest.raises(pre.EstimatorError, match="'exact' has no noise to be told apart"):
        study.attribution()


def test_a_gradient_without_variance_has_no_shares():
    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.2)), 1.0))
        pyro.factor("fixed", -(pyro.param("weight", torch.tensor(0.5)) ** 2), has_rsample=True)

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    shares = study_of(model, guide, pathwise=pre.Pathwise()).attribution(num_pairs=20)
    assert shares.loc["weight"].isna().all()
    assert shares.loc["loc", "site:z"] == pytest.approx(1)


def test_what_estimators_have_learned_is_that_of_the_study():
    """Without its warm-up a baseline is zero, and the noise of ``b`` far larger."""
    shares = []
    for warmup in (0, 300):
        pyro.clear_param_store()
        estimators = {"ema": {"b": pre.ScoreFunction("ema")}}
        study = pre.gradient_study(
            mixed_model, mixed_guide, estimators=estimators, num_draws=20, warmup=warmup
        )
        shares.append(study.attribution(num_pairs=500).loc["logit", "site:b"])
    assert shares[1] < shares[0] - 0.1


def test_two_layers_of_disarm():
    """What a layer draws again in evaluations of another is its own noise: both modes agree."""

    def model():
        upper = pyro.sample("upper", dist.Bernoulli(0.5))
        lower = pyro.sample("lower", dist.Bernoulli(logits=2 * upper - 1))
        pyro.sample("x", dist.Normal(2 * lower + upper, 1.0), obs=torch.tensor(OBSERVED))

    def guide():
        logit = pyro.param("logit", torch.tensor(LOGIT))
        upper = pyro.sample("upper", dist.Bernoulli(logits=logit))
        pyro.sample("lower", dist.Bernoulli(logits=logit + upper))

    elbo = pre.TraceEstimator_ELBO(pre.DisARM(), vectorize_particles=False)
    study = study_of(model, guide, at_once=pre.DisARM(), loop=elbo)
    exact = study.attribution("at_once", num_pairs=20_000)
    table = study.attribution("loop", intervals=True, num_pairs=60)
    assert_shares(table, exact.to_dict(orient="index"))


def test_picture():
    """With a site that has no share at all, and with a parameter that has no variance."""
    study = study_of(linear_model, linear_guide, pathwise=pre.Pathwise())
    axes = study.plot_attribution(num_pairs=50)
    shares = study.attribution(num_pairs=50).clip(lower=0)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["loc_a", "loc_b"]
    bars = [x for x in axes.containers if isinstance(x, BarContainer)]
    for parts, source in zip(bars, shares.columns, strict=True):
        np.testing.assert_allclose([part.get_width() for part in parts], shares[source])
    plt.close(axes.figure)
    table = study.attribution(num_pairs=50, intervals=True)
    table.loc["loc_b"] = np.nan
    axes = plot_shares(table)
    assert [text.get_text() for text in axes.texts][-1] == "no variance"
    plt.close(axes.figure)

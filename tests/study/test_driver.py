import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from torch import nn

import pyro_reparam_ext as pre

from ..statistics import assert_mean
from .programs import DATA, WEIGHTS, exact_gradient, guide, model

COLUMNS = [
    "unbiased",
    "evaluations",
    "variance",
    "variance_low",
    "variance_high",
    "bias",
    "relative_variance",
    "relative_bias",
    "bias_z",
    "seconds_per_gradient",
    "work_normalized_variance",
]


@pytest.fixture(scope="module")
def study():
    pyro.clear_param_store()
    return pre.gradient_study(
        model,
        guide,
        num_draws=2000,
        reference="exact",
        estimators={
            "score": pre.ScoreFunction(),
            "leave one out": pre.LeaveOneOut(),
            "DisARM": {"z": pre.DisARM()},
            "local": lambda site: pre.LocalExpectation(),
            "exact": pre.Enumeration(),
            "relaxed": pre.GumbelSoftmax(2.0, score="discrete"),
            "Trace_ELBO": Trace_ELBO(),
            "TraceGraph_ELBO": pre.Variant(elbo=TraceGraph_ELBO()),
        },
    )


def test_summary_has_the_columns_of_the_contract(study):
    summary = study.summary()
    assert list(summary.columns[: len(COLUMNS)]) == COLUMNS
    assert list(summary.index) == list(study.results)
    assert list(summary["evaluations"]) == [1, 2, 2, 4, 8, 1, 1, 1]
    assert list(summary["unbiased"]) == [True] * 5 + [False] + [True] * 2
    assert list(summary["batched"]) == [True] * 6 + [False] * 2


def test_reference_is_the_exact_gradient(study):
    exact = exact_gradient()
    reference = study.reference_gradient(["logits"])
    np.testing.assert_allclose(reference.mean, exact["logits"].numpy(), rtol=1e-5)
    assert reference.error.sum() == 0
    assert study.summary().loc["exact", "variance"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "label", ["score", "leave one out", "DisARM", "local", "Trace_ELBO", "TraceGraph_ELBO"]
)
def test_draws_of_unbiased_estimators_have_the_exact_mean(study, label):
    kept, exact = study.results[label].kept, exact_gradient()
    draws = [torch.tensor(kept[name]).reshape(2000, -1) for name in study.names]
    assert_mean(torch.cat(draws, -1), torch.cat([exact[name].reshape(-1) for name in study.names]))


def test_bias_is_seen_where_it_is_and_only_there(study):
    summary = study.summary()
    assert summary.loc["relaxed", "bias_z"] > 6
    assert summary.loc["relaxed", "relative_bias"] > 0.1
    norm = study.reference_gradient().norm
    np.testing.assert_allclose(summary["bias"], norm * summary["relative_bias"])
    assert (summary.loc[summary["unbiased"], "bias_z"] < 5).all()


def test_variance_is_that_of_the_draws_and_lies_in_its_interval(study):
    summary = study.summary()
    for label, result in study.results.items():
        draws = np.concatenate([result.kept[n].reshape(2000, -1) for n in study.names], axis=1)
        expected = draws.astype(np.float64).var(0, ddof=1).sum()
        assert summary.loc[label, "variance"] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert (summary["variance_low"] <= summary["variance"]).all()
    assert (summary["variance"] <= summary["variance_high"]).all()


def test_batched_draws_have_the_variance_of_single_ones(study):
    """DisARM has its variance in closed form here; the loop has to agree with the batch."""
    from pyro_reparam_ext.study.draws import Draws
    from pyro_reparam_ext.study.elbo_call import ElboCall
    from pyro_reparam_ext.study.sampler import Sampler

    sampler = Sampler(ElboCall(pre.TraceEstimator_ELBO(pre.DisARM()), model, guide, (), {}))
    names = ["logits"]
    leaves = {name: sampler.parameters[name] for name in names}
    batch = torch.cat([c["logits"] for c in Draws(sampler, names).chunks(4000)])
    loop = torch.stack([sampler.gradient(leaves)["logits"] for _ in range(1000)])
    for power in (1, 2):
        assert_mean(loop.double() ** power, (batch.double() ** power).mean(0))


def test_parameters_store_and_random_state_are_left_alone():
    pyro.param("logits", torch.zeros(3))
    pyro.param("logits").unconstrained().grad = torch.ones(3)
    before = {k: v.detach().clone() for k, v in pyro.get_param_store().items()}
    network = nn.Linear(2, 1)
    weights = network.weight.detach().clone()
    state = torch.get_rng_state()
    pre.gradient_study(
        model,
        lambda data: guide(data),
        torch.zeros(3, 2),
        num_draws=10,
        warmup=3,
        estimators={
            "REBAR": pre.REBAR(),
            "NVIL": pre.ScoreFunction(network),
            "ema": pre.ScoreFunction("ema"),
            "pyro": Trace_ELBO(),
        },
    )
    assert torch.equal(state, torch.get_rng_state())
    assert {k: v.tolist() for k, v in pyro.get_param_store().items()} == {
        k: v.tolist() for k, v in before.items()
    }
    assert torch.equal(pyro.param("logits").unconstrained().grad, torch.ones(3))
    assert torch.equal(network.weight, weights)


def test_the_same_seed_gives_the_same_draws():
    def run(seed):
        estimators = {"DisARM": pre.DisARM()}
        return pre.gradient_study(model, guide, num_draws=5, seed=seed, estimators=estimators)

    first, second, other = (run(seed).results["DisARM"].kept["logits"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_warmup_lowers_the_variance_of_a_learned_control_variate():
    def variance(warmup):
        study = pre.gradient_study(
            model,
            guide,
            num_draws=1000,
            warmup=warmup,
            estimators={"ema": pre.ScoreFunction("ema"), "RLOO": pre.LeaveOneOut()},
        )
        return study.summary(["logits"]).loc["ema"]

    before, after = variance(0), variance(100)
    assert after["variance_high"] < before["variance_low"]
    assert after["bias_z"] < 5


def test_programs_that_cannot_be_batched_are_run_in_a_loop():
    norm = nn.BatchNorm1d(2)

    def stateful(data):
        pyro.module("norm", norm)
        with pyro.plate("data", len(data)):
            z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.5)).to_event(1))
            pyro.sample("x", dist.Normal(norm(z @ WEIGHTS.T), 1.0).to_event(1), obs=data)

    estimators = {"score": pre.ScoreFunction(), "ema": pre.ScoreFunction("ema")}
    study = pre.gradient_study(stateful, guide, DATA, num_draws=50, estimators=estimators)
    assert not study.summary()["batched"].any()
    assert study.summary()["variance"].gt(0).all()


def test_continuous_sites_make_the_exact_reference_an_average():
    def with_noise(data):
        bias = pyro.param("bias", torch.tensor(0.1))
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(data)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(3)).to_event(1))
            loc = (z @ WEIGHTS.T).tanh() * w[..., None] + bias
            pyro.sample("x", dist.Normal(loc, 0.7).to_event(1), obs=data)

    def with_noise_guide(data):
        pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.5)), 0.3))
        guide(data)

    estimators = {"DisARM": pre.DisARM(), "RLOO": {"z": pre.LeaveOneOut()}}
    study = pre.gradient_study(
        with_noise, with_noise_guide, DATA, num_draws=400, reference="exact", estimators=estimators
    )
    assert study.reference.count == 400
    assert (study.summary()["bias_z"] < 5).all()


def test_variants_are_compared_by_the_parameters_they_share():
    entered = []

    class Context:
        def __enter__(self):
            entered.append(True)

        def __exit__(self, *exception):
            return None

    def other_guide(data=None):
        pyro.param("unshared", torch.tensor(1.0))
        guide()

    study = pre.gradient_study(
        model,
        guide,
        num_draws=20,
        estimators={
            "plain": pre.DisARM(),
            "variant": pre.Variant(estimators=pre.DisARM(), guide=other_guide, context=Context),
        },
    )
    assert study.names == ["logits", "bias"] and entered


def test_relaxed_programs_are_not_called_unbiased():
    """Else the default reference would be off, and what is exact would seem biased."""

    def in_place(**options):
        relax = pre.reparam.AutoRelax(1.0, **options)
        return pre.Variant(elbo=Trace_ELBO(), model=relax(model), guide=relax(guide))

    pyro.clear_param_store()
    relaxed = {
        "relaxed score": in_place(),
        "discrete score": in_place(score="discrete"),
        "straight-through": in_place(straight_through=True),
        "estimator": {"z": pre.GumbelSoftmax(1.0)},
    }
    summary = pre.gradient_study(
        model,
        guide,
        num_draws=200,
        estimators={**relaxed, "exact": pre.Enumeration(), "local": pre.LocalExpectation()},
    ).summary()
    assert not summary["unbiased"][list(relaxed)].any()
    for label in ("exact", "local"):
        assert summary["unbiased"][label] and summary["bias_z"][label] < 5


def test_params_restrict_study_and_summary(study):
    only = pre.gradient_study(
        model, guide, num_draws=10, params=["bias"], estimators={"DisARM": pre.DisARM()}
    )
    assert only.names == ["bias"]
    whole = study.summary()["variance"]
    parts = study.summary(["logits"])["variance"] + study.summary(lambda n: n == "bias")["variance"]
    pd.testing.assert_series_equal(whole, parts, check_names=False)


def test_label_as_reference(study):
    labelled = pre.gradient_study(
        model,
        guide,
        num_draws=200,
        reference="local",
        estimators={"local": pre.LocalExpectation(), "DisARM": pre.DisARM()},
    )
    summary = labelled.summary()
    assert np.isnan(summary.loc["local", "bias_z"]) and summary.loc["DisARM", "bias_z"] < 5


def test_inference_data_round_trips_through_netcdf(study, tmp_path):
    path = study.save(tmp_path / "study.nc")
    read = az.from_netcdf(path)
    assert read.gradients["logits"].dims[:3] == ("chain", "draw", "estimator")
    assert read.gradients["logits"].shape == (1, 2000, 8, 3)
    np.testing.assert_array_equal(
        read.gradients["logits"].sel(estimator="DisARM")[0], study.results["DisARM"].kept["logits"]
    )
    np.testing.assert_allclose(read.reference["logits"], exact_gradient()["logits"], rtol=1e-5)
    tree = study.to_datatree()
    assert tree["gradients"].to_dataset().identical(study.to_inferencedata().gradients)


def test_plot_draws_variance_beside_bias(study):
    axes = study.plot()
    assert [axis.get_xlabel().split()[0] for axis in axes] == ["variance", "bias"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list(study.results)
    plt.close("all")


def _large_guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.zeros(13))).to_event(1))


def _large_model():
    pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(13)).to_event(1))


DISARM = {"DisARM": pre.DisARM()}
ERRORS = [
    ("no estimators", lambda: pre.gradient_study(model, guide, estimators={}), "non-empty mapping"),
    (
        "a class",
        lambda: pre.gradient_study(model, guide, estimators={"a": pre.DisARM}),
        r"estimators\['a'\].*DisARM\(\)",
    ),
    (
        "one draw",
        lambda: pre.gradient_study(model, guide, estimators=DISARM, num_draws=1),
        "num_draws.*at least 2",
    ),
    (
        "unknown reference",
        lambda: pre.gradient_study(model, guide, estimators=DISARM, reference="truth"),
        "reference.*'DisARM'.*'truth'",
    ),
    (
        "biased reference",
        lambda: pre.gradient_study(
            model, guide, estimators={"ST": pre.StraightThrough()}, reference="ST"
        ),
        "biased",
    ),
    (
        "unknown parameter",
        lambda: pre.gradient_study(model, guide, estimators=DISARM, params=["no"]),
        "'no'.*'logits'",
    ),
    (
        "unknown site",
        lambda: pre.gradient_study(model, guide, estimators={"a": {"y": pre.DisARM()}}),
        "'y'.*'z'",
    ),
    (
        "support too large",
        lambda: pre.gradient_study(_large_model, _large_guide, estimators=DISARM, reference="exact"),
        "'z'.*8,192.*4,096",
    ),
]


@pytest.mark.parametrize("name, call, match", ERRORS, ids=[name for name, *_ in ERRORS])
def test_errors(name, call, match):
    with pytest.raises(pre.EstimatorError, match=match):
        call()
    assert not list(pyro.get_param_store().keys())

import pickle
from dataclasses import replace

import pyro
import pytest

import pyro_reparam_ext as pre

from .programs import guide, model


@pytest.fixture(scope="module")
def study():
    pyro.clear_param_store()
    estimators = {
        "score": pre.ScoreFunction(),
        "DisARM": {"z": pre.DisARM()},
        "once more": pre.TraceEstimator_ELBO(pre.DisARM()),
        "relaxed": pre.GumbelSoftmax(2.0, score="discrete"),
    }
    return pre.gradient_study(model, guide, num_draws=300, estimators=estimators)


def timed(study, **seconds):
    """The same study, had gradients taken so many seconds, give or take a tenth."""
    results = {
        label: replace(result, seconds=s, seconds_interval=(0.9 * s, 1.1 * s))
        for (label, result), s in zip(study.results.items(), seconds.values(), strict=True)
    }
    return replace(study, results=results)


def test_best_has_the_least_variance_for_its_time(study):
    best = timed(study, score=1.0, disarm=1.0, again=3.0, relaxed=1e-6).best()
    assert best.label == "DisARM"
    assert best.ties == ()
    assert best.estimators == {"z": best.elbo.estimators["z"]}
    pyro.infer.SVI(model, guide, pyro.optim.Adam({}), best.elbo).step()
    assert timed(study, score=1e-3, disarm=1.0, again=3.0, relaxed=1e-6).best().label == "score"


def test_a_tie_is_named(study):
    best = timed(study, score=1.0, disarm=1.0, again=1.01, relaxed=1.0).best()
    assert {best.label, *best.ties} == {"DisARM", "once more"}


def test_times_that_were_measured_lie_in_their_interval(study):
    for result in study.results.values():
        low, high = result.seconds_interval
        assert 0 < low <= result.seconds <= high


def test_a_study_of_biased_estimators_has_no_best():
    pyro.clear_param_store()
    estimators = {"relaxed": pre.GumbelSoftmax(2.0), "through": pre.StraightThrough()}
    study = pre.gradient_study(model, guide, num_draws=10, estimators=estimators)
    with pytest.raises(pre.EstimatorError, match="none of 'relaxed', 'through' is unbiased"):
        study.best()


def test_a_study_from_another_process_has_its_attributions_only(study):
    kept = study.attribution("DisARM", num_pairs=20)
    loaded = pickle.loads(pickle.dumps(study))
    assert loaded.summary().equals(study.summary())
    assert loaded.attribution("DisARM", num_pairs=20).equals(kept)
    with pytest.raises(pre.EstimatorError, match="attribution: the study has no programs"):
        loaded.attribution("score")
    with pytest.raises(pre.EstimatorError, match="best: the study has no programs"):
        loaded.best()

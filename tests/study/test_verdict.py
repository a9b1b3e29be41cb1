"""Estimators that are unbiased on a condition, where it is met and where it is not."""

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.pathwise import Pathwise
from pyro_reparam_ext.study.conditions import Conditions

from ..statistics import assert_z

STEP = 4.0


def step_model():
    z = pyro.sample("z", dist.Bernoulli(0.5))
    pyro.factor("y", STEP * (z > 0.5))


def smooth_model():
    z = pyro.sample("z", dist.Bernoulli(0.5))
    pyro.factor("y", STEP * z)


def discrete_guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(-1.0))))


@pytest.mark.parametrize("reference", ["exact", "DisARM", None])
@pytest.mark.parametrize("jumps", [True, False])
def test_rebar_is_unbiased_only_where_the_cost_is_continuous(reference, jumps):
    estimators = {"REBAR": pre.REBAR(), "DisARM": pre.DisARM()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study = pre.gradient_study(
            step_model if jumps else smooth_model,
            discrete_guide,
            estimators=estimators,
            reference=reference,
            num_draws=1000,
            warmup=100,
        )
    summary = study.summary()
    assert summary.loc["REBAR", "unbiased"] == (not jumps)
    assert summary.loc["DisARM", "unbiased"] and summary.loc["DisARM", "condition"] == ""
    assert pre.REBAR.condition in summary.loc["REBAR", "condition"]
    assert summary.loc["REBAR", "condition"].startswith("not met") == jumps
    assert (summary.loc["REBAR", "bias_z"] > 4) == jumps
    ours = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert len(ours) == 2 * jumps  # what the ELBO saw, and what the study measured
    assert all("'z'" in text and "REBAR" in text for text in ours)
    assert sum("'REBAR'" in text and "jump" in text for text in ours) == jumps


def jumping_model():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.factor("y", torch.where(x > 0, 2.0, 0.0))


def sloping_model():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.factor("y", 2.0 * torch.sigmoid(x) + x.abs())


def normal_guide():
    pyro.sample("x", dist.Normal(pyro.param("loc", torch.tensor(0.3)), 1.0))


# d/dm E[m^2 / 2 - 2 * 1(x > 0)], x ~ Normal(m, 1)
EXACT = 0.3 - 2.0 * float(torch.exp(dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.3))))
SCORE = {"x": pre.ScoreFunction()}
REFERENCES = ["exact", "pathwise", "ELBO", "Trace_ELBO"]


def _reference(name):
    elbos = {"ELBO": pre.TraceEstimator_ELBO(), "Trace_ELBO": Trace_ELBO()}
    return elbos.get(name, name)


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_pathwise_reference_of_a_cost_that_jumps_gives_way(reference):
    with pytest.warns(UserWarning, match="'x'.*jump.*ScoreFunction") as caught:
        study = pre.gradient_study(
            jumping_model,
            normal_guide,
            estimators={"pathwise": None, "score": SCORE},
            reference=_reference(reference),
            num_draws=1000,
        )
    assert any("reference=" in str(w.message) for w in caught)
    summary = study.summary()
    assert list(summary["unbiased"]) == [False, True]
    assert summary.loc["pathwise", "bias_z"] > 4 > summary.loc["score", "bias_z"]
    taken = study.reference_gradient()
    assert_z((taken.mean[0] - EXACT) / np.sqrt(taken.error[0]))


def test_labels_that_are_all_pathwise_are_checked_against_the_score_function():
    with pytest.warns(UserWarning, match="'x'"):
        study = pre.gradient_study(
            jumping_model,
            normal_guide,
            estimators={"ours": None, "Pyro's": Trace_ELBO()},
            num_draws=1000,
        )
    assert not study.summary()["unbiased"].any()
    assert abs(study.reference_gradient().mean[0] - EXACT) < 0.5


@pytest.mark.parametrize("reference", [*REFERENCES, None])
def test_continuous_costs_raise_no_alarm(reference):
    study = pre.gradient_study(  # warnings are errors
        sloping_model,
        normal_guide,
        estimators={"pathwise": None, "score": SCORE, "Pyro's": Trace_ELBO()},
        reference=_reference(reference),
        num_draws=500,
    )
    summary = study.summary()
    assert summary["unbiased"].all()
    assert not (summary["bias_z"] > 4).any()
    assert list(summary["condition"]) == [
        f"{pre.Pathwise.condition} of 'x'",
        "",
        summary["condition"].iloc[0],
    ]


def test_edges_that_move_with_parameters_raise_no_alarm():
    """There the score function would be wrong, not the path."""

    def uniform_guide():
        pyro.sample("x", dist.Uniform(0.0, pyro.param("high", torch.tensor(0.5))))

    def model():
        pyro.sample("x", dist.Uniform(0.0, 1.0))
        pyro.factor("y", torch.tensor(0.0))

    study = pre.gradient_study(
        model, uniform_guide, estimators={"a": None}, reference="exact", num_draws=300
    )
    assert study.summary()["unbiased"].all()


def test_conditions_name_few_sites_and_count_the_others():
    conditions = Conditions({f"z{i}": Pathwise for i in range(5)})
    assert str(conditions) == f"{Pathwise.condition} of 'z0', 'z1', 'z2' and 2 more"
    assert list(conditions.without(Conditions({"z0": Pathwise})).estimators) == ["z1", "z2", "z3", "z4"]
    assert not Conditions() and str(Conditions()) == ""


def test_a_gradient_that_is_the_same_in_all_draws():
    """Of what is smooth the guide is the posterior: sticking the landing has no noise, and no jump."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(torch.where(z > 0, 3.0, 0.0), 0.5), obs=torch.tensor(2.0))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))

    with pytest.warns(
        UserWarning, match=r"\['landing'\]: .* biased in this program \(the same in all draws"
    ):
        study = pre.gradient_study(
            model,
            guide,
            estimators={"landing": pre.StickingTheLanding(), "score": pre.ScoreFunction()},
            num_draws=500,
            progress=False,
        )
    summary = study.summary()
    assert summary.unbiased.to_dict() == {"landing": False, "score": True}
    assert summary.condition["landing"].startswith("not met")
    assert summary.relative_bias["landing"] > 0.5

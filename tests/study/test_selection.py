"""The selection of estimators: what is measured best is chosen, on programs where that is known."""

import math
from collections import Counter
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

DATA = torch.tensor([0.3, 1.2, -0.5, 2.0])


def coins(size, **infer):
    """The sum of some coins, as a guide and a model."""

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.full((size,), 0.3)).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 0.5), obs=torch.tensor(1.0))

    def guide():
        logits = pyro.param("logits", torch.linspace(-0.5, 0.5, size))
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1), infer=infer)

    return model, guide


def mixed():
    """A coin, and normal variables in a plate."""

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
        with pyro.plate("data", 4):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + w, 0.5), obs=DATA)

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.2))))
        with pyro.plate("data", 4):
            pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(4)), 0.7))

    return model, guide


def jumping():
    """A cost that jumps in a normal variable."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(torch.where(z > 0, 3.0, 0.0), 0.5), obs=torch.tensor(2.0))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 1.0))

    return model, guide


def test_what_is_exact_at_the_least_cost():
    selection = pre.select_estimators(*coins(1))
    assert dict(selection) == {"z": selection["z"]}
    assert isinstance(selection["z"], (pre.DisARM, pre.LocalExpectation, pre.Enumeration))
    report = selection.report.loc["z"]
    chosen = report[report["chosen"]]
    assert len(chosen) == 1 and chosen.index[0] == repr(selection["z"])
    assert chosen["variance"].item() < 1e-10
    assert chosen["evaluations"].item() == 2
    assert report["unbiased"].all()
    assert selection.num_particles == 1  # more of them gain nothing


def test_every_site_has_its_own():
    selection = pre.select_estimators(*mixed(), max_plate_nesting=1)
    assert isinstance(selection["w"], pre.Pathwise)
    assert not isinstance(selection["z"], (pre.ScoreFunction, pre.Pathwise))
    report = selection.report
    for site in ("z", "w"):
        product = report.loc[site, "work_normalized_variance"]
        best = product[report.loc[site, "tied"] | report.loc[site, "chosen"]].min()
        assert best <= 1.1 * product.min() or product.min() == 0


def test_a_biased_estimator_counts_by_its_error():
    candidates = [pre.GumbelSoftmax(3.0), pre.LocalExpectation()]
    report = pre.select_estimators(*coins(4), candidates=candidates).report.loc["z"]
    by_variance = report["variance"] * report["seconds_per_gradient"]
    extra = report["work_normalized_variance"] / by_variance
    assert extra[report["unbiased"]].item() == pytest.approx(1)
    assert extra[~report["unbiased"]].item() > 1.3


def test_what_is_biased_in_this_program_is_not_chosen():
    selection = pre.select_estimators(*jumping())
    assert not isinstance(selection["z"], pre.Pathwise)
    for label in ("Pathwise()", "StickingTheLanding()"):
        assert not selection.report.loc[("z", label), "unbiased"]


def test_particles_come_with_it():
    candidates = [pre.LeaveOneOut()]
    selection = pre.select_estimators(*coins(3), candidates=candidates)
    assert selection.num_particles >= 2
    elbo = selection.elbo(max_plate_nesting=0)
    assert elbo.num_particles == selection.num_particles
    assert elbo.loss_and_grads(*coins(3)) > 0


@dataclass(frozen=True, eq=False)
class Refusing(pre.ScoreFunction):
    """Raises at its first evaluation."""

    unbiased = True

    def surrogate(self, evaluations):
        raise RuntimeError("refused")


@dataclass(frozen=True, eq=False)
class Spoiling(pre.ScoreFunction):
    """Gives gradients that are no numbers."""

    unbiased = True

    def surrogate(self, evaluations):
        return super().surrogate(evaluations) * math.nan


def test_candidates_that_fail_are_dropped_and_said_to():
    candidates = [Refusing(), Spoiling(), pre.DisARM()]
    selection = pre.select_estimators(*coins(2), candidates=candidates)
    assert selection["z"] is candidates[-1]
    report = selection.report.loc["z"]
    said = report["failed"][[repr(x) for x in candidates]]
    assert "refused" in said.iloc[0] and "'logits' is not finite" in said.iloc[1]
    assert said.iloc[2] == "" and report["chosen"].sum() == 1


def test_the_first_error_is_raised_where_all_fail():
    with pytest.raises(RuntimeError, match="refused"):
        pre.select_estimators(*coins(2), candidates=[Refusing(), Spoiling()])


def test_one_site_does_not_fail_by_the_candidates_of_another():
    candidates = {"z": [pre.ScoreFunction(), pre.DisARM()], "w": [Refusing(), pre.Pathwise()]}
    selection = pre.select_estimators(*mixed(), candidates=candidates, max_plate_nesting=1)
    assert isinstance(selection["z"], pre.DisARM) and isinstance(selection["w"], pre.Pathwise)
    assert selection.report["failed"].str.contains("refused").sum() == 1


def test_a_program_is_probed_once_for_all_candidates():
    counts = Counter()
    model, guide = coins(3)

    def counting():
        counts["runs"] += 1
        model()

    def runs(candidates):
        counts.clear()
        pre.select_estimators(counting, guide, candidates=candidates, budget=0.0)
        return counts["runs"]

    candidates = [pre.DisARM(), pre.DisARM(num_pairs=2), pre.DisARM(num_pairs=3)]
    none, two, three = runs(candidates[:1]), runs(candidates[:2]), runs(candidates)
    assert 2 * (three - two) < two - none  # what is found once is in the difference on the right


def test_sites_that_have_one_keep_it():
    selection = pre.select_estimators(*coins(2, estimator=pre.DisARM()))
    assert len(selection) == 0 and selection.report.empty


def test_it_changes_nothing():
    model, guide = coins(2)
    guide()
    before = pyro.param("logits").clone()
    state = torch.get_rng_state()
    pre.select_estimators(model, guide, budget=0.0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(before, pyro.param("logits"))
    assert pyro.param("logits").grad is None


def test_no_round_is_begun_beyond_the_budget():
    report = pre.select_estimators(*mixed(), budget=0.0, max_plate_nesting=1).report
    assert report["draws"].max() <= 50


@pytest.mark.parametrize(
    ("candidates", "match"),
    [
        ({"y": [pre.DisARM()]}, "site 'y' is unknown.*expected some of 'z'"),
        ({"z": [pre.Pathwise()]}, "none of those for site 'z' can serve.*Pathwise.*Use some of DisARM"),
    ],
)
def test_errors(candidates, match):
    with pytest.raises(pre.EstimatorError, match=match):
        pre.select_estimators(*coins(2), candidates=candidates)


def test_running_means_of_networks_are_what_they_were():
    norm = torch.nn.BatchNorm1d(1)

    def model(x):
        pyro.module("norm", norm)
        z = pyro.sample("z", dist.Bernoulli(0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(norm(x).squeeze(-1) + z, 1.0), obs=torch.ones(len(x)))

    def guide(x):
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.1))))

    guide(DATA)
    before = norm.running_mean.clone()
    pre.select_estimators(model, guide, DATA[:, None], budget=0.0, max_plate_nesting=1)
    assert torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 0


def test_a_bias_counts_where_the_gradient_is_zero():
    """At the posterior nothing is left of the gradient, but that of relaxed values is off."""
    posterior = torch.tensor(0.3).logit() + 2.0

    def model():
        z = pyro.sample("z", dist.Bernoulli(0.3))
        pyro.factor("x", 2.0 * z**3)

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", posterior.clone())))

    candidates = [pre.GumbelSoftmax(3.0), pre.ScoreFunction()]
    report = pre.select_estimators(model, guide, candidates=candidates).report.loc["z"]
    extra = report["work_normalized_variance"] / (report["variance"] * report["seconds_per_gradient"])
    assert extra[report["unbiased"]].item() == pytest.approx(1)
    assert extra[~report["unbiased"]].item() > 1.3

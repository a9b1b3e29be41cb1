"""``estimators="auto"``: an ELBO that chooses at its first call, and what of it."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam

import pyro_reparam_ext as pre
from pyro_reparam_ext.study.race import ROUNDS

from ..compiled.steps import GraphSVI
from .programs import DATA, guide, model


@pytest.fixture
def elbo(monkeypatch):
    monkeypatch.setattr("pyro_reparam_ext.study.race.ROUNDS", {16: ROUNDS[16]})  # choices are obvious
    return pre.TraceEstimator_ELBO("auto", max_plate_nesting=1)


def test_the_choice_is_made_once_and_can_be_read(elbo):
    assert elbo.estimators == "auto"
    elbo.loss(model, guide, DATA)
    chosen = elbo.estimators
    assert isinstance(chosen, pre.Selection) and set(chosen) == {"z"}
    assert not isinstance(chosen["z"], pre.ScoreFunction) and chosen.report["chosen"].sum() == 1
    elbo.loss(model, guide, DATA)
    assert elbo.estimators is chosen


def test_nothing_else_is_changed_by_it(elbo):
    def train(elbo):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        svi = SVI(model, guide, Adam({"lr": 0.1}), elbo)
        losses = [svi.step(DATA) for _ in range(3)]
        return [*losses, *pyro.param("logits").tolist()]

    own = train(elbo)
    known = pre.TraceEstimator_ELBO(dict(elbo.estimators), max_plate_nesting=1)
    assert own == train(known)


def test_particles_stay_as_given(elbo):
    several = pre.TraceEstimator_ELBO("auto", num_particles=3, max_plate_nesting=1)
    several.loss(model, guide, DATA)
    assert several.num_particles == several.estimators.num_particles == 3
    elbo.loss(model, guide, DATA)
    assert "LeaveOneOut()" not in elbo.estimators.report.loc["z"].index  # it needs two
    assert "LeaveOneOut()" in several.estimators.report.loc["z"].index


class Program(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def test_a_module_of_the_loss(elbo):
    loss = elbo(Program(model), Program(guide))
    assert loss(DATA).requires_grad and isinstance(elbo.estimators, pre.Selection)


def test_compiled_steps(elbo):
    svi = GraphSVI(model, guide, Adam({"lr": 0.1}), elbo, fallback="error")
    losses = svi.run(5, DATA, progress=False).losses
    assert losses.isfinite().all() and isinstance(elbo.estimators, pre.Selection)


def test_sites_keep_estimators_of_their_own(elbo):
    own = pre.REBAR()
    elbo.loss(model, pre.config_estimator(guide, {"z": own}), DATA)
    assert len(elbo.estimators) == 0


def test_a_pickled_one_keeps_its_choice(elbo):
    assert pickle.loads(pickle.dumps(elbo)).estimators == "auto"
    elbo.loss(model, guide, DATA)
    again = pickle.loads(pickle.dumps(elbo))
    assert {k: repr(x) for k, x in again.estimators.items()} == {
        k: repr(x) for k, x in elbo.estimators.items()
    }
    assert again.loss(model, guide, DATA) > 0


def test_a_study_is_a_first_call(elbo):
    study = pre.gradient_study(
        model, guide, DATA, estimators={"auto": elbo, "score": pre.ScoreFunction()}, num_draws=50
    )
    assert isinstance(elbo.estimators, pre.Selection)
    assert study.summary().loc["auto", "variance"] < study.summary().loc["score", "variance"]


def test_batches_are_chosen_for_by_the_first(elbo):
    def batched(x):
        with pyro.plate("data", 9, subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def of_batches(x):
        logits = pyro.param("l", torch.zeros(9))
        with pyro.plate("data", 9, subsample=torch.arange(len(x))) as index:
            pyro.sample("z", dist.Bernoulli(logits=logits[index]))

    svi = SVI(batched, of_batches, Adam({"lr": 0.01}), elbo)
    svi.step(DATA[:2, 0])
    chosen = elbo.estimators
    svi.step(DATA[:3, 0])
    assert elbo.estimators is chosen and set(chosen) == {"z"}


def test_it_refuses_inside_of_a_transform(elbo):
    guide(DATA)
    with pytest.raises(pre.EstimatorError, match=r"Call elbo.loss\(model, guide, ...\) once before"):
        torch.func.vmap(lambda _: elbo.differentiable_loss(model, guide, DATA), randomness="different")(
            torch.arange(2)
        )


def test_a_guide_alone_can_not_be_measured():
    with pytest.raises(pre.EstimatorError, match="a guide alone can't be measured"):
        pre.config_estimator(guide, "auto")


def test_other_words_are_refused():
    with pytest.raises(pre.EstimatorError, match="'auto', or None, was given 'automatic'"):
        pre.TraceEstimator_ELBO("automatic")

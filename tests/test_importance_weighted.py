"""The importance-weighted bound: its value and all its gradients against exact ones."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam

import pyro_reparam_ext as pre

from .bound_programs import FUNCTIONS, MIXED, ONE, PLATE, TWO, drawn, elbo_of
from .compiled.steps import assert_same_steps
from .sampling import gradients, losses
from .slow import one_in
from .statistics import assert_mean

WORDS = ["dreg", "pathwise", "vimco", "vimco-star", "score"]
PROGRAMS = {"one": ONE, "plate": PLATE, "two": TWO, "mixed": MIXED, "functions": FUNCTIONS}


CASES = [(word, name) for name in PROGRAMS for word in WORDS]


@pytest.mark.parametrize("word, name", CASES)
def test_gradient_of_the_bound(word, name):
    alpha = 0.0 if name in ("one", "mixed", "functions") else 0.5
    exact = PROGRAMS[name].exact(2, alpha)
    assert_mean(drawn(elbo_of(word, alpha=alpha), PROGRAMS[name], 8000), exact[1:])


@pytest.mark.parametrize("word, name", one_in(4, CASES, 3))
def test_gradient_of_the_bound_by_three_particles(word, name):
    program, alpha = PROGRAMS[name], 0.3
    if program.normal == 2:  # too many nodes in six dims: as a mean over pairs of layers, by two
        assert_mean(drawn(elbo_of(word, 2, alpha), program, 60000), program.exact(2, alpha)[1:])
        return
    elbo = elbo_of(word, 3, alpha, mode="vmap")
    assert_mean(drawn(elbo, program, 30000), program.exact(3, alpha)[1:])


@pytest.mark.parametrize("word", one_in(2, WORDS))
@pytest.mark.parametrize("name", ["plate", "mixed"])
def test_all_modes_have_the_same_law(word, name):
    program = PROGRAMS[name]
    if (word, name) in [("score", "plate"), ("vimco", "mixed"), ("dreg", "mixed")]:
        exact = program.exact(2, 0.5)[1:]
        assert_mean(drawn(elbo_of(word, alpha=0.5, mode="vmap"), program, 8000), exact)
    found = gradients(
        elbo_of(word, mode=False), program.model, program.guide, list(program.initial), 80
    )
    assert_mean(found, program.exact(2, 0.0))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_value_of_the_bound(alpha):
    for program in (ONE, PLATE):
        pyro.clear_param_store()
        values = losses(elbo_of("dreg", 2, alpha), program.model, program.guide, 200)
        assert_mean(values[:, None], program.exact(2, alpha)[:1])


def test_bound_by_one_particle_is_the_elbo():
    torch.manual_seed(1)
    ours = elbo_of("dreg", 1).loss(ONE.model, ONE.guide)
    torch.manual_seed(1)
    assert ours == pytest.approx(Trace_ELBO().loss(ONE.model, ONE.guide))


# -- where it is used --------------------------------------------------------------------------------


@pytest.mark.parametrize("word, name, mode", [("dreg", "mixed", True), ("vimco-star", "plate", "vmap")])
def test_captured(word, name, mode):
    program = PROGRAMS[name]

    def programs():
        return program.model, program.guide, elbo_of(word, 3, 0.25, mode)

    assert_same_steps(programs, tolerance=1e-9)


@pytest.mark.parametrize("guide", one_in(2, [AutoNormal, AutoMultivariateNormal]))
def test_autoguides_train(guide):
    def model():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("x", dist.Normal(z, 0.5), obs=torch.tensor(1.0))

    guide = guide(model)
    svi = SVI(model, guide, Adam({"lr": 0.02}), pre.ImportanceWeighted_ELBO(8))
    steps = [svi.step() for _ in range(100)]
    assert sum(steps[-30:]) < sum(steps[:30])


def test_module_and_study():
    elbo = elbo_of("dreg", 4)(ONE.model, ONE.guide)
    torch.manual_seed(5)
    loss = elbo()
    loss.backward()
    assert pyro.get_param_store()._params["loc"].grad.abs() > 0
    study = pre.gradient_study(
        ONE.model,
        ONE.guide,
        estimators={word: elbo_of(word, 4) for word in ("dreg", "pathwise")},
        num_draws=200,
        progress=False,
    )
    summary = study.summary()
    assert summary.unbiased.all() and summary.variance["dreg"] < summary.variance["pathwise"]


# -- errors ------------------------------------------------------------------------------------------


ERRORS = {
    "alpha of the ELBO": (lambda: pre.ImportanceWeighted_ELBO(2, alpha=1), "TraceEstimator_ELBO"),
    "negative alpha": (lambda: pre.ImportanceWeighted_ELBO(2, alpha=-0.5), "at least 0"),
    "alpha of words": (lambda: pre.ImportanceWeighted_ELBO(2, alpha="half"), "alpha: expected"),
    "no particles": (lambda: pre.ImportanceWeighted_ELBO(0), "num_particles"),
    "unknown word": (lambda: pre.ImportanceWeighted_ELBO(2, "drag"), "'dreg'.*'pathwise'.*'drag'"),
    "one particle": (
        lambda: elbo_of("vimco", 1).loss(ONE.model, ONE.guide),
        "site 'z': LeaveOneOut needs other particles",
    ),
    "enumeration": (
        lambda: elbo_of("dreg").loss_and_grads(
            MIXED.model, pre.config_estimator(MIXED.guide, {"b": pre.Enumeration()})
        ),
        "site 'b': Enumeration averages costs.*bound by several particles",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, message = ERRORS[name]
    with pytest.raises(pre.EstimatorError, match=message):
        call()

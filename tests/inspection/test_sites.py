"""The table of sites: what it says of programs that are right, and of those that are not."""

import warnings

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

import pyro_reparam_ext as pre

from .programs import PROGRAMS, X, Y

COLUMNS = [
    "distribution",
    "sampler",
    "plates",
    "coordinates",
    "values",
    "estimator",
    "chosen_by",
    "evaluations",
    "mode",
    "costs",
    "mode_reason",
    "why",
    "recommended",
]
RIGHT = {"pathwise", "discrete", "a function of other sites"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_found_where_nothing_is_wrong(name):
    model, guide, args = PROGRAMS[name]()
    table = pre.inspect_sites(model, guide, *args)
    assert len(table)
    assert set(table.sampler) <= RIGHT
    assert set(table.recommended) == {""}
    assert set(table["mode"]) == {"broadcast"}


def single(x):
    return torch.tensor(x)


DEFECTIVE = {
    "MixtureOfDiagNormals": lambda: dist.MixtureOfDiagNormals(
        torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)
    ),
    "MixtureOfDiagNormalsSharedCovariance": lambda: dist.MixtureOfDiagNormalsSharedCovariance(
        torch.zeros(2, 3), torch.ones(3), torch.zeros(2)
    ),
    "ContinuousBernoulli": lambda: dist.ContinuousBernoulli(logits=single(0.0)),
    "GeneralizedPareto": lambda: dist.GeneralizedPareto(0.0, 1.0, single(0.0)),
    "Wishart": lambda: dist.Wishart(single(4.0), torch.eye(2)),
    "Gamma": lambda: dist.Gamma(single(0.01), 1.0),
    "Beta": lambda: dist.Beta(single(1e-3), single(1e-3)),
    "Dirichlet": lambda: dist.Dirichlet(single([1e-3, 1e-3, 1e-3])),
    "Beta, large": lambda: dist.Beta(single(2.0**16 + 1039), 1.0),
    "StudentT": lambda: dist.StudentT(single(0.4), 0.0, 1.0),
    "Kumaraswamy": lambda: dist.Kumaraswamy(single(0.2), single(0.2)),
    "RelaxedOneHotCategorical": lambda: dist.RelaxedOneHotCategorical(
        single(0.05), logits=torch.zeros(3)
    ),
    "StraightThroughOneHotCategorical": lambda: dist.RelaxedOneHotCategoricalStraightThrough(
        single(0.5), logits=torch.zeros(3)
    ),
    "StraightThroughBernoulli": lambda: dist.RelaxedBernoulliStraightThrough(
        single(0.5), logits=single(0.0)
    ),
    "StraightThroughOneHotCategorical, discrete": lambda: dist.OneHotCategoricalStraightThrough(
        logits=torch.zeros(3)
    ),
    "MixtureSameFamily": lambda: dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0)
    ),
    "VonMises": lambda: dist.VonMises(single(0.0), 1.0),
    "LKJCholesky": lambda: dist.LKJCholesky(3, single(1.0)),
    "LKJCholesky, of correlations": lambda: dist.LKJ(3, single(1.0)),
}
"""Distributions that are wrong, or have no pathwise sampler, by what takes their place."""


@pytest.fixture(scope="module")
def defective():
    def program():
        for name, make in DEFECTIVE.items():
            pyro.sample(name, make())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # by Wishart, and of densities that change from run to run
        return pre.inspect_sites(program, program)


@pytest.mark.parametrize("name", DEFECTIVE)
def test_each_defect_is_found_in_one_program(name, defective):
    row = defective.loc[name]
    assert row.sampler not in RIGHT
    assert row.recommended == f"pre.distributions.{name.split(',')[0]}"


def test_recommended_distributions_are_right():
    def program():
        with pyro.plate("two", 2):
            pyro.sample("gamma", pre.distributions.Gamma(0.01, 1.0))
            pyro.sample("angle", pre.distributions.VonMises(0.0, 1.0))

    table = pre.inspect_sites(program, program)
    assert list(table.sampler) == ["pathwise", "pathwise"]
    assert list(table.recommended) == ["", ""]


# -- what is described ------------------------------------------------------------------------------


def several_sites():
    count = pyro.sample("count", dist.Poisson(2.0))
    bits = pyro.sample("bits", dist.Bernoulli(0.3 * torch.ones(4)).to_event(1))
    with pyro.plate("rows", 6, subsample_size=3) as rows:
        kind = pyro.sample("kind", dist.Categorical(torch.ones(3)))
        mean = count + bits.sum(-1) + kind
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y[rows])


def guide_of_several():
    pyro.sample("count", dist.Poisson(pyro.param("rate", torch.tensor(2.0))))
    infer = {"estimator": pre.DisARM()}
    pyro.sample("bits", dist.Bernoulli(logits=pyro.param("h", torch.zeros(4))).to_event(1), infer=infer)
    with pyro.plate("rows", 6, subsample_size=3):
        pyro.sample("kind", dist.Categorical(torch.ones(3)))


def test_a_row_for_each_site():
    elbo = pre.TraceEstimator_ELBO({"kind": pre.LocalExpectation()}, num_particles=2)
    table = pre.inspect_sites(several_sites, guide_of_several, elbo=elbo)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == COLUMNS
    assert table.index.name == "site"
    assert list(table.index) == ["count", "bits", "kind"]
    assert list(table.distribution) == ["Poisson", "Bernoulli, to_event(1)", "Categorical"]
    assert list(table.plates) == ["", "", "rows[3 of 6]"]
    assert list(table.coordinates) == [1, 4, 1]
    assert list(table["values"]) == [float("inf"), 2, 3]
    assert list(table.estimator) == [
        "LeaveOneOut()",
        "DisARM(num_pairs=1)",
        "LocalExpectation(max_evaluations=None)",
    ]
    assert list(table.chosen_by) == ["default", "infer['estimator']", "estimators="]
    assert list(table.evaluations) == [1, 2, 3]
    assert list(table.costs) == [
        "q(count) p(count) p(y)",
        "q(bits) p(bits) p(y)",
        "q(kind) p(kind) p(y)",
    ]
    assert list(table.recommended) == ["", "", ""]


def test_no_site_at_all():
    def model():
        pyro.sample("y", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0), obs=Y[0])

    table = pre.inspect_sites(model, lambda: None)
    assert (len(table), list(table.columns)) == (0, COLUMNS)


def test_a_site_that_occurs_in_some_runs_alone():
    def branching():
        if pyro.sample("b", dist.Bernoulli(0.5)) > 0:
            pyro.sample("more", dist.Normal(0.0, 1.0))

    elbo = pre.TraceEstimator_ELBO({"b": pre.Enumeration()}, vectorize_particles=False)
    assert list(pre.inspect_sites(branching, branching, elbo=elbo).index) == ["b", "more"]


def test_a_site_of_the_model_alone():
    def guide():
        guide_of_several()
        pyro.sample("more", dist.Normal(0.0, 1.0))

    def model():
        several_sites()
        pyro.sample("more", dist.Normal(0.0, 1.0))
        pyro.sample("forgotten", dist.Normal(0.0, 1.0))

    with pytest.warns(UserWarning, match="in model but not guide"):
        table = pre.inspect_sites(model, guide)
    assert list(table.index) == ["count", "bits", "kind", "more", "forgotten"]
    assert table.recommended["forgotten"] == "sample 'forgotten' in the guide"


def matrix_product():
    z = pyro.sample("z", dist.Bernoulli(0.3 * torch.ones(2)).to_event(1))
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Normal(z @ X.T, 0.5), obs=Y)


def branch():
    z = pyro.sample("z", dist.Bernoulli(0.3 * torch.ones(2)).to_event(1))
    loc = 1.0 if z[..., 0].item() > 0 else -1.0
    pyro.sample("y", dist.Normal(loc, 0.5), obs=Y[0])


def bits():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("h", torch.zeros(2))).to_event(1))


@pytest.mark.parametrize(
    "model, mode, reason",
    [
        (matrix_product, "vmap", "site 'y' of the model has shape"),
        (branch, "loop", r"\.item\(\)"),
    ],
)
def test_the_mode_and_what_failed_in_a_better_one(model, mode, reason):
    elbo = pre.TraceEstimator_ELBO(pre.LocalExpectation())
    with pytest.warns(UserWarning, match="Evaluations are run"):
        table = pre.inspect_sites(model, bits, elbo=elbo)
    assert table["mode"]["z"] == mode
    assert pd.Series(table.mode_reason["z"]).str.contains(reason).all()


def test_an_estimator_with_a_network_takes_one_line():
    baseline = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(baseline))
    (estimator,) = pre.inspect_sites(bits, bits, elbo=elbo).estimator
    assert estimator.startswith("ScoreFunction(baseline=Sequential(")
    assert "\n" not in estimator


def test_print_shows_what_matters():
    shown = str(pre.inspect_sites(several_sites, guide_of_several))
    assert "Poisson" in shown
    assert "LeaveOneOut(), num_particles=2 or more" in shown


# -- what it leaves ---------------------------------------------------------------------------------


def test_nothing_is_changed():
    norm = nn.BatchNorm1d(2, track_running_stats=True)

    def model():
        with pyro.plate("rows", 6):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(norm(X) * w.unsqueeze(-1), 1.0).to_event(1), obs=X)

    def guide():
        with pyro.plate("rows", 6):
            pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(6)), 1.0))
            pyro.param("new", torch.zeros(2))

    pyro.param("loc", torch.ones(6))
    buffers = {name: b.clone() for name, b in norm.named_buffers()}
    elbo = pre.TraceEstimator_ELBO(pre.REBAR())
    seed = torch.get_rng_state()
    pre.inspect_sites(model, guide, elbo=elbo)
    assert torch.equal(torch.get_rng_state(), seed)
    assert set(pyro.get_param_store()) == {"loc"}
    assert torch.equal(pyro.param("loc").detach(), torch.ones(6))
    assert pyro.param("loc").grad is None
    assert all(torch.equal(buffers[name], b) for name, b in norm.named_buffers())


def test_what_estimators_learn_is_left_as_well():
    elbo = pre.TraceEstimator_ELBO(pre.REBAR())
    pre.inspect_sites(matrix_by_elements, bits, elbo=elbo)
    assert not len(elbo.states)
    elbo.loss_and_grads(matrix_by_elements, bits)
    learned = elbo.states["z/REBAR"]
    pre.inspect_sites(matrix_by_elements, bits, elbo=elbo)
    assert elbo.states["z/REBAR"] is learned


def matrix_by_elements():
    z = pyro.sample("z", dist.Bernoulli(0.3 * torch.ones(2)).to_event(1))
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Normal((X * z).sum(-1), 0.5), obs=Y)


def test_a_gradient_is_not_needed_outside():
    elbo = pre.TraceEstimator_ELBO(pre.DisARM())
    with torch.no_grad(), pytest.warns(UserWarning, match="torch.func.vmap"):
        table = pre.inspect_sites(matrix_product, bits, elbo=elbo)
    assert table["mode"]["z"] == "vmap"


# -- errors -----------------------------------------------------------------------------------------


def forgotten_plate():
    pyro.sample("z", dist.Bernoulli(0.3 * torch.ones(2)).to_event(1))
    pyro.sample("y", dist.Normal(0.0, 1.0), obs=Y)


@pytest.mark.parametrize(
    "model, elbo, error, match",
    [
        (forgotten_plate, None, ValueError, "invalid log_prob shape"),
        (
            matrix_by_elements,
            pre.TraceEstimator_ELBO({"other": pre.DisARM()}),
            pre.EstimatorError,
            "'other': an estimator is configured",
        ),
        (matrix_by_elements, Trace_ELBO(), pre.EstimatorError, "was given Trace_ELBO"),
    ],
)
def test_what_the_elbo_would_raise(model, elbo, error, match):
    with pytest.raises(error, match=match):
        pre.inspect_sites(model, bits, elbo=elbo)

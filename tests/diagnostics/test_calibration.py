"""``simulate_calibration`` of guides that are right, or wrong in a known way."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam

import pyro_reparam_ext as pre

from ..statistics import assert_p

X = torch.zeros(3)


def model(x):
    """The mean of data, and which of two offsets they have."""
    side = pyro.sample("side", dist.Bernoulli(0.5))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal((z + 20 * side).unsqueeze(-1), 1.0), obs=x)


def guide(x):
    """Depends on the data themselves; ``width`` and ``offset`` make it wrong."""
    side = (x.mean() > 10).float()
    precision = 1.0 + len(x)
    loc = (x - 20 * side).sum() / precision + pyro.param("offset", torch.tensor(0.0))
    pyro.sample("side", dist.Bernoulli(0.001 + 0.998 * side))
    pyro.sample("z", dist.Normal(loc, pyro.param("width", torch.tensor(1.0)) * precision**-0.5))


def calibration(refit):
    return pre.simulate_calibration(model, guide, X, refit=refit, simulations=30, num_samples=20)


def sets(**values):
    def refit(model, guide, x):
        assert x.shape == X.shape and not torch.equal(x, X)
        guide(x)
        assert pyro.param("width") == 1  # each fit starts from the same place
        for name, value in values.items():
            pyro.param(name).data.fill_(value)

    return refit


def test_the_posterior_is_calibrated():
    table = calibration(sets())
    assert sorted(table.index) == [("side", ""), ("z", "")]
    for _, row in table.iterrows():
        assert_p(row["p_value"])
    assert table["mean_rank"].between(0.3, 0.7).all()


@pytest.mark.parametrize("width, wrong", [(0.1, "narrow"), (10.0, "wide")])
def test_a_wrong_width_shows_in_the_spread(width, wrong):
    row = calibration(sets(width=width)).iloc[0]
    assert row.name == ("z", "") and row["p_value"] < 0.01
    assert row["spread"] > 1.2 if wrong == "narrow" else row["spread"] < 0.8


def test_draws_that_are_too_high_show_in_the_mean_rank():
    row = calibration(sets(offset=1.0)).loc[("z", "")]
    assert row["p_value"] < 1e-6 and row["mean_rank"] < 0.3


def test_nothing_is_changed_and_a_seed_tells_all():
    guide(X)
    state = torch.get_rng_state()
    one, two = (
        pre.simulate_calibration(model, guide, X, refit=sets(offset=1.0), simulations=10, seed=2)
        for _ in range(2)
    )
    assert one.equals(two)
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: value.item() for name, value in pyro.get_param_store().items()} == {
        "offset": 0,
        "width": 1,
    }


def factor(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("f", x.sum())


def blind(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))


@pytest.mark.filterwarnings("ignore:Found")
@pytest.mark.parametrize(
    "program, simulations, match",
    [
        (model, 3, "at least 10.*given 3"),
        (factor, 10, "'f': it is a factor"),
        (blind, 10, "no observed"),
    ],
    ids=["few", "factor", "blind"],
)
def test_errors(program, simulations, match):
    with pytest.raises(pre.EstimatorError, match=match):
        pre.simulate_calibration(program, guide, X, refit=sets(), simulations=simulations)


def test_what_the_model_computes_is_not_given_and_is_ranked():
    """Were ``z`` given as data are, the likelihood would not depend on ``z_decentered``."""

    def noncentred(x):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        pyro.deterministic("square", z**2)
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    program = poutine.reparam(noncentred, {"z": LocScaleReparam(0.0)})

    def posterior(x):
        pyro.sample("z_decentered", dist.Normal(0.4 * x, 0.2**0.5))

    def refit(model, guide, x):
        at = poutine.condition(model, {"z_decentered": torch.tensor(0.7)})
        trace = poutine.trace(at).get_trace(x)
        assert float(trace.nodes["z"]["value"]) == pytest.approx(1.4)
        assert trace.nodes["x"]["value"] is x

    table = pre.simulate_calibration(program, posterior, X[0], refit=refit, simulations=40)
    assert sorted(table.index) == [("square", ""), ("z", ""), ("z_decentered", "")]
    for _, row in table.iterrows():
        assert_p(row["p_value"])


def test_sites_that_training_sums_out_are_drawn_anew_with_the_data():
    def mixed(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(z + 20 * k, 1.0), obs=x)

    def posterior(x):
        pyro.sample("z", dist.Normal((x - 20 * (x > 10)) / 2, 0.5**0.5))

    table = pre.simulate_calibration(mixed, posterior, X[0], refit=lambda *_: None, simulations=40)
    assert list(table.index) == [("z", "")]
    assert_p(table.iloc[0]["p_value"])

"""Draws of a guide under the model's names, in every way of running a program."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.diagnostics.guide_draws import guide_draws

from .programs import DATA, grouped, posterior_of_grouped


def draws_of(model, guide, *args, num_samples=50):
    options = {"num_samples": num_samples, "max_plate_nesting": math.inf, "progress": False}
    return guide_draws(model, guide, args, {}, **options)


@pytest.mark.parametrize("make", [AutoNormal, AutoMultivariateNormal, AutoDelta])
def test_autoguides_have_the_sites_of_the_model(make):
    found = draws_of(grouped, make(grouped), DATA)
    assert {name: site.values.shape for name, site in found.sites.items()} == {
        "mean": (50,),
        "z": (50, 8),
    }
    assert found.sites["z"].plates == {"data": -1}
    assert all(site.point == (make is AutoDelta) for site in found.sites.values())


@pytest.mark.parametrize(
    "make, across, within",
    [
        (AutoNormal, False, False),
        (AutoDiagonalNormal, False, False),
        (AutoMultivariateNormal, True, True),
        (lambda model: posterior_of_grouped, True, False),
    ],
    ids=["normal", "diagonal", "full rank", "structured"],
)
def test_which_sites_a_guide_lets_depend_on_each_other(make, across, within):
    sites = draws_of(grouped, make(grouped), DATA, num_samples=4).sites
    assert sites["mean"].may_depend_on(sites["z"]) == sites["z"].may_depend_on(sites["mean"]) == across
    assert sites["z"].may_depend_on(sites["z"]) == within


def nested(read):
    """A guide of sites in two plates, which may read a value as a number."""

    def program():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        high = bool(a > 0) if read else False
        with pyro.plate("rows", 3, dim=-2), pyro.plate("columns", 2, dim=-1):
            pyro.sample("c", dist.Normal(a + high, torch.ones(2)).expand([3, 2]))
            pyro.sample("k", dist.OneHotCategorical(torch.ones(4)).expand([3, 2]))

    return program


@pytest.mark.filterwarnings("ignore:.*one by one")
@pytest.mark.parametrize("read", [False, True], ids=["at once", "loop"])
def test_draws_lie_left_of_plates_and_events(read):
    found = draws_of(nested(read), nested(read))
    shapes = {name: site.values.shape for name, site in found.sites.items()}
    assert shapes == {"a": (50,), "c": (50, 3, 2), "k": (50, 3, 2, 4)}
    assert len(found.sites["c"].values.unique(dim=0)) == 50
    assert found.way.vectorized != read
    assert found.sites["k"].discrete and not found.sites["c"].discrete


def test_runs_of_many_draws_are_of_a_size_that_fits(monkeypatch):
    monkeypatch.setattr("pyro_reparam_ext.diagnostics.guide_draws.FLOATS", 400)
    found = draws_of(grouped, posterior_of_grouped, DATA)
    assert len(found.runs) > 2
    assert found.sites["z"].values.shape == (50, 8)


def test_a_plate_that_subsamples_is_named():
    def model(x):
        with pyro.plate("data", 8, subsample_size=3) as i:
            pyro.sample("z", dist.Normal(x[i], 1.0))

    with pytest.raises(pre.EstimatorError, match="plate 'data': it takes 3 of 8"):
        draws_of(model, model, DATA)

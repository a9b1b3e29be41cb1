"""The groups of ArviZ for a guide: names, dims, and laws of what is in them."""

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.infer.autoguide import AutoNormal
from pyro.infer.reparam import LocScaleReparam

import pyro_reparam_ext as pre

from ..statistics import assert_mean

DATA = torch.tensor([[0.3, 1.2, -0.5], [2.0, 0.1, 0.4]])


def model(data):
    scale = pyro.sample("scale", dist.Gamma(2.0, 2.0))
    with pyro.plate("group", 2, dim=-2):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3, dim=-1):
            pyro.sample("x", dist.Normal(loc, 0.5), obs=data)
    pyro.sample("w", dist.MultivariateNormal(torch.zeros(2), torch.eye(2) * scale))


def guide(data):
    pyro.sample("scale", dist.Gamma(3.0, 2.0))
    with pyro.plate("group", 2, dim=-2):
        pyro.sample("loc", dist.Normal(torch.tensor([[0.4], [0.9]]), 0.2))
    pyro.sample("w", dist.MultivariateNormal(torch.ones(2), torch.eye(2)))


@pytest.fixture(scope="module")
def groups():
    return pre.posterior_datasets(model, guide, DATA, num_samples=2000, progress=False)


def test_names_and_dims(groups):
    assert list(groups) == ["posterior", "posterior_predictive", "log_likelihood", "observed_data"]
    posterior = groups["posterior"]
    assert set(posterior.data_vars) == {"scale", "loc", "w"}
    assert posterior["scale"].dims == ("chain", "draw")
    assert posterior["loc"].dims == ("chain", "draw", "group", "loc_dim_1")
    assert posterior["w"].dims == ("chain", "draw", "w_event_0")
    for group in ("posterior_predictive", "log_likelihood"):
        assert groups[group]["x"].dims == ("chain", "draw", "group", "data")
        assert groups[group]["x"].shape == (1, 2000, 2, 3)
    assert groups["observed_data"]["x"].dims == ("group", "data")
    assert (groups["observed_data"]["x"].values == DATA.numpy()).all()


def test_laws(groups):
    rows = {name: torch.tensor(x.values[0]) for name, x in groups["posterior"].items()}
    assert_mean(rows["loc"].flatten(1), torch.tensor([0.4, 0.9]))
    assert_mean(rows["w"], torch.ones(2))
    predicted = torch.tensor(groups["posterior_predictive"]["x"].values[0])
    error = (predicted - rows["loc"]).square().flatten(1)
    assert_mean(error, torch.full((6,), 0.25))
    expected = dist.Normal(rows["loc"], 0.5).log_prob(DATA)
    torch.testing.assert_close(torch.tensor(groups["log_likelihood"]["x"].values[0]), expected)


def test_an_autoguide_has_the_models_names():
    auto = AutoNormal(model)
    state = torch.get_rng_state()
    tree = pre.to_datatree(model, auto, DATA, num_samples=5)
    assert set(tree["posterior"].data_vars) == {"scale", "loc", "w"}
    assert (tree["posterior"]["scale"] > 0).all()
    assert torch.equal(state, torch.get_rng_state())


def test_arviz_takes_it():
    found = pre.to_inferencedata(model, guide, DATA, num_samples=200, progress=False)
    assert found.groups() == list(pre.posterior_datasets(model, guide, DATA, num_samples=2))
    assert "loc[0, 0]" in az.summary(found, var_names=["loc"], kind="stats").index


def schools(data):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.deterministic("twice", 2 * mu)
    with pyro.plate("data", 3):
        theta = pyro.sample("theta", dist.Normal(mu, 2.0))
        pyro.sample("x", dist.Normal(theta, 1.0), obs=data)


def test_what_is_computed_is_of_the_posterior():
    reparameterised = poutine.reparam(schools, {"theta": LocScaleReparam(0.0)})
    auto = AutoNormal(reparameterised)
    found = pre.posterior_datasets(reparameterised, auto, DATA[0], num_samples=4)
    assert {"mu", "theta", "twice"} <= set(found["posterior"].data_vars)
    for group in ("posterior_predictive", "log_likelihood", "observed_data"):
        assert set(found[group].data_vars) == {"x"}
    twice = 2 * found["posterior"]["mu"]
    assert (abs(found["posterior"]["twice"] - twice) < 1e-6).all()


def test_what_is_masked_is_missing():
    data = torch.tensor([1.0, torch.nan, 0.5])

    def masked():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3), poutine.mask(mask=~data.isnan()):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=data.nan_to_num(0.0))

    found = pre.posterior_datasets(masked, lambda: pyro.sample("mu", dist.Normal(0.0, 1.0)))
    assert found["observed_data"]["x"].isnull().values.tolist() == [False, True, False]
    assert found["log_likelihood"]["x"].isnull().all(["chain", "draw"]).values.tolist() == [
        False,
        True,
        False,
    ]


def partly(data):
    with pyro.plate("data", 3, subsample_size=2) as i:
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=data[0, i])


@config_enumerate
def enumerated(data):
    k = pyro.sample("k", dist.Bernoulli(0.3))
    pyro.sample("x", dist.Normal(k, 1.0), obs=data[0, 0])


def sometimes(data):
    if torch.rand(()) < 0.5:
        pyro.sample("rare", dist.Normal(0.0, 1.0))


def never(data):
    """Leaves all to the model."""


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: pre.posterior_datasets(sometimes, never, DATA, num_samples=30), "site 'rare'.*of 30"),
        (lambda: pre.posterior_datasets(model, guide, DATA, num_samples=0), "num_samples"),
        (lambda: pre.posterior_datasets(partly, never, DATA), "plate 'data': it takes 2 of 3"),
        (lambda: pre.posterior_datasets(enumerated, never, DATA), "site 'k': it is enumerated"),
    ],
)
def test_errors(call, match):
    with pytest.raises(pre.EstimatorError, match=match):
        call()

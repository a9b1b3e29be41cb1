"""``marginals`` against closed forms."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.infer.reparam import LocScaleReparam
from scipy import stats

import pyro_reparam_ext as pre

from ..statistics import assert_z

QUANTILES = {"5%": 0.05, "50%": 0.5, "95%": 0.95}


def program():
    s = pyro.sample("s", dist.Bernoulli(torch.tensor([0.3, 0.8])).to_event(1))
    pyro.sample("count", dist.Binomial(3, 0.25))
    with pyro.plate("rows", 2):
        logits = torch.stack([s[..., :1].expand(*s.shape[:-1], 2), torch.zeros_like(s)], -1)
        pyro.sample("k", dist.OneHotCategorical(logits=logits))
        pyro.sample("c", dist.Categorical(torch.tensor([[0.2, 0.8], [0.5, 0.5]])))
        pyro.sample("z", dist.Gamma(torch.tensor([2.0, 5.0]), 1.0))
        pyro.sample("n", dist.Poisson(1.5))


@pytest.fixture(scope="module")
def table():
    return pre.marginals(program, program, num_samples=4000)


@pytest.mark.parametrize("index, shape", [("0", 2.0), ("1", 5.0)])
def test_continuous_sites(table, index, shape):
    row, law = table.loc[("z", index)], stats.gamma(shape)
    exact = {"mean": law.mean(), "sd": law.std(), **{k: law.ppf(q) for k, q in QUANTILES.items()}}
    zs = [(row[name] - value) / row[f"{name}_error"] for name, value in exact.items()]
    assert_z(max(zs, key=abs))
    assert row["mean_error"] == pytest.approx(law.std() / 4000**0.5, rel=0.1)
    for name, q in QUANTILES.items():
        error = (q * (1 - q) / 4000) ** 0.5 / law.pdf(law.ppf(q))
        assert row[f"{name}_error"] == pytest.approx(error, rel=0.4)
    assert row.filter(like="P(").isna().all()


def test_discrete_sites_without_parents_are_exact(table):
    assert table.loc[("s", "1"), "P(1)"] == pytest.approx(0.8)
    assert table.loc[("s", "1"), "sd"] == pytest.approx(0.4)
    assert table.loc[("s", "0"), "P(1)_error"] == pytest.approx(0, abs=1e-6)
    law = stats.binom(3, 0.25)
    row = table.loc[("count", "")]
    assert [row[f"P({k})"] for k in range(4)] == pytest.approx(law.pmf(range(4)))
    assert (row["mean"], row["sd"]) == pytest.approx((law.mean(), law.std()))
    assert table.loc[("c", "0"), ["P(0)", "P(1)"]].tolist() == pytest.approx([0.2, 0.8])


def test_discrete_sites_with_parents_are_averaged_over_them(table):
    exact = 0.7 * 0.5 + 0.3 / (1 + torch.tensor(-1.0).exp().item())
    row = table.loc[("k", "1")]
    assert_z((row["P(0)"] - exact) / row["P(0)_error"])
    counted = (exact * (1 - exact) / 4000) ** 0.5
    assert 0 < row["P(0)_error"] < 0.3 * counted
    assert row["P(0)"] + row["P(1)"] == pytest.approx(1)
    assert row[["mean", "sd", "50%"]].isna().all()


def test_counts_without_end_have_quantiles(table):
    row = table.loc[("n", "0")]
    assert_z((row["mean"] - 1.5) / row["mean_error"])
    assert (row["5%"], row["50%"], row["95%"]) == (0, 1, 4)


def test_autoguides_are_shown_as_the_model_has_its_sites():
    def model():
        pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))

    found = pre.marginals(model, AutoMultivariateNormal(model, init_scale=1e-3), num_samples=50)
    assert list(found.index) == [
        ("scale", ""),
        *(("w", f"{i}, {j}") for i in range(2) for j in range(3)),
    ]
    assert found.loc[("scale", ""), "5%"] > 0


def schools(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.deterministic("twice", torch.stack([mu, 2 * mu], -1), event_dim=1)
    with pyro.plate("data", len(x)):
        theta = pyro.sample("theta", dist.Normal(mu, 2.0))
        if float(theta.sum()) > 1e9:  # so that draws are made one by one, where it is not hidden
            raise ValueError
        pyro.sample("x", dist.Normal(theta, 1.0), obs=x)


def broadcasting(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.deterministic("twice", torch.stack([mu, 2 * mu], -1), event_dim=1)
    with pyro.plate("data", len(x)):
        theta = pyro.sample("theta", dist.Normal(mu, 2.0))
        pyro.sample("x", dist.Normal(theta, 1.0), obs=x)


@pytest.mark.filterwarnings("ignore:.*one by one")
@pytest.mark.parametrize("model, draws", [(broadcasting, 400), (schools, 40)], ids=["at once", "loop"])
def test_what_the_model_computes_and_reparameterised_sites_have_the_models_names(model, draws):
    reparameterised = poutine.reparam(model, {"theta": LocScaleReparam(0.0)})

    def guide(x):
        pyro.sample("mu", dist.Normal(0.5, 0.1))
        with pyro.plate("data", len(x)):
            pyro.sample("theta_decentered", dist.Normal(torch.tensor([0.0, 1.0, 2.0]), 0.2))

    table = pre.marginals(reparameterised, guide, torch.zeros(3), num_samples=draws)
    assert list(table.index.unique("site")) == ["mu", "twice", "theta_decentered", "theta"]
    for index, mean, sd in [("0", 0.5, 0.1), ("1", 1.0, 0.2)]:
        row = table.loc[("twice", index)]
        assert_z((row["mean"] - mean) / row["mean_error"])
        assert_z((row["sd"] - sd) / row["sd_error"])
    for i in range(3):  # theta = mu + 2 * theta_decentered
        row = table.loc[("theta", str(i))]
        assert_z((row["mean"] - (0.5 + 2 * i)) / row["mean_error"])
        assert_z((row["sd"] - (0.1**2 + 0.4**2) ** 0.5) / row["sd_error"])


def part_of(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), subsample_size=2) as i:
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.deterministic("own", 2 * z, event_dim=0)
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[i])
    pyro.deterministic("total", z.sum(-1))


def test_of_a_part_of_the_data_the_sites_outside_of_its_plate_are_known():
    auto = AutoNormal(part_of, init_scale=0.5)
    auto(torch.zeros(6))
    with pytest.warns(UserWarning, match="'own', 'total', 'z' lie in a plate.*depend on one"):
        table = pre.marginals(part_of, auto, torch.zeros(6), num_samples=400)
    assert list(table.index) == [("mu", "")]
    row = table.loc[("mu", "")]
    assert_z((row["mean"] - auto.locs.mu.item()) / row["mean_error"])
    with pytest.raises(pre.EstimatorError, match="'z' lie in a plate.*Call with the data as a whole"):
        pre.marginals(local_only, local_only, torch.zeros(6))


def local_only(x):
    with pyro.plate("data", len(x), subsample_size=2):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def test_nothing_is_changed():
    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    state = torch.get_rng_state()
    pre.marginals(guide, guide, num_samples=10)
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(pyro.get_param_store())


@pytest.mark.filterwarnings("ignore:Found")
@pytest.mark.parametrize(
    "guide, options, match",
    [(program, {"num_samples": 1}, "at least 2.*given 1"), (lambda: None, {}, "share no latent site")],
    ids=["draws", "names"],
)
def test_errors(guide, options, match):
    with pytest.raises(pre.EstimatorError, match=match):
        pre.marginals(program, guide, **options)

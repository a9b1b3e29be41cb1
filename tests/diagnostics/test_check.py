"""``check_guide`` on programs whose posterior is known."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_value

import pyro_reparam_ext as pre

from ..statistics import assert_z
from .programs import (
    DATA,
    correlated,
    full_rank,
    funnel,
    grouped,
    mean_field,
    on_the_spike,
    posterior_of_grouped,
    spike_and_slab,
)


def test_the_posterior_itself_is_ok():
    check = pre.check_guide(correlated, full_rank)
    assert check.ok and check.khat == -float("inf") and check.gain == 0
    assert "weights are constant: the guide is exact" in repr(check) and "inf" not in repr(check)[:200]
    assert abs(check.gap) < 1e-5
    assert "no weight can show" in check.advice
    check = pre.check_guide(grouped, posterior_of_grouped, DATA)
    assert check.ok and abs(check.gap) < 1e-5
    assert list(check.local) == ["data"] and check.local["data"].shape == (len(DATA),)
    evidence = dist.MultivariateNormal(torch.zeros(8), 2 * torch.eye(8) + 1).log_prob(DATA)
    assert check.elbo == pytest.approx(float(evidence), abs=1e-4)


def test_independent_coordinates_of_correlated_ones_are_too_narrow():
    check = pre.check_guide(correlated, mean_field())
    assert not check.ok
    assert check.gain < 0.05 and check.khat > 0.7
    assert re.search(r"too poor.*too narrow.*'z\[0\]' and 'z\[1\]'.*full rank", check.advice)
    divergence = -0.5 * torch.tensor(1 - 0.95**2).log()  # of the best such guide
    assert 0.3 < check.gap < divergence
    assert_z((check.elbo + float(divergence)) / check.elbo_error)
    assert check.sites.loc["z", "sd_ratio"] > 1.3


def test_a_guide_of_full_rank_is_not_told_to_be_of_full_rank():
    def guide():
        covariance = torch.tensor([[1.0, -0.3], [-0.3, 1.0]])
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), covariance))

    check = pre.check_guide(correlated, guide, num_samples=1000)
    assert "'z[0]' and 'z[1]' depend on each other in another way; take a flow" in check.advice


@pytest.mark.parametrize("start, excess", [(0.3, 0.462), (1.0, 5.13)])
def test_an_unconverged_guide_is_not_called_too_poor(start, excess):
    check = pre.check_guide(correlated, mean_field(start))
    assert not check.ok
    assert check.gain == pytest.approx(excess, rel=0.25)
    assert "Not converged" in check.advice and "train on" in check.advice


@pytest.mark.parametrize(
    ("name", "remedy"), [("x", r".*'x'.*LocScaleReparam\("), ("x_decentered", " that is left.* flow")]
)
def test_a_funnel_is_named_with_its_remedy(name, remedy):
    guide = AutoNormal(funnel, init_loc_fn=init_to_value(values={"v": torch.tensor(0.0)}))
    guide(name)
    variance = 1 / (1 / 9 + 9 / 2)  # the optimum: of v, and of x given the mean of exp(-v)
    guide.scales.v = torch.tensor(variance**0.5)
    setattr(guide.locs, name, torch.zeros(9))
    setattr(guide.scales, name, torch.full((9,), math.exp(-variance / 4)))
    check = pre.check_guide(funnel, guide, name)
    assert not check.ok and check.gain < 0.05
    assert re.search(rf"'{name}' changes with 'v', a funnel;?{remedy}", check.advice)


def test_a_guide_on_one_of_two_modes_is_found():
    check = pre.check_guide(spike_and_slab, on_the_spike)
    assert not check.ok and check.khat > 0.7
    assert "several modes" in check.advice and "'s'" in check.advice


def test_two_modes_within_reach_of_the_guide_are_found():
    """Mean and sd are right, and weights bounded, but many draws lie where there is no mass."""

    def model():
        modes = dist.Normal(torch.tensor([-4.0, 4.0]), 1.0)
        pyro.sample("z", pre.distributions.MixtureSameFamily(dist.Categorical(torch.ones(2)), modes))

    check = pre.check_guide(model, lambda: pyro.sample("z", dist.Normal(0.0, 17**0.5)))
    assert not check.ok and check.khat < 0
    assert "'z' another shape than the guide does" in check.advice


def test_one_narrow_element_of_many_is_named_without_a_heavy_tail():
    sd = torch.full((50,), 0.5**0.5)
    sd[33] = 0.2

    def model():
        with pyro.plate("data", 50):
            pyro.sample("z", dist.Normal(0.0, 0.5**0.5))

    def guide():
        with pyro.plate("data", 50):
            pyro.sample("z", dist.Normal(0.0, sd))

    check = pre.check_guide(model, guide, num_samples=1000)
    assert not check.ok and "33" in check.advice
    assert check.khat > check.limit or "have nearly all of the weight" not in check.advice


@pytest.mark.parametrize("distance", [3.0, 4.0])
def test_mass_on_one_side_is_found(distance):
    def model():
        modes = dist.Normal(torch.tensor([0.0, distance]), 1.0)
        pyro.sample("z", pre.distributions.MixtureSameFamily(dist.Categorical(torch.ones(2)), modes))

    check = pre.check_guide(model, lambda: pyro.sample("z", dist.Normal(0.0, 1.0)))
    assert not check.ok
    assert "on one side, as where there are several modes" in check.advice


def test_heavier_tails_are_found():
    def model():
        pyro.sample("z", dist.StudentT(2.0, 0.0, 1.0))

    check = pre.check_guide(model, lambda: pyro.sample("z", dist.Normal(0.0, 1.1)))
    assert not check.ok and "'z' has heavier tails" in check.advice


def test_a_datum_that_is_served_badly_is_named():
    sd = torch.full((8,), 0.5**0.5)
    sd[5] = 0.15
    check = pre.check_guide(grouped, lambda x: posterior_of_grouped(x, sd), DATA)
    assert not check.ok
    assert "element 5 of plate 'data'" in check.advice
    assert check.sites.index[0] == "z" and check.sites.loc["z", "worst"] == "data[5]"
    assert check.sites.loc["z", "bad"] == 1
    axes = check.plot()
    assert [text.get_text() for text in axes[0].texts] == ["5"]


@pytest.mark.parametrize("probability, ok", [(0.6, True), (0.05, False)])
def test_discrete_sites_have_weights_too(probability, ok):
    def model():
        pyro.sample("s", dist.Bernoulli(0.6))

    infer = {"estimator": pre.GumbelSoftmax(temperature=0.5)}  # the draws are of the guide all the same

    def guide():
        pyro.sample("s", dist.Bernoulli(probability), infer=infer)

    check = pre.check_guide(model, guide)
    assert check.ok == ok
    assert ok or "hardly visits values of 's'" in check.advice
    s = torch.tensor([0.6, 0.4])
    q = torch.tensor([probability, 1 - probability])
    assert_z((check.gap - float((q * (q / s).log()).sum())) / max(check.gap_error, 1e-6))


def test_a_program_that_branches_is_run_draw_by_draw(monkeypatch):
    monkeypatch.setattr("pyro_reparam_ext.diagnostics.slope.BOUND_DRAWS", 64)

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z if z > 0 else 2 * z, 1.0), obs=torch.tensor(0.3))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 0.7))

    with pytest.warns(UserWarning, match="one by one"):
        check = pre.check_guide(model, guide, num_samples=100)
    assert check.ok and check.num_samples == 100


def test_points_are_not_judged():
    check = pre.check_guide(grouped, AutoDelta(grouped), DATA, num_samples=100)
    assert not check.ok and "one point each" in check.advice
    assert "a point estimate has no k-hat and no gap" in repr(check) and "k-hat nan" not in repr(check)


def test_nothing_is_changed_and_a_seed_tells_all():
    guide = mean_field(0.5)
    guide()
    values = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    state = torch.get_rng_state()
    first, second = (pre.check_guide(correlated, guide, num_samples=200, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(pyro.param(name), value) for name, value in values.items())
    assert pyro.param("loc").grad is None
    assert (first.khat, first.gap, first.gain) == (second.khat, second.gap, second.gain)
    assert repr(first) == repr(second) and first.advice in repr(first)


def outside():
    pyro.sample("y", dist.Normal(0.0, 1.0))


def halves(x):
    with pyro.plate("data", 8, subsample_size=4) as i:
        pyro.sample("z", dist.Normal(x[i], 1.0))


def enumerated():
    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    k = pyro.sample("k", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
    pyro.sample("x", dist.Normal(z[..., 0] + k, 1.0), obs=torch.tensor(0.0))


@pytest.mark.filterwarnings("ignore:Found")
@pytest.mark.parametrize(
    "model, guide, args, options, match",
    [
        (correlated, full_rank, (), {"num_samples": 20}, "at least 100.*given 20"),
        (outside, full_rank, (), {}, "share no latent site"),
        (halves, halves, (DATA,), {}, "plate 'data': it takes 4 of 8"),
        (enumerated, full_rank, (), {}, "site 'k': it is enumerated.*MixtureSameFamily.*marginals"),
    ],
    ids=["draws", "names", "subsample", "enumerated"],
)
def test_errors(model, guide, args, options, match):
    with pytest.raises(pre.EstimatorError, match=match):
        pre.check_guide(model, guide, *args, **options)


def test_draws_that_the_model_excludes_are_named():
    def model():
        with pyro.validation_enabled(False):
            pyro.sample("z", dist.Uniform(torch.tensor(0.0), torch.tensor(1.0), validate_args=False))

    with pytest.raises(pre.EstimatorError, match="log weight -inf"):
        pre.check_guide(model, lambda: pyro.sample("z", dist.Normal(0.5, 1.0)))


@pytest.mark.parametrize("context", [pre.nn.local_reparameterization, pre.nn.flipout])
def test_weights_that_the_model_draws_anew_are_not_judged(context):
    network = pre.nn.to_bayesian(torch.nn.Linear(1, 1), dist.Normal(0.0, 1.0))

    def model(x):
        loc = network(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=torch.zeros(len(x)))

    guide = pyro.infer.autoguide.AutoNormal(model)
    with context(), pytest.raises(pre.EstimatorError, match=f"inside {context.__name__}.*Leave it"):
        pre.check_guide(model, guide, torch.ones(3, 1))

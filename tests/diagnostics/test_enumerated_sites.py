"""Probabilities of sites that training sums out, against their closed form."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyro_reparam_ext as pre

from ..statistics import assert_z

PRIOR = torch.tensor([0.3, 0.7])
DATA = torch.tensor([0.0, 1.0, -1.0])
ENUMERATE = {"enumerate": "parallel"}


def mixture(broadcasts):
    """Two components with a gap between them; ``k[i]`` is that of datum ``i``."""

    def model(x):
        gap = pyro.sample("gap", dist.Gamma(2.0, 1.0))
        pyro.deterministic("twice", 2 * gap)
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(PRIOR), infer=ENUMERATE)
            pyro.deterministic("own", gap * k, event_dim=0)
            mean = gap * k if broadcasts else torch.stack([torch.zeros(()), gap.reshape(())])[k]
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    return model


def guide(x):
    pyro.sample("gap", dist.Gamma(4.0, 2.0))


def given(gap):
    """The probabilities of ``k`` given the gap, shape ``(draws, data, 2)``."""
    means = torch.stack([torch.zeros_like(gap), gap], -1)[:, None]
    return (PRIOR.log() + dist.Normal(means, 1.0).log_prob(DATA[:, None])).softmax(-1)


@pytest.mark.parametrize("broadcasts", [True, False], ids=["at once", "loop"])
def test_probabilities_are_averaged_over_the_draws_of_the_others(broadcasts):
    with pytest.warns(UserWarning, match="'own' are computed of a site that is enumerated"):
        table = pre.marginals(mixture(broadcasts), guide, DATA, num_samples=300 if broadcasts else 40)
    assert list(table.index.unique("site")) == ["gap", "twice", "k"]
    assert table.loc[("twice", ""), "mean"] == pytest.approx(2 * table.loc[("gap", ""), "mean"])
    exact = given(dist.Gamma(4.0, 2.0).sample((100_000,))).mean(0)
    for i in range(3):
        row = table.loc[("k", str(i))]
        assert_z((row["P(1)"] - float(exact[i, 1])) / row["P(1)_error"])
        assert row["P(0)"] + row["P(1)"] == pytest.approx(1)


def test_a_chain_is_summed_out():
    x, moves = torch.tensor([0.5, 2.0, -1.0]), torch.tensor([[0.8, 0.2], [0.3, 0.7]])

    def chain():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        z = 0
        for t in pyro.markov(range(3)):
            z = pyro.sample(f"z{t}", dist.Categorical(moves[z]), infer=ENUMERATE)
            pyro.sample(f"x{t}", dist.Normal(2.0 * z, scale), obs=x[t])

    def one():
        pyro.sample("scale", dist.Delta(torch.tensor(1.0)))

    table = pre.marginals(chain, one, num_samples=5)
    paths = torch.cartesian_prod(*[torch.arange(2)] * 3)
    joint = moves[0, paths[:, 0]] * moves[paths[:, 0], paths[:, 1]] * moves[paths[:, 1], paths[:, 2]]
    joint = joint * dist.Normal(2.0 * paths, 1.0).log_prob(x).sum(-1).exp()
    for t in range(3):
        exact = float(joint[paths[:, t] == 1].sum() / joint.sum())
        assert table.loc[(f"z{t}", ""), "P(1)"] == pytest.approx(exact, abs=1e-5)


def test_what_has_no_known_probabilities_is_named():
    def counts(x):
        n = pyro.sample("n", dist.Binomial(3, 0.5), infer=ENUMERATE)
        pyro.sample("gap", dist.Gamma(2.0 + n, 1.0))

    with pytest.raises(pre.EstimatorError, match="site 'n'.*Bernoulli.*Binomial.*infer_discrete"):
        pre.marginals(counts, guide, DATA)


def test_local_sites_of_a_part_of_the_data_are_left_out():
    def part(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3, subsample_size=2) as i:
            k = pyro.sample("k", dist.Bernoulli(0.3), infer=ENUMERATE)
            pyro.sample("x", dist.Normal(loc + k, 1.0), obs=x[i])

    auto = AutoNormal(pyro.poutine.block(part, hide=["k"]), init_scale=0.5)
    with pytest.warns(UserWarning, match="'k' lie in a plate"):
        table = pre.marginals(part, auto, DATA, num_samples=100)
    assert list(table.index) == [("loc", "")]

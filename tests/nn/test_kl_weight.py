"""The divergence of a network's weights under a weight: of the loss, in every kind of guide."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from torch import nn

import pyro_reparam_ext as pre

from ..compiled.steps import GraphSVI

X = torch.linspace(-1, 1, 12).reshape(4, 3)
Y = torch.tensor([0.3, -0.2, 0.8, 0.1])


def hierarchical(name, value):
    return dist.Normal(0.0, pyro.sample(f"{name}_scale", dist.HalfNormal(1.0)))


KINDS = [
    AutoNormal,
    AutoDelta,
    pre.nn.AutoKTiedNormal,
    pre.nn.AutoMatrixNormal,
    pre.nn.AutoRankOneNormal,
]
PRIORS = {"normal": dist.Normal(0.0, 1.3), "with a scale": hierarchical}


def programs(prior):
    bnn = pre.nn.to_bayesian(nn.Linear(3, 1), prior)

    def model(x, y):
        noise = pyro.sample("noise", dist.HalfNormal(1.0))  # is none of the network's
        loc = bnn(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, noise), obs=y)

    return bnn, model


def by_hand(model, guide, sites, weight):
    """One draw of the loss, with the densities of some sites weighed."""
    drawn = poutine.trace(guide).get_trace(X, Y)
    scored = poutine.trace(poutine.replay(model, trace=drawn)).get_trace(X, Y)
    loss = 0.0
    for trace, sign in ((drawn, 1), (scored, -1)):
        trace.compute_log_prob()
        for name, node in trace.nodes.items():
            if node["type"] == "sample":
                own = name in sites or name.rsplit("_", 1)[0] in sites
                loss = loss + sign * (weight if own else 1) * node["log_prob_sum"]
    return loss


@pytest.mark.parametrize("elbo", [Trace_ELBO(), pre.TraceEstimator_ELBO()], ids=["Pyro's", "ours"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior", PRIORS)
def test_the_loss(prior, kind, elbo):
    bnn, model = programs(PRIORS[prior])
    guide = kind(model)
    guide(X, Y)
    torch.manual_seed(1)
    expected = by_hand(model, guide, bnn.sites, 0.2)
    for weight in (0.2, torch.tensor(0.2), lambda: torch.tensor(0.2)):
        torch.manual_seed(1)
        with pre.nn.kl_weight(bnn, weight):
            loss = elbo.differentiable_loss(model, guide, X, Y)
        torch.testing.assert_close(loss, expected)


def test_the_sites_of_a_prior_are_the_networks():
    bnn, _ = programs(hierarchical)
    assert bnn.sites == ["weight", "bias", "weight_scale", "bias_scale"]


def test_another_context_inside():
    """The law of the outputs is that of weights whose guide is not scaled."""
    bnn, model = programs(PRIORS["normal"])
    guide = AutoNormal(model, init_scale=1e-3)
    guide(X, Y)
    losses = []
    for context in (pre.nn.local_reparameterization, pre.nn.flipout, poutine.block):
        torch.manual_seed(1)
        with context(), pre.nn.kl_weight(bnn, 0.2):
            elbo = Trace_ELBO(300, max_plate_nesting=1, vectorize_particles=True)
            losses.append(elbo.loss(model, guide, X, Y))
    assert losses[0] == pytest.approx(losses[2], rel=0.02)
    assert losses[1] == pytest.approx(losses[2], rel=0.02)


def test_a_warmup_goes_on_in_the_graph():
    found = []
    for kind in (SVI, GraphSVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        bnn, model = programs(PRIORS["normal"])
        elbo = pre.TraceEstimator_ELBO()
        svi = kind(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), elbo)
        weight = pre.LinearWarmup(6)
        torch.manual_seed(3)
        with pre.nn.kl_weight(bnn, weight), pre.nn.local_reparameterization():
            found.append([svi.step(X, Y) for _ in range(8)])
        assert weight.steps == 8
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_joint_guide_is_refused():
    bnn, model = programs(PRIORS["normal"])
    guide = AutoDiagonalNormal(model)
    message = "site 'weight': kl_weight .*'_AutoDiagonalNormal_latent'.*AutoNormal"
    with pre.nn.kl_weight(bnn, 0.5), pytest.raises(pre.EstimatorError, match=message):
        Trace_ELBO().loss(model, guide, X, Y)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda bnn: pre.nn.kl_weight(nn.Linear(3, 1), 0.5), "was given Linear.*to_bayesian"),
        (lambda bnn: pre.nn.kl_weight(bnn, 0.0), "weight must be positive, was given 0.0"),
        (lambda bnn: pre.nn.kl_weight(bnn, torch.tensor(-1.0)), "weight must be positive"),
    ],
    ids=["network", "weight", "tensor"],
)
def test_errors(make, match):
    with pytest.raises(pre.EstimatorError, match=match):
        make(programs(PRIORS["normal"])[0])

"""The doubly reparameterised gradient beside sites that it does not serve.

Its mean and its formula are those of ``tests/test_importance_weighted.py`` and of
``tests/test_bound_gradients.py``.
"""

import copy
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import affine_autoregressive, planar
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.doubly_reparameterized import DoublyReparameterized

from ..bound_programs import MIXED, TWO, drawn, elbo_of
from ..sampling import gradients
from ..statistics import assert_mean


@pytest.mark.parametrize(
    "fn, served",
    [
        (dist.Normal(0.0, 1.0), True),
        (dist.Normal(torch.zeros(2), 1.0).to_event(1), True),
        (dist.Delta(torch.tensor(0.0)), False),
        (dist.Bernoulli(0.5), False),
    ],
    ids=["normal", "event", "delta", "coin"],
)
def test_supports_what_is_reparameterised_as_a_whole(fn, served):
    assert DoublyReparameterized().supports(fn) == served


def test_autoguide_beside_points():
    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(a, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=torch.tensor(1.0))

    guide = AutoGuideList(model)
    guide.append(AutoDelta(pyro.poutine.block(model, expose=["a"])))
    guide.append(AutoNormal(pyro.poutine.block(model, expose=["z"])))
    means = []
    for word in ("dreg", "pathwise"):
        elbo = elbo_of(word, 3)
        rows = gradients(elbo, model, guide, ["AutoGuideList.0.a", "AutoGuideList.1.locs.z"], 200)
        means.append(rows)
    assert_mean(means[0][:, 1:] - means[1][:, 1:], torch.zeros(2))


def test_alternatives_beside_the_doubly_reparameterised():
    guide = pre.config_estimator(MIXED.guide, {"b": pre.DisARM(), "d": pre.REBAR()})
    program = replace(MIXED, guide=guide)
    assert_mean(drawn(elbo_of("dreg"), program, 8000), MIXED.exact(2, 0.0)[1:])


def test_another_way_through_a_value_is_refused():
    guide = pre.config_estimator(TWO.guide, {"z": pre.Pathwise()})
    message = "site 'z': Pathwise differentiates through.*gradient='pathwise'"
    with pytest.raises(pre.EstimatorError, match=message):
        elbo_of("dreg").loss_and_grads(TWO.model, guide)


def test_a_value_that_moves_with_no_parameter():
    def guide():
        pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))

    def model():
        z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.5)), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    elbo_of("dreg").loss_and_grads(model, guide)
    assert pyro.get_param_store()._params["loc"].grad.abs() > 0


def flows(make, coin=False):
    """A guide that is a flow, and a model that is the same: its weights are all 1.

    ``coin``: beside a discrete site, by which it is found what depends on what.
    """
    flow = make(2)
    fixed = copy.deepcopy(flow).requires_grad_(False)

    def law(transform):
        return dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [transform])

    def guide():
        pyro.module("flow", flow)
        if coin:
            pyro.sample("b", dist.Bernoulli(0.5))
        pyro.sample("z", law(flow))

    def model():
        if coin:
            pyro.sample("b", dist.Bernoulli(0.5))
        pyro.sample("z", law(fixed))

    return model, guide, flow


@pytest.mark.parametrize("coin", [True, False])
@pytest.mark.parametrize("mode", [True, False])
def test_parameters_that_a_flow_keeps_are_held(mode, coin):
    model, guide, flow = flows(affine_autoregressive, coin)
    elbo_of("dreg", 3, mode=mode).loss_and_grads(model, guide)
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in flow.parameters())
    elbo_of("pathwise", 3, mode=mode).loss_and_grads(model, guide)
    assert max(p.grad.abs().max() for p in flow.parameters() if p.grad is not None) > 1e-3


def test_a_flow_that_scores_its_own_draws_only_is_refused():
    model, guide, _ = flows(planar)
    with pytest.raises(pre.EstimatorError, match="site 'z'.*draws of its own only.*'pathwise'"):
        elbo_of("dreg", 3).loss_and_grads(model, guide)

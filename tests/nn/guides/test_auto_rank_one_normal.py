"""The bound of noise of rank one: against quadrature, and the evidence where it is reached."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.nn.functional import softplus

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import AutoRankOneNormal
from pyro_reparam_ext.nn.guides.rank_one_reverse import log_reverse

from ...sampling import losses
from ...statistics import assert_mean

NODES, WEIGHTS = (torch.tensor(x) for x in np.polynomial.hermite_e.hermegauss(20))
WEIGHTS = WEIGHTS / WEIGHTS.sum()
START = {"locs": 0.8, "scales": 0.3, "row_scales": 0.25, "column_scales": 0.2}


def log_target(weight):
    """Of one weight: a normal prior, and a likelihood that isn't normal."""
    return dist.Normal(0.5, 0.6).log_prob(weight) - softplus(-2 * weight) - 0.3 * weight.square()


def model():
    one = torch.ones(1, 1, dtype=torch.float64)
    weight = pyro.sample("weight", dist.Normal(0.5 * one, 0.6).to_event(2))
    pyro.factor("likelihood", (-softplus(-2 * weight) - 0.3 * weight.square()).sum((-2, -1)))


def log_evidence():
    axis = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    return log_target(axis).logsumexp(0) + (axis[1] - axis[0]).log()


def one_weight():
    guide = AutoRankOneNormal(model)
    guide()
    for group, value in START.items():
        parameter = getattr(guide, group).weight
        getattr(guide, group).weight = torch.full_like(parameter, value)
    pyro.clear_param_store()
    return guide


def by_quadrature(loc, scale, row_scale, column_scale):
    """The bound, and the ELBO of the marginal law of the weight, of tensors of one element."""
    r, s, noise = torch.meshgrid(NODES, NODES, NODES, indexing="ij")
    mass = WEIGHTS[:, None, None] * WEIGHTS[:, None] * WEIGHTS
    row, column = 1 + row_scale * r, 1 + column_scale * s
    weight = loc * row * column + scale * noise
    log_density = (
        dist.Normal(1.0, row_scale).log_prob(row)
        + dist.Normal(1.0, column_scale).log_prob(column)
        + dist.Normal(loc * row * column, scale).log_prob(weight)
    )
    given = (x.reshape(1, 1) for x in (loc, scale))
    spreads = (x.reshape(1) for x in (row_scale, column_scale))
    reverse = log_reverse(row[..., None], column[..., None], weight[..., None, None], *given, *spreads)
    bound = (mass * (log_target(weight) - log_density + reverse)).sum()
    means = (loc * row * column)[..., 0].flatten()
    pairs = (WEIGHTS[:, None] * WEIGHTS).flatten()
    marginal = pairs.log() + dist.Normal(means, scale).log_prob(weight[..., None])
    return bound, (mass * (log_target(weight) - marginal.logsumexp(-1))).sum()


@pytest.mark.parametrize("spread", [0.01, 0.1, 0.25])
def test_bound_below_the_elbo_below_the_evidence(spread):
    values = torch.tensor([0.45, 0.4, spread, spread], dtype=torch.float64)
    bound, elbo = by_quadrature(*values)
    evidence = log_evidence()
    assert bound <= elbo + 1e-9 and elbo <= evidence
    # And neither by much.
    assert elbo - bound < 1e-3 and evidence - bound < 0.1


def test_value_and_gradient_of_the_guide():
    """What SVI sees has the quadrature's mean, in each parameter."""
    guide = one_weight()
    groups = list(START)
    start, shifts = torch.tensor(list(START.values())).double(), 1e-4 * torch.eye(4).double()
    bound, _ = by_quadrature(*start)
    # By differences: a gradient that the reverse model lost would be lost in both.
    exact = [(by_quadrature(*(start + h))[0] - by_quadrature(*(start - h))[0]) / 2e-4 for h in shifts]
    elbo = Trace_ELBO(num_particles=20, vectorize_particles=True, max_plate_nesting=0)
    names = [f"{group}.weight_unconstrained" for group in groups]
    parameters = [guide.get_parameter(name) for name in names]
    rows = []
    for _ in range(250):
        loss = elbo.differentiable_loss(model, guide)
        gradients = torch.autograd.grad(-loss, parameters)
        rows.append(torch.stack([-loss.detach(), *(x.flatten()[0] for x in gradients)]))
    # A scale is the softplus of its parameter.
    slopes = [1.0, *(1 - math.exp(-x) for x in start[1:])]
    expected = torch.stack([bound.detach(), *(x * k for x, k in zip(exact, slopes, strict=True))])
    assert_mean(torch.stack(rows), expected)


def test_quantiles_under_much_noise():
    guide = one_weight()
    guide.row_scales.weight = torch.full((1,), 0.5, dtype=torch.float64)
    guide.column_scales.weight = torch.full((1,), 0.4, dtype=torch.float64)
    levels = torch.tensor([0.01, 0.3, 0.9], dtype=torch.float64)
    quantiles = guide.quantiles(levels.tolist())["weight"].flatten()
    means = (0.8 * (1 + 0.5 * NODES[:, None]) * (1 + 0.4 * NODES)).flatten()
    masses = (WEIGHTS[:, None] * WEIGHTS).flatten()
    below = (dist.Normal(means, 0.3).cdf(quantiles[:, None]) * masses).sum(-1)
    torch.testing.assert_close(below, levels, rtol=0, atol=1e-4)


def estimator_elbo():
    return pre.TraceEstimator_ELBO(num_particles=1)


def sum_unknown():
    """Two weights of which the data say that they are about equal, hardly what they are."""
    prior = dist.Normal(torch.tensor([[2.0, 2.0]], dtype=torch.float64), 1.0).to_event(2)
    weight = pyro.sample("weight", prior)
    difference = weight[..., 0, 0] - weight[..., 0, 1]
    pyro.sample("y", dist.Normal(difference, 0.2), obs=torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, estimator_elbo])
def test_evidence_of_weights_that_share_their_size(elbo):
    """The posterior is normal with a covariance of rank one and a diagonal: the bound is sharp."""
    precision = torch.eye(2).double() + torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double() / 0.04
    covariance = precision.inverse()
    guide = AutoRankOneNormal(sum_unknown)
    guide()
    guide.locs.weight = torch.full((1, 2), 2.0).double()
    guide.scales.weight = (covariance[0, 0] - covariance[0, 1]).sqrt().expand(1, 2)
    guide.row_scales.weight = covariance[0, 1].sqrt().expand(1) / 2
    guide.column_scales.weight = torch.full((2,), 1e-4).double()
    pyro.clear_param_store()
    evidence = dist.Normal(0.0, math.sqrt(2.04)).log_prob(torch.zeros(()).double())
    values = -losses(elbo(), sum_unknown, guide, 10)
    torch.testing.assert_close(values, evidence.expand(10), rtol=0, atol=2e-3)
    # A mean-field guide is more than a nat below.
    assert 0.5 * (precision.diagonal().log().sum() - precision.logdet()) > 1


def test_without_noise_it_is_mean_field():
    """As the noise vanishes, a draw's density becomes that of AutoNormal."""

    def model():
        zeros = torch.zeros(3, 4, dtype=torch.float64)
        pyro.sample("weight", dist.Normal(zeros, 1.0).to_event(2))

    guide, plain = AutoRankOneNormal(model), AutoNormal(model)
    guide(), plain()
    for group, size in (("row_scales", 3), ("column_scales", 4)):
        getattr(guide, group).weight = torch.full((size,), 1e-6, dtype=torch.float64)
    plain.locs.weight, plain.scales.weight = guide.locs.weight, guide.scales.weight
    pyro.clear_param_store()
    trace = pyro.poutine.trace(guide).get_trace()
    data = {"weight_unconstrained": trace.nodes["weight"]["value"]}
    expected = pyro.poutine.trace(pyro.poutine.condition(plain, data=data)).get_trace().log_prob_sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected, rtol=1e-3, atol=1e-3)

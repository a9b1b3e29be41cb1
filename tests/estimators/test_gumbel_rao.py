import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.noise import gumbel_like

from ..statistics import assert_mean
from . import relaxed
from .closed_form import Program, gradients
from .hard import LOGITS, bernoulli_slope, far_towards, one_hot_jacobian, slope_of_softmax


def test_one_sample_is_straight_through_gumbel_softmax():
    program = Program()
    found, expected = (
        gradients(pre.TraceEstimator_ELBO(estimator), program, 2)
        for estimator in (pre.GumbelRao(0.5, 1), pre.StraightThroughGumbelSoftmax(0.5))
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("index", range(4))
def test_formula(index):
    """The mean over Gumbel noise given its argmax (Maddison et al.), from exponentials."""
    own, law = far_towards(index), LOGITS.softmax(-1)
    torch.manual_seed(1)
    found = one_hot_jacobian(pre.GumbelRao(0.5, 4), own)
    torch.manual_seed(1)
    exponentials = (-gumbel_like(torch.empty(3, 4, dtype=torch.float64))).exp()
    keys = [LOGITS.log_softmax(-1) + own]
    for e in exponentials:  # the logits are normalised, so that Z = 1
        keys.append(-torch.log(e / law + e[index]))
        keys[-1][index] = -torch.log(e[index])
    assert all(key.argmax() == index for key in keys)
    expected = sum(slope_of_softmax((key / 0.5).softmax(-1)) / 0.5 for key in keys) / 4
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_mean_given_the_value(temperature):
    """Of a Bernoulli variable, by quadrature: that of straight-through Gumbel-Softmax, averaged."""
    logit = torch.tensor(0.4, dtype=torch.float64)
    noise, weight = relaxed.logistic_quadrature()
    soft = ((logit + noise) / temperature).sigmoid()
    slope = soft * (1 - soft) / temperature
    many = logit.expand(4000)
    drawn = dist.Logistic(0.0, 1.0).sample((4000,)).double()
    found = bernoulli_slope(pre.GumbelRao(temperature, 5), many, drawn)
    for side in (logit + noise > 0, logit + noise <= 0):
        exact = (weight * slope)[side].sum() / weight[side].sum()
        which = (logit + drawn > 0) == (logit + noise > 0)[side][0]
        assert_mean(found[which, None], exact[None])


def test_limit_of_low_temperatures():
    """As T falls the mean over the noise of a Bernoulli slope tends to that of ReinMax."""
    logit = torch.full((100,), 0.4, dtype=torch.float64)
    for noise in (5.0, -5.0):
        torch.manual_seed(0)
        found = bernoulli_slope(pre.GumbelRao(0.02, 10_000), logit, torch.full_like(logit, noise))
        expected = bernoulli_slope(pre.ReinMax(), logit, torch.full_like(logit, noise))
        assert_mean(found[:, None], expected[:1])

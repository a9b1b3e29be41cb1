import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.noise import NoiseSource

from ..sampling import losses
from ..statistics import assert_mean
from . import relaxed
from .hard import LOGITS, bernoulli_slope, far_towards, one_hot_jacobian, slope_of_softmax


@pytest.mark.parametrize("backward", [0.5, 1.0, 2.0])
def test_formula(backward):
    """The slope of ``softmax(l / T)``, whatever is drawn, and at which temperature."""
    expected = slope_of_softmax((LOGITS / backward).softmax(-1)) / backward
    for forward in (1.0, 0.3):
        estimator = pre.DecoupledStraightThrough(forward, backward)
        for index in range(4):
            torch.testing.assert_close(one_hot_jacobian(estimator, far_towards(index)), expected)
    p = (LOGITS / backward).sigmoid()
    found = bernoulli_slope(estimator, LOGITS, torch.zeros(4))
    torch.testing.assert_close(found, p * (1 - p) / backward)


def test_values_are_drawn_at_the_forward_temperature():
    estimator = pre.DecoupledStraightThrough(2.0, 1.0)
    one_hot = dist.OneHotCategorical(logits=LOGITS.expand(4000, 4))
    binary = dist.Bernoulli(logits=LOGITS.expand(4000, 4)).to_event(1)
    values = [estimator.draw(fn, NoiseSource()).value for fn in (one_hot, binary)]
    exact = torch.cat([(LOGITS / 2).softmax(-1), (LOGITS / 2).sigmoid()])
    assert_mean(torch.cat(values, -1), exact)


def test_a_masked_class_stays_masked():
    estimator = pre.DecoupledStraightThrough(100.0, 1.0)
    fn = dist.OneHotCategorical(logits=torch.tensor([0.0, -torch.inf, 3.0]).expand(1000, 3))
    draw = estimator.draw(fn, NoiseSource())
    assert (draw.value[:, 1] == 0).all()
    assert estimator.guide_log_prob(fn, draw).isfinite().all()


def test_the_loss_is_the_elbo_of_the_law_that_is_drawn_from():
    z = torch.tensor([0.0, 1.0], dtype=torch.float64)
    logit, weight = (x.detach() for x in relaxed.parameters())
    tempered = relaxed.discrete_log_prob(z, logit / 3)
    exact = (tempered.exp() * relaxed.cost(z, logit / 3, weight)).sum()
    elbo = pre.TraceEstimator_ELBO(pre.DecoupledStraightThrough(3.0, 1.0), num_particles=1000)
    assert_mean(losses(elbo, relaxed.model, relaxed.guide, 20)[:, None], exact[None])


def test_forward_temperature_1_keeps_the_law():
    keeps = [pre.DecoupledStraightThrough(t, 2.0).keeps_law for t in (1, 1.0, 2.0, lambda: 1.0)]
    assert keeps == [True, True, False, False]


@pytest.mark.parametrize("temperatures", [(0.0, 1.0), (1.0, -1.0)])
def test_temperatures_out_of_range(temperatures):
    with pytest.raises(pre.EstimatorError, match="DecoupledStraightThrough.*must be positive"):
        pre.DecoupledStraightThrough(*temperatures)


def test_a_forward_temperature_is_not_learned():
    with pytest.raises(pre.EstimatorError, match="forward_temperature can't be learned"):
        pre.DecoupledStraightThrough(torch.nn.Parameter(torch.tensor(1.0)), 1.0)


@pytest.mark.parametrize("bad", [lambda: -1.0, lambda: torch.tensor(torch.nan)])
def test_a_function_that_returns_no_forward_temperature(bad):
    elbo = pre.TraceEstimator_ELBO(pre.DecoupledStraightThrough(bad, 1.0))
    with pytest.raises(pre.EstimatorError, match="site 'z'.*temperature is.*expected"):
        elbo.loss_and_grads(relaxed.model, relaxed.guide)

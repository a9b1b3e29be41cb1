import math

import pyro
import pytest

import pyro_reparam_ext as pre

from . import relaxed


def test_decays_to_its_end():
    temperature = pre.ExponentialDecay(1.0, 0.5, 0.1)
    for step in range(12):
        assert temperature().item() == pytest.approx(max(0.5, math.exp(-0.1 * step)))
        temperature.step()


def test_svi_advances_it_once_per_step():
    temperature = pre.ExponentialDecay(1.0, 0.1, 0.1)
    elbo = pre.TraceEstimator_ELBO(pre.GumbelSoftmax(temperature), num_particles=3)
    svi = pyro.infer.SVI(relaxed.model, relaxed.guide, pyro.optim.SGD({"lr": 0.01}), elbo)
    for _ in range(4):
        svi.step()
    svi.evaluate_loss()
    assert temperature.steps == 4


@pytest.mark.parametrize("options", [(0.0, 0.0, 0.1), (0.5, 1.0, 0.1), (1.0, 0.5, -1.0)])
def test_rejects(options):
    with pytest.raises(pre.EstimatorError, match="0 < end <= start"):
        pre.ExponentialDecay(*options)

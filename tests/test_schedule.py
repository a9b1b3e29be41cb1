import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import pyro_reparam_ext as pre


def test_decays_to_its_end():
    temperature = pre.ExponentialDecay(1.0, 0.5, 0.1)
    for step in range(12):
        assert temperature().item() == pytest.approx(max(0.5, math.exp(-0.1 * step)))
        temperature.step()


def test_warms_up_to_its_end():
    weight = pre.LinearWarmup(4, 0.8)
    for step in range(8):
        assert weight().item() == pytest.approx(0.8 * min(1, (1 + step) / 4))
        weight.step()


@pytest.mark.parametrize("schedule", [pre.ExponentialDecay(1.0, 0.1, 0.5), pre.LinearWarmup(5)])
def test_a_step_of_svi_is_counted_once(schedule):
    read = []

    def guide():
        loc = pyro.param("loc", torch.tensor(0.3))
        read.append((schedule().item(), schedule().item()))
        pyro.sample("z", dist.Normal(loc, 1.0))

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    before = [schedule.at(torch.tensor(step)).item() for step in range(3)]
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(num_particles=2))
    for _ in range(3):
        svi.step()
    assert read == [(x, x) for x in before for _ in range(2)]


@pytest.mark.parametrize("options", [(0.0, 0.0, 0.1), (0.5, 1.0, 0.1), (1.0, 0.5, -1.0)])
def test_a_decay_rejects(options):
    with pytest.raises(pre.EstimatorError, match="0 < end <= start"):
        pre.ExponentialDecay(*options)


@pytest.mark.parametrize("options", [(0,), (-3,), (5, 0.0), (5, math.inf)])
def test_a_warmup_rejects(options):
    with pytest.raises(pre.EstimatorError, match="num_steps > 0 and end > 0"):
        pre.LinearWarmup(*options)


def test_counts_on_in_low_precision():
    temperature = pre.ExponentialDecay(1.0, 1e-6, 1e-3).to(torch.bfloat16)
    for _ in range(300):
        temperature.step()
    assert temperature.steps == 300
    assert temperature().item() == pytest.approx(math.exp(-0.3), rel=1e-5)

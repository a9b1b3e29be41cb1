"""Distributions whose tensors are held, and that they are those of another run of the guide."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation import ordinary

from ..sampling import gradients

DOUBLE = torch.float64


def number(x):
    return torch.tensor(x, dtype=DOUBLE)


class Scaled(dist.transforms.Transform):
    """A transform that keeps its parameter where nobody sees it."""

    domain = codomain = dist.constraints.real
    bijective = True
    sign = 1

    def __init__(self, log_scale):
        super().__init__()
        self.scale = lambda: log_scale.exp()

    def _call(self, x):
        return x * self.scale()

    def _inverse(self, y):
        return y / self.scale()

    def log_abs_det_jacobian(self, x, y):
        return self.scale().log().expand(x.shape)


def model():
    a = pyro.sample("a", dist.Normal(number(0.5), 1.0))
    b = pyro.sample("b", dist.Normal(a, 2.0))
    pyro.sample("c", dist.LogNormal(a * b, 1.0))


def layers(scale):
    """One site moved by parameters, one by that and by parameters, one by a value alone."""
    a = pyro.sample("a", dist.Normal(pyro.param("m", number(0.3)), scale))
    b = pyro.sample("b", dist.Normal(a * pyro.param("slope", number(0.7)), 0.5))
    pyro.sample("c", dist.LogNormal(b, 1.0))


def apart():
    scale = pyro.param("s", number(0.4), dist.constraints.positive)
    layers(scale)


def encoder():
    network = pyro.module("network", NETWORK)
    layers(network(torch.ones(2, dtype=DOUBLE)).exp())


def hidden():
    log_scale = pyro.param("log_scale", number(-0.3))
    base = dist.Normal(pyro.param("m", number(0.3)), 1.0)
    pyro.sample("a", dist.TransformedDistribution(base, [Scaled(log_scale)]))
    pyro.sample("b", dist.Normal(pyro.param("n", number(0.1)), 1.0))
    pyro.sample("c", dist.LogNormal(pyro.param("o", number(0.1)), 1.0))


class Remembering(dist.Normal):
    """Scores its last draw by the noise that it has kept."""

    def rsample(self, sample_shape=()):
        self.noise = torch.randn(self.batch_shape, dtype=DOUBLE)
        self.last = self.loc + self.scale * self.noise
        return self.last

    def log_prob(self, value):
        if torch.equal(value, getattr(self, "last", value + 1)):
            return dist.Normal(0.0, 1.0).log_prob(self.noise) - self.scale.log()
        return super().log_prob(value)


def remembered():
    m, s = pyro.param("m", number(0.3)), pyro.param("s", number(0.7), dist.constraints.positive)
    pyro.sample("a", Remembering(m, s))
    pyro.sample("b", dist.Normal(pyro.param("n", number(0.1)), 1.0))
    pyro.sample("c", dist.LogNormal(pyro.param("o", number(0.1)), 1.0))


NETWORK = nn.Linear(2, 1).double()
AUTO = autoguide.AutoNormal(model)


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize(
    ("guide", "served"),
    [
        (apart, {"a", "c"}),
        (encoder, {"a", "c"}),
        (hidden, {"b", "c"}),
        (AUTO, None),
        (remembered, {"b", "c"}),
    ],
    ids=["layers", "encoder", "hidden", "auto", "remembering"],
)
def test_the_gradient_is_that_of_another_run(guide, served, mode, monkeypatch):
    asked = []

    def noted(names, *rest):
        found = list(ordinary_held(names, *rest))
        asked.append((set(names), {name for name, *_ in found}))
        return found

    ordinary_held = ordinary.held_in_place
    elbo = pre.TraceEstimator_ELBO(
        pre.StickingTheLanding(),
        num_particles=3,
        vectorize_particles=mode,
        max_plate_nesting=0 + (mode is not False),
    )
    for _ in range(2):
        elbo.loss_and_grads(model, guide)
    names = list(pyro.get_param_store())
    rows = []
    for function in (noted, lambda *args: []):
        monkeypatch.setattr(ordinary, "held_in_place", function)
        torch.manual_seed(0)
        rows.append(gradients(elbo, model, guide, names, 3))
    torch.testing.assert_close(*rows)
    assert asked
    for all_names, found in asked:
        assert found == (all_names if served is None else served)

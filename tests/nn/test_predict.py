"""Predictions of a classifier against quadrature over its weights."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

import pyro_reparam_ext as pre

from ..statistics import assert_mean

X = torch.tensor([[-1.0], [0.5], [2.0], [7.0]])
Y = torch.tensor([0, 1, 2, 1])


def classifier(outputs=3, layers=None):
    network = layers or nn.Linear(1, outputs, bias=False)
    bnn = pre.nn.to_bayesian(network, {"*weight": dist.Normal(0.0, 1.0)})

    def model(x, y=None):
        logits = bnn(x)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    def guide(x, y=None):
        scale = torch.full((outputs, 1), 0.7)
        loc = torch.arange(outputs).sub(1.0).reshape(-1, 1)
        pyro.sample("weight", dist.Normal(loc, scale).to_event(2))

    return bnn, model, guide


def test_logits_are_those_of_the_weights():
    bnn, _, guide = classifier()
    found = pre.nn.predict(bnn, guide, X, 20000, batch_size=3, progress=False)
    loc = X * torch.tensor([-1.0, 0.0, 1.0])
    assert_mean(found.logits.reshape(20000, -1), loc.flatten())
    assert_mean((found.logits - loc).square().reshape(20000, -1), (0.49 * X**2).expand(4, 3).flatten())
    # The same weights for all examples, in whatever batch they are.
    torch.testing.assert_close(found.logits / X, (found.logits / X)[:, :1].expand(-1, 4, -1))


def test_probabilities_and_uncertainty():
    """One logit, by Gauss-Hermite quadrature."""
    bnn, _, guide = classifier(1)
    found = pre.nn.predict(bnn, guide, X, 20000, progress=False)
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(60))
    weights = weights / weights.sum()
    p = ((-1 + 0.7 * nodes) * X.double()).sigmoid()  # shape: (examples, nodes)
    mean = (weights * p).sum(-1)
    each = torch.special.entr(p) + torch.special.entr(1 - p)
    entropy = torch.special.entr(mean) + torch.special.entr(1 - mean)
    assert_mean(found.logits.softmax(-1)[..., 1].double(), mean)
    torch.testing.assert_close(found.probabilities.sum(-1), torch.ones(4))
    torch.testing.assert_close(found.entropy.double(), entropy, atol=0.02, rtol=0)
    information = entropy - (weights * each).sum(-1)
    torch.testing.assert_close(found.mutual_information.double(), information, atol=0.02, rtol=0)


def test_a_certain_guide_leaves_no_information():
    bnn, model, _ = classifier()
    guide = AutoNormal(model, init_scale=1e-6)
    guide(X, Y)
    found = pre.nn.predict(bnn, guide, X, 50)
    assert found.mutual_information.max() < 1e-5
    assert (found.mutual_information >= 0).all()


def test_modes_are_what_they_were():
    layers = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    bnn, model, _ = classifier(layers=layers)
    guide = AutoNormal(model, init_scale=1e-6)
    guide(X, Y)
    bnn.module[2].eval()
    modes = [module.training for module in bnn.modules()]
    mean = bnn.module[1].running_mean.clone()
    one, other = (pre.nn.predict(bnn, guide, X, 10).logits for _ in range(2))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)  # no dropout
    assert modes == [module.training for module in bnn.modules()]
    assert torch.equal(mean, bnn.module[1].running_mean)


def other_guide(x):
    pyro.sample("another", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda bnn, guide: (nn.Linear(1, 3), guide, X), "was given Linear.*to_bayesian"),
        (lambda bnn, guide: (bnn, other_guide, X), "does not draw site 'weight'"),
        (lambda bnn, guide: (bnn, guide, X, 0), "num_samples >= 1.*given 0"),
        (lambda bnn, guide: (bnn, guide, X[None]), r"shape \(1, 4, 3\), expected \(1, classes\)"),
    ],
    ids=["network", "guide", "none", "shape"],
)
def test_errors(call, match):
    bnn, _, guide = classifier()
    with pytest.raises(pre.EstimatorError, match=match):
        pre.nn.predict(*call(bnn, guide), progress=False)

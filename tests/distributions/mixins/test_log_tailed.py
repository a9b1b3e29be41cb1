"""Tails in logarithms: relative precision out to where the mass leaves the range, and gradients."""

import math

import mpmath as mp
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.supports.relaxed import edge_of

from ..exact_tails import EXACT
from ..registry import REGISTRY

DEVIATIONS = (-37.0, -20.0, -8.0, -3.0, -1.0, 0.0, 1.0, 4.0, 10.0, 25.0, 37.0)
SHARES = (1e-12, 1e-4, 1e-2)
"""Of the way to an end of the support."""
LEAST = -690.0
"""A float64 holds no smaller mass with all of its digits."""
PRECISION = {"Gamma": 5e-9, "LogGamma": 5e-9, "VonMises": 5e-9}
"""That of torch's incomplete gamma function at a concentration of 50, and of 32 nodes; else 1e-9."""


def values(fn):
    """Around the median, in halves of what lies between two quantiles, and towards the ends."""
    torch.manual_seed(0)
    low, middle, high = fn.sample((2000,)).quantile(torch.tensor([0.16, 0.5, 0.84]).double())
    x = [middle + k * (high - low) / 2 for k in DEVIATIONS]
    below, above = (getattr(fn.support, name, None) for name in ("lower_bound", "upper_bound"))
    if isinstance(fn, pre.distributions.RelaxedBernoulli):  # beyond, draws are censored
        below, above = edge_of(torch.float32), 1 - edge_of(torch.float32)
    if isinstance(fn, pre.distributions.VonMises):  # pi is no float: none is beside it
        return torch.stack([y for y in x if abs(y) < 3.1])
    below = -math.inf if below is None else float(below)
    above = math.inf if above is None else float(above)
    if below > -math.inf:
        x += [below + share * (middle - below) for share in SHARES]
    if above < math.inf:
        x += [above - share * (above - middle) for share in SHARES[1:]]
    return torch.stack([y for y in x if below < y < above])


def points():
    return [(name, i) for name in EXACT for i in range(len(REGISTRY[name].points))]


@pytest.mark.parametrize(("name", "point"), points())
def test_precision(name, point):
    entry = REGISTRY[name]
    parameters = entry.points[point]
    fn = entry.at(parameters, validate_args=False)
    single = entry.make(**{k: torch.tensor(v) for k, v in parameters.items()}, validate_args=False)
    rounded = {k: float(torch.tensor(v)) for k, v in parameters.items()}
    x = values(fn)
    with mp.workdps(60):
        for made, given, at, precision in (
            (fn, parameters, x, PRECISION.get(name, 1e-9)),
            (single, rounded, x.float(), 1e-5),
        ):
            inside = at.isfinite() & (made.log_prob(at) > -math.inf)
            at = at[inside]
            found = made.log_cdf(at), made.log_survival_function(at)
            numbers = {k: mp.mpf(v) for k, v in given.items()}
            exact = [EXACT[name](numbers, mp.mpf(y.item())) for y in at]
            for side, logs in enumerate(found):
                masses = [mp.re(both[side]) for both in exact]
                expected = [float(mp.log(mass)) if mass else -math.inf for mass in masses]
                kept = [i for i, y in enumerate(expected) if y > LEAST]
                torch.testing.assert_close(
                    logs[kept].double(),
                    torch.tensor([expected[i] for i in kept], dtype=torch.float64),
                    rtol=precision,
                    atol=precision,
                )


@pytest.mark.parametrize("name", sorted(EXACT.keys() - {"VonMises"}))
def test_gradients(name):
    """The slope is the density over the mass, and the parameters' part that of a draw.

    Of what is no draw on a circle, where the arc begins at a cut.
    """
    entry = REGISTRY[name]
    leaves = {k: torch.tensor(v, dtype=torch.float64) for k, v in entry.points[entry.typical].items()}
    for leaf in leaves.values():
        leaf.requires_grad_()
    fn = entry.make(**leaves, validate_args=False)
    x = fn.sample((5,)).requires_grad_()
    for side, log_tail in ((1, fn.log_cdf(x)), (-1, fn.log_survival_function(x))):
        rate = side * (fn.log_prob(x) - log_tail).exp().detach()
        (slope,) = torch.autograd.grad(log_tail.sum(), x, retain_graph=True)
        torch.testing.assert_close(slope, rate, rtol=1e-6, atol=1e-8)
        wanted = list(leaves.values())
        found = torch.autograd.grad(log_tail.sum(), wanted, retain_graph=True, allow_unused=True)
        moving = pre.distributions.pathwise_at(fn, x.detach())
        exact = torch.autograd.grad(
            (-rate * moving).sum(), wanted, retain_graph=True, allow_unused=True
        )
        for a, b in zip(found, exact, strict=True):
            if b is not None:
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_far_tails_of_values():
    """What ``cdf`` itself gives where a difference from 1 would be 0, or negative."""
    double = torch.tensor(-10.0, dtype=torch.float64)
    skewed = pre.distributions.SkewNormal(0.0, 1.0, 1.0)
    assert skewed.cdf(double).item() == pytest.approx(5.8062e-47, rel=1e-4)
    weights = dist.Categorical(torch.ones(2).double())
    components = dist.Normal(torch.tensor([0.0, 1.0]).double(), 1.0)
    mixture = pre.distributions.MixtureSameFamily(weights, components)
    assert mixture.cdf(2 * double).item() == pytest.approx(0.5 * 2.7536241186062337e-89, rel=1e-6)
    exact = np.logaddexp(*stats.norm.logsf([20.0, 19.0])) - math.log(2)
    assert mixture.log_survival_function(-2 * double).item() == pytest.approx(exact, rel=1e-12)


def test_what_has_no_tails():
    with pytest.raises(NotImplementedError, match="only a real variable"):
        pre.distributions.VonMisesFisher(torch.eye(3)[0], 2.0).log_cdf(torch.eye(3)[1])
    with pytest.raises(ValueError, match="support"):
        pre.distributions.Kumaraswamy(2.0, 3.0, validate_args=True).log_cdf(torch.tensor(2.0))


def test_maps_and_compiles():
    fn = pre.distributions.Kumaraswamy(torch.ones(3).double(), 2.0, validate_args=False)
    x = torch.linspace(0.1, 0.9, 12).double().view(4, 3)
    expected = fn.log_cdf(x)
    torch.testing.assert_close(torch.func.vmap(fn.log_cdf)(x), expected)
    compiled = torch.compile(fn.log_survival_function, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), fn.log_survival_function(x))

"""Pyro's autoguides, and NUTS, over models with straight-through sites."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_feasible,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from pyro.infer.mcmc.util import initialize_model
from pyro.optim import Adam

from pyro_reparam_ext.distributions import StraightThroughBernoulli, StraightThroughOneHotCategorical

from .sampling import losses
from .slow import one_in
from .statistics import assert_at_most, assert_mean

GUIDES = [
    AutoNormal,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    AutoLowRankMultivariateNormal,
    AutoDelta,
    AutoLaplaceApproximation,
]
INITS = {
    "feasible": init_to_feasible,
    "mean": init_to_mean,
    "median": init_to_median,
    "sample": init_to_sample,
    "uniform": init_to_uniform,
    "value": init_to_value(
        values={
            "z": torch.tensor([0.0, 1, 0]),
            "b": torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1]]),
            "w": torch.tensor(0.3),
        }
    ),
}
CLASSES = torch.tensor([0.08, 0.35, 0.57]).log()
BITS = torch.tensor([2.0, -2.0, 1.0, 0.0])


def is_hard(*values):
    return all(((x == 0) | (x == 1)).all() for x in values)


def model():
    """A one-hot site, binary vectors in a plate, and a real site; in float32."""
    prior = StraightThroughOneHotCategorical(0.5, logits=torch.zeros(3))
    z = pyro.sample("z", prior)
    assert is_hard(z) and z.sum() == 1
    with pyro.plate("plate", 2):
        b = pyro.sample("b", StraightThroughBernoulli(0.5, logits=torch.zeros(2, 4)).to_event(1))
        assert is_hard(b)
        pyro.factor("bits", (b * BITS).sum(-1), has_rsample=True)
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.factor("classes", (z * CLASSES).sum(-1), has_rsample=True)
    pyro.sample("y", dist.Normal(w, 1.0), obs=torch.tensor(0.5))


def log_evidence():
    """By enumeration, and the convolution of two normal laws."""
    bits = 2 * (1 + BITS.exp()).div(2).log().sum()
    return (
        CLASSES.exp().mean().log() + bits + dist.Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(0.5))
    )


@pytest.mark.parametrize("cls", GUIDES)
def test_every_value_is_hard(cls):
    guide = cls(model)
    svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(30):
        assert math.isfinite(svi.step())
    if cls is AutoLaplaceApproximation:
        guide = guide.laplace_approximation()
    for _ in range(20):
        values = guide()
        assert is_hard(values["z"], values["b"])
        assert values["z"].sum() == 1
    samples = Predictive(model, guide=guide, num_samples=10)()
    assert samples["z"].shape[-1] == 3 and samples["b"].shape[-2:] == (2, 4)
    assert is_hard(samples["z"], samples["b"])
    if cls is not AutoLaplaceApproximation or hasattr(guide, "scale_tril"):
        median = guide.median()
        assert is_hard(median["z"], median["b"])


@pytest.mark.parametrize("cls", [AutoNormal, AutoDiagonalNormal])
def test_quantiles_are_hard(cls):
    guide = cls(model)
    guide()
    quantiles = guide.quantiles([0.1, 0.9])
    assert is_hard(torch.as_tensor(quantiles["z"]), torch.as_tensor(quantiles["b"]))


@pytest.mark.parametrize("init", list(INITS))
@pytest.mark.parametrize("cls", GUIDES)
def test_initialisation(cls, init):
    """A guide starts at a valid value; at the given one where one is given."""
    guide = cls(model, init_loc_fn=INITS[init])
    values = guide()
    assert is_hard(values["z"], values["b"])
    if init == "value":
        start = INITS[init].keywords["values"]
        torch.testing.assert_close(values["z"], start["z"], rtol=0, atol=0)
        torch.testing.assert_close(values["b"], start["b"], rtol=0, atol=0)


@pytest.mark.parametrize("cls", one_in(4, GUIDES[:4]))
def test_elbo_is_a_bound(cls):
    """Never above the evidence beyond the sampling error, trained or not; and close when trained."""
    guide = cls(model)
    svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
    for steps in (1, 400):
        for _ in range(steps):
            svi.step()
        values = -losses(Trace_ELBO(), model, guide, 200)
        assert_at_most(values, log_evidence())
    assert log_evidence() - values.mean() < 2.5


def test_elbo_is_that_of_the_extended_model():
    """By quadrature over the keys of one binary site; and not above the log evidence."""
    prior, gain = torch.tensor(0.3), torch.tensor(1.2)

    def one_bit():
        b = pyro.sample("b", StraightThroughBernoulli(0.5, probs=prior))
        pyro.factor("gain", gain * b, has_rsample=True)

    guide = AutoNormal(one_bit)
    guide()
    evidence = (1 - prior + prior * gain.exp()).log().double()
    x = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    for loc, scale in ((-0.7, 1.4), (0.5, 0.4), (0.4, 1.9)):
        guide.locs.b, guide.scales.b = torch.tensor(loc), torch.tensor(scale)
        q = dist.Normal(torch.tensor(loc, dtype=torch.float64), scale)
        joint = torch.where(x > 0, prior.log() + gain, (-prior).log1p())
        law = math.log(2) - x - 2 * torch.nn.functional.softplus(-x)
        exact = torch.trapezoid(q.log_prob(x).exp() * (joint + law - q.log_prob(x)), x)
        assert exact < evidence
        values = -losses(Trace_ELBO(), one_bit, guide, 1500)
        assert_mean(values[:, None], exact[None])


def test_auto_normal_finds_the_posterior():
    guide = AutoNormal(model)
    svi = SVI(model, guide, Adam({"lr": 0.03}), Trace_ELBO())
    for _ in range(500):
        svi.step()
    z = torch.stack([guide()["z"] for _ in range(400)]).mean(0)
    assert 0.5 * (z - CLASSES.exp()).abs().sum() < 0.25
    assert z.argmax() == 2


def test_auto_delta_climbs_to_the_mode():
    guide = AutoDelta(model)
    svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(400):
        svi.step()
    values = guide()
    assert values["z"].tolist() == [0, 0, 1]
    assert values["b"][:, :3].tolist() == [[1, 0, 1]] * 2


# -- NUTS --------------------------------------------------------------------------------------------

WEIGHTS, SHIFTS = torch.tensor([0.1, 0.5, 0.4]), torch.tensor([-2.0, 0.0, 3.0])


def mixture():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    z = pyro.sample("z", StraightThroughOneHotCategorical(0.5, probs=WEIGHTS))
    b = pyro.sample("b", StraightThroughBernoulli(0.5, probs=torch.tensor(0.3)))
    pyro.sample("y", dist.Normal(x + (z * SHIFTS).sum(-1) + b, 0.5), obs=torch.tensor(2.5))


def test_nuts_sums_straight_through_sites_out():
    """It enumerates them, as any discrete site: the potential is that of the marginal."""
    _, potential, transforms, _ = initialize_model(mixture)
    assert set(transforms) == {"x"}
    x = torch.tensor(0.7, requires_grad=True)
    shifts = torch.stack([SHIFTS, SHIFTS + 1])
    log_weights = WEIGHTS.log() + torch.tensor([[0.7], [0.3]]).log()
    terms = log_weights + dist.Normal(x + shifts, 0.5).log_prob(torch.tensor(2.5))
    exact = -dist.Normal(0.0, 1.0).log_prob(x) - terms.flatten().logsumexp(0)
    found = potential({"x": x})
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(exact, x))


def test_nuts_runs():
    mcmc = MCMC(NUTS(mixture), num_samples=20, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    samples = mcmc.get_samples()
    assert set(samples) == {"x"}
    assert samples["x"].isfinite().all()

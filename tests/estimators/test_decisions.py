"""Coupled values have the right gradient in the mean, by their exact joint law."""

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.decisions import coupled_surrogate, decision_noise
from pyro_reparam_ext.estimators.protocol import Draw, Site
from pyro_reparam_ext.noise import NoiseSource

RARE = 1e-6


def site_of(fn, value):
    return Site("z", fn, Draw(value), fn.log_prob(value), pre.DisARM())


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("frequent", [False, True])
def test_rare_values_in_single_precision(count, frequent):
    """All values are alike, or one of them is the rare one: with probability count * RARE."""
    logit = torch.tensor(RARE).logit() * (-1 if frequent else 1)
    logit.requires_grad_()
    values = torch.zeros(count)
    values[1] = 1
    values = 1 - values if frequent else values
    fn = dist.Bernoulli(logits=logit)
    surrogate = coupled_surrogate(site_of(fn, values[0]), values, 3 + 2 * values)
    (gradient,) = torch.autograd.grad(surrogate, logit)
    exact = 2 * RARE * (1 - RARE)
    torch.testing.assert_close(count * RARE * gradient, torch.tensor(exact), rtol=1e-5, atol=0)
    assert coupled_surrogate(site_of(fn, values[0]), torch.ones(count), torch.ones(count)) == 0


@pytest.mark.parametrize("rare", [0, 1, 2])
def test_rare_classes_in_single_precision(rare):
    """One class has the probability RARE, and the others, c and d, share the rest."""
    probs = torch.full((3,), (1 - RARE) / 2)
    probs[rare] = RARE
    logits = probs.log().requires_grad_()
    fn, f, exact = dist.Categorical(logits=logits), torch.tensor([0.5, -1.0, 2.0]), probs.double()
    mean = torch.zeros(3)
    for pair, probability in pairs(exact).items():
        values = torch.tensor(pair)
        surrogate = coupled_surrogate(site_of(fn, values[0]), values, f[values])
        (gradient,) = torch.autograd.grad(surrogate, logits, retain_graph=True)
        assert gradient.isfinite().all()
        mean = mean + probability * gradient
    centred = f.double() - (exact * f).sum()
    torch.testing.assert_close(mean, (exact * centred).float(), rtol=1e-5, atol=1e-9)


def pairs(probs):
    """The law of an antithetic pair of classes 0, 1 and 2, of the turns to 2, and else to 1."""
    found, first, second = {}, probs[2], probs[1] / (probs[0] + probs[1])

    def turns(p):
        rare, rest = min(p, 1 - p), (1 - 2 * p).abs()
        return {(1, 0): rare, (0, 1): rare, (int(p > 0.5),) * 2: rest}

    for (a, b), one in turns(first).items():
        for (c, d), two in turns(second).items():
            key = (2 if a else c, 2 if b else d)
            found[key] = found.get(key, 0) + float(one * two)
    return found


@pytest.mark.parametrize(
    "fn",
    [
        dist.Bernoulli(logits=torch.tensor([-2.0, 0.3, 20.0])),
        dist.Categorical(logits=torch.tensor([[0.3, -1.0, 0.2, 2.0, -torch.inf]]).expand(3, 5)),
    ],
)
def test_noise_of_a_given_value_leads_to_it(fn):
    value = fn.sample((500,))
    fn = fn.expand((500, 3))
    noise = decision_noise(site_of(fn, value))

    class Given(NoiseSource):
        def uniform(self, shape, like):
            return noise

    assert torch.equal(pre.DisARM().draw(fn, Given()).value, value)

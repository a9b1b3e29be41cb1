"""The words for gradients of a bound: their formulas, and their signal over their noise."""

import math

import pyro
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.bound_gradients import bound_gradient

from .bound_programs import ONE, TWO, X, drawn, elbo_of, log_normal, number


def formula(word, alpha, count, seed):
    """The gradient of ``TWO`` in plain torch, from the noise that the guide takes under a seed."""
    p = {name: number(x).requires_grad_() for name, x in TWO.initial.items()}
    torch.manual_seed(seed)
    eps = torch.stack([torch.randn(count, dtype=torch.float64) for _ in range(2)])
    with torch.no_grad():
        w = TWO.joint(p, eps, None)[0]
        share = ((1 - alpha) * w).softmax(0)
        total = (((1 - alpha) * w).logsumexp(0) - math.log(count)) / (1 - alpha)
        z = p["a"] + p["s"].exp() * eps[0]
        v = p["a"] + p["c"] * z + 0.8 * eps[1]

    def held(z, v, p):
        model = log_normal(z, number(0.0), 1.0) + log_normal(v, p["slope"] * z, 1.0)
        model = model + log_normal(number(X), v, 0.7)
        q = log_normal(z, p["a"], p["s"].exp()) + log_normal(v, p["a"] + p["c"] * z, 0.8)
        return model, q

    model, q = held(z, v, p)
    of_model = torch.autograd.grad((share * model).sum(), p["slope"], retain_graph=True)[0]
    names = ["a", "c", "s"]
    if word == "dreg":
        moving_z = p["a"] + p["s"].exp() * eps[0]
        moving_v = p["a"] + p["c"] * moving_z + 0.8 * eps[1]
        fixed = {name: x.detach() for name, x in p.items()}
        parts = held(moving_z, moving_v, fixed)
        weight = alpha * share + (1 - alpha) * share**2
        objective = (weight * (parts[0] - parts[1])).sum()
    else:
        others = []
        for k in range(count):
            rest = torch.cat([w[:k], w[k + 1 :]])
            own = {
                "score": None,
                "vimco": ((1 - alpha) * rest.mean()).exp(),
                "vimco-star": alpha * ((1 - alpha) * rest).exp().mean(),
            }[word]
            if own is None:
                others.append(number(0.0))
            else:
                mean = (((1 - alpha) * rest).exp().sum() + own) / count
                others.append(mean.log() / (1 - alpha))
        objective = ((total - torch.stack(others) - share) * q).sum()
    found = torch.autograd.grad(objective, [p[name] for name in names])
    return -total, {"slope": -of_model} | {name: -x for name, x in zip(names, found, strict=True)}


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("word", ["dreg", "vimco", "vimco-star", "score"])
def test_same_noise_same_gradient_as_the_formula(word, alpha):
    for mode in (True, "vmap"):
        pyro.clear_param_store()
        elbo = elbo_of(word, 5, alpha, mode)
        elbo.loss(TWO.model, TWO.guide)
        torch.manual_seed(7)
        loss = elbo.loss_and_grads(TWO.model, TWO.guide)
        expected, gradient = formula(word, alpha, 5, 7)
        assert loss == pytest.approx(expected.item(), abs=1e-10)
        store = pyro.get_param_store()
        for name, x in gradient.items():
            torch.testing.assert_close(store._params[name].grad, x, rtol=1e-10, atol=1e-10)


def ratio(word, num_particles, count=4000):
    """The signal over the noise of the gradient in the mean of the guide."""
    pyro.clear_param_store()
    rows = drawn(elbo_of(word, num_particles), ONE, count)[:, 0]
    return (rows.mean() / rows.std()).abs()


@pytest.mark.parametrize("word, grows", [("dreg", True), ("vimco-star", True), ("pathwise", False)])
def test_signal_over_noise_as_particles_are_added(word, grows):
    few, many = ratio(word, 4), ratio(word, 64)
    assert many > 1.5 * few if grows else many < few / 1.5


def test_unknown_word():
    with pytest.raises(pre.EstimatorError, match="gradient: expected one of 'dreg', .*given 'drag'"):
        bound_gradient("drag")

"""Flipped bits: the closed form, what flipping all is, bits that are certain, and where it pays."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..registry import layout_of
from ..sampling import layout_gradients
from .closed_form import COLUMNS, ROWS, Program, assert_same, gradients


@pytest.mark.parametrize("num_flips", [1, 2])
def test_same_seed_closed_form(num_flips):
    program = Program()
    elbo = pre.TraceEstimator_ELBO(pre.BitFlip(num_flips), max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, (logits, weight) = program.value(), program.parameters()
    fixed = logits.detach()
    variance = fixed.sigmoid() * (1 - fixed.sigmoid())
    expected = torch.zeros_like(fixed)
    uniform = torch.rand(ROWS, dtype=torch.float64)
    for row in range(ROWS):
        share = num_flips * variance[row].sqrt() / variance[row].sqrt().sum()
        assert share.max() < 1
        ends = share.cumsum(0)
        for flip in range(num_flips):
            d = int((ends <= uniform[row] + flip).sum())
            on, off = z.clone(), z.clone()
            on[row, d], off[row, d] = 1.0, 0.0
            gain = program.cost(on, fixed, weight)[row] - program.cost(off, fixed, weight)[row]
            expected[row, d] = (gain * variance[row, d] / share[d]).detach()
    cost = program.cost(z, fixed, weight).sum()
    assert_same(actual, expected, torch.autograd.grad(cost, weight)[0])


@pytest.mark.parametrize("num_flips", [COLUMNS, 100])
def test_all_flipped_are_the_local_expectation(num_flips):
    program, found = Program(2), []
    for estimator in (pre.BitFlip(num_flips), pre.LocalExpectation()):
        elbo = pre.TraceEstimator_ELBO(estimator, num_particles=2, max_plate_nesting=1)
        found.append(gradients(elbo, program, seed=3))
    assert_same(found[0], found[1]["logits"], found[1]["weight"])


def test_exact_over_a_single_bit():
    layout = layout_of("plate", "Bernoulli")
    exact = layout.exact_gradient()
    actual = layout_gradients(pre.TraceEstimator_ELBO(pre.BitFlip()), layout, 2)
    of_guide = slice(1, 1 + sum(layout.initial[name].numel() for name in ("phi", "local")))
    torch.testing.assert_close(actual[0, of_guide], exact[of_guide], rtol=1e-6, atol=1e-8)


def test_certain_bits_are_never_flipped():
    """The program sees no value that can't be, and the others have the gradient of two bits alone."""
    certain = torch.tensor([torch.inf, 0.3, -torch.inf, -0.7], dtype=torch.float64)

    def guide():
        logits = pyro.param("logits", certain[[1, 3]].clone())
        every = torch.stack([certain[0], logits[0], certain[2], logits[1]])
        pyro.sample("z", dist.Bernoulli(logits=every).to_event(1))

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.full((4,), 0.5, dtype=torch.float64)).to_event(1))
        assert (z[..., 0] == 1).all() and (z[..., 2] == 0).all()
        pyro.factor("f", 2 * z[..., 1] - z[..., 3] + z.sum(-1))

    elbo = pre.TraceEstimator_ELBO(pre.BitFlip(num_flips=3), vectorize_particles=False)
    elbo.loss_and_grads(model, guide)
    p = certain[[1, 3]].sigmoid()
    expected = p * (1 - p) * (certain[[1, 3]] - torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(pyro.param("logits").grad, expected)


def nearly_decided():
    """A vector of 30 bits, of additive cost, most of which are nearly decided."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, generator=generator)
    start = torch.cat([6 * torch.randn(20, generator=generator), torch.randn(10, generator=generator)])

    def guide():
        logits = pyro.param("logits", start.clone())
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.full((30,), 0.5)).to_event(1))
        pyro.factor("f", z @ weight)

    return model, guide


def test_variance():
    """At eight evaluations each it is less than that of those by whole vectors."""
    model, guide = nearly_decided()
    study = pre.gradient_study(
        model,
        guide,
        estimators={
            "flips": pre.BitFlip(num_flips=7),
            "pairs": pre.DisARM(num_pairs=4),
            "particles": pre.TraceEstimator_ELBO(
                pre.LeaveOneOut(), num_particles=8, max_plate_nesting=0
            ),
        },
        num_draws=1000,
    )
    summary = study.summary()
    assert (summary["evaluations"] == 8).all()
    assert summary["variance"]["flips"] < 0.8 * summary["variance"].drop("flips").min()


@pytest.mark.parametrize("num_flips", [0, -1])
def test_number_of_flips_is_positive(num_flips):
    with pytest.raises(pre.EstimatorError, match="num_flips must be positive"):
        pre.BitFlip(num_flips)

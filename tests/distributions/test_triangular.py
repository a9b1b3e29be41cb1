"""Triangular: a peak at an end, and ends of any size."""

import math

import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre

from ..statistics import assert_follows, assert_mean

Triangular = pre.distributions.Triangular


def test_gradient_with_the_peak_at_an_end():
    """E[x] = (low + high + peak) / 3, wherever the peak."""
    for low, high, peak in ((1.0, 3.0, 1.0), (1.0, 3.0, 3.0), (-2.0, 3.0, 0.5)):
        leaves = [
            torch.full((20_000,), x, dtype=torch.float64, requires_grad=True) for x in (low, high, peak)
        ]
        value = Triangular(*leaves).rsample()
        gradients = torch.autograd.grad(value.sum(), leaves)
        assert_mean(torch.stack(gradients, 1), torch.full((3,), 1 / 3))
        law = stats.triang(c=(peak - low) / (high - low), loc=low, scale=high - low)
        assert_follows(value, law.cdf)


@pytest.mark.parametrize("peak", [0.0, 0.25, 2.0])
def test_with_the_peak_anywhere(peak):
    fn = Triangular(0.0, 2.0, torch.tensor(peak, dtype=torch.float64), validate_args=False)
    law = stats.triang(c=peak / 2, scale=2.0)
    inside = torch.tensor([1e-3, 0.1, 0.25, 0.7, 1.9], dtype=torch.float64)
    torch.testing.assert_close(fn.log_prob(inside), torch.tensor(law.logpdf(inside)))
    torch.testing.assert_close(fn.cdf(inside), torch.tensor(law.cdf(inside)))
    torch.testing.assert_close(fn.icdf(fn.cdf(inside)), inside)
    for name, exact in (("mean", law.mean()), ("variance", law.var()), ("entropy", law.entropy())):
        ours = fn.entropy() if name == "entropy" else getattr(fn, name)
        assert ours.item() == pytest.approx(float(exact))
    assert fn.mode == peak
    assert fn.log_prob(torch.tensor(peak, dtype=torch.float64)).item() == pytest.approx(0.0)
    outside = torch.tensor([-0.1, 2.1], dtype=torch.float64)
    assert fn.log_prob(outside).tolist() == [-math.inf] * 2
    assert fn.cdf(outside).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("peak", [0.0, 0.3, 1.0])
def test_gradients_at_the_corners_are_finite(peak):
    leaves = [torch.tensor(x, requires_grad=True) for x in (0.0, 1.0, peak)]
    fn = Triangular(*leaves, validate_args=False)
    points = torch.tensor([-1.0, 0.1, 0.3, 0.9, 2.0])
    for output in (
        fn.log_prob(points)[1:-1],
        fn.cdf(points),
        fn.icdf(torch.tensor([0.0, 0.3, 1.0])),
        fn._at(torch.tensor([0.0, 0.3, 1.0])),
    ):
        gradients = torch.autograd.grad(output.sum(), leaves, retain_graph=True)
        assert all(g.isfinite() for g in gradients)


def test_quantiles_move_as_draws_do():
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (-1.0, 2.0, 0.5)]
    fn = Triangular(*leaves)
    for u in (0.01, 0.3, 0.6, 0.99):
        x = fn.icdf(torch.tensor(u, dtype=torch.float64))
        quantile = torch.autograd.grad(x, leaves, retain_graph=True)
        draw = torch.autograd.grad(fn._at(x.detach()), leaves)
        torch.testing.assert_close(quantile, draw)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e5, 1e18])
def test_float32_against_float64(scale):
    """Units do not matter, and float32 loses no more than its own digits."""
    shares = torch.tensor([-1.0, 2.5, 0.7], dtype=torch.float64) * scale
    x = torch.linspace(-0.99, 2.49, 50, dtype=torch.float64) * scale
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [s.to(torch.float32).to(dtype).requires_grad_() for s in shares]
        fn, value = Triangular(*leaves), x.to(torch.float32).to(dtype)
        velocity = torch.autograd.grad(fn._at(value).sum(), leaves)
        results.append(
            [fn.log_prob(value), fn.cdf(value), *velocity, fn.entropy(), fn.variance / scale]
        )
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=3e-6, atol=1e-6)


def test_no_draw_has_density_zero():
    for low, high in ((0.0, 1.0), (-1e3, 1e3), (1.0, 1.0 + 1e-5)):
        fn = Triangular(torch.tensor(low), high, 0.5 * (low + high))
        assert fn.log_prob(fn.sample((50_000,))).isfinite().all()


@pytest.mark.parametrize(
    ("parameters", "match"),
    [((1.0, 1.0, 1.0), "low < high"), ((0.0, 1.0, 1.5), "peak"), ((0.0, 1.0, -0.5), "peak")],
)
def test_order_of_the_parameters(parameters, match):
    with pytest.raises(ValueError, match=match):
        Triangular(*parameters, validate_args=True)


@pytest.mark.parametrize("peak", [0.0, 2.0, 0.6])
def test_second_derivatives_with_the_peak_at_an_end(peak):
    """Those of the quantile at fixed noise."""
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.0, 2.0, peak)]
    low, high, top = leaves
    fn = Triangular(*leaves)
    for x in (0.3, 1.4):
        value = torch.tensor(x, dtype=torch.float64)
        u = fn.cdf(value).detach()
        if x < peak:
            exact = low + (u * (high - low) * (top - low)).sqrt()
        else:
            exact = high - ((1 - u) * (high - low) * (high - top)).sqrt()
        for ours, theirs in zip(second(fn._at(value), leaves), second(exact, leaves), strict=True):
            torch.testing.assert_close(ours, theirs)


def second(value, leaves):
    gradients = torch.autograd.grad(value, leaves, create_graph=True)
    return [
        g
        for slope in gradients
        for g in torch.autograd.grad(slope, leaves, retain_graph=True, materialize_grads=True)
    ]


def test_log_prob_at_an_end_has_no_nan_gradient():
    leaves = [torch.tensor(x, requires_grad=True) for x in (0.0, 1.0, 0.3)]
    log_prob = Triangular(*leaves).log_prob(torch.tensor([0.0, 1.0]))
    assert log_prob.tolist() == [-math.inf] * 2
    assert not any(g.isnan() for g in torch.autograd.grad(log_prob.sum(), leaves))

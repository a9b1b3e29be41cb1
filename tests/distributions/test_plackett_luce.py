"""PlackettLuce."""

import math
from itertools import permutations

import pytest
import torch
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.supports.permutation_matrices import (
    permutation_matrix,
    row_stochastic,
)

from ..statistics import assert_mean

PlackettLuce = pre.distributions.PlackettLuce
LOGITS = torch.tensor([0.5, -1.0, 1.5, 0.0], dtype=torch.float64)


def probability(logits, order):
    """Place by place."""
    weights = logits.exp().tolist()
    left, p = sum(weights), 1.0
    for i in order:
        p *= weights[i] / left
        left -= weights[i]
    return p


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "straight_through": True}])
def test_law(options):
    """Probabilities and frequencies of all 24 orders."""
    fn = PlackettLuce(LOGITS, **options)
    support = fn.enumerate_support()
    exact = torch.tensor([probability(LOGITS, p) for p in permutations(range(4))]).double()
    orders = torch.tensor(list(permutations(range(4))))
    assert torch.equal(support.argmax(-1), orders)
    torch.testing.assert_close(fn.log_prob(support).exp(), exact, rtol=1e-6, atol=0)
    value = fn.sample((20_000,))
    assert_mean((value[:, None] == support).flatten(-2).all(-1).double(), exact)
    assert_mean(value.flatten(1), fn.mean.flatten())
    assert_mean((value - fn.mean).square().flatten(1), fn.variance.flatten())


def test_entropy_mean_and_kl_by_enumeration():
    logits = torch.stack([LOGITS, LOGITS.flip(0) * 2])
    p, q = PlackettLuce(logits), PlackettLuce(torch.zeros(4, dtype=torch.float64)).expand((2,))
    support = p.enumerate_support()
    log_p, log_q = p.log_prob(support), q.log_prob(support)
    torch.testing.assert_close(log_p.logsumexp(0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(log_q[0], torch.full((2,), -math.log(24.0), dtype=torch.float64))
    torch.testing.assert_close(p.entropy(), -(log_p.exp() * log_p).sum(0))
    torch.testing.assert_close(kl_divergence(p, q), (log_p.exp() * (log_p - log_q)).sum(0))
    torch.testing.assert_close(p.mean, (log_p.exp()[..., None, None] * support).sum(0))
    torch.testing.assert_close(p.mean[:, 0], logits.softmax(-1))


def test_enumeration_of_a_batch():
    fn = PlackettLuce(torch.zeros(3, 1, 4))
    assert fn.has_enumerate_support and not PlackettLuce(torch.zeros(9)).has_enumerate_support
    assert fn.enumerate_support().shape == (24, 3, 1, 4, 4)
    assert fn.enumerate_support(expand=False).shape == (24, 1, 1, 4, 4)
    assert PlackettLuce(torch.zeros(8)).enumerate_support().shape == (40_320, 8, 8)


def test_mode():
    fn = PlackettLuce(LOGITS)
    support = fn.enumerate_support()
    assert torch.equal(fn.mode, support[fn.log_prob(support).argmax()])


def test_extension_is_that_of_the_formula():
    logits = LOGITS.clone().requires_grad_()
    value = PlackettLuce(LOGITS, 1.0).sample().requires_grad_()
    log_p = 0.0
    for i in range(4):
        left = (1 - value[:i].sum(0)).clamp(min=0)
        log_p = log_p + (value[i] * logits).sum() - (left * logits.exp()).sum().log()
    found = PlackettLuce(logits, 1.0).log_prob(value)
    torch.testing.assert_close(found, log_p)
    for x in (value, logits):
        ours, expected = (torch.autograd.grad(f, x, retain_graph=True)[0] for f in (found, log_p))
        torch.testing.assert_close(ours, expected)


def test_gradient_in_the_value_at_a_permutation():
    """The slope inwards; a relaxed matrix moves the places after it too."""
    value = PlackettLuce(LOGITS).sample()
    direction = value.roll(1, 0) - value
    fn = PlackettLuce(LOGITS, 1.0)
    slope = (torch.func.grad(fn.log_prob)(value) * direction).sum()
    step = 1e-6
    at = [fn.log_prob(value + i * step * direction) for i in range(3)]
    torch.testing.assert_close(slope, (4 * at[1] - 3 * at[0] - at[2]) / (2 * step), rtol=1e-6, atol=0)


def test_very_unequal_logits():
    """In float32, against sums from the last place in float64."""
    logits = torch.tensor([0.0, 300.0, -300.0, 5.0], requires_grad=True)
    fn = PlackettLuce(logits)
    log_p = fn.log_prob(fn.enumerate_support())
    placed = logits.detach().double()[torch.tensor(list(permutations(range(4))))]
    exact = (placed - placed.flip(-1).logcumsumexp(-1).flip(-1)).sum(-1)
    torch.testing.assert_close(log_p.double(), exact, rtol=1e-6, atol=1e-6)
    assert torch.autograd.grad(log_p.sum(), logits)[0].isfinite().all()


def test_score_function_gradient():
    """Of E[g(P)], against enumeration."""
    logits = LOGITS.clone().requires_grad_()
    cost = torch.arange(16, dtype=torch.float64).cos().reshape(4, 4)
    fn = PlackettLuce(logits)
    support = fn.enumerate_support()
    (exact,) = torch.autograd.grad(
        (fn.log_prob(support).exp() * (support * cost).sum((-2, -1))).sum(), logits
    )
    repeated = LOGITS.expand(20_000, 4).clone().requires_grad_()
    fn = PlackettLuce(repeated)
    value = fn.sample()
    assert not value.requires_grad
    (gradient,) = torch.autograd.grad(
        (fn.log_prob(value) * (value * cost).sum((-2, -1))).sum(), repeated
    )
    assert_mean(gradient, exact)


def test_relaxed_rows():
    """SoftSort: each row is largest at the item of its rank, and nears its indicator."""
    logits = torch.randn(6, dtype=torch.float64)
    values = []
    for options in ({"temperature": 1.0}, {"temperature": 1e-4}, {}):
        torch.manual_seed(2)
        values.append(PlackettLuce(logits, **options).sample((200,)))
    relaxed, cold, hard = values
    assert torch.equal(relaxed.argmax(-1), hard.argmax(-1))
    assert (cold - hard).abs().flatten(1).amax(-1).median() < 1e-6
    assert row_stochastic.check(relaxed).all() and permutation_matrix.check(hard).all()
    assert not permutation_matrix.check(relaxed).any()


def test_soft_sort():
    torch.manual_seed(2)
    value = PlackettLuce(LOGITS, 0.6).sample()
    torch.manual_seed(2)
    keys = LOGITS - pre.noise.standard_exponential(LOGITS.shape, LOGITS).log()
    for row, key in zip(value, keys.sort(descending=True).values, strict=True):
        weights = (-(keys - key).abs() / 0.6).exp()
        torch.testing.assert_close(row, weights / weights.sum())


def test_relaxed_gradient():
    """In logits and temperature, at the same noise; the straight-through one is the same."""

    def draw(logits, temperature, straight_through=False):
        torch.manual_seed(0)
        fn = PlackettLuce(logits, temperature, straight_through=straight_through)
        return fn.rsample((5,))

    logits = LOGITS.clone().requires_grad_()
    temperature = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(draw, (logits, temperature))
    weights = torch.randn(4, 4, dtype=torch.float64)
    soft, hard = (draw(logits, temperature, straight) for straight in (False, True))
    ours, expected = (torch.autograd.grad((x * weights).sum(), logits)[0] for x in (hard, soft))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("straight_through", [False, True])
def test_score_is_left_out(straight_through):
    logits = LOGITS.clone().requires_grad_()
    fn = PlackettLuce(logits, 0.5, straight_through=straight_through)
    value = fn.rsample((5,))
    parts = fn.score_parts(value)
    assert torch.equal(parts.log_prob, fn.log_prob(value)) and parts.score_function == 0
    held = PlackettLuce(LOGITS, 0.5, straight_through=straight_through).log_prob(value)
    ours, expected = (
        torch.autograd.grad(x.sum(), logits, retain_graph=True)[0] for x in (parts[2], held)
    )
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: PlackettLuce(torch.tensor(1.0)), ValueError, "scalar"),
        (lambda: PlackettLuce(LOGITS, straight_through=True), ValueError, "temperature"),
        (lambda: PlackettLuce(LOGITS).rsample(), NotImplementedError, "temperature"),
        (lambda: PlackettLuce(LOGITS, 0.5).entropy(), NotImplementedError, "straight_through=True"),
        (lambda: PlackettLuce(torch.zeros(9)).mean, NotImplementedError, "8 items; was given 9"),
        (lambda: PlackettLuce(torch.zeros(9)).enumerate_support(), NotImplementedError, "8 items"),
        (
            lambda: kl_divergence(PlackettLuce(torch.zeros(9)), PlackettLuce(torch.zeros(9))),
            NotImplementedError,
            "KL divergence takes all n! orders, of up to 8 items",
        ),
        (
            lambda: kl_divergence(PlackettLuce(torch.zeros(3)), PlackettLuce(torch.zeros(4))),
            ValueError,
            r"\(3, 3\) .* \(4, 4\): expected the same event shape",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_expand_keeps_the_temperature():
    fn = PlackettLuce(LOGITS, torch.tensor([0.5, 1.0]).double(), straight_through=True).expand((3, 2))
    assert fn.temperature.shape == (3, 2) and fn.straight_through and fn.has_rsample
    assert PlackettLuce(LOGITS).expand((3,)).temperature is None

"""GumbelSinkhorn."""

import math
import pickle
from itertools import permutations

import pytest
import torch
from scipy.integrate import quad
from torch.distributions import Gumbel, kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.numerics.sinkhorn import sinkhorn

from ..statistics import assert_mean

GumbelSinkhorn = pre.distributions.GumbelSinkhorn
LOGITS = (torch.arange(9, dtype=torch.float64) * 1.7).sin().reshape(3, 3) * 2


def test_value_is_that_of_the_keys():
    fn = GumbelSinkhorn(0.4, LOGITS, num_iterations=7)
    torch.manual_seed(5)
    value = fn.sample((4,))
    torch.manual_seed(5)
    keys = LOGITS - pre.noise.standard_exponential(torch.Size((4, 3, 3)), LOGITS).log()
    torch.testing.assert_close(value, sinkhorn(keys / 0.4, 7).exp())


@pytest.mark.parametrize("n", [3, 30])
def test_finite_gradients_in_float32(n):
    logits = torch.randn(n, n, requires_grad=True)
    temperature = torch.tensor(0.01, requires_grad=True)
    value = GumbelSinkhorn(temperature, logits).rsample((20,))
    assert GumbelSinkhorn.support.check(value).all()
    assert value.isfinite().all()
    gradients = torch.autograd.grad((value * torch.randn(n, n)).sum(), [logits, temperature])
    assert all(g.isfinite().all() and (g != 0).any() for g in gradients)


def test_columns_after_many_iterations():
    value = GumbelSinkhorn(1.0, LOGITS, num_iterations=500).sample((100,))
    torch.testing.assert_close(
        value.sum(-2), torch.ones(100, 3, dtype=torch.float64), rtol=0, atol=1e-4
    )


def test_mode_is_the_best_matching():
    logits = torch.randn(2, 3, 4, 4)
    mode = GumbelSinkhorn(0.5, logits).mode
    assert mode.shape == logits.shape and mode.dtype == logits.dtype
    matrices = torch.stack([torch.eye(4)[list(p)] for p in permutations(range(4))])
    best = (matrices * logits[:, :, None]).sum((-2, -1)).amax(-1)
    torch.testing.assert_close((mode * logits).sum((-2, -1)), best)
    assert ((mode == 0) | (mode == 1)).all() and (mode.sum(-2) == 1).all() and (mode.sum(-1) == 1).all()


def test_kl_by_quadrature():
    """Of the keys: entries Gumbel(L / T, 1 / T) and Gumbel(M / S, 1 / S)."""
    t, s = 0.7, 1.3
    other = LOGITS.flip(0) * 0.5
    exact = 0.0
    for x, y in zip(LOGITS.flatten().tolist(), other.flatten().tolist(), strict=True):

        def integrand(u, x=x, y=y):
            def log_density(z, loc, rate):
                return math.log(rate) - rate * (z - loc) - math.exp(-rate * (z - loc))

            log_p = log_density(u, x / t, t)
            return math.exp(log_p) * (log_p - log_density(u, y / s, s))

        centre = x / t
        exact += quad(integrand, centre - 6 / t, centre + 40 / t, epsabs=1e-12, limit=200)[0]
    p, q = GumbelSinkhorn(t, LOGITS), GumbelSinkhorn(s, other)
    torch.testing.assert_close(kl_divergence(p, q).item(), exact, rtol=1e-8, atol=0)
    keys = kl_divergence(Gumbel(LOGITS / t, 1 / t), Gumbel(other / s, 1 / s)).sum()
    torch.testing.assert_close(kl_divergence(p, q), keys)
    torch.testing.assert_close(kl_divergence(p, p).item(), 0.0, rtol=0, atol=1e-12)


def test_kl_in_batches():
    t = torch.tensor([0.5, 1.0], dtype=torch.float64)
    p, q = GumbelSinkhorn(t, LOGITS), GumbelSinkhorn(1.0, torch.zeros(2, 1, 3, 3, dtype=torch.float64))
    kl = kl_divergence(p, q.expand((2, 2)))
    assert kl.shape == (2, 2)
    alone = kl_divergence(GumbelSinkhorn(0.5, LOGITS), GumbelSinkhorn(1.0, torch.zeros(3, 3).double()))
    torch.testing.assert_close(kl[1, 0], alone)


def test_kl_needs_one_function_of_the_keys():
    with pytest.raises(ValueError, match="5 and 20"):
        kl_divergence(GumbelSinkhorn(1.0, LOGITS, num_iterations=5), GumbelSinkhorn(1.0, LOGITS))


def test_law_at_a_low_temperature():
    """The matching of the largest keys; at n = 2 it is the sign of a sum of two logistic variables."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    value = GumbelSinkhorn(0.02, logits, num_iterations=100).sample((20_000,))
    # P(l + X > 0), X the sum of two logistic variables, l = 1.5.
    e = math.exp(1.5)
    exact = e * (e - 1 - 1.5) / (e - 1) ** 2
    matched = (value[:, 0, 0] > 0.5).double()
    assert_mean(matched[:, None], torch.tensor([exact]))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: GumbelSinkhorn(1.0, torch.zeros(3)), ValueError, r"\(3,\)"),
        (lambda: GumbelSinkhorn(1.0, torch.zeros(3, 2)), ValueError, r"\(3, 2\)"),
        (lambda: GumbelSinkhorn(1.0, LOGITS, num_iterations=0), ValueError, "num_iterations"),
        (lambda: GumbelSinkhorn(1.0, LOGITS).log_prob(LOGITS), NotImplementedError, "GumbelMaxReparam"),
        (lambda: GumbelSinkhorn(1.0, LOGITS).entropy(), NotImplementedError, "Use kl_divergence"),
        (lambda: GumbelSinkhorn(1.0, LOGITS).mean, NotImplementedError, "Average samples"),
        (lambda: GumbelSinkhorn(1.0, LOGITS).variance, NotImplementedError, "that of samples"),
        (
            lambda: kl_divergence(GumbelSinkhorn(1.0, LOGITS), GumbelSinkhorn(1.0, LOGITS[:1, :1])),
            ValueError,
            "expected the same event shape",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_keeps_the_iterations():
    fn = GumbelSinkhorn(1.0, LOGITS, num_iterations=3)
    assert fn.expand((2,)).num_iterations == 3
    assert pickle.loads(pickle.dumps(fn)).num_iterations == 3

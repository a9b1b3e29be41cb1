"""Entropies and divergences of Gamma and Dirichlet laws against mpmath, at all concentrations."""

import itertools

import mpmath as mp
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.numerics.gamma_divergence import excess_exponential, rest_divergence

Beta, Gamma, LogBeta, LogGamma, Dirichlet, LogDirichlet, Wishart, InverseWishart = (
    getattr(pre.distributions, name)
    for name in (
        *("Beta", "Gamma", "LogBeta", "LogGamma", "Dirichlet", "LogDirichlet"),
        *("Wishart", "InverseWishart"),
    )
)
CONCENTRATIONS = (1e-3, 0.5, 3.0, 7.9, 8.1, 1e3, 1e5, 1e8)
CLOSE = {torch.float64: 1e-11, torch.float32: 2e-6}
every_dtype = pytest.mark.parametrize("dtype", CLOSE)


def bregman(p, q):
    return mp.loggamma(q) - mp.loggamma(p) - (q - p) * mp.psi(0, p)


def gamma_exactly(a, c, rate_p, rate_q):
    return bregman(a, c) + c * mp.log(rate_p / rate_q) + a * (rate_q / rate_p - 1)


def dirichlet_exactly(p, q):
    return mp.fsum(map(bregman, p, q)) - bregman(mp.fsum(p), mp.fsum(q))


def entropy_exactly(p):
    total = mp.fsum(p)
    terms = (mp.loggamma(x) - (x - 1) * mp.psi(0, x) for x in p)
    return mp.fsum(terms) - mp.loggamma(total) + (total - len(p)) * mp.psi(0, total)


def close(found, exact, rel, abs_=0.0):
    assert found.item() == pytest.approx(float(exact), rel=rel, abs=abs_)


def numbers(*tensors):
    return [[mp.mpf(x) for x in t.flatten().tolist()] for t in tensors]


@every_dtype
@pytest.mark.parametrize("a", CONCENTRATIONS)
def test_gamma(a, dtype):
    """Of laws that are alike, and of some that are not; with the derivative in the concentration."""
    for ratio, rate in itertools.product((1.0, 1.001, 0.5, 3.0), (1.0, 1.001, 20.0)):
        if ratio == rate == 1.0:
            continue
        given = [torch.tensor(x, dtype=dtype) for x in (a, a * ratio, 1.0, rate)]
        given[0].requires_grad_()
        for cls in (Gamma, LogGamma):
            found = kl_divergence(cls(given[0], given[2]), cls(given[1], given[3]))
            (slope,) = torch.autograd.grad(found, given[0])
            with mp.workdps(60):
                p, q, r, s = (mp.mpf(x.item()) for x in given)
                exact = gamma_exactly(p, q, r, s)
                # (p - q) trigamma(p) + s / r - 1
                exact_slope = (p - q) * mp.psi(1, p) + s / r - 1
            close(found, exact, CLOSE[dtype])
            close(slope, exact_slope, CLOSE[dtype], 1e-3 * CLOSE[dtype])


@every_dtype
@pytest.mark.parametrize("a", CONCENTRATIONS)
def test_dirichlet(a, dtype):
    for b, ratio in itertools.product(CONCENTRATIONS, (1.001, 0.5)):
        p = torch.tensor([a, b, 2.5], dtype=dtype)
        q = p * torch.tensor([ratio, 1.001, 1.0], dtype=dtype)
        with mp.workdps(60):
            vectors = numbers(p, q)
            exact, entropy = dirichlet_exactly(*vectors), entropy_exactly(vectors[0])
            pairs = [x[:2] for x in vectors]
            of_pairs, entropy_of_pair = dirichlet_exactly(*pairs), entropy_exactly(pairs[0])
        for cls in (Dirichlet, LogDirichlet):
            close(kl_divergence(cls(p), cls(q)), exact, CLOSE[dtype])
        for cls in (Beta, LogBeta):
            close(kl_divergence(cls(*p[:2]), cls(*q[:2])), of_pairs, CLOSE[dtype])
        close(Dirichlet(p).entropy(), entropy, CLOSE[dtype], CLOSE[dtype])
        close(Beta(*p[:2]).entropy(), entropy_of_pair, CLOSE[dtype], CLOSE[dtype])


def test_gradients_of_entropy_and_divergence():
    """Where torch's own have digits."""
    p = torch.tensor([0.4, 9.0, 7.0], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.7, 5.0, 12.0], dtype=torch.float64, requires_grad=True)
    for ours, theirs in ((Dirichlet, dist.Dirichlet), (Beta, dist.Beta)):
        parts = [x if ours is Dirichlet else x[:2] for x in (p, q)]
        pairs = [[f(x) if ours is Dirichlet else f(*x) for x in parts] for f in (ours, theirs)]
        values = [kl_divergence(*pair) + pair[0].entropy() for pair in pairs]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*(torch.autograd.grad(x, (p, q)) for x in values))
    assert torch.autograd.gradgradcheck(lambda p, q: rest_divergence(p, q).sum(), (p, q))
    assert torch.autograd.gradgradcheck(excess_exponential, p.detach().sub(0.5).requires_grad_())


def test_gradient_of_the_entropy_of_large_concentrations():
    """-1 / 2a at a = b, up to the order of 1 / a^2."""
    a = torch.tensor(1e7, requires_grad=True)
    (slope,) = torch.autograd.grad(Beta(a, a).entropy(), a)
    assert slope.item() == pytest.approx(-0.5e-7, rel=1e-5)


@pytest.mark.parametrize(("cls", "theirs"), [(Gamma, dist.Gamma), (Beta, dist.Beta)])
def test_to_and_from_the_classes_of_pyro(cls, theirs):
    p, q = (torch.tensor(x) for x in (1e7, 1.001e7))
    expected = kl_divergence(cls(p, 2.0), cls(q, 2.0))
    assert kl_divergence(cls(p, 2.0), theirs(q, 2.0)) == expected
    assert kl_divergence(theirs(p, 2.0), cls(q, 2.0)) == expected


def test_vectors_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match="event shape"):
        kl_divergence(Dirichlet(torch.ones(1)), Dirichlet(torch.ones(3)))


@every_dtype
@pytest.mark.parametrize("df", [3.0, 20.0, 1e6])
def test_matrices(df, dtype):
    eye = torch.eye(2, dtype=dtype)
    given = [torch.tensor(x, dtype=dtype) for x in (df, df * 1.001)]
    with mp.workdps(60):
        (n,), (m,) = numbers(*given)
        halves = [(n / 2, m / 2), ((n - 1) / 2, (m - 1) / 2)]
        exact = mp.fsum(bregman(*x) for x in halves)
        shared = mp.log(mp.pi) / 2 + mp.fsum(mp.loggamma(x) for x, _ in halves) + n
        slope = mp.fsum(mp.psi(0, x) for x, _ in halves)
        entropies = (shared - (n / 2 - s) * slope + s * 2 * mp.log(2) for s in (1.5, -1.5))
        for cls, name, entropy in zip(
            (Wishart, InverseWishart), ("covariance_matrix", "scale_matrix"), entropies, strict=True
        ):
            p, q = (cls(x, **{name: eye}) for x in given)
            close(kl_divergence(p, q), exact, CLOSE[dtype])
            close(p.entropy(), entropy, CLOSE[dtype], CLOSE[dtype])

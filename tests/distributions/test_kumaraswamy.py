"""Kumaraswamy: small and large concentrations, values at both ends."""

import mpmath
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre

Kumaraswamy = pre.distributions.Kumaraswamy
CONCENTRATIONS = [1e-3, 0.2, 1.0, 3.0, 50.0, 1e4]
VALUES = [1e-30, 1e-6, 0.01, 0.3, 0.7, 0.99, 1 - 6e-8]
dtypes = pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float64, 2e-14), (torch.float32, 3e-6)]
)
every_a = pytest.mark.parametrize("a", CONCENTRATIONS)


def test_small_concentrations_in_float32():
    """Kumaraswamy(.2, .2): no draw is 1, and every density is finite."""
    leaves = [torch.tensor(0.2, requires_grad=True) for _ in range(2)]
    fn = Kumaraswamy(*leaves)
    value = fn.rsample((100_000,))
    assert (value > 0).all() and (value < 1).all()
    log_prob = fn.log_prob(value.detach())
    assert log_prob.isfinite().all()
    for output in (value, log_prob):
        assert all(g.isfinite() for g in torch.autograd.grad(output.sum(), leaves))


@dtypes
@every_a
def test_against_mpmath(a, dtype, precision):
    for b in CONCENTRATIONS:
        a_, b_ = (torch.tensor(x, dtype=dtype, requires_grad=True) for x in (a, b))
        fn = Kumaraswamy(a_, b_)
        for x in VALUES:
            value = torch.tensor(x, dtype=dtype)
            log_prob = fn.log_prob(value)
            got = [log_prob, *torch.autograd.grad(log_prob, [a_, b_]), fn.cdf(value)]
            got += torch.autograd.grad(fn._at(value), [a_, b_])
            with mpmath.workdps(60):
                p, q, v = (mpmath.mpf(y.item()) for y in (a_, b_, value))
                log_v, power = mpmath.log(v), v**p
                log_rest = mpmath.log1p(-power)
                pull = (q - 1) * power / (1 - power) * log_v
                terms = [mpmath.log(p * q), (p - 1) * log_v, (q - 1) * log_rest]
                # Each with the size of what it is the sum of.
                exact = [
                    (sum(terms), max(1, *map(abs, terms))),
                    (1 / p + log_v - pull, max(1 / p, abs(log_v), abs(pull))),
                    (1 / q + log_rest, max(1 / q, abs(log_rest))),
                    (-mpmath.expm1(q * log_rest), None),
                    (-v * log_v / p, None),
                    (v / (p * q) * (1 - power) * log_rest / power, None),
                ]
            for i, (ours, (expected, scale)) in enumerate(zip(got, exact, strict=True)):
                size = abs(expected) if scale is None else scale
                assert abs(ours.item() - expected) <= precision * size + 1e-36, (i, b, x)


@dtypes
@every_a
def test_moments_against_mpmath(a, dtype, precision):
    for b in CONCENTRATIONS:
        fn = Kumaraswamy(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype))
        with mpmath.workdps(60):
            p, q = mpmath.mpf(fn.concentration1.item()), mpmath.mpf(fn.concentration0.item())
            mean, square = (q * mpmath.beta(1 + n / p, q) for n in (1, 2))
            harmonic = mpmath.digamma(q + 1) + mpmath.euler
            entropy = 1 - 1 / q + (1 - 1 / p) * harmonic - mpmath.log(p * q)
        if mean > 1e-30:
            assert fn.mean.item() == pytest.approx(float(mean), rel=10 * precision)
        variance = float(square - mean**2)
        if variance > 1e-30:
            # Between two near equal curvatures, of relative size b, digits are lost.
            loss = 50 * max(1.0, 1 / b, 1 / a)
            assert fn.variance.item() == pytest.approx(variance, rel=loss * precision)
        scale = max(1.0, abs(float(entropy)))
        assert fn.entropy().item() == pytest.approx(float(entropy), abs=precision * scale)


def test_mode():
    a = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    b = torch.tensor([2.0, 0.5, 1.0, 4.0], dtype=torch.float64)
    fn = Kumaraswamy(a, b)
    mode = fn.mode
    assert mode.isnan().tolist() == [True, True, True, False]
    near = fn.log_prob(mode[3] + torch.tensor([-1e-3, 0.0, 1e-3], dtype=torch.float64)[:, None])[:, 3]
    assert near.argmax() == 1


def test_ends_are_as_the_nearest_floats_inside():
    fn = Kumaraswamy(0.5, 0.5)
    log_prob = fn.log_prob(torch.tensor([0.0, 1.0]))
    assert log_prob.isfinite().all() and (log_prob > 5).all()
    assert Kumaraswamy(1.0, 1.0).log_prob(torch.tensor([0.0, 0.5, 1.0])).abs().max() < 1e-6


def mean_difference(p, q):
    """The divergence by its definition: a mean of log densities, with 30 digits."""
    with mpmath.workdps(30):
        a, b, c, d = map(mpmath.mpf, (*p, *q[1:]))

        def integrand(s):  # over 1 - F(x) = exp(-s)
            rest, power = mpmath.exp(-s / b), -mpmath.expm1(-s / b)
            log_x = mpmath.log(power) / a
            log_p = mpmath.log(a * b) + (a - 1) * log_x - (b - 1) * s / b
            near = rest < 1e-20  # of 1 - x ** k, the first term
            if q[0] is Kumaraswamy:
                log_rest = mpmath.log(rest * c / a if near else -mpmath.expm1(c * log_x))
                log_q = mpmath.log(c * d) + (c - 1) * log_x + (d - 1) * log_rest
            else:
                log_rest = mpmath.log(rest / a if near else -mpmath.expm1(log_x))
                log_q = (c - 1) * log_x + (d - 1) * log_rest - mpmath.log(mpmath.beta(c, d))
            return mpmath.exp(-s) * (log_p - log_q)

        ends = [0, 1e-30, 1e-20, 1e-12, 1e-6, 1e-3, 0.1, 1, 3, 10, 30, 60, 90, 200]
        return float(mpmath.quad(integrand, list(map(mpmath.mpf, ends))))


@pytest.mark.parametrize("q", [(Kumaraswamy, 2.0, 5.0), (dist.Beta, 0.4, 0.3), (dist.Beta, 2.0, 5.0)])
@pytest.mark.parametrize("p", [(2.0, 3.0), (0.1, 0.2), (30.0, 50.0), (5.0, 0.3)])
def test_kl_against_its_definition(p, q):
    make, *concentrations = q
    double = [torch.tensor(x, dtype=torch.float64) for x in (*p, *concentrations)]
    single = [x.float() for x in double]
    exact = mean_difference(p, q)
    for (a, b, c, d), precision in ((double, 1e-12), (single, 1e-5)):
        found = kl_divergence(Kumaraswamy(a, b), make(c, d)).item()
        assert found == pytest.approx(exact, rel=precision, abs=precision)


def test_kl_to_torchs_class_and_in_batches():
    a, b = torch.tensor([[0.5], [2.0]]), torch.tensor([1.0, 3.0, 0.2])
    p, q = Kumaraswamy(a, b), dist.Kumaraswamy(torch.tensor(2.0), torch.tensor(3.0))
    found = kl_divergence(p, q)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, kl_divergence(p, Kumaraswamy(2.0, 3.0)))
    torch.testing.assert_close(found[1, 1], torch.zeros(()), atol=1e-6, rtol=0)

"""Normals sent to the simplex."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Normal, kl_divergence

from pyro_reparam_ext.distributions import InvertibleGaussian

from ..statistics import assert_mean

LOC = torch.tensor([0.5, -0.3, 1.0], dtype=torch.float64)
SCALE = torch.tensor([0.8, 1.2, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("delta", [1.0, 0.2])
def test_density_by_change_of_variables(delta):
    temperature = 0.7

    def to_value(noise):
        weights = torch.cat(
            [((LOC + SCALE * noise) / temperature).exp(), torch.tensor([delta], dtype=noise.dtype)]
        )
        return weights / weights.sum()

    fn = InvertibleGaussian(temperature, LOC, SCALE, delta=delta)
    noise = torch.tensor([0.4, -1.1, 0.2], dtype=torch.float64)
    jacobian = torch.func.jacfwd(lambda e: to_value(e)[:-1])(noise)
    expected = Normal(0.0, 1.0).log_prob(noise).sum() - jacobian.slogdet()[1]
    torch.testing.assert_close(fn.log_prob(to_value(noise)), expected)
    torch.manual_seed(0)
    drawn = fn.rsample()
    torch.manual_seed(0)
    torch.testing.assert_close(drawn, to_value(torch.randn(3, dtype=torch.float64)))


@pytest.mark.parametrize("temperature", [0.1, 0.01, 0.001])
def test_density_of_own_samples_in_float32(temperature):
    """At many components far below what floats hold, from the noise, in float64."""
    loc = (torch.arange(999) * 1.7).sin()
    fn = InvertibleGaussian(temperature, loc, torch.ones(999))
    torch.manual_seed(1)
    value = fn.sample((5,))
    torch.manual_seed(1)
    noise = torch.randn(5, 999).double()
    x = torch.cat([(loc + noise) / temperature, torch.zeros(5, 1)], -1)
    log_y = x.log_softmax(-1)
    assert (log_y < -50).any()  # compressed
    normal = (Normal(0.0, 1.0).log_prob(noise) - torch.tensor(1 / temperature).log()).sum(-1)
    torch.testing.assert_close(fn.log_prob(value).double(), normal - log_y.sum(-1), rtol=1e-6, atol=0)
    torch.testing.assert_close(value.double(), x.softmax(-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_sampled_divergence(dtype, temperature):
    """Value and pathwise gradients of E[log q - log p], against the closed form."""
    draws = 20_000
    p = InvertibleGaussian(temperature, torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype))
    one = [LOC.to(dtype).requires_grad_(), SCALE.to(dtype).requires_grad_()]
    exact = kl_divergence(InvertibleGaussian(temperature, *one), p)
    gradients = torch.autograd.grad(exact, one)
    many = [x.detach().expand(draws, 3).clone().requires_grad_() for x in one]
    q = InvertibleGaussian(temperature, *many)
    value = q.rsample()
    ratio = q.log_prob(value) - p.log_prob(value)
    assert_mean(ratio.unsqueeze(-1), exact.unsqueeze(-1))
    sampled = torch.autograd.grad(ratio.sum(), many)
    assert_mean(torch.cat(sampled, -1), torch.cat(gradients))


def test_divergence_is_that_of_the_normals():
    p = InvertibleGaussian(0.5, LOC, SCALE)
    q = InvertibleGaussian(0.5, LOC.flip(-1), 2 * SCALE)
    expected = kl_divergence(Normal(LOC, SCALE), Normal(LOC.flip(-1), 2 * SCALE)).sum(-1)
    torch.testing.assert_close(kl_divergence(p, q), expected)


def test_divergence_between_temperatures():
    """A change of temperature and delta is one of location and scale."""
    p = InvertibleGaussian(0.5, LOC, SCALE, delta=0.3)
    log_delta = torch.tensor(0.3, dtype=torch.float64).log()
    same = InvertibleGaussian(2.0, 4 * LOC - 2 * log_delta, 4 * SCALE)
    torch.testing.assert_close(kl_divergence(p, same), torch.zeros((), dtype=torch.float64))
    value = p.sample((5,))
    torch.testing.assert_close(same.log_prob(value), p.log_prob(value))


def test_no_divergence_to_discrete():
    fn = InvertibleGaussian(0.5, LOC, SCALE)
    for other in (dist.OneHotCategorical(torch.ones(4)), dist.Categorical(torch.ones(4))):
        with pytest.raises(NotImplementedError, match="Give the model an InvertibleGaussian"):
            kl_divergence(fn, other)


def test_mode_and_unknown_moments():
    fn = InvertibleGaussian(0.1, LOC, SCALE)
    torch.testing.assert_close(fn.mode, torch.eye(4, dtype=torch.float64)[2])
    heavy = InvertibleGaussian(0.1, LOC, SCALE, delta=1e5)  # 0.1 log(1e5) = 1.15 is above 1.0
    torch.testing.assert_close(heavy.mode, torch.eye(4, dtype=torch.float64)[3])
    for moment in ("mean", "variance"):
        with pytest.raises(NotImplementedError, match="samples"):
            getattr(fn, moment)
    with pytest.raises(NotImplementedError, match="InvertibleGaussian: the entropy .* samples"):
        fn.entropy()


def test_scale_as_a_number():
    fn = InvertibleGaussian(0.5, LOC, 2)
    torch.testing.assert_close(fn.scale, torch.full_like(LOC, 2.0))


@pytest.mark.parametrize("loc", [torch.zeros(0), torch.zeros(2, 0), torch.tensor(0.3)])
def test_needs_two_classes(loc):
    with pytest.raises(ValueError, match="K >= 2 classes, was given"):
        InvertibleGaussian(0.5, loc, 1.0)


def test_divergence_needs_the_same_classes():
    one = InvertibleGaussian(0.5, LOC[:1], 1.0)
    with pytest.raises(ValueError, match="expected the same event shape"):
        kl_divergence(one, InvertibleGaussian(0.5, LOC, 1.0))


@pytest.mark.parametrize("name, wrong", [("scale", -1.0), ("delta", 0.0)])
def test_validates_its_other_parameters(name, wrong):
    given = {"scale": SCALE, "delta": torch.tensor(1.0)}
    given[name] = torch.full_like(given[name], wrong)
    with pytest.raises(ValueError, match=name):
        InvertibleGaussian(0.5, LOC, **given, validate_args=True)


def test_autoguide_of_a_site():
    """A normal guide is of the same family: it becomes the prior."""

    def model():
        loc, scale = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5])
        pyro.sample("y", InvertibleGaussian(0.01, loc, scale))

    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    assert torch.tensor([svi.step() for _ in range(20)]).isfinite().all()
    with torch.no_grad():
        guide.locs.y_unconstrained.copy_(torch.tensor([100.0, -100.0]))
        guide.scales.y_unconstrained.copy_(torch.tensor([50.0, 50.0]))
    assert abs(Trace_ELBO(num_particles=10).loss(model, guide)) < 1e-2

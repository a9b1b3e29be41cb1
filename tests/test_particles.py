"""Particles that are drawn together: each has the law of one, and their mean less noise."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.particles import SCHEMES, Joint, scheme_of

from .compiled.steps import assert_same_steps
from .sampling import gradients
from .slow import one_in
from .statistics import assert_mean

DEPENDENT = sorted(SCHEMES.keys() - {"independent", "fixed"})
DOUBLE = torch.float64
COUNT = 8


def double(*x):
    return torch.tensor(x, dtype=DOUBLE)


def positive(name, *x):
    return pyro.param(name, double(*x), dist.constraints.positive)


def guide():
    """Noise of three kinds, inside and outside of a plate, one site moved by another."""
    loc = pyro.param("loc", double(0.3, -0.2))
    z = pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=torch.eye(2, dtype=DOUBLE)))
    rate = pyro.sample("rate", pre.distributions.Gamma(positive("a", 2.0)[0], double(1.5)[0]))
    with pyro.plate("data", 3):
        scale = positive("s", 0.4, 0.5, 0.6)
        pyro.sample("w", dist.Laplace(z[..., 0] + 0.5 * rate, scale))


def model():
    z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0).to_event(1))
    pyro.sample("rate", dist.Gamma(double(1.0)[0], double(1.0)[0]))
    with pyro.plate("data", 3):
        pyro.sample("w", dist.Normal(z[..., 1], 1.0))


NAMES = ["loc", "a", "s"]


def exact():
    """The gradient of the divergence in closed form, in unconstrained parameters."""
    loc = double(0.3, -0.2).requires_grad_()
    log_a, log_s = double(2.0).log().requires_grad_(), double(0.4, 0.5, 0.6).log().requires_grad_()
    a, s, rate = log_a.exp(), log_s.exp(), 1.5
    vector = 0.5 * loc.square().sum()
    gamma = torch.distributions.kl_divergence(
        dist.Gamma(a, double(rate)), dist.Gamma(double(1.0), double(1.0))
    ).sum()
    # w - z[1] = z[0] - z[1] + rate / 2 + Laplace, all independent of each other.
    mean = loc[0] - loc[1] + 0.5 * a / rate
    square = mean.square() + 2 + 0.25 * a / rate**2 + 2 * s.square()
    entropy = 1 + (2 * s).log()
    loss = vector + gamma + (0.5 * square - entropy).sum()
    return torch.cat(torch.autograd.grad(loss, [loc, log_a, log_s]))


def elbo_of(particles, mode=True, num_particles=COUNT, estimators=None):
    bound = {"max_plate_nesting": 1 + (mode is not False)}
    return pre.TraceEstimator_ELBO(
        estimators, num_particles=num_particles, particles=particles, vectorize_particles=mode, **bound
    )


@pytest.mark.parametrize("mode", one_in(3, [True, "vmap", False]))
@pytest.mark.parametrize("particles", DEPENDENT)
def test_unbiased(particles, mode):
    elbo = elbo_of(particles, mode)
    elbo.loss_and_grads(model, guide)
    assert_mean(gradients(elbo, model, guide, NAMES, 400)[:, 1:], exact())


@pytest.mark.parametrize("particles", sorted(set(DEPENDENT) - {"orthogonal"}))
def test_less_noise_in_the_mean(particles):
    noise = []
    for scheme in ("independent", particles):
        pyro.clear_param_store()
        elbo = elbo_of(scheme)
        elbo.loss_and_grads(model, guide)
        noise.append(gradients(elbo, model, guide, ["loc"], 300)[:, 1:].var(0).sum())
    assert noise[1] < 0.8 * noise[0]


@pytest.mark.parametrize("particles", DEPENDENT)
def test_each_particle_has_the_law_of_one(particles):
    """Normal numbers: the marginal law of one coordinate, and of the sum of two."""
    torch.manual_seed(0)
    scheme = scheme_of(particles, COUNT)
    drawn = torch.stack([scheme.normals(COUNT, 5, double(0.0)[0]) for _ in range(2000)])
    assert drawn.shape == (2000, COUNT, 5) and drawn.isfinite().all()
    for x in (drawn[:, 3, 2], (drawn[:, 0, 1] - drawn[:, 0, 4]) / math.sqrt(2)):
        assert stats.kstest(x.numpy(), "norm").pvalue > 1e-4


def test_strata():
    """One particle in each part of equal probability, in every dim."""
    torch.manual_seed(0)
    for particles in ("latin_hypercube", "sobol"):
        drawn = scheme_of(particles, COUNT).normals(COUNT, 7, double(0.0)[0])
        strata = (torch.special.ndtr(drawn) * COUNT).long().sort(0).values
        assert torch.equal(strata, torch.arange(COUNT)[:, None].expand(COUNT, 7))


def test_pairs_and_right_angles():
    torch.manual_seed(0)
    pairs = scheme_of("antithetic", COUNT).normals(COUNT, 3, double(0.0)[0])
    assert torch.equal(pairs[: COUNT // 2], -pairs[COUNT // 2 :])
    for dims in (20, 3):
        drawn = scheme_of("orthogonal", COUNT).normals(COUNT, dims, double(0.0)[0])
        block = drawn[: min(dims, COUNT)]
        angles = block @ block.mT
        torch.testing.assert_close(angles, angles.diagonal().diag_embed(), rtol=0, atol=1e-12)


def test_a_linear_cost_has_no_noise_by_pairs():
    """Of the entropy and a linear cost, the gradient in the location is the same at every draw."""

    def linear():
        z = pyro.sample("z", dist.Normal(double(0.0)[0], double(1.0)[0]).mask(False))
        pyro.factor("cost", 2.0 * z)

    def normal():
        z = pyro.sample("z", dist.Normal(pyro.param("m", double(0.5)[0]), positive("t", 0.7)[0]))
        return z

    elbo = elbo_of("antithetic")
    elbo.loss_and_grads(linear, normal)
    rows = gradients(elbo, linear, normal, ["m", "t"], 5)[:, 1:]
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))


def test_all_dims_are_numbered_once():
    """From the second gradient on all sites draw from one block: no dim twice."""
    elbo = elbo_of("sobol")
    elbo.loss_and_grads(model, guide)
    scheme = elbo._scheme
    assert isinstance(scheme, Joint) and scheme.dims == 2 + 1 + 3
    elbo.loss_and_grads(model, guide)
    assert scheme.dims == 6


def test_a_discrete_site_beside():
    def coin():
        b = pyro.sample("b", dist.Bernoulli(logits=pyro.param("logit", double(0.4)[0])))
        pyro.sample("z", dist.Normal(pyro.param("m", double(0.5)[0]) + b, double(1.0)[0]))

    def cost():
        b = pyro.sample("b", dist.Bernoulli(double(0.3)[0]))
        pyro.sample("z", dist.Normal(-b, double(1.0)[0]))

    elbo = elbo_of("sobol", estimators={"b": pre.ScoreFunction()})
    elbo.loss_and_grads(cost, coin)
    logit, m = double(0.4)[0].requires_grad_(), double(0.5)[0].requires_grad_()
    p = logit.sigmoid()
    divergence = torch.distributions.kl_divergence(dist.Bernoulli(p), dist.Bernoulli(double(0.3)[0]))
    loss = divergence + 0.5 * (p * (m + 2).square() + (1 - p) * m.square())
    truth = torch.stack(torch.autograd.grad(loss, [logit, m]))
    assert_mean(gradients(elbo, cost, coin, ["logit", "m"], 1000)[:, 1:], truth)
    with pytest.raises(pre.EstimatorError, match="'b': LeaveOneOut needs particles that are drawn"):
        elbo_of("sobol", estimators={"b": pre.LeaveOneOut()}).loss_and_grads(cost, coin)


@pytest.mark.parametrize("particles", DEPENDENT)
def test_captured(particles):
    assert_same_steps(lambda: (model, guide, elbo_of(particles)), tolerance=1e-9)


@pytest.mark.parametrize("particles", ["antithetic", "sobol"])
def test_in_a_study(particles):
    study = pre.gradient_study(
        model,
        guide,
        estimators={"plain": elbo_of("independent"), "together": elbo_of(particles)},
        num_draws=200,
        progress=False,
    )
    summary = study.summary()
    assert summary.variance["together"] < summary.variance["plain"]
    assert summary.bias_z["together"] < 5


def test_errors():
    with pytest.raises(pre.EstimatorError, match="even number. Set num_particles=6"):
        elbo_of("antithetic", num_particles=5)
    with pytest.raises(pre.EstimatorError, match="several particles"):
        elbo_of("sobol", num_particles=1)
    with pytest.raises(pre.EstimatorError, match="particles='fixed' leaves none"):
        elbo_of("fixed", estimators="auto").loss_and_grads(model, guide)
    with pytest.raises(pre.EstimatorError, match="must be one of 'independent', 'antithetic'"):
        elbo_of("halton")

    def direction():
        pyro.sample(
            "z", pre.distributions.VonMisesFisher(double(1.0, 0.0), pyro.param("k", double(2.0)[0]))
        )

    def uniform():
        pyro.sample("z", pre.distributions.VonMisesFisher(double(1.0, 0.0), double(1.0)[0]))

    with pytest.raises(pre.EstimatorError, match="site 'z': particles='sobol'.*VonMisesFisher"):
        elbo_of("sobol").loss_and_grads(uniform, direction)


@pytest.mark.parametrize("particles", sorted(SCHEMES.keys() - {"independent"}))
def test_a_loop_takes_the_rows_of_what_is_drawn_at_once(particles):
    found = []
    for mode in (True, False):
        pyro.clear_param_store()
        elbo = elbo_of(particles, mode)
        torch.manual_seed(1)
        if particles != "fixed":  # whose first gradient is the one that counts
            elbo.loss_and_grads(model, guide)
            torch.manual_seed(2)
        found.append(gradients(elbo, model, guide, NAMES, 3))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("particles", DEPENDENT)
def test_particles_that_sample_other_sites(particles):
    """Which sites a particle has, and how many numbers they take, depends on its own noise."""

    def branching():
        loc = pyro.param("loc", double(0.3, -0.2))
        z = pyro.sample("z", dist.Normal(loc[0], 1.0))
        shape = (4,) if z.item() > 0 else (1,)
        pyro.sample("w", dist.Normal(loc[1], 1.0).expand(shape).to_event(1))
        pyro.sample("last", dist.Normal(loc[1], 1.0))

    def prior():
        z = pyro.sample("z", dist.Normal(double(0.0)[0], 1.0))
        shape = (4,) if z.item() > 0 else (1,)
        w = pyro.sample("w", dist.Normal(double(0.0)[0], 1.0).expand(shape).to_event(1))
        pyro.sample("last", dist.Normal(double(0.0)[0], 1.0))
        pyro.factor("more", -w[0] * z)

    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(
        {"z": pre.ScoreFunction()},
        num_particles=COUNT,
        particles=particles,
        vectorize_particles=False,
        max_plate_nesting=0,
    )
    elbo.loss_and_grads(prior, branching)
    loc = double(0.3, -0.2).requires_grad_()
    below = dist.Normal(loc[0], 1.0).cdf(double(0.0)[0])
    # E[z^2]/2 + loc[1]^2/2 for each number of w, and the last + E[z] loc[1]
    loss = 0.5 * loc[0].square() + (5 - 3 * below) * 0.5 * loc[1].square() + loc[0] * loc[1]
    (exact,) = torch.autograd.grad(loss, loc)
    assert_mean(gradients(elbo, prior, branching, ["loc"], 400)[:, 1:], exact)


def test_another_number_of_particles_later():
    for particles, count, reason in (
        ("antithetic", 5, "even number"),
        ("sobol", 1, "several particles"),
        ("fixed", 6, "8 particles for good"),
    ):
        pyro.clear_param_store()
        elbo = elbo_of(particles)
        elbo.loss_and_grads(model, guide)
        elbo.num_particles = count
        with pytest.raises(pre.EstimatorError, match=reason):
            elbo.loss_and_grads(model, guide)
    elbo = elbo_of("antithetic")
    elbo.loss_and_grads(model, guide)
    elbo.num_particles = 6
    elbo.loss_and_grads(model, guide)


def test_more_dims_than_there_are_directions():
    class Few(Joint):
        name, most = "few", 4

        def normals(self, count, dims, like):
            assert dims <= 4
            return torch.randn(count, dims, dtype=DOUBLE)

    scheme = Few()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            source = scheme.source(COUNT, -1)
            blocks = [scheme.take(start, 3, source, double(0.0)[0]) for start in (0, 3, 6)]
    assert [block.shape for block in blocks] == [(COUNT, 3)] * 3
    said = {str(w.message) for w in caught}
    assert len(said) == 2 and all("4 are drawn together" in text for text in said)


def test_autoguides():
    prior = dist.Normal(torch.zeros(4, dtype=DOUBLE), 1.0).to_event(1)

    def data():
        z = pyro.sample("z", prior)
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=double(1.0, 2.0, -1.0, 0.0))

    for make in (
        pyro.infer.autoguide.AutoNormal,
        pyro.infer.autoguide.AutoMultivariateNormal,
        pyro.infer.autoguide.AutoLowRankMultivariateNormal,
    ):
        pyro.clear_param_store()
        auto = make(data)
        auto()
        auto = auto.double()
        for particles in DEPENDENT:
            loss = elbo_of(particles).loss_and_grads(data, auto)
            assert math.isfinite(loss)


def linear_gaussian():
    """A posterior that a mean-field guide has: the columns of the design are orthogonal."""
    x = torch.linalg.qr(torch.arange(40.0, dtype=DOUBLE).reshape(10, 4).sin())[0]

    def data():
        z = pyro.sample("z", dist.Normal(torch.zeros(4, dtype=DOUBLE), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z @ x.T, 1.0).to_event(1), obs=torch.ones(10, dtype=DOUBLE))

    return data, x.T @ torch.ones(10, dtype=DOUBLE) / 2, torch.full((4,), 0.5, dtype=DOUBLE).sqrt()


def test_fixed_noise_is_a_deterministic_objective():
    """L-BFGS finds its minimum, which is that of the ELBO up to the error of so many draws."""
    data, mean, sd = linear_gaussian()
    torch.manual_seed(0)
    auto = pyro.infer.autoguide.AutoNormal(data)
    auto()
    auto = auto.double()
    elbo = elbo_of("fixed", num_particles=400)
    first = [elbo.differentiable_loss(data, auto) for _ in range(3)]
    assert first[0] == first[1] == first[2]
    optimizer = torch.optim.LBFGS(auto.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = elbo.differentiable_loss(data, auto)
        loss.backward()
        return loss

    optimizer.step(closure)
    closure()
    assert all(p.grad.abs().max() < 1e-4 for p in auto.parameters())
    torch.testing.assert_close(auto.scales.z.detach(), sd, rtol=0.15, atol=0)
    assert ((auto.locs.z.detach() - mean).abs() < 5 * sd / 400**0.5).all()


def test_a_study_calls_fixed_noise_biased():
    study = pre.gradient_study(
        model,
        guide,
        estimators={"plain": elbo_of("independent"), "fixed": elbo_of("fixed")},
        num_draws=100,
        progress=False,
    )
    summary = study.summary()
    assert not summary.unbiased["fixed"] and summary.unbiased["plain"]
    assert summary.variance["fixed"] < 1e-20 and study.best().label == "plain"

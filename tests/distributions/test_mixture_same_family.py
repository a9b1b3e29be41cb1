"""MixtureSameFamily: each family of components, several coordinates, tails, errors."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import MixtureSameFamily, pathwise_at
from pyro_reparam_ext.distributions.rules.tails import register_tails

from ..slow import one_in
from ..statistics import assert_follows, assert_mean
from .families.mixtures import Frozen

LOGITS = (0.4, -0.3, 0.1)
LOCS, SCALES, DFS = (-0.5, 0.8, 1.5), (0.7, 1.2, 0.9), (3.0, 8.0, 2.5)
SHAPES, RATES = (0.8, 2.5, 4.0), (1.0, 0.5, 2.0)

# Name: components, scipy's component, parameters, relative error.
FAMILIES = {
    "Normal": (dist.Normal, stats.norm, {"loc": LOCS, "scale": SCALES}, 1e-6),
    "Laplace": (dist.Laplace, stats.laplace, {"loc": LOCS, "scale": SCALES}, 1e-6),
    "Cauchy": (dist.Cauchy, stats.cauchy, {"loc": LOCS, "scale": SCALES}, 1e-6),
    "Logistic": (dist.Logistic, stats.logistic, {"loc": LOCS, "scale": SCALES}, 1e-6),
    "Gumbel": (dist.Gumbel, stats.gumbel_r, {"loc": LOCS, "scale": SCALES}, 1e-6),
    "Exponential": (dist.Exponential, lambda r: stats.expon(scale=1 / r), {"rate": RATES}, 1e-6),
    "LogNormal": (
        dist.LogNormal,
        lambda m, s: stats.lognorm(s, scale=np.exp(m)),
        {"loc": LOCS, "scale": SCALES},
        1e-6,
    ),
    "Uniform": (
        dist.Uniform,
        lambda a, b: stats.uniform(a, b - a),
        {"low": (-1.0, 0.0, 0.3), "high": (1.0, 1.5, 0.9)},
        1e-6,
    ),
    "InverseGaussian": (
        pre.distributions.InverseGaussian,
        lambda m, c: stats.invgauss(m / c, scale=c),
        {"loc": SHAPES, "concentration": RATES},
        1e-6,
    ),
    "StudentT": (
        pre.distributions.StudentT,
        stats.t,
        {"df": DFS, "loc": LOCS, "scale": SCALES},
        1e-6,
    ),
    "StudentT of torch": (
        dist.StudentT,
        stats.t,
        {"df": DFS, "loc": LOCS, "scale": SCALES},
        1e-6,
    ),
    "Gamma": (
        pre.distributions.Gamma,
        lambda a, r: stats.gamma(a, scale=1 / r),
        {"concentration": SHAPES, "rate": RATES},
        1e-6,
    ),
    "Beta": (
        pre.distributions.Beta,
        stats.beta,
        {"concentration1": SHAPES, "concentration0": (1.5, 3.0, 2.0)},
        1e-6,
    ),
    # torch's velocities of Gamma and Beta draws are approximations.
    "Gamma of torch": (
        dist.Gamma,
        lambda a, r: stats.gamma(a, scale=1 / r),
        {"concentration": SHAPES, "rate": RATES},
        2e-3,
    ),
    "Beta of torch": (
        dist.Beta,
        stats.beta,
        {"concentration1": SHAPES, "concentration0": (1.5, 3.0, 2.0)},
        1e-2,
    ),
}
every_family = pytest.mark.parametrize("name", FAMILIES)


def frozen(name, logits, parameters):
    rows = zip(*parameters.values(), strict=True)
    return Frozen(logits, [FAMILIES[name][1](*row) for row in rows])


def rows_of(values, draws):
    """One copy for each draw, so that the gradients of draws stay apart."""
    return torch.tensor(values, dtype=torch.float64).expand(draws, 3).clone().requires_grad_()


@every_family
def test_velocity_in_every_parameter_of_every_component(name):
    make, _, parameters, precision = FAMILIES[name]
    x = frozen(name, LOGITS, parameters).ppf(np.linspace(0.002, 0.998, 100))
    leaves = {k: rows_of(v, len(x)) for k, v in parameters.items()}
    logits = rows_of(LOGITS, len(x))
    fn = MixtureSameFamily(dist.Categorical(logits=logits), make(**leaves))
    value = pathwise_at(fn, torch.as_tensor(x))
    np.testing.assert_array_equal(value.detach().numpy(), x)
    gradients = torch.autograd.grad(value.sum(), [logits, *leaves.values()])
    density = np.exp(frozen(name, LOGITS, parameters).logpdf(x))
    for key, gradient in zip(["logits", *leaves], gradients, strict=True):
        centre = LOGITS if key == "logits" else parameters[key]
        for k in range(3):
            cdf = []
            for step in (1e-5, -1e-5):
                moved = tuple(c + step * (i == k) for i, c in enumerate(centre))
                if key == "logits":
                    cdf.append(frozen(name, moved, parameters).cdf(x))
                else:
                    cdf.append(frozen(name, LOGITS, {**parameters, key: moved}).cdf(x))
            exact = -(cdf[0] - cdf[1]) / 2e-5 / density
            # Up to the rounding error of the difference of CDFs.
            error = 1e-10 / density + precision * np.abs(exact).max()
            assert (np.abs(gradient[:, k].numpy() - exact) <= precision * np.abs(exact) + error).all()


@every_family
def test_samples_and_moments(name):
    make, _, parameters, _ = FAMILIES[name]
    tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in parameters.items()}
    weights = dist.Categorical(logits=torch.tensor(LOGITS, dtype=torch.float64))
    fn = MixtureSameFamily(weights, make(**tensors))
    exact = frozen(name, LOGITS, parameters)
    assert_follows(fn.sample((5000,)), exact.cdf)
    x = torch.as_tensor(exact.ppf(np.linspace(0.01, 0.99, 9)))
    np.testing.assert_allclose(fn.log_prob(x), exact.logpdf(x.numpy()), rtol=1e-8, atol=1e-10)
    if name != "Cauchy":
        assert fn.mean.item() == pytest.approx(exact.mean(), rel=1e-10)
        assert fn.variance.item() == pytest.approx(exact.var(), rel=1e-10)


# Several coordinates


class Conditional:
    """A mixture of factorised components, as its conditional distributions."""

    def __init__(self, name, logits, parameters):
        self.logits = np.asarray(logits, dtype=float)
        dims = len(next(iter(parameters.values()))[0])
        self.components = [
            [FAMILIES[name][1](*(p[k][d] for p in parameters.values())) for k in range(len(logits))]
            for d in range(dims)
        ]

    def given(self, d, logits):
        return Frozen(logits, self.components[d])

    def uniforms(self, x):
        logits, u = self.logits, []
        for d, components in enumerate(self.components):
            u.append(self.given(d, logits).cdf(x[d]))
            logits = logits + np.array([c.logpdf(x[d]) for c in components])
        return u

    def quantiles(self, u):
        logits, x = self.logits, []
        for d, components in enumerate(self.components):
            x.append(float(self.given(d, logits).ppf(np.asarray(u[d]))))
            logits = logits + np.array([c.logpdf(x[d]) for c in components])
        return np.array(x)


VECTORS = {
    "Normal": {
        "loc": [[-0.5, 0.3, 1.0], [0.8, -0.2, 0.1]],
        "scale": [[0.7, 1.0, 0.5], [1.2, 0.6, 0.9]],
    },
    "Laplace": {"loc": [[-0.5, 0.3], [0.8, -0.2]], "scale": [[0.7, 1.0], [1.2, 0.6]]},
    "LogNormal": {"loc": [[-0.5, 0.3], [0.8, -0.2]], "scale": [[0.7, 1.0], [1.2, 0.6]]},
    "InverseGaussian": {"loc": [[1.5, 0.3], [0.8, 2.0]], "concentration": [[0.7, 1.0], [1.2, 3.0]]},
}


@pytest.mark.parametrize("name", one_in(4, VECTORS, 1))
def test_velocity_of_several_coordinates(name):
    """The conditional CDFs stay as they are when a parameter moves."""
    parameters = {k: np.array(v) for k, v in VECTORS[name].items()}
    logits = np.array([0.4, -0.3])
    leaves = {k: torch.tensor(v).requires_grad_() for k, v in {"logits": logits, **parameters}.items()}
    components = FAMILIES[name][0](**{k: leaves[k] for k in parameters})
    fn = MixtureSameFamily(dist.Categorical(logits=leaves["logits"]), components.to_event(1))
    value = fn.rsample()
    u = Conditional(name, logits, parameters).uniforms(value.tolist())
    for d in range(len(u)):
        gradients = torch.autograd.grad(value[d], list(leaves.values()), retain_graph=True)
        for (key, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            for index in np.ndindex(leaf.shape):
                ends = []
                for step in (1e-5, -1e-5):
                    given = {"logits": logits, **parameters}
                    given[key] = given[key].copy()
                    given[key][index] += step
                    moved = Conditional(name, given.pop("logits"), given)
                    ends.append(moved.quantiles(u)[d])
                slope = (ends[0] - ends[1]) / 2e-5
                assert gradient[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-6), (key, d)


def test_event_dims_are_flattened_in_order():
    loc, scale = torch.randn(3, 2, 2), torch.rand(3, 2, 2) + 0.5
    weights = dist.Categorical(logits=torch.tensor(LOGITS))

    def gradient(events):
        leaf = loc.clone().requires_grad_()
        shape = (3, 2, 2) if events == 2 else (3, 4)
        components = dist.Laplace(leaf.reshape(shape), scale.reshape(shape)).to_event(events)
        fn = MixtureSameFamily(weights, components)
        torch.manual_seed(0)
        value = fn.rsample((5,))
        return value.flatten(1), torch.autograd.grad(value.square().sum(), leaf)[0]

    for one, two in zip(gradient(1), gradient(2), strict=True):
        torch.testing.assert_close(one, two)


def test_weights_by_their_probabilities():
    probs = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64, requires_grad=True)
    locs = torch.tensor(LOCS, dtype=torch.float64)
    components = dist.Normal(locs.expand(100_000, 3), 1.0)
    rows = probs.expand(100_000, 3).clone().detach().requires_grad_()
    MixtureSameFamily(dist.Categorical(probs=rows), components).rsample().sum().backward()
    assert_mean(rows.grad, locs - (probs * locs).sum())


def test_a_component_without_weight_is_not_drawn_and_has_no_gradient():
    logits = torch.tensor([0.0, -torch.inf, 0.5], requires_grad=True)
    locs = torch.tensor([0.0, 1e3, 1.0], requires_grad=True)
    fn = MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(locs, 1.0))
    x = fn.rsample((10_000,))
    assert (x < 100).all()
    x.sum().backward()
    assert locs.grad[1] == 0
    assert locs.grad.isfinite().all()


# Support


def test_the_support_is_the_components_or_their_union():
    positive = MixtureSameFamily(_WEIGHTS, dist.Exponential(torch.ones(2)))
    assert torch.distributions.biject_to(positive.support)(torch.tensor(-3.0)) > 0
    components = dist.Uniform(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 7.0]))
    apart = MixtureSameFamily(_WEIGHTS, components, validate_args=True)
    x = torch.tensor([0.5, 3.0, 6.0])
    assert apart.support.check(x).tolist() == [True, False, True]
    torch.testing.assert_close(apart.log_prob(x[[0, 2]]).exp(), torch.tensor([0.5, 0.25]))
    with pytest.raises(ValueError, match="support"):
        apart.log_prob(x)


# Composition


def test_a_mixture_of_mixtures():
    inner, outer = torch.zeros(2, 2), torch.tensor([0.3, -0.2])
    locs = torch.tensor([[0.0, 1.0], [2.0, -1.0]])

    def gradient(nested):
        leaf = locs.double().requires_grad_()
        if nested:
            parts = MixtureSameFamily(dist.Categorical(logits=inner.double()), dist.Normal(leaf, 1.0))
            fn = MixtureSameFamily(dist.Categorical(logits=outer.double()), parts)
        else:
            flat = (outer.double().log_softmax(-1)[:, None] + inner.log_softmax(-1)).flatten()
            fn = MixtureSameFamily(dist.Categorical(logits=flat), dist.Normal(leaf.flatten(), 1.0))
        x = torch.linspace(-4, 6, 11, dtype=torch.float64)
        return torch.autograd.grad(pathwise_at(fn, x).square().sum(), leaf)[0]

    torch.testing.assert_close(gradient(True), gradient(False), rtol=1e-8, atol=1e-8)


def test_the_mixture_broadcasts_weights_and_components():
    weights = dist.Categorical(logits=torch.zeros(3, 1, 2))
    fn = MixtureSameFamily(weights, dist.Normal(torch.randn(4, 2), 1.0))
    assert fn.batch_shape == (3, 4)
    assert fn.rsample((5,)).shape == (5, 3, 4)
    assert fn.mean.shape == fn.variance.shape == (3, 4)


def test_is_a_mixture_of_torch_and_of_pyro():
    fn = MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0))
    assert isinstance(fn, dist.MixtureSameFamily)
    assert isinstance(fn, torch.distributions.MixtureSameFamily)
    assert fn.has_rsample


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    "family",
    [
        lambda low, **options: dist.Uniform(low, low + 2, **options),
        lambda low, **options: dist.Pareto(low, 4.0 + 0 * low, **options),
        lambda low, **options: pre.distributions.Triangular(low, low + 2, low + 0.5, **options),
    ],
)
def test_values_outside_of_a_components_support(family, validate):
    """The mean is that of the component's, weighted; each is differentiated in its location."""
    rows = torch.tensor([1.0, 2.0], dtype=torch.float64).expand(50_000, 2).clone().requires_grad_()
    components = family(rows, validate_args=validate)
    fn = MixtureSameFamily(dist.Categorical(torch.ones(2)), components, validate_args=validate)
    value = fn.rsample()
    (gradient,) = torch.autograd.grad(value.sum(), rows, retain_graph=True)
    (exact,) = torch.autograd.grad(components.mean.sum() / 2, rows)
    assert_mean(gradient, exact[0])
    assert fn.log_prob(value.detach()).isfinite().all()
    assert_follows(fn.cdf(value), stats.uniform.cdf)
    far = family(torch.tensor([1.0, 2.0]), validate_args=False)
    below = MixtureSameFamily(_WEIGHTS, far, validate_args=False).log_prob(torch.tensor(0.5))
    assert below == -torch.inf


# Tails


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace, dist.Logistic, dist.Cauchy])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_float32_keeps_its_precision_in_the_tails(family, sign):
    x = sign * torch.tensor([4.0, 6.0, 8.0, 11.0])

    def gradients(dtype):
        leaves = [
            torch.tensor(v, dtype=dtype).expand(4, 3).clone().requires_grad_()
            for v in (LOGITS, LOCS, SCALES)
        ]
        fn = MixtureSameFamily(dist.Categorical(logits=leaves[0]), family(*leaves[1:]))
        return torch.autograd.grad(pathwise_at(fn, x.to(dtype)).sum(), leaves)

    for single, double in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        torch.testing.assert_close(single.double(), double, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("events", [0, 1])
def test_float32_is_finite_far_out(events):
    shape = (3,) + (2,) * events
    leaves = [torch.zeros(3), torch.linspace(-1, 1, shape[0]).reshape((3,) + (1,) * events)]
    leaves = [leaves[0].requires_grad_(), leaves[1].expand(shape).clone().requires_grad_()]
    for family in (dist.Normal, dist.Laplace):
        components = family(leaves[1], 1e-2).to_event(events)
        fn = MixtureSameFamily(dist.Categorical(logits=leaves[0]), components)
        value = torch.full((1,) + (2,) * events, 1e4)
        for g in torch.autograd.grad(pathwise_at(fn, value).sum(), leaves, retain_graph=True):
            assert g.isfinite().all()


# Errors


@pytest.mark.parametrize("events", [0, 1])
@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace])
def test_a_second_derivative_raises(family, events):
    loc = torch.randn((2,) + (2,) * events, requires_grad=True)
    fn = MixtureSameFamily(dist.Categorical(torch.ones(2)), family(loc, 1.0).to_event(events))
    (gradient,) = torch.autograd.grad(fn.rsample().square().sum(), loc, create_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        gradient.sum().backward()


class Tailed(dist.TorchDistribution):
    """A distribution of whose CDF the tails are known, and no gradient."""

    arg_constraints, support = {}, dist.constraints.real


@register_tails(Tailed)
def _tails(fn, value):
    return value.sigmoid(), (-value).sigmoid()


_WEIGHTS = dist.Categorical(torch.ones(2))
ERRORS = [
    (_WEIGHTS, dist.Normal(0.0, 1.0), ValueError, "last batch dim"),
    (_WEIGHTS, dist.Normal(torch.zeros(3), 1.0), ValueError, "component"),
    (dist.Poisson(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0), ValueError, "Categorical"),
]


@pytest.mark.parametrize(("weights", "components", "error", "match"), ERRORS)
def test_errors(weights, components, error, match):
    with pytest.raises(error, match=match):
        MixtureSameFamily(weights, components)


WITHOUT_GRADIENT = [
    (dist.MultivariateNormal(torch.zeros(2, 2), torch.eye(2)), "coordinates of MultivariateNormal"),
    (dist.VonMises(torch.zeros(2), 1.0), "CDF of VonMises is not known"),
    (Tailed(torch.Size([2])), "register a rule"),
    (dist.Poisson(torch.ones(2)), "Poisson is discrete"),
    (
        dist.Uniform(torch.zeros(2, 3), torch.arange(1.0, 7.0).reshape(2, 3)).to_event(1),
        "support of Uniform",
    ),
    (
        MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Poisson(torch.ones(2, 2))),
        "Poisson is discrete",
    ),
]


@pytest.mark.parametrize(("components", "match"), WITHOUT_GRADIENT)
def test_rsample_says_what_is_missing_and_what_serves(components, match):
    fn = MixtureSameFamily(_WEIGHTS, components)
    assert not fn.has_rsample
    for wanted in (match, "ScoreFunction"):
        with pytest.raises(NotImplementedError, match=wanted):
            fn.rsample()
    with pytest.raises(NotImplementedError, match=match):
        pathwise_at(fn, torch.ones(fn.event_shape))


def test_equal_bounds_are_allowed_for_vectors():
    rate = torch.ones(2, 3, requires_grad=True)
    components = dist.Exponential(rate).to_event(1)
    MixtureSameFamily(_WEIGHTS, components).rsample((4,)).sum().backward()
    assert rate.grad.isfinite().all()


def doubles(*x):
    return torch.tensor(x, dtype=torch.float64)


class Ramp(dist.TorchDistribution):
    """The density 2 (x - low) above ``low``, which has no logarithm at the bound."""

    arg_constraints = {"low": dist.constraints.real}
    has_rsample = True

    def __init__(self, low):
        self.low = low
        super().__init__(low.shape)

    @property
    def support(self):
        return dist.constraints.interval(self.low, self.low + 1)

    def log_prob(self, value):
        return (2 * (value - self.low)).log()

    def cdf(self, value):
        return (value - self.low).square()

    def rsample(self, sample_shape=()):
        return self.low + torch.rand(self.shape(sample_shape), dtype=self.low.dtype).sqrt()


def test_log_prob_and_samples_have_a_gradient_outside_of_a_component():
    low = doubles(-1.0, 1.0).requires_grad_()
    fn = MixtureSameFamily(dist.Categorical(logits=torch.zeros(2).double()), Ramp(low))
    x = doubles(-0.5)
    (gradient,) = torch.autograd.grad(fn.log_prob(x).sum(), low)
    torch.testing.assert_close(gradient, doubles(-2.0, 0.0))
    (gradient,) = torch.autograd.grad(pathwise_at(fn, x).sum(), low)
    torch.testing.assert_close(gradient, doubles(1.0, 0.0))


@pytest.mark.parametrize(
    "components",
    [
        lambda p: dist.Uniform(-p, p),
        lambda p: dist.Pareto(p, 2.0),
        lambda p: pre.distributions.TruncatedNormal(0.5, 1.0, p, 4.0),
        lambda p: pre.distributions.Truncated(dist.Laplace(doubles(0.0), 1.0), -float("inf"), p),
        lambda p: pre.distributions.GeneralizedPareto(p, doubles(1.0), 0.1),
    ],
)
def test_cdf_has_no_gradient_outside_of_a_component(components):
    weights = dist.Categorical(logits=torch.zeros(2).double())

    def cdf(p, x):
        return MixtureSameFamily(weights, components(p), validate_args=False).cdf(x)

    x = doubles(-3.0, -0.4, 0.3, 1.5, 5.0)
    p = doubles(0.7, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(cdf, (p, x))
    assert torch.autograd.gradcheck(lambda x: cdf(p.detach(), x), x.requires_grad_())


def test_cdf_of_nan_is_nan():
    fn = MixtureSameFamily(
        dist.Categorical(logits=torch.zeros(2)),
        dist.Uniform(torch.zeros(2), torch.ones(2)),
        validate_args=False,
    )
    assert fn.cdf(torch.tensor(torch.nan)).isnan()


@pytest.mark.parametrize(
    "components",
    [
        dist.Uniform(torch.tensor(-1.0), 2.0).expand((3,)),
        dist.Uniform(-torch.ones(3, 1), 2.0).expand((3, 3)),
        pre.distributions.TruncatedNormal(torch.arange(3.0), 1.0, -1.0, 2.0),
        dist.Uniform(torch.tensor(-1.0), 2.0).expand((3, 2)).to_event(1),
    ],
)
def test_bounds_that_all_components_share_are_those_of_the_mixture(components):
    fn = MixtureSameFamily(dist.Categorical(logits=torch.zeros(3)), components)
    shape = fn.shape((5,))
    x = torch.distributions.biject_to(fn.support)(torch.randn(shape))
    assert x.shape == shape and fn.support.check(x).all()
    assert fn.support.event_dim == len(fn.event_shape)
    assert not fn.support.check(torch.full(shape, 2.5)).any()
    assert fn.log_prob(x).isfinite().all()
    if not fn.event_shape:
        assert type(fn.support) is type(components.support)


def test_bounds_of_their_own_make_a_union():
    components = dist.Uniform(torch.zeros(2), torch.ones(2))
    fn = MixtureSameFamily(dist.Categorical(logits=torch.zeros(2)), components)
    assert isinstance(fn.support, dist.constraints.MixtureSameFamilyConstraint)


def test_weights_of_a_far_upper_tail_in_float32():
    """Every class whose survival function is known has a gradient where its CDF rounds to 1."""

    def above_minus_one(x):
        loc = np.array([0.0, 0.2])
        return stats.norm.sf(x - loc) / stats.norm.sf(-1 - loc)

    for components, survival, x in (
        (
            dist.HalfNormal(torch.tensor([1.0, 1.1])),
            lambda x: 2 * stats.norm.sf(x / np.array([1.0, 1.1])),
            6.5,
        ),
        (
            pre.distributions.GeneralizedPareto(0.0, torch.tensor([1.0, 1.1]), 0.01),
            lambda x: stats.genpareto.sf(x / np.array([1.0, 1.1]), 0.01),
            25.0,
        ),
        (
            pre.distributions.TruncatedNormal(torch.tensor([0.0, 0.2]), 1.0, -1.0, 9.0),
            above_minus_one,
            6.5,
        ),
        (
            pre.distributions.Truncated(dist.Normal(torch.tensor([0.0, 0.2]), 1.0), -1.0, 9.0),
            above_minus_one,
            6.5,
        ),
    ):
        logits = torch.zeros(2, requires_grad=True)
        fn = MixtureSameFamily(dist.Categorical(logits=logits), components)
        (gradient,) = torch.autograd.grad(pathwise_at(fn, torch.tensor(x)), logits)
        above = survival(x)
        density = fn.log_prob(torch.tensor(x)).exp().item()
        exact = 0.25 * (above - above[::-1]) / density
        np.testing.assert_allclose(gradient.double().numpy(), exact, rtol=1e-4)

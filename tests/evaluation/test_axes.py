"""Distributions that a program makes of values whose dims it does not see."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms as T
from pyro.distributions.torch_distribution import ExpandedDistribution, TorchDistribution
from torch._C._functorch import maybe_current_level
from torch.distributions import constraints, transform_to

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation.axes import Hidden

from ..distributions.entry import tensors
from ..distributions.registry import CONTINUOUS, RELAXED
from ..statistics import assert_mean

D = pre.distributions
PARTICLES, ELEMENTS = 5, 3
DRAWS = 400
EYE, EYE3 = torch.eye(2, dtype=torch.float64), torch.eye(3, dtype=torch.float64)

PLANAR = T.conditional_planar(3, 3, [4]).double()


def tensor(*x):
    return torch.tensor(x if len(x) > 1 else x[0], dtype=torch.float64)


def hidden_in(axes, values, event_dim):
    """A value of shape (particles, *event), as the program sees it: without the dim of particles."""
    event = values.shape[1:]
    site = dist.Normal(values.new_zeros(event), 1.0).to_event(event_dim)
    return axes.hidden(values.reshape(len(values), *(1,) * axes.plates, *event), site)


def shown_and_plain(make, values, plates=1):
    """What ``make`` makes of hidden values, with all dims; and of those of each particle.

    ``values``: tensors of shape (particles, *event), or one.
    """
    values = values if isinstance(values, tuple) else (values,)
    axes = Hidden(len(values[0]), plates + 1)
    try:
        with axes.running():
            fn = make(*(hidden_in(axes, x, x.dim() - 1) for x in values))
            with axes.suspended():
                shown = axes.shown(fn)
    finally:
        axes.close()
    return shown, [make(*parts) for parts in zip(*values, strict=True)]


def own(x, plain, plates=1):
    """One particle's part of a value or density, in the batch shape that the program gave."""
    return x.reshape(x.shape[plates - len(plain.batch_shape) :])


def check(make, values, plates=1):
    """Shapes, densities and the law of the draws are those of each particle alone."""
    shown, plain = shown_and_plain(make, values, plates)
    batch = (1,) * (plates - len(plain[0].batch_shape)) + plain[0].batch_shape
    assert shown.batch_shape == (len(plain), *batch)
    assert shown.event_shape == plain[0].event_shape
    x = shown.sample()
    assert x.shape == shown.shape()
    alone = [own(x[particle], fn, plates) for particle, fn in enumerate(plain)]
    assert all(value.shape == fn.shape() for fn, value in zip(plain, alone, strict=True))
    try:
        expected = [fn.log_prob(value) for fn, value in zip(plain, alone, strict=True)]
    except NotImplementedError:
        return shown, plain
    log_prob = shown.log_prob(x)
    assert log_prob.shape == shown.batch_shape
    actual = [own(log_prob[particle], fn, plates) for particle, fn in enumerate(plain)]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    return shown, plain


def features(x):
    """Bounded functions of draws, whose means tell laws apart."""
    x = torch.atan(x.double()).reshape(len(x), -1)
    return torch.cat([x, x.square()], 1)


# -- distributions of Pyro --------------------------------------------------------------------------


def read(fn, *names):
    """``fn``, after the program has looked at some of its properties, which torch then keeps."""
    for name in names:
        getattr(fn, name)
    return fn


MADE = {
    "AffineBeta": lambda h: dist.AffineBeta(h + 1, tensor(2.0), tensor(-1.0), h[0] + 2),
    "AsymmetricLaplace": lambda h: dist.AsymmetricLaplace(h, h[0] + 1, tensor(2.0)),
    "Bernoulli": lambda h: dist.Bernoulli(h),
    "Beta": lambda h: dist.Beta(h + 1, tensor(2.0)),
    "BetaBinomial": lambda h: dist.BetaBinomial(h[0] + 1, h[1] + 1, 6),
    "Binomial": lambda h: dist.Binomial(5, h[0]),
    "Binomial, total": lambda h: dist.Binomial(tensor(3.0, 4.0, 5.0), logits=h),
    "Categorical": lambda h: dist.Categorical(logits=h),
    "Categorical, expanded": lambda h: dist.Categorical(h / h.sum()).expand([ELEMENTS]),
    "Categorical, probs read": lambda h: read(dist.Categorical(logits=h), "probs"),
    "Cauchy": lambda h: dist.Cauchy(h, 1.0),
    "Chi2": lambda h: dist.Chi2(h + 1),
    "ContinuousBernoulli": lambda h: dist.ContinuousBernoulli(h[0]),
    "Delta": lambda h: dist.Delta(h),
    "Delta, event": lambda h: dist.Delta(h, log_density=h[0], event_dim=1),
    "CoalescentTimes": lambda h: dist.CoalescentTimes(tensor(0.0, 1.0, 2.0), h[0] + 1),
    "CoalescentTimes, leaves": lambda h: dist.CoalescentTimes(h.cumsum(-1), tensor(1.0)),
    "DiscreteHMM": lambda h: dist.DiscreteHMM(
        h, EYE3, dist.Normal(tensor(0.0, 1.0, 2.0), 1.0), duration=4
    ),
    "Dirichlet": lambda h: dist.Dirichlet(h + 1),
    "DirichletMultinomial": lambda h: dist.DirichletMultinomial(h + 1, 4),
    "ExpandedDistribution": lambda h: ExpandedDistribution(dist.Normal(h[0], 1.0), (ELEMENTS,)),
    "Exponential": lambda h: dist.Exponential(h + 1),
    "ExtendedBetaBinomial": lambda h: dist.ExtendedBetaBinomial(h[0] + 1, h[1] + 1, tensor(6.0)),
    "ExtendedBinomial": lambda h: dist.ExtendedBinomial(tensor(6.0), h[0]),
    "FisherSnedecor": lambda h: dist.FisherSnedecor(h + 1, tensor(3.0)),
    "FoldedDistribution": lambda h: dist.FoldedDistribution(dist.Normal(h, 1.0)),
    "Gamma": lambda h: dist.Gamma(h + 1, tensor(2.0)),
    "GammaPoisson": lambda h: dist.GammaPoisson(h + 1, tensor(2.0)),
    "Geometric": lambda h: dist.Geometric(h),
    "Gumbel": lambda h: dist.Gumbel(h[0], tensor(1.0)),
    "HalfCauchy": lambda h: dist.HalfCauchy(h[0] + 1),
    "HalfNormal": lambda h: dist.HalfNormal(h + 1),
    "Independent": lambda h: dist.Normal(h, 1.0).to_event(1),
    "Independent, Bernoulli": lambda h: dist.Bernoulli(h).to_event(1),
    "Independent in a plate": lambda h: dist.Normal(h.expand(ELEMENTS, 3), 1.0).to_event(1),
    "Independent, expanded": lambda h: dist.Normal(h[0], 1.0).expand([ELEMENTS, 3]).to_event(1),
    "Independent, then expanded": lambda h: dist.Normal(h, 1.0).to_event(1).expand([ELEMENTS]),
    "InverseGamma": lambda h: dist.InverseGamma(h[0] + 1, tensor(2.0)),
    "Kumaraswamy": lambda h: dist.Kumaraswamy(h[0] + 1, tensor(2.0)),
    "LKJCholesky": lambda h: dist.LKJCholesky(3, h[0] + 1),
    "Laplace": lambda h: dist.Laplace(h, 1.0),
    "LogNormal": lambda h: dist.LogNormal(h.sum(), h[0]),
    "LogNormal, batched": lambda h: dist.LogNormal(h, h),
    "Logistic": lambda h: dist.Logistic(h, 1.0),
    "LogisticNormal": lambda h: dist.LogisticNormal(h, h + 1),
    "LowRankMultivariateNormal": lambda h: dist.LowRankMultivariateNormal(
        h, torch.ones(3, 1, dtype=h.dtype) * h[0], h + 1
    ),
    "MaskedMixture": lambda h: dist.MaskedMixture(
        torch.tensor([True, False, True]), dist.Normal(h, 1.0), dist.Cauchy(h, 2.0)
    ),
    "MaskedDistribution": lambda h: dist.Normal(h, 1.0).mask(torch.tensor([True, False, True])),
    "MaskedDistribution, hidden": lambda h: dist.Normal(h, 1.0).mask(h > 0.5),
    "MaskedDistribution, hidden alone": lambda h: dist.Normal(tensor(0.0), 1.0).mask(h[0] > 0.5),
    "MixtureOfDiagNormals": lambda h: dist.MixtureOfDiagNormals(
        h[:, None].expand(3, 2), torch.ones(3, 2, dtype=h.dtype), h
    ),
    "MixtureSameFamily": lambda h: dist.MixtureSameFamily(
        dist.Categorical(logits=h), dist.Normal(h, 1.0)
    ),
    "MixtureSameFamily, weights": lambda h: dist.MixtureSameFamily(
        dist.Categorical(logits=h), dist.Normal(tensor(0.0, 1.0, 2.0), 1.0)
    ),
    "MixtureSameFamily, components": lambda h: dist.MixtureSameFamily(
        dist.Categorical(logits=tensor(0.0, 1.0, 2.0)), dist.Normal(h, 1.0)
    ),
    "Multinomial": lambda h: dist.Multinomial(4, logits=h),
    "MultivariateNormal": lambda h: dist.MultivariateNormal(h[:2], scale_tril=EYE * (h[0] + 1)),
    "MultivariateNormal, scale": lambda h: dist.MultivariateNormal(
        torch.zeros(ELEMENTS, 2, dtype=h.dtype), scale_tril=EYE * (h[0] + 1)
    ),
    "MultivariateNormal, loc": lambda h: dist.MultivariateNormal(h[:2], EYE + 0.5),
    "MultivariateNormal, read": lambda h: read(
        dist.MultivariateNormal(h[:2], scale_tril=EYE * (h[0] + 1)), "covariance_matrix"
    ),
    "MultivariateNormal, precision": lambda h: dist.MultivariateNormal(
        tensor(0.0, 1.0), precision_matrix=EYE * (h[0] + 1) + 0.1
    ),
    "MultivariateStudentT": lambda h: dist.MultivariateStudentT(h[0] + 3, h[:2], EYE * (h[0] + 1)),
    "NanMaskedMultivariateNormal": lambda h: dist.NanMaskedMultivariateNormal(h[:2], EYE * (h[0] + 1)),
    "NanMaskedNormal": lambda h: dist.NanMaskedNormal(h, 1.0),
    "NegativeBinomial": lambda h: dist.NegativeBinomial(tensor(3.0), logits=h),
    "Normal": lambda h: dist.Normal(h.sum(), 1.0),
    "Normal, both": lambda h: dist.Normal(h.sum(), h[0]),
    "Normal, batched": lambda h: dist.Normal(h, 1.0),
    "Normal, scale": lambda h: dist.Normal(tensor(1.0, 2.0, 3.0), h[0]),
    "Normal, expanded": lambda h: dist.Normal(h[:1].expand(ELEMENTS), 1.0).expand([ELEMENTS]),
    "OneHotCategorical": lambda h: dist.OneHotCategorical(logits=h),
    "OneHotCategorical in a plate": lambda h: dist.OneHotCategorical(
        logits=h + torch.zeros(ELEMENTS, 1, dtype=h.dtype)
    ),
    "OneHotCategoricalStraightThrough": lambda h: dist.OneHotCategoricalStraightThrough(logits=h),
    "Pareto": lambda h: dist.Pareto(h + 1, tensor(2.0)),
    "Pareto, alpha": lambda h: dist.Pareto(tensor(2.0), h + 1),
    "Poisson": lambda h: dist.Poisson(h[0]),
    "ProjectedNormal": lambda h: dist.ProjectedNormal(h),
    "Rejector": lambda h: dist.Rejector(
        dist.Normal(h, 1.0), lambda x: -x.abs(), torch.zeros(3, dtype=h.dtype)
    ),
    "RelaxedBernoulli": lambda h: dist.RelaxedBernoulli(tensor(0.5), logits=h),
    "RelaxedBernoulliStraightThrough": lambda h: dist.RelaxedBernoulliStraightThrough(
        tensor(0.5), logits=h
    ),
    "RelaxedOneHotCategorical": lambda h: dist.RelaxedOneHotCategorical(tensor(0.5), logits=h),
    "RelaxedOneHotCategoricalStraightThrough": lambda h: dist.RelaxedOneHotCategoricalStraightThrough(
        tensor(0.5), logits=h
    ),
    "SkewLogistic": lambda h: dist.SkewLogistic(h, tensor(1.0), h + 1),
    "SoftLaplace": lambda h: dist.SoftLaplace(h, tensor(1.0)),
    "Stable": lambda h: dist.Stable(h + 1, tensor(0.2), h + 1, h),
    "StableWithLogProb": lambda h: dist.StableWithLogProb(h + 1, tensor(0.2), h + 1, h),
    "StudentT": lambda h: dist.StudentT(tensor(3.0), h[0], h[1] + 1),
    "TransformedDistribution": lambda h: dist.TransformedDistribution(
        dist.Normal(tensor(0.0), 1.0), [T.AffineTransform(h[0], h[1] + 1), T.SigmoidTransform()]
    ),
    "TransformedDistribution, event": lambda h: dist.TransformedDistribution(
        dist.Normal(torch.zeros(3, dtype=h.dtype), 1.0).to_event(1),
        [T.AffineTransform(h, h + 1, event_dim=1), T.StickBreakingTransform()],
    ),
    "TransformedDistribution, composed": lambda h: dist.TransformedDistribution(
        dist.Normal(h, 1.0), T.ComposeTransform([T.AffineTransform(h, h + 1), T.ExpTransform()])
    ),
    "TransformedDistribution, independent": lambda h: dist.TransformedDistribution(
        dist.Normal(h, 1.0).to_event(1), T.IndependentTransform(T.AffineTransform(h, h + 1), 1)
    ),
    "TransformedDistribution, lower Cholesky": lambda h: dist.TransformedDistribution(
        dist.Normal(h[0] + torch.zeros(2, 2, dtype=h.dtype), 1.0).to_event(2),
        T.LowerCholeskyTransform(),
    ),
    "TransformedDistribution, power": lambda h: dist.TransformedDistribution(
        dist.Gamma(h + 1, tensor(1.0)), T.PowerTransform(h + 1)
    ),
    "TransformedDistribution, permuted": lambda h: dist.TransformedDistribution(
        dist.Normal(h, 1.0).to_event(1), T.Permute(torch.tensor([2, 0, 1]))
    ),
    "TransformedDistribution, concatenated": lambda h: dist.TransformedDistribution(
        dist.Normal(h, 1.0).to_event(1),
        T.CatTransform([T.ExpTransform(), T.AffineTransform(h[:2], h[:2] + 1)], dim=-1, lengths=[1, 2]),
    ),
    "TransformedDistribution, to an interval": lambda h: dist.TransformedDistribution(
        dist.Normal(tensor(0.0), 1.0), transform_to(constraints.interval(-h[0], h[0]))
    ),
    "TruncatedPolyaGamma": lambda h: dist.TruncatedPolyaGamma(h),
    "Uniform": lambda h: dist.Uniform(tensor(-1.0), h + 1),
    "Unit": lambda h: dist.Unit(h[0]),
    "VonMises": lambda h: dist.VonMises(h[0], h[1] + 1),
    "VonMises, expanded": lambda h: dist.VonMises(h[0], tensor(2.0)).expand([ELEMENTS]),
    "Weibull": lambda h: dist.Weibull(h[0] + 1, tensor(1.0)),
    "Wishart": lambda h: dist.Wishart(tensor(4.0), scale_tril=EYE * (h[0] + 1)),
    "ZeroInflatedDistribution": lambda h: dist.ZeroInflatedDistribution(
        dist.Poisson(h), gate=tensor(0.3)
    ),
    "ZeroInflatedDistribution, gate": lambda h: dist.ZeroInflatedDistribution(
        dist.Poisson(tensor(2.0)), gate=h
    ),
    "ZeroInflatedNegativeBinomial": lambda h: dist.ZeroInflatedNegativeBinomial(
        tensor(3.0), probs=h, gate=tensor(0.3)
    ),
    "ZeroInflatedPoisson": lambda h: dist.ZeroInflatedPoisson(h[0] + 1, gate=tensor(0.3)),
}


ONE_BY_ONE = ("MixtureOfDiagNormals", "TruncatedPolyaGamma", "Unit", "Wishart")
"""What can't be drawn many times at once, or is nothing."""
NAMES = {name.split(",")[0].split(" ")[0] for name in MADE}


def hidden_values(particles=PARTICLES):
    return 0.1 + 0.8 * torch.rand(particles, 3, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Singular sample detected")  # by torch's Wishart, of any sample
@pytest.mark.parametrize("particles", [ELEMENTS, PARTICLES])
@pytest.mark.parametrize("name", MADE)
def test_distributions_of_pyro(name, particles):
    check(MADE[name], hidden_values(particles))


@pytest.mark.filterwarnings("ignore:Singular sample detected")
@pytest.mark.parametrize("name", MADE)
def test_distributions_of_pyro_in_nested_plates(name):
    check(MADE[name], hidden_values(), plates=3)


@pytest.mark.parametrize("name", [name for name in MADE if name not in ONE_BY_ONE])
def test_law_of_draws(name):
    shown, plain = shown_and_plain(MADE[name], hidden_values(2))
    draws = shown.sample((DRAWS,))
    for particle, fn in enumerate(plain):
        difference = features(draws[:, particle]) - features(fn.sample((DRAWS,)))
        assert_mean(difference, torch.zeros(difference.shape[1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda h: dist.Normal(h[0], 1.0),
        lambda h: dist.Normal(tensor(0.3), 1.0),
        lambda h: dist.Normal(tensor(0.3, 0.2, 0.1), 1.0).to_event(1),
        lambda h: dist.Gamma(h + 1, 1.0),
        lambda h: dist.Bernoulli(h[0]),
        lambda h: dist.OneHotCategorical(logits=tensor(0.1, 0.2, 0.3)),
    ],
)
def test_draws_of_particles_are_independent(make):
    shown, (fn, _) = shown_and_plain(make, hidden_values(1).expand(2, 3))
    draws = shown.sample((2000,))
    first, second = (draws[:, p].flatten(1) - fn.mean.flatten() for p in range(2))
    assert_mean(first * second, torch.zeros(first.shape[1]))


# -- our distributions ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """One of our distributions and the points of its parameters, which have equal shapes."""

    make: Callable[..., TorchDistribution]
    points: tuple[dict[str, torch.Tensor], ...]


def of_equal_shapes(points):
    """The points whose parameters have the shapes of the first one's."""
    points = [tensors(point) for point in points]
    shapes = [{name: x.shape for name, x in point.items()} for point in points]
    return tuple(point for point, own in zip(points, shapes, strict=True) if own == shapes[0])


def at_temperatures(event):
    generator = torch.Generator().manual_seed(1)
    return tuple(
        {
            "temperature": tensor(0.4 + 0.2 * number),
            "logits": torch.randn(event, generator=generator, dtype=torch.float64),
        }
        for number in range(3)
    )


OWN = {name: Own(entry.make, of_equal_shapes(entry.points)) for name, entry in CONTINUOUS.items()}
OWN |= {name: Own(relaxed.make, at_temperatures(relaxed.event)) for name, relaxed in RELAXED.items()}
IN_A_FUNCTION = "ImplicitUnivariate"
"""Its parameters lie in a dictionary and, of a user's function, in a closure."""


def stacked(own, name, batch):
    """A parameter at other points for other particles, and elements of a plate."""
    count = len(own.points)
    rows = [
        [own.points[(particle + 2 * element) % count][name] for element in range(max(batch, 1))]
        for particle in range(PARTICLES)
    ]
    values = torch.stack([torch.stack(row) for row in rows])
    return values if batch else values.squeeze(1)


@pytest.mark.parametrize("batch", [0, PARTICLES], ids=["scalar", "in a plate"])
@pytest.mark.parametrize("name", [name for name in OWN if not name.startswith(IN_A_FUNCTION)])
def test_our_distributions(name, batch):
    """Of parameters of which all, or one, depend on the hidden value."""
    own, names = OWN[name], list(OWN[name].points[0])
    for hidden in dict.fromkeys([tuple(names), *((one,) for one in names)]):
        fixed = {key: own.points[0][key] for key in names if key not in hidden}

        def make(*parts, fixed=fixed, hidden=hidden):
            return own.make(**fixed, **dict(zip(hidden, parts, strict=True)))

        values = tuple(stacked(own, key, batch) for key in hidden)
        try:
            for parts in zip(*values, strict=True):
                make(*parts)
        except ValueError:
            assert len(hidden) < len(names)  # mixed with others, a value may be impossible
            continue
        shown, _ = check(make, values)
        torch.manual_seed(1)
        draws = shown.sample()
        torch.manual_seed(1)
        visible = make(*(x if batch else x.unsqueeze(1) for x in values))
        visible = visible.expand(shown.batch_shape)
        torch.testing.assert_close(draws, visible.sample(), rtol=1e-9, atol=1e-9)


def test_every_distribution_of_ours_is_looked_at():
    classes = {name.split("-")[0] for name in OWN}
    public = {name for name in D.__all__ if isinstance(getattr(D, name), type)}
    assert classes == public


# -- what is refused --------------------------------------------------------------------------------


def implicit(h):
    (own,) = (own for name, own in OWN.items() if name == IN_A_FUNCTION)
    return own.make(**{name: x + 0 * h[0] for name, x in own.points[0].items()})


REFUSED = {
    "ImplicitUnivariate": implicit,
    "AVFMultivariateNormal": lambda h: dist.AVFMultivariateNormal(
        h[:2], EYE * (h[0] + 1), 0.1 * tensor([[1.0, 2.0]], [[3.0, 4.0]]) * h[0]
    ),
    "GaussianScaleMixture": lambda h: dist.GaussianScaleMixture(
        tensor(1.0, 2.0), tensor(0.1, 0.2, 0.3), 1 + h
    ),
    "LKJ": lambda h: dist.LKJ(3, h[0] + 1),
    "MixtureOfDiagNormalsSharedCovariance": lambda h: dist.MixtureOfDiagNormalsSharedCovariance(
        h[:, None].expand(3, 2), h[:2] + 1, h
    ),
    "OMTMultivariateNormal": lambda h: dist.OMTMultivariateNormal(h[:2], EYE * (h[0] + 1)),
    "OrderedLogistic": lambda h: dist.OrderedLogistic(h, tensor(-1.0, 0.0, 2.0)),
    "OrderedLogistic, cutpoints": lambda h: dist.OrderedLogistic(tensor(0.3), h.cumsum(-1)),
    "SineBivariateVonMises": lambda h: dist.SineBivariateVonMises(
        h[0], h[1], h[0] + 1, h[1] + 1, correlation=tensor(0.3)
    ),
    "SineSkewed": lambda h: dist.SineSkewed(
        dist.VonMises(h[:2], 2.0).to_event(1), tensor(0.1, 0.2) * h[0]
    ),
    "SoftAsymmetricLaplace": lambda h: dist.SoftAsymmetricLaplace(h, h + 1, tensor(2.0), h + 1),
    "TransformedDistribution, inverse": lambda h: dist.TransformedDistribution(
        dist.Normal(h, 1.0), T.AffineTransform(h, h + 1).inv
    ),
    "DiscreteHMM, transitions": lambda h: dist.DiscreteHMM(
        tensor(0.0, 1.0, 2.0), h * EYE3, dist.Normal(tensor(0.0, 1.0, 2.0), 1.0), duration=4
    ),
    "GaussianHMM": lambda h: dist.GaussianHMM(
        dist.MultivariateNormal(h[:2], EYE),
        EYE,
        dist.MultivariateNormal(tensor(0.0, 0.0), EYE),
        EYE,
        dist.MultivariateNormal(tensor(0.0, 0.0), EYE),
        duration=3,
    ),
    "Empirical": lambda h: dist.Empirical(h, torch.zeros(3, dtype=h.dtype)),
    "OneOneMatching": lambda h: dist.OneOneMatching(h.expand(3, 3)),
    "OneTwoMatching": lambda h: dist.OneTwoMatching(h[:2].expand(4, 2)),
    "SpanningTree": lambda h: dist.SpanningTree(h),
    "Rejector, in a closure": lambda h: dist.Rejector(
        dist.Normal(tensor(0.0, 0.0, 0.0), 1.0),
        lambda x: -(x - h).abs(),
        torch.zeros(3, dtype=h.dtype),
    ),
    "conditioned flow": lambda h: dist.ConditionalTransformedDistribution(
        dist.Normal(tensor(0.0, 0.0, 0.0), 1.0).to_event(1), [PLANAR]
    ).condition(h),
    "a dictionary": lambda h: Keeping({"loc": h[0]}, lambda x: x["loc"]),
    "a closure": lambda h: Keeping(None, lambda _: h[0]),
    "an object": lambda h: Keeping(type("Holder", (), {"loc": h[0]}), lambda x: x.loc),
}
"""What holds tensors where they are not looked for, or can't be expanded or made of hidden values."""

OTHERS = {
    *("ComposeTransformModule", "ConditionalDistribution", "ConditionalTransform"),
    *("ConditionalTransformModule", "ConditionalTransformedDistribution", "Distribution"),
    *("ExponentialFamily", "TorchDistribution", "TransformModule"),
    *("CoalescentRateLikelihood", "LKJCorrCholesky"),  # no distributions
    *("CoalescentTimesWithRate", "ImproperUniform"),  # can't be drawn
    *("LogNormalNegativeBinomial", "VonMises3D"),  # can't be drawn
    *("GammaGaussianHMM", "GaussianMRF", "IndependentHMM", "LinearHMM"),  # as GaussianHMM
    "GroupedNormalNormal",  # of a ragged batch
    "GeneralizedPareto",  # of Pyro: of float32 only
    *("constraints", "enable_validation", "is_validation_enabled", "kl", "transforms"),
    "validation_enabled",
}
"""Names in ``pyro.distributions`` that are no distributions, or are covered by another one."""


def test_every_distribution_of_pyro_is_looked_at():
    refused = {name.split(",")[0].split(" ")[0] for name in REFUSED}
    assert set(dist.__all__) <= NAMES | refused | OTHERS


class Keeping(TorchDistribution):
    """A normal whose mean lies where nobody looks."""

    arg_constraints = {}
    support = constraints.real
    has_rsample = True

    def __init__(self, kept, loc, batch_shape=()):
        self.kept, self.loc = kept, loc
        super().__init__(torch.Size(batch_shape), validate_args=False)

    def expand(self, batch_shape, _instance=None):
        return Keeping(self.kept, self.loc, batch_shape)

    def rsample(self, sample_shape=()):
        shape = self.shape(sample_shape)
        return self.loc(self.kept) + torch.randn(shape, dtype=torch.float64)

    def log_prob(self, x):
        return dist.Normal(self.loc(self.kept), 1.0).log_prob(x)


@pytest.mark.parametrize("particles", [ELEMENTS, PARTICLES])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_is_an_error(name, particles):
    values = hidden_values(particles)
    REFUSED[name](values[0]).sample()
    with pytest.raises((RuntimeError, AssertionError, IndexError)):
        shown = shown_and_plain(REFUSED[name], values)[0]
        shown.log_prob(shown.sample())
    assert maybe_current_level() is None


def test_random_numbers_of_the_program_itself():
    """Another one for each particle, the same one for all evaluations."""
    axes = Hidden(PARTICLES, 1)
    with axes.evaluations(4), axes.running():
        fn = dist.Normal(torch.randn(3), 1.0).to_event(1)
        with axes.suspended():
            mean = axes.shown(fn).mean
    axes.close()
    assert mean.shape == (PARTICLES, 3)
    assert len(mean.unique()) == PARTICLES * 3


# -- the levels of vmap -----------------------------------------------------------------------------


def test_levels_are_those_of_before():
    axes = Hidden(PARTICLES, 1)
    axes.enumerated(2)
    with axes.evaluations(3), axes.running():
        assert maybe_current_level() == 3
        with axes.suspended():
            assert maybe_current_level() is None
        assert maybe_current_level() == 3
    assert maybe_current_level() is None
    axes.close()
    axes.close()
    assert maybe_current_level() is None


def test_levels_after_an_error():
    axes = Hidden(PARTICLES, 1)
    with pytest.raises(KeyError), axes.evaluations(3), axes.running(), axes.suspended():
        raise KeyError
    assert maybe_current_level() is None
    axes.close()
    assert maybe_current_level() is None


def test_levels_inside_a_transform():
    def function(x):
        level = maybe_current_level()
        axes = Hidden(PARTICLES, 0)
        with axes.running():
            assert maybe_current_level() == level + 1
        axes.close()
        assert maybe_current_level() == level
        return x.sin()

    torch.func.grad(function)(tensor(0.3))
    torch.func.vmap(function)(tensor(0.3, 0.2))
    assert maybe_current_level() is None


class Refused(Exception):
    pass


def raising(where):
    """A model and a guide that fails at ``where``."""

    def at(place):
        if place == where:
            raise Refused(where)

    def guide():
        at("start of the guide")
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.3))))
        at("guide")
        pyro.sample("w", dist.Bernoulli(logits=z))
        at("end of the guide")

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        at("model")
        w = pyro.sample("w", dist.Bernoulli(tensor(0.3)))
        pyro.sample(
            "x", Failing(z + w, 1.0) if where == "density" else dist.Normal(z + w, 1.0), obs=EYE[0, 0]
        )

    return model, guide


class Failing(dist.Normal):
    def log_prob(self, x):
        raise Refused("density")


PLACES = ("start of the guide", "guide", "end of the guide", "model", "density")


@pytest.mark.parametrize("estimator", [pre.DisARM(), pre.Enumeration(), pre.LeaveOneOut()], ids=repr)
@pytest.mark.parametrize("where", PLACES)
def test_levels_after_an_error_of_the_program(where, estimator):
    """Of a program that was known to run under ``vmap``."""
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=3, vectorize_particles="vmap")
    failing = False

    def program(number):
        return lambda: raising(where if failing else None)[number]()

    model, guide = program(0), program(1)
    pyro.param("l", tensor(0.3))
    elbo.loss_and_grads(model, guide)
    failing = True
    with pytest.raises(Refused, match=where):
        elbo.loss_and_grads(model, guide)
    assert maybe_current_level() is None


# -- in an ELBO -------------------------------------------------------------------------------------


def test_what_cannot_be_shown_is_run_in_a_loop():
    """A batch of temperatures is no batch to torch's relaxed categorical; its shapes may fit."""

    def model():
        t = pyro.sample("t", dist.LogNormal(tensor(0.0), 0.5))
        with pyro.plate("n", 5):
            pyro.sample("z", dist.RelaxedOneHotCategorical(tensor(1.0), logits=torch.zeros(5, 3)))
        pyro.factor("f", -t)

    def guide():
        t = pyro.sample("t", dist.LogNormal(pyro.param("l", tensor(0.1)), 0.5))
        with pyro.plate("n", 5):
            pyro.sample("z", dist.RelaxedOneHotCategorical(t, logits=torch.zeros(5, 3)))

    for num_particles in (4, 5):
        pyro.param("l", tensor(0.1))
        elbo = pre.TraceEstimator_ELBO(num_particles=num_particles, vectorize_particles="vmap")
        with pytest.warns(UserWarning, match="one by one") as caught:
            elbo.loss_and_grads(model, guide)
        assert len(caught) == 1

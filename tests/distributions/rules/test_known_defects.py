"""What is known of samplers, looked up by their class and the values of their parameters."""

import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import distributions as td

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules import known_defects as known

from ...statistics import assert_p
from ..registry import REGISTRY

ours = pre.distributions
HALF, THREE = torch.tensor(0.5), torch.zeros(3)

FACTS = {
    "biased": (
        known.is_biased_sampler,
        [
            dist.OneHotCategoricalStraightThrough(logits=THREE).mask(True),
            dist.MixtureOfDiagNormals(torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)),
            ours.StraightThroughBernoulli(0.5, logits=THREE).to_event(1),
            ours.PlackettLuce(THREE, 0.5, straight_through=True),
        ],
        [
            dist.OneHotCategorical(logits=THREE),
            dist.RelaxedBernoulliStraightThrough(HALF, logits=THREE),
            ours.MixtureOfDiagNormals(torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)),
            ours.PlackettLuce(THREE, 0.5),
        ],
    ),
    "scored otherwise": (
        known.is_scored_otherwise,
        [
            dist.RelaxedOneHotCategoricalStraightThrough(HALF, logits=THREE),
            ours.RelaxedBernoulli(0.5, logits=THREE, score="discrete"),
        ],
        [dist.RelaxedOneHotCategorical(HALF, logits=THREE), ours.RelaxedBernoulli(0.5, logits=THREE)],
    ),
    "once": (
        known.is_differentiable_once,
        [
            dist.Gamma(HALF, 1.0),
            dist.Chi2(HALF),
            dist.InverseGamma(HALF, 1.0).expand([3]).to_event(1),
            ours.Truncated(dist.Normal(HALF, 1.0), 0.0, 1.0),
            dist.OMTMultivariateNormal(THREE, torch.eye(3)),
        ],
        [
            ours.Gamma(HALF, 1.0),
            dist.TransformedDistribution(ours.Gamma(HALF, 1.0), []),
            dist.MultivariateNormal(THREE, torch.eye(3)),
        ],
    ),
    "twin": (
        known.has_twin,
        [dist.StudentT(HALF), dist.InverseGamma(HALF, 1.0)],
        [ours.StudentT(HALF), ours.TruncatedNormal(HALF, 1.0, 0.0, 1.0), dist.Normal(HALF, 1.0)],
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_facts(name):
    fact, yes, no = FACTS[name]
    assert [fact(fn) for fn in yes] == [True] * len(yes)
    assert [fact(fn) for fn in no] == [False] * len(no)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def single(x):
    return torch.tensor(x, dtype=torch.float32)


def mixture(components):
    return dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), components)


NORMALS = (torch.zeros(2, 3), torch.ones(3), torch.zeros(2))

ALWAYS = {
    "MixtureOfDiagNormals": dist.MixtureOfDiagNormals(NORMALS[0], torch.ones(2, 3), NORMALS[2]),
    "MixtureOfDiagNormalsSharedCovariance": dist.MixtureOfDiagNormalsSharedCovariance(*NORMALS),
    "StraightThroughOneHotCategorical": dist.OneHotCategoricalStraightThrough(logits=THREE),
    "StraightThroughBernoulli": dist.RelaxedBernoulliStraightThrough(HALF, logits=HALF),
    "Wishart": dist.Wishart(single(4.0), torch.eye(2)),
    "VonMises": dist.VonMises(0.0, 1.0),
    "VonMisesFisher": dist.VonMises3D(torch.tensor([1.0, 0.0, 0.0])),
    "LKJCholesky": dist.LKJCholesky(3, 1.0),
    "MixtureSameFamily": mixture(dist.Normal(torch.zeros(2), 1.0)),
}
"""Distributions that have a defect whatever their parameters, by what takes their place."""


def relaxed_one_hot(temperature, size):
    return dist.RelaxedOneHotCategorical(temperature, logits=temperature.new_zeros(size))


RANGES = {
    "ContinuousBernoulli: below": (
        lambda logits: dist.ContinuousBernoulli(logits=logits),
        single(-0.0039),
        single(-0.0041),
    ),
    "ContinuousBernoulli: above": (
        lambda logits: dist.ContinuousBernoulli(logits=logits),
        double(0.0039),
        double(0.0041),
    ),
    "GeneralizedPareto": (lambda c: td.GeneralizedPareto(0.0, 1.0, c), double(1e-9), double(1e-7)),
    "GeneralizedPareto: float32": (
        lambda c: td.GeneralizedPareto(0.0, 1.0, c),
        single(1e-7),
        single(1e-6),
    ),
    "Gamma": (lambda a: dist.Gamma(a, 1.0), single(0.07), single(0.09)),
    "Gamma: float64": (lambda a: dist.Gamma(a, 1.0), double(0.009), double(0.011)),
    "Gamma: Chi2": (lambda a: dist.Chi2(2 * a), single(0.07), single(0.09)),
    "Gamma: InverseGamma": (lambda a: dist.InverseGamma(a, 1.0), single(0.07), single(0.09)),
    "Beta": (lambda a: dist.Beta(a, a), single(0.06), single(0.08)),
    "Beta: float64": (lambda a: dist.Beta(a, a), double(0.008), double(0.01)),
    "Beta: large": (lambda b: dist.Beta(1.5, b), single(2.0**16 + 1039), single(9e3)),
    "Beta: both large": (lambda a: dist.Beta(a, 2.0**16 + 1039), double(6.0), double(6.1)),
    "Dirichlet": (lambda a: dist.Dirichlet(a * torch.ones(4)), single(0.06), single(0.08)),
    "Dirichlet: large": (
        lambda b: dist.Dirichlet(torch.stack([torch.ones(()), b])),
        single(1.1e4),
        single(9e3),
    ),
    "StudentT": (lambda df: dist.StudentT(df), single(0.4), single(0.5)),
    "StudentT: float64": (lambda df: dist.StudentT(df), double(0.05), double(0.06)),
    "Kumaraswamy: one": (lambda b: dist.Kumaraswamy(torch.ones(()), b), single(0.75), single(0.85)),
    "Kumaraswamy: zero": (lambda a: dist.Kumaraswamy(a, single(1.5)), single(0.13), single(0.15)),
    "RelaxedOneHotCategorical": (lambda t: relaxed_one_hot(t, 10), single(0.15), single(0.2)),
    "RelaxedOneHotCategorical: float64": (
        lambda t: relaxed_one_hot(t, 3),
        double(0.015),
        double(0.025),
    ),
    "RelaxedBernoulli": (lambda t: dist.RelaxedBernoulli(t, logits=HALF), single(0.4), single(0.5)),
}
"""By what takes its place: a distribution, a parameter at which it has a defect, one just beyond."""


@pytest.mark.parametrize("name", ALWAYS)
def test_a_class_with_a_defect_is_found(name):
    assert [defect.instead for defect in known.defects(ALWAYS[name])] == [name]


@pytest.mark.parametrize("name", RANGES)
def test_a_defect_is_found_in_its_range_and_not_beyond(name):
    make, inside, beyond = RANGES[name]
    assert [defect.instead for defect in known.defects(make(inside))] == [name.split(":")[0]]
    assert known.defects(make(beyond)) == ()


def test_one_element_of_a_batch_is_enough():
    concentration = torch.tensor([1.0, 0.01, 2.0])
    assert known.defects(dist.Gamma(concentration, 1.0).to_event(1).mask(False))


@pytest.mark.parametrize("name", REGISTRY)
def test_no_distribution_of_this_package_has_one(name):
    entry = REGISTRY[name]
    fns = [entry.at(point, dtype) for point in entry.points for dtype in (torch.float32, torch.float64)]
    assert [known.defects(fn) for fn in fns] == [()] * len(fns)


@pytest.mark.parametrize("name", sorted({*ALWAYS, *(name.split(":")[0] for name in RANGES)}))
def test_what_is_recommended_exists(name):
    assert isinstance(getattr(ours, name), type)


def test_counts_in_a_mixture_need_no_pathwise_sampler():
    assert known.defects(mixture(dist.Poisson(torch.ones(2)))) == ()


def test_a_subclass_with_a_sampler_of_its_own_has_another_one():
    class Mine(dist.Gamma):
        def rsample(self, sample_shape=()):
            return self.rate.expand(self._extended_shape(sample_shape))

    assert known.defects(Mine(single(0.01), 1.0)) == ()


# -- the defects are there --------------------------------------------------------------------------


def leaf(x):
    return x.expand(20_000).clone().requires_grad_()


def gradient(fn, parameter):
    return torch.autograd.grad(fn.rsample().sum(), parameter)[0]


@pytest.mark.parametrize("name", ["ContinuousBernoulli: above", "GeneralizedPareto"])
def test_a_gradient_is_zero_in_the_range_alone(name):
    make, inside, beyond = RANGES[name]
    for parameter, zero in ((leaf(inside), True), (leaf(beyond), False)):
        assert (gradient(make(parameter), parameter) == 0).all() == zero


@pytest.mark.parametrize("b, right", [(3e4, False), (1e3, True)])
def test_the_small_concentration_beside_a_large_one(b, right):
    one, b = leaf(double(1.5)), double(b)
    moved = gradient(dist.Beta(b, one), one) * -((1.5 + b) ** 2) / b  # of mean 1
    if right:
        assert_p(stats.ttest_1samp(moved.numpy(), 1.0).pvalue)
    else:
        assert abs(moved.mean() - 1) > 0.3


@pytest.mark.parametrize("cls", [dist.MixtureOfDiagNormals, ours.MixtureOfDiagNormals])
def test_the_logits_of_a_mixture(cls):
    locs = torch.tensor([[2.0, 2.0], [-2.0, 2.0]]).expand(20_000, 2, 2)
    logits = torch.zeros(20_000, 2, requires_grad=True)
    x = cls(locs, torch.ones(20_000, 2, 2), logits).rsample()
    moved = torch.autograd.grad(x.prod(-1).sum(), logits)[0][:, 1]  # half of -4, of the mean product 0
    if cls is ours.MixtureOfDiagNormals:
        assert_p(stats.ttest_1samp(moved.numpy(), -2.0).pvalue)
    else:
        assert abs(moved.mean() + 2) > 1


def test_backward_of_wishart():
    scale = torch.eye(2, requires_grad=True)
    with pytest.warns(UserWarning, match="Singular"):
        x = dist.Wishart(single(4.0), scale).rsample((2,))
    with pytest.raises(RuntimeError, match="inplace"):
        x.sum().backward()


def test_straight_through_log_prob_has_no_gradient_in_the_value():
    fn = dist.OneHotCategoricalStraightThrough(logits=torch.zeros(3))
    value = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    assert not fn.log_prob(value).requires_grad

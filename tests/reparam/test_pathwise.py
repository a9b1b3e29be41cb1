import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import distributions as td

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.wrappers import innermost
from pyro_reparam_ext.reparam import PathwiseReparam
from pyro_reparam_ext.reparam.pathwise import pathwise_twin

ours = pre.distributions


def leaf(*values):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64).requires_grad_()


def square():
    return torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64, requires_grad=True)


def table():
    return torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=torch.float64, requires_grad=True)


def positive():
    return torch.tensor([[1.0, 0.5], [0.7, 2.0]], dtype=torch.float64, requires_grad=True)


def mixture(logits, loc, scale):
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, scale))


def torch_mixture(logits, rate):
    return td.MixtureSameFamily(td.Categorical(logits=logits), td.Gamma(2.0 + 0 * rate, rate))


def lkj_corr_cholesky(concentration):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return dist.LKJCorrCholesky(3, concentration)


def relaxed_one_hot(temperature, logits):
    return dist.RelaxedOneHotCategorical(temperature, logits=logits)


FAMILIES = {
    "Gamma": (dist.Gamma, [leaf(2.0), leaf(3.0)], ours.Gamma),
    "Gamma-torch": (td.Gamma, [leaf(2.0), leaf(3.0)], ours.Gamma),
    "Chi2": (dist.Chi2, [leaf(3.0)], ours.Gamma),
    "Beta": (dist.Beta, [leaf(2.0), leaf(3.0)], ours.Beta),
    "Dirichlet": (dist.Dirichlet, [leaf(2.0, 3.0, 0.5)], ours.Dirichlet),
    "StudentT": (dist.StudentT, [leaf(3.0), leaf(1.0), leaf(2.0)], ours.StudentT),
    "Kumaraswamy": (dist.Kumaraswamy, [leaf(2.0), leaf(3.0)], ours.Kumaraswamy),
    "ContinuousBernoulli": (dist.ContinuousBernoulli, [leaf(0.3)], ours.ContinuousBernoulli),
    "Wishart": (dist.Wishart, [leaf(3.0), square()], ours.Wishart),
    "Wishart-precision": (
        lambda df, m: dist.Wishart(df, precision_matrix=m),
        [leaf(3.0), square()],
        ours.Wishart,
    ),
    "VonMises": (dist.VonMises, [leaf(0.5), leaf(3.0)], ours.VonMises),
    "LKJCholesky": (lambda c: dist.LKJCholesky(3, c), [leaf(1.5)], ours.LKJCholesky),
    "LKJCorrCholesky": (lkj_corr_cholesky, [leaf(1.5)], ours.LKJCholesky),
    "MixtureSameFamily": (
        mixture,
        [leaf(0.0, 1.0), leaf(0.0, 2.0), leaf(1.0, 0.5)],
        ours.MixtureSameFamily,
    ),
    "MixtureSameFamily-torch": (
        torch_mixture,
        [leaf(0.0, 1.0), leaf(1.0, 2.0)],
        ours.MixtureSameFamily,
    ),
    "MixtureOfDiagNormals": (
        dist.MixtureOfDiagNormals,
        [table(), positive(), leaf(0.0, 1.0)],
        ours.MixtureOfDiagNormals,
    ),
    "MixtureOfDiagNormalsSharedCovariance": (
        dist.MixtureOfDiagNormalsSharedCovariance,
        [table(), leaf(1.0, 0.5), leaf(0.0, 1.0)],
        ours.MixtureOfDiagNormalsSharedCovariance,
    ),
    "RelaxedBernoulli": (
        lambda t, p: dist.RelaxedBernoulli(t, probs=p),
        [leaf(0.7), leaf(0.3)],
        ours.RelaxedBernoulli,
    ),
    "RelaxedOneHotCategorical": (
        relaxed_one_hot,
        [leaf(0.7), leaf(0.0, 1.0, 2.0)],
        ours.RelaxedOneHotCategorical,
    ),
}
STRAIGHT_THROUGH = {
    "Bernoulli": (
        lambda: dist.RelaxedBernoulliStraightThrough(leaf(0.7), probs=leaf(0.3)),
        ours.StraightThroughBernoulli,
    ),
    "OneHotCategorical": (
        lambda: dist.RelaxedOneHotCategoricalStraightThrough(leaf(0.7), logits=leaf(0.0, 1.0, 2.0)),
        ours.StraightThroughOneHotCategorical,
    ),
}
MASK = torch.tensor([True, False])
WRAPPERS = {
    "none": lambda fn: fn,
    "expand": lambda fn: fn.expand([3, 2]),
    "to_event": lambda fn: fn.expand([3, 2]).to_event(1),
    "mask": lambda fn: fn.expand([3, 2]).mask(MASK),
    "all": lambda fn: fn.expand([3, 2]).mask(MASK).to_event(1).mask(True),
}


def swapped(fn, obs=None):
    program = poutine.reparam(lambda: pyro.sample("x", fn, obs=obs), config={"x": PathwiseReparam()})
    return poutine.trace(program).get_trace().nodes["x"]


UNWRAPPED = {"Gamma-torch", "MixtureSameFamily-torch", "LKJCorrCholesky"}
"""Torch's classes have no ``mask``, and Pyro's LKJCorrCholesky can't be expanded."""


@pytest.mark.parametrize(
    "name, wrapper",
    [(n, w) for n in FAMILIES for w in WRAPPERS if w == "none" or n not in UNWRAPPED],
)
def test_same_law_with_a_pathwise_gradient(name, wrapper):
    make, leaves, target = FAMILIES[name]
    fn = make(*leaves)
    fn = WRAPPERS[wrapper](fn)
    site = swapped(fn)
    twin, value = site["fn"], site["value"]
    assert type(innermost(twin)) is target
    assert (twin.batch_shape, twin.event_shape) == (fn.batch_shape, fn.event_shape)
    assert twin.has_rsample and not site["is_observed"]
    torch.testing.assert_close(twin.log_prob(value), fn.log_prob(value))
    weights = torch.linspace(0.3, 1.0, value.numel(), dtype=value.dtype).reshape(value.shape)
    for gradient in torch.autograd.grad((weights * value.square()).sum(), leaves):
        assert gradient.isfinite().all() and (gradient != 0).any()


def test_generalized_pareto():
    """In float32 only: torch's log_prob fails in float64."""
    fn = dist.GeneralizedPareto(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(0.0))
    twin = pathwise_twin(fn)
    value = twin.sample()
    assert type(twin) is ours.GeneralizedPareto
    torch.testing.assert_close(twin.log_prob(value), fn.log_prob(value))


TRANSFORMED = {
    "InverseGamma": (dist.InverseGamma, [leaf(2.0), leaf(3.0)], ours.Gamma),
    "AffineBeta": (dist.AffineBeta, [leaf(2.0), leaf(3.0), leaf(-1.0), leaf(2.0)], ours.Beta),
    "LKJ": (lambda c: dist.LKJ(3, c), [leaf(1.5)], ours.LKJCholesky),
    "exp of StudentT": (
        lambda df: dist.TransformedDistribution(
            dist.StudentT(df, 0.0, 0.3).expand([3]).to_event(1), dist.transforms.ExpTransform()
        ),
        [leaf(3.0)],
        ours.StudentT,
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_base_of_a_transform_is_swapped(name):
    make, leaves, target = TRANSFORMED[name]
    fn = make(*leaves)
    site = swapped(fn)
    twin, value = site["fn"], site["value"]
    if name != "LKJ":  # whose class can't be expanded
        assert type(twin) is type(fn)
    base = twin.base_dist
    assert type(getattr(base, "base_dist", base)) is target
    assert fn.base_dist is not twin.base_dist and twin.transforms == fn.transforms
    torch.testing.assert_close(twin.log_prob(value), fn.log_prob(value))
    for gradient in torch.autograd.grad(value.square().sum(), leaves):
        assert gradient.isfinite().all() and gradient != 0
    expanded = twin.expand([5])
    assert expanded.rsample().shape == (5,) + fn.event_shape


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_straight_through_becomes_discrete(name):
    make, target = STRAIGHT_THROUGH[name]
    twin = pathwise_twin(make())
    assert type(twin) is target and twin.temperature == 0.7
    values = twin.enumerate_support()
    torch.testing.assert_close(
        twin.log_prob(values).logsumexp(0), torch.tensor(0.0, dtype=torch.float64)
    )


def test_observed_value_is_kept():
    obs = torch.tensor(0.3, dtype=torch.float64)
    site = swapped(dist.Beta(leaf(2.0), leaf(3.0)), obs=obs)
    assert site["value"] is obs and site["is_observed"]
    assert type(site["fn"]) is ours.Beta


def test_parameters_are_handed_over_not_copied():
    concentration, rate = leaf(2.0), leaf(3.0)
    fn = dist.Gamma(concentration, rate)
    twin = pathwise_twin(fn)
    assert twin.concentration is fn.concentration and twin.rate is fn.rate


@pytest.mark.parametrize("validate", [False, True])
def test_validation_is_kept(validate):
    for fn in (
        dist.Gamma(2.0, 3.0, validate_args=validate),
        dist.VonMises(0.0, torch.ones(2), validate_args=validate).to_event(1),
        dist.InverseGamma(2.0, 3.0, validate_args=validate),
    ):
        assert pathwise_twin(fn)._validate_args is validate


def test_ours_stay_as_they_are():
    for fn in (
        ours.Gamma(2.0, 3.0),
        ours.TruncatedNormal(0.0, 1.0, -1.0, 1.0).to_event(0),
        ours.VonMises(torch.zeros(2), 1.0).to_event(1).mask(False),
    ):
        assert pathwise_twin(fn) is fn


def test_small_concentrations_do_not_underflow():
    """torch's Gamma of shape 0.01 has 42 % of its draws at the smallest float."""
    site = swapped(dist.Gamma(torch.full((10_000,), 0.01), 1.0))
    assert (site["value"] > 0).all()
    assert site["value"].log().min() < 0.5 * math.log(torch.finfo(torch.float32).tiny)


@pytest.mark.parametrize(
    "fn, match",
    [
        (dist.Normal(0.0, 1.0), "given Normal; expected one of Beta, .*AutoPathwise"),
        (dist.LogNormal(torch.zeros(2), 1.0).to_event(1), "given LogNormal; expected"),
        (dist.Bernoulli(0.5).mask(False), "given Bernoulli; expected"),
        (dist.Delta(torch.tensor(0.0)), "given Delta; expected"),
        (
            dist.MixtureSameFamily(
                dist.Categorical(torch.ones(2)),
                dist.MultivariateNormal(torch.zeros(2, 2), torch.eye(2)),
            ),
            r"can't serve it\. MixtureSameFamily: .* not known to be independent",
        ),
    ],
)
def test_refuses(fn, match):
    with pytest.raises(pre.EstimatorError, match=f"site 'x': PathwiseReparam .*{match}"):
        swapped(fn)

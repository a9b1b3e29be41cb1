"""Calls that torch's or Pyro's class of the same name takes, given to ours."""

import inspect
import math
from types import SimpleNamespace

import pyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre

from .registry import CLASSES, REGISTRY

NAMESAKES = sorted(
    name
    for name in CLASSES
    if hasattr(dist, name) and "validate_args" in inspect.signature(getattr(dist, name)).parameters
)


@pytest.mark.parametrize("name", NAMESAKES)
def test_positions_are_those_of_the_namesake(name):
    ours, theirs = (
        [p for p in inspect.signature(getattr(library, name)).parameters.values()]
        for library in (pre.distributions, dist)
    )
    positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [p.name for p in theirs]


@pytest.mark.parametrize("name", NAMESAKES)
def test_public_methods_are_those_of_the_namesake(name):
    public = {x for x in dir(getattr(dist, name)) if not x.startswith("_")}
    # Of a transformed distribution, or set by the constructor.
    missing = public - set(dir(getattr(pre.distributions, name))) - {"clear_cache", "temperature"}
    assert not missing


@pytest.mark.parametrize("name", REGISTRY)
def test_support_prints_its_whole_name(name):
    """torch drops the first letter, an underscore as a rule."""
    assert repr(REGISTRY[name].at(REGISTRY[name].points[0]).support)[0].isupper()


def test_validate_args_by_position():
    fn = pre.distributions.Kumaraswamy(2.0, 3.0, False)
    assert not fn._validate_args
    relaxed = pre.distributions.RelaxedBernoulli(torch.tensor(0.5), torch.tensor(0.3), None, True)
    assert relaxed._validate_args


def test_lims_of_a_continuous_bernoulli_change_nothing():
    x = torch.tensor([0.2, 0.9])
    plain = pre.distributions.ContinuousBernoulli(torch.tensor(0.4995))
    given = pre.distributions.ContinuousBernoulli(torch.tensor(0.4995), None, (0.4, 0.6), False)
    torch.testing.assert_close(given.expand((2,)).log_prob(x), plain.log_prob(x), rtol=0, atol=0)


@pytest.mark.parametrize("concentration", [-0.7, -1.5, 0.0, 0.4])
def test_log_cdf_of_a_generalized_pareto(concentration):
    c = torch.tensor(concentration, dtype=torch.float64, requires_grad=True)
    fn = pre.distributions.GeneralizedPareto(1.0, 2.0, c, False)
    x = torch.tensor([0.0, 1.0, 1.0 + 1e-12, 1.5, 2.2, 50.0], dtype=torch.float64)
    log_cdf = fn.log_cdf(x)
    torch.testing.assert_close(log_cdf.exp(), fn.cdf(x))
    assert (log_cdf[:2] == -math.inf).all()
    assert log_cdf[2].item() == pytest.approx(math.log(5e-13), rel=1e-3)
    assert torch.autograd.grad(log_cdf[2:].sum(), c)[0].isfinite()


def two(name, library):
    """Two laws of a class, as torch and this package take them."""
    cls = getattr(library, name)
    given = {
        "Kumaraswamy": [(2.0, 3.0), (1.5, 0.7)],
        "VonMises": [(0.5, 2.0), (-0.8, 0.7)],
        "RelaxedBernoulli": [(0.8, 0.3), (0.8, 0.6)],
        "RelaxedOneHotCategorical": [(0.8, (0.3, 0.7)), (0.8, (0.6, 0.4))],
    }
    return [cls(*(torch.tensor(x, dtype=torch.float64) for x in xs)) for xs in given[name]]


def point(name, x):
    x = torch.tensor(x, dtype=torch.float64)
    return torch.stack([x, 1 - x]) if name == "RelaxedOneHotCategorical" else x


def tensors(*rows):
    return [tuple(torch.tensor(x, dtype=torch.float64) for x in row) for row in rows]


DERIVED = {
    "Beta": tensors((2.0, 3.0), (1.5, 0.7)),
    "ContinuousBernoulli": tensors((0.3,), (0.6,)),
    "Dirichlet": tensors(([2.0, 3.0],), ([1.5, 0.7],)),
    "Gamma": tensors((2.0, 3.0), (1.5, 0.7)),
    "Wishart": tensors((4.0, [[1.0, 0.2], [0.2, 1.0]]), (5.0, [[2.0, 0.0], [0.0, 1.0]])),
}
OTHERS = {
    **{
        name: tensors((0.3, 1.2))[0]
        for name in ("Gumbel", "Laplace", "Normal", "Pareto", "Uniform", "Weibull")
    },
    "Exponential": tensors((1.3,))[0],
    **{name: given[1] for name, given in DERIVED.items()},
}


def known_divergences():
    """Both names, and whether ours comes first, wherever torch has a divergence."""
    for name, (given, _) in DERIVED.items():
        for other, parameters in OTHERS.items():
            one, two = getattr(dist, name)(*given), getattr(dist, other)(*parameters)
            for first in (True, False):
                try:
                    kl_divergence(*((one, two) if first else (two, one)))
                except NotImplementedError:
                    continue
                yield name, other, first


@pytest.mark.parametrize(("name", "other", "first"), list(known_divergences()))
def test_divergences_that_torch_knows(name, other, first):
    ours, theirs = (getattr(library, name)(*DERIVED[name][0]) for library in (pre.distributions, dist))
    there = getattr(dist, other)(*OTHERS[other])
    got, expected = (kl_divergence(*((x, there) if first else (there, x))) for x in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    if hasattr(pre.distributions, other):
        there = getattr(pre.distributions, other)(*OTHERS[other])
        got = kl_divergence(*((ours, there) if first else (there, ours)))
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


TRANSFORMED = ["Kumaraswamy", "RelaxedBernoulli", "RelaxedOneHotCategorical"]


@pytest.mark.parametrize("name", [*TRANSFORMED, "VonMises"])
@pytest.mark.parametrize("theirs", [(), (0,), (1,)], ids=str)
def test_divergence_from_and_to_the_class_of_torch(name, theirs):
    low, high = (-math.pi, math.pi) if name == "VonMises" else (0.0, 1.0)
    laws = two(name, torch.distributions)

    def log_density(fn, x):
        if name == "VonMises":  # torch's Bessel function has seven digits
            return scipy.stats.vonmises.logpdf(x, fn.concentration.item(), fn.loc.item())
        return fn.log_prob(point(name, x)).item()

    def integrand(x):
        log_p, log_q = (log_density(fn, x) for fn in laws)
        return math.exp(log_p) * (log_p - log_q)

    expected, _ = scipy.integrate.quad(integrand, low, high, epsabs=1e-12, epsrel=1e-11, limit=500)
    both = [two(name, dist if i in theirs else pre.distributions)[i] for i in range(2)]
    assert kl_divergence(*both).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["RelaxedBernoulli", "RelaxedOneHotCategorical"])
def test_no_divergence_of_hard_values_scored_as_relaxed_ones(name):
    hard = SimpleNamespace(**{name: getattr(dist, f"{name}StraightThrough")})
    ours, theirs = two(name, pre.distributions)[0], two(name, hard)[1]
    for pair in ((ours, theirs), (theirs, ours)):
        with pytest.raises(NotImplementedError, match="StraightThroughOneHotCategorical in its place"):
            kl_divergence(*pair)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_base_and_transforms_are_those_of_torch(name):
    ours, theirs = two(name, pre.distributions)[0], two(name, torch.distributions)[0]
    assert isinstance(ours.base_dist, type(theirs.base_dist))
    assert list(map(type, ours.transforms)) == list(map(type, theirs.transforms))
    again = dist.TransformedDistribution(ours.base_dist, ours.transforms)
    for x in (0.05, 0.4, 0.93):
        value = point(name, x)
        expected = theirs.log_prob(value)
        torch.testing.assert_close(ours.log_prob(value), expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(again.log_prob(value), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_base_has_the_gradients_and_the_shape_of_the_batch(name):
    one, other = two(name, pre.distributions)
    parameters = [getattr(one, key).detach().clone().requires_grad_() for key in one.arg_constraints]
    fn = type(one)(**dict(zip(one.arg_constraints, parameters, strict=True))).expand((2, 3))
    assert fn.base_dist.batch_shape == (2, 3) and fn.base_dist.event_shape == fn.event_shape
    value = fn.base_dist.rsample()
    for transform in fn.transforms:
        value = transform(value)
    assert value.shape == fn.rsample().shape and fn.support.check(value).all()
    assert all(g.any() for g in torch.autograd.grad(value.square().sum(), parameters))


def test_rows_with_temperatures_of_their_own_have_no_base():
    fn = pre.distributions.RelaxedOneHotCategorical(torch.tensor([0.3, 0.5]), logits=torch.zeros(2, 3))
    with pytest.raises(AttributeError, match="take the logarithm of a draw"):
        fn.base_dist  # noqa: B018
    binary = pre.distributions.RelaxedBernoulli(torch.tensor([0.3, 0.5]), logits=torch.zeros(2))
    assert binary.base_dist.batch_shape == (2,)

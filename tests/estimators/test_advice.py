"""What errors advise can be followed: every estimator that one names runs on the program at hand."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.advice import UNBIASED, advise, unbiased_for

from ..families import FAMILIES
from ..registry import REGISTRY, layout_of
from ..slow import one_in

NAMES = "|".join(pre.estimators.__all__)


def advised(message):
    """The estimators in the sentence that begins with "Use"."""
    sentence = re.search(r"\bUse ([^.]*)\.", message)
    assert sentence is not None, message
    return [getattr(pre, name)() for name in re.findall(rf"\b(?:{NAMES})\b", sentence[1])]


def follow(error, model, guide, sites, **options):
    """Runs the program by each advised estimator in place of the one at fault."""
    estimators = advised(str(error.value))
    assert estimators
    for estimator in estimators:
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO(dict.fromkeys(sites, estimator), num_particles=2, **options)
        assert math.isfinite(elbo.loss_and_grads(model, guide))


def refused(make, model, guide, sites, **options):
    with pytest.raises(pre.EstimatorError) as error:
        elbo = pre.TraceEstimator_ELBO(dict.fromkeys(sites, make()), **options)
        elbo.loss_and_grads(model, guide)
    return error


def unserved():
    return [
        (label, family)
        for label, entry in REGISTRY.items()
        for family, one in FAMILIES.items()
        if not entry.make().supports(one.make(torch.zeros(3, one.size)))
    ]


@pytest.mark.parametrize(("label", "family"), one_in(3, unserved()))
def test_unserved_distribution(label, family):
    layout = layout_of("no_plate", family)
    error = refused(REGISTRY[label].make, layout.model, layout.guide, layout.sites)
    follow(error, layout.model, layout.guide, layout.sites)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_particle(family):
    layout = layout_of("no_plate", family)
    error = refused(pre.LeaveOneOut, layout.model, layout.guide, layout.sites)
    follow(error, layout.model, layout.guide, layout.sites)


@pytest.mark.parametrize(
    ("label", "family"),
    [
        (label, family)
        for label in ("Enumeration", "LocalExpectation")
        for family in REGISTRY[label].families
    ],
)
def test_cost_outside_of_a_plate(label, family):
    layout = layout_of("cost_outside", family)
    error = refused(REGISTRY[label].make, layout.model, layout.guide, layout.sites)
    follow(error, layout.model, layout.guide, layout.sites)


LARGE = {
    "Bernoulli": lambda x: dist.Bernoulli(logits=x.expand(7)).to_event(1),
    "Categorical": lambda x: dist.Categorical(logits=x * torch.arange(110)),
    "OneHotCategorical": lambda x: dist.OneHotCategorical(logits=x * torch.arange(110)),
    "Binomial": lambda x: dist.Binomial(90, logits=x),
    "BetaBinomial": lambda x: dist.BetaBinomial(x.exp(), 1.0, total_count=90),
}


@pytest.mark.parametrize("family", LARGE)
def test_joint_support_too_large(family):
    make = LARGE[family]

    def guide():
        for name in "ab":
            pyro.sample(name, make(pyro.param(f"{name}_logit", torch.tensor(0.1))))

    def model():
        for name in "ab":
            pyro.sample(name, make(torch.tensor(0.0)))

    error = refused(pre.Enumeration, model, guide, "ab")
    follow(error, model, guide, "ab")


def test_a_support_that_is_too_large_by_itself_is_not_advised():
    fn = dist.Categorical(logits=torch.zeros(5000))
    assert "Enumeration" not in advise(fn, but=lambda estimator: False)


@pytest.mark.parametrize("make", [dist.Binomial, dist.BetaBinomial])
@pytest.mark.parametrize("estimator", [pre.Enumeration, pre.LocalExpectation])
def test_counts_out_of_different_totals(make, estimator):
    total = torch.tensor([2.0, 5.0])

    def fn(x):
        if make is dist.Binomial:
            return dist.Binomial(total, logits=x)
        return dist.BetaBinomial(x.exp(), 1.0, total)

    def guide():
        with pyro.plate("rows", 2):
            pyro.sample("z", fn(pyro.param("x", torch.tensor(0.3)).expand(2)))

    def model():
        with pyro.plate("rows", 2):
            pyro.sample("z", fn(torch.zeros(2)))

    error = refused(estimator, model, guide, "z")
    assert re.search(r"'z'.*total_count is between 2 and 5.*one for all", str(error.value))
    follow(error, model, guide, "z")


def test_relaxed_value_upstream_of_what_cannot_be_relaxed():
    def guide():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("x", torch.tensor(0.3))))
        pyro.sample("k", dist.Poisson(1.0 + z))

    def model():
        pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("k", dist.Poisson(1.0))

    error = refused(pre.REBAR, model, guide, "z")
    follow(error, model, guide, "z")


def test_relaxed_value_that_is_read_as_a_number():
    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("x", torch.tensor(0.3))))

    def model():
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(1.0 if z.item() > 0.5 else 0.0, 1.0), obs=torch.tensor(1.0))

    error = refused(pre.REBAR, model, guide, "z", vectorize_particles=False)
    follow(error, model, guide, "z", vectorize_particles=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_advised_ones_are_those_that_serve(family):
    one = FAMILIES[family]
    fn = one.make(torch.zeros(3, one.size))
    names = {type(e).__name__ for e in unbiased_for(fn, but=lambda estimator: False)}
    labels = {type(e.make()) for e in REGISTRY.values() if family in e.families and e.make().unbiased}
    if not family.startswith(("Poisson", "Binomial")):
        labels.discard(pre.MeasureValued)  # for counts
    if family != "Subset":
        labels.discard(pre.UnorderedSet)  # for values of which there are too many to try
    assert names == {cls.__name__ for cls in labels & set(UNBIASED)}


def test_orders():
    order = pre.distributions.PlackettLuce(torch.zeros(5))
    found = unbiased_for(order, but=lambda estimator: False)
    assert [type(e) for e in found] == [pre.UnorderedSet, pre.LeaveOneOut, pre.ScoreFunction]
    assert found[0].evaluations(order) == 4


def test_the_advised_ones_are_unbiased():
    assert all(cls.unbiased for cls in UNBIASED)

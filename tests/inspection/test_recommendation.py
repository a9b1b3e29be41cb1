"""What is recommended, and that it serves the site."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import distributions as td

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.wrappers import innermost
from pyro_reparam_ext.reparam.pathwise import pathwise_twin

from .test_sites import DEFECTIVE


def program(make, dims=(), inside=True):
    """A model and a guide of one site "z" in a plate of two, and a cost inside or outside of it."""

    def model():
        with pyro.plate("two", 2):
            z = pyro.sample("z", make())
            z = z.sum(dims).float() if dims else z.float()
            if inside:
                pyro.sample("x", dist.Normal(z, 1.0), obs=torch.zeros(2))
        if not inside:
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=torch.tensor(0.0))

    def guide():
        with pyro.plate("two", 2):
            pyro.sample("z", make())

    return model, guide


def bits(size):
    return lambda: dist.Bernoulli(0.3 * torch.ones(size)).to_event(1)


TWIN, MORE = "less variance, by an antithetic twin", "less variance, by the other particles"
PARTICLES = "LeaveOneOut(), num_particles=2 or more"

ESTIMATORS = {
    "few": (program(bits(4), (-1,)), "Enumeration()", "exact, in 16 evaluations"),
    "several": (
        program(bits(20), (-1,)),
        "LocalExpectation(max_evaluations=None)",
        "exact over each coordinate, in 21 evaluations",
    ),
    "many": (program(bits(100), (-1,)), "DisARM()", TWIN),
    "outside": (program(bits(4), (-1,), inside=False), "DisARM()", TWIN),
    "categories": (
        program(lambda: dist.Categorical(torch.ones(3))),
        "Enumeration()",
        "exact, in 3 evaluations",
    ),
    "many categories": (program(lambda: dist.Categorical(torch.ones(100))), "DisARM()", TWIN),
    "counts": (program(lambda: dist.Poisson(2.0)), PARTICLES, MORE),
}
"""By name: a program, what is recommended for its site, and why."""


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_is_recommended_in_place_of_the_score_function(name):
    (model, guide), what, why = ESTIMATORS[name]
    row = pre.inspect_sites(model, guide).loc["z"]
    assert (row.recommended, row.why) == (what, why)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_recommended_serves_the_site(name):
    (model, guide), what, _ = ESTIMATORS[name]
    estimator = getattr(pre, what.split("(")[0])()
    particles = 2 if "num_particles" in what else 1
    elbo = pre.TraceEstimator_ELBO({"z": estimator}, num_particles=particles)
    elbo.loss_and_grads(model, guide)
    assert pre.inspect_sites(model, guide, elbo=elbo).recommended["z"] == ""


def test_many_small_sites_are_not_enumerated_together():
    def chain():
        for t in range(13):
            pyro.sample(f"z_{t}", dist.Bernoulli(0.5))

    recommended = pre.inspect_sites(chain, chain).recommended
    assert set(recommended) == {"LocalExpectation(max_evaluations=None)"}


def test_a_site_is_not_enumerated_beside_one_of_many_values():
    def program():
        pyro.sample("many", bits(10)(), infer={"estimator": pre.Enumeration()})
        pyro.sample("z", bits(3)())

    recommended = pre.inspect_sites(program, program).recommended
    assert recommended["z"] == "LocalExpectation(max_evaluations=None)"


def test_a_biased_estimator_has_an_unbiased_one_recommended():
    model, guide = program(bits(4), (-1,))
    elbo = pre.TraceEstimator_ELBO({"z": pre.GumbelSoftmax(0.5)})
    assert pre.inspect_sites(model, guide, elbo=elbo).recommended["z"] == "Enumeration()"


def test_an_unbiased_one_that_was_chosen_is_left():
    model, guide = program(bits(4), (-1,))
    elbo = pre.TraceEstimator_ELBO({"z": pre.REBAR()})
    assert pre.inspect_sites(model, guide, elbo=elbo).recommended["z"] == ""


def test_pathwise_where_the_sampler_is_right():
    model, guide = program(lambda: dist.Normal(0.0, 1.0))
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction())
    assert pre.inspect_sites(model, guide, elbo=elbo).recommended["z"] == "Pathwise()"


class Hyperbolic(dist.TorchDistribution):
    """A law of the real line that nobody made a pathwise sampler for."""

    arg_constraints = {}
    support = dist.constraints.real

    def sample(self, sample_shape=()):
        u = torch.rand(self._extended_shape(sample_shape))
        return (torch.pi / 2 * u).tan().log() * 2 / torch.pi

    def log_prob(self, value):
        return -(torch.pi / 2 * value).cosh().log() - 0.6931

    def expand(self, batch_shape, _instance=None):
        return Hyperbolic(torch.Size(batch_shape))


def test_a_density_of_ones_own():
    model, guide = program(lambda: Hyperbolic())
    row = pre.inspect_sites(model, guide).loc["z"]
    assert row.recommended == "pre.distributions.ImplicitUnivariate"


NO_TWIN = "StraightThroughOneHotCategorical, discrete"


@pytest.mark.parametrize("name", sorted(DEFECTIVE.keys() - {NO_TWIN}))
def test_the_reparameteriser_puts_the_recommended_class_there(name):
    base = innermost(pathwise_twin(DEFECTIVE[name]()))
    if type(base) is td.TransformedDistribution or isinstance(base, dist.TransformedDistribution):
        base = innermost(base.base_dist)
    assert type(base).__name__ == name.split(",")[0]


@pytest.mark.parametrize(
    "make, why",
    [
        (DEFECTIVE["VonMises"], "right; PathwiseReparam puts it there"),
        (DEFECTIVE[NO_TWIN], "right"),
    ],
)
def test_the_reparameteriser_is_named_where_it_serves(make, why):
    def site():
        pyro.sample("z", make())

    assert pre.inspect_sites(site, site).why["z"] == why

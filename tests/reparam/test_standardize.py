import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import StandardizeReparam

from ..slow import slow
from ..statistics import assert_mean
from .identities import DRAWS, check_identities, leaves_of

ours = pre.distributions
FAMILIES = {
    "Normal": (dist.Normal, (10.0, 5.0)),
    "Laplace": (dist.Laplace, (1.0, 2.0)),
    "Cauchy": (dist.Cauchy, (1.0, 2.0)),
    "Gumbel": (dist.Gumbel, (1.0, 2.0)),
    "Logistic": (dist.Logistic, (1.0, 2.0)),
    "StudentT": (dist.StudentT, (3.0, 1.0, 2.0)),
    "StudentT-ours": (ours.StudentT, (3.0, 1.0, 2.0)),
    "AsymmetricLaplace": (dist.AsymmetricLaplace, (1.0, 2.0, 0.7)),
    "SkewLogistic": (dist.SkewLogistic, (1.0, 2.0, 0.7)),
    "SoftLaplace": (dist.SoftLaplace, (1.0, 2.0)),
    "SkewNormal": (ours.SkewNormal, (1.0, 2.0, 0.7)),
    "ExponentiallyModifiedGaussian": (ours.ExponentiallyModifiedGaussian, (1.0, 2.0, 0.7)),
    "Uniform": (dist.Uniform, (1.0, 3.0)),
    "Exponential": (dist.Exponential, (2.0,)),
    "HalfNormal": (dist.HalfNormal, (2.0,)),
    "HalfCauchy": (dist.HalfCauchy, (2.0,)),
    "Gamma": (dist.Gamma, (2.0, 3.0)),
    "Gamma-ours": (ours.Gamma, (2.0, 3.0)),
    "Chi2": (dist.Chi2, (3.0,)),
    "Weibull": (dist.Weibull, (2.0, 3.0)),
    "GeneralizedPareto-ours": (ours.GeneralizedPareto, (2.0, 3.0, 0.1)),
}
FREE = {"Normal", "Laplace", "Cauchy", "Gumbel", "Logistic", "SoftLaplace", "Uniform", "Exponential"}
"""Families whose noise has no parameter."""


@pytest.mark.parametrize("name", FAMILIES)
def test_identities(name):
    check_identities(StandardizeReparam(), *FAMILIES[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_noise_is_standard(name):
    make, parameters = FAMILIES[name]
    fn = make(*leaves_of(parameters))
    noise = StandardizeReparam().noise(fn)
    for parameter, expected in {"loc": 0.0, "scale": 1.0, "rate": 1.0}.items():
        if parameter in fn.arg_constraints and name != "ExponentiallyModifiedGaussian":
            given = getattr(noise, parameter)
            assert torch.equal(given, torch.full_like(given, expected)) and not given.requires_grad
    log_prob = noise.log_prob(noise.sample())
    assert log_prob.requires_grad == (name not in FREE | {"HalfNormal", "HalfCauchy"})


def test_torchs_generalized_pareto():
    """In float32 only: torch's log_prob fails in float64."""
    leaves = leaves_of((2.0, 3.0, 0.1), torch.float32)
    fn = dist.GeneralizedPareto(*leaves)
    noise = StandardizeReparam().noise(fn)
    x = StandardizeReparam().forward(fn, noise.sample())
    torch.testing.assert_close(noise.log_prob((x - 2) / 3) - torch.log(leaves[1]), fn.log_prob(x))


def test_an_own_family_with_loc_and_scale():
    class Own(dist.Normal):
        pass

    fn = Own(*leaves_of((1.0, 2.0)))
    assert type(StandardizeReparam().noise(fn)) is Own
    check_identities(StandardizeReparam(), Own, (1.0, 2.0))


def test_validation_is_kept():
    for validate in (False, True):
        fn = dist.Normal(torch.zeros(DRAWS), 1.0, validate_args=validate)
        assert StandardizeReparam().noise(fn)._validate_args is validate


@pytest.mark.parametrize(
    "fn, match",
    [
        (dist.LogNormal(0.0, 1.0), "given LogNormal; .*loc, scale and real support.*TransformReparam"),
        (dist.Beta(1.0, 2.0), "given Beta; .*InverseCDFReparam"),
        (dist.VonMises(0.0, 1.0), "given VonMises"),
        (dist.Poisson(1.0), "given Poisson"),
        (dist.Stable(1.5, 0.0), "given Stable; .*LatentStableReparam"),
        (
            dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
            "given MultivariateNormal; .*CholeskyReparam",
        ),
        (dist.Beta(torch.ones(2), 1.0).to_event(1).mask(False), "given Beta"),
    ],
)
@pytest.mark.parametrize("guide", [False, True])
def test_refuses(fn, match, guide):
    program = poutine.reparam(
        lambda: pyro.sample("x", fn), config={"x": StandardizeReparam(guide=guide)}
    )
    with pytest.raises(pre.EstimatorError, match=f"site 'x': StandardizeReparam was {match}"):
        program()


@slow
def test_nuts_finds_the_posterior_of_a_hierarchy():
    r"""mu ~ N(0, 1), x_i ~ N(mu, 0.3^2), y_i ~ N(x_i, 1): normal, with a mean in closed form."""
    data = torch.tensor([1.5, -0.5, 2.0], dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)

    @poutine.reparam(config=dict.fromkeys(["mu", "x"], StandardizeReparam()))
    def model():
        mu = pyro.sample("mu", dist.Normal(0 * one, one))
        with pyro.plate("data", 3):
            x = pyro.sample("x", dist.Normal(mu, 0.3 * one))
            pyro.sample("y", dist.Normal(x, one), obs=data)

    precision = torch.eye(4, dtype=torch.float64)
    precision[0, 0] += 3 / 0.09
    precision[1:, 1:] += torch.eye(3, dtype=torch.float64) / 0.09
    precision[0, 1:] = precision[1:, 0] = -1 / 0.09
    exact = torch.linalg.solve(precision, torch.cat([0 * one[None], data]))

    kernel = NUTS(model, max_tree_depth=4, step_size=0.7, adapt_step_size=False)
    mcmc = MCMC(kernel, num_samples=450, warmup_steps=50, disable_progbar=True)
    mcmc.run()
    noise = mcmc.get_samples()
    mu = noise["mu_standard"]
    draws = torch.cat([mu[:, None], mu[:, None] + 0.3 * noise["x_standard"]], -1)
    assert_mean(draws[::3], exact)

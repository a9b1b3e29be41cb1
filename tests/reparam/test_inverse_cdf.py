import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import AutoNormal, init_to_value

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import InverseCDFReparam

from ..statistics import assert_mean
from .identities import check_identities, leaves_of

ours = pre.distributions


def quartic(x, tilt):
    return -(x**4) / 4 + tilt * x


def mirrored(low, high):
    base = ours.TruncatedNormal(torch.zeros_like(low), 1.0, low, high)
    return dist.TransformedDistribution(base, [dist.transforms.AffineTransform(1.0, -2.0)])


FAMILIES = {
    "Normal": (dist.Normal, (10.0, 5.0)),
    "Laplace": (dist.Laplace, (1.0, 2.0)),
    "Cauchy": (dist.Cauchy, (1.0, 2.0)),
    "Gumbel": (dist.Gumbel, (1.0, 2.0)),
    "Logistic": (dist.Logistic, (1.0, 2.0)),
    "SoftLaplace": (dist.SoftLaplace, (1.0, 2.0)),
    "Uniform": (dist.Uniform, (1.0, 3.0)),
    "Exponential": (dist.Exponential, (2.0,)),
    "HalfNormal": (dist.HalfNormal, (2.0,)),
    "HalfCauchy": (dist.HalfCauchy, (2.0,)),
    "LogNormal": (dist.LogNormal, (1.0, 0.5)),
    "Pareto": (dist.Pareto, (1.0, 2.0)),
    "Weibull": (dist.Weibull, (2.0, 3.0)),
    "Kumaraswamy": (dist.Kumaraswamy, (1.3, 2.0)),
    "Kumaraswamy-ours": (ours.Kumaraswamy, (1.3, 2.0)),
    "ContinuousBernoulli": (dist.ContinuousBernoulli, (0.3,)),
    "ContinuousBernoulli-ours": (ours.ContinuousBernoulli, (0.5,)),
    "GeneralizedPareto-ours": (ours.GeneralizedPareto, (2.0, 3.0, 0.1)),
    "Triangular": (ours.Triangular, (0.0, 1.0, 0.3)),
    "Truncated": (lambda loc: ours.Truncated(dist.Logistic(loc, 1.0), -1.0, 2.0), (0.4,)),
    "TruncatedNormal": (ours.TruncatedNormal, (0.0, 1.0, -1.0, 2.0)),
    "ImplicitUnivariate": (
        lambda tilt: ours.ImplicitUnivariate({"tilt": tilt}, log_density=quartic),
        (0.3,),
    ),
    "falling transform": (mirrored, (-1.0, 2.0)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_identities(name):
    check_identities(InverseCDFReparam(), *FAMILIES[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_noise_is_uniform_and_quantiles_rise(name):
    make, parameters = FAMILIES[name]
    fn = make(*leaves_of(parameters))
    noise = InverseCDFReparam().noise(fn)
    assert isinstance(noise, dist.Uniform) and noise.batch_shape == fn.batch_shape
    u = torch.linspace(0.01, 0.99, len(noise.low), dtype=torch.float64)
    x = InverseCDFReparam().forward(fn, u)
    assert (x.diff() > 0).all()
    torch.testing.assert_close(fn.cdf(x), u)


def test_gradients_that_torch_has_wrong():
    """At logits 0 and at concentration 0, where torch's icdf has gradient 0."""
    u = torch.tensor([0.2, 0.7], dtype=torch.float64)
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    InverseCDFReparam().forward(dist.ContinuousBernoulli(logits=logits), u).sum().backward()
    torch.testing.assert_close(logits.grad, 0.5 * u * (1 - u))

    shape = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    InverseCDFReparam().forward(dist.GeneralizedPareto(0.0, 1.0, shape), u).sum().backward()
    torch.testing.assert_close(shape.grad, 0.5 * torch.log1p(-u).square())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "name", ["Normal", "Laplace", "Exponential", "Gumbel", "Truncated", "Triangular"]
)
def test_ends_of_the_unit_interval(name, dtype):
    make, parameters = FAMILIES[name]
    leaves = [p[:2].detach().to(dtype).requires_grad_() for p in leaves_of(parameters)]
    fn = make(*leaves)
    u = torch.tensor([0.0, 1.0], dtype=dtype)
    x = InverseCDFReparam().forward(fn, u)
    assert x.dtype == dtype and x.isfinite().all() and x[0] < x[1]
    for gradient in torch.autograd.grad(x.sum(), leaves):
        assert gradient.isfinite().all()
    back = InverseCDFReparam().inverse(fn, x.detach())
    assert (back > 0).all() and (back < 1).all()


@pytest.mark.parametrize("name", ["Truncated", "TruncatedNormal", "ImplicitUnivariate"])
def test_second_derivatives_raise_where_they_would_be_wrong(name):
    make, parameters = FAMILIES[name]
    fn = make(*(p.detach()[0] for p in leaves_of(parameters)))
    u = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(InverseCDFReparam().forward(fn, u), u, create_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(slope, u)


def test_autonormal_starts_at_a_value_in_float32():
    program = poutine.reparam(
        lambda: pyro.sample("x", dist.Normal(10.0, 5.0)), config={"x": InverseCDFReparam()}
    )
    guide = AutoNormal(program, init_loc_fn=init_to_value(values={"x": torch.tensor(-3.0)}))
    guide()
    x = poutine.condition(program, data=guide.median())()
    torch.testing.assert_close(x.detach(), torch.tensor(-3.0), rtol=1e-5, atol=1e-5)


def test_nuts_over_a_uniform():
    """A conjugate normal, through the quantile of the prior."""
    one = torch.ones((), dtype=torch.float64)

    @poutine.reparam(config={"x": InverseCDFReparam()})
    def model():
        x = pyro.sample("x", dist.Normal(one, 2 * one))
        pyro.sample("y", dist.Normal(x, 1.5 * one), obs=3 * one)

    kernel = NUTS(model, max_tree_depth=4, step_size=0.9, adapt_step_size=False)
    mcmc = MCMC(kernel, num_samples=400, warmup_steps=50, disable_progbar=True)
    mcmc.run()
    fn = dist.Normal(one, 2 * one)
    draws = InverseCDFReparam().forward(fn, mcmc.get_samples()["x_uniform"])
    exact = (1 / 4 + 3 / 2.25) / (1 / 4 + 1 / 2.25)
    assert_mean(draws[::4, None], torch.tensor([exact]))


@pytest.mark.parametrize(
    "fn",
    [
        dist.Gamma(1.0, 2.0),
        dist.VonMises(0.0, 1.0),
        dist.Poisson(1.0),
        dist.Bernoulli(0.5),
        dist.InverseGamma(1.0, 2.0),
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        dist.Beta(torch.ones(2), 1.0).to_event(1),
        dist.Dirichlet(torch.ones(3)),
    ],
    ids=lambda fn: type(fn).__name__,
)
def test_refuses(fn):
    program = poutine.reparam(lambda: pyro.sample("x", fn), config={"x": InverseCDFReparam()})
    with pytest.raises(
        pre.EstimatorError, match="site 'x': InverseCDFReparam was given .*icdf and cdf"
    ):
        program()

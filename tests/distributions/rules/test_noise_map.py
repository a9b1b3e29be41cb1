"""Noise maps: a value and its redraw under a slightly changed law are nearly the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch import distributions as td
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_reparam_ext.distributions.rules.coupling import couple
from pyro_reparam_ext.distributions.rules.noise_map import noise_map, transport
from pyro_reparam_ext.distributions.rules.pathwise import has_pathwise, pathwise_at

from ...slow import one_in
from ...statistics import assert_mean
from ..entry import tensors
from ..registry import CONTINUOUS, RELAXED

DRAWS, MANY = 2000, 10_000
TRIL = [[1.2, 0.0, 0.0], [0.4, 0.7, 0.0], [-0.9, 0.3, 1.5]]


@dataclass(frozen=True)
class Case:
    """A distribution at parameters, all of which may be multiplied by a number near 1."""

    make: Callable[..., Any]
    parameters: dict[str, Any]

    def leaves(self, factor: float | Tensor, draws: int = DRAWS) -> dict[str, Tensor]:
        given = tensors(self.parameters)
        factors = torch.as_tensor(factor, dtype=torch.float64).expand(draws)
        return {k: factors.reshape(-1, *(1,) * x.dim()) * x for k, x in given.items()}

    def at(self, factor: float | Tensor, draws: int = DRAWS) -> Any:
        return self.make(**self.leaves(factor, draws))


def _relaxed(entry: Any) -> Case:
    fn = entry.at_temperature(0.6)
    logits = fn.logits if hasattr(fn, "logits") else fn.loc
    return Case(entry.make, {"temperature": 0.6, "logits": logits.tolist()})


THEIRS = {
    "Normal": Case(dist.Normal, {"loc": 0.3, "scale": 1.4}),
    "Laplace": Case(dist.Laplace, {"loc": 0.3, "scale": 1.4}),
    "Cauchy": Case(dist.Cauchy, {"loc": 0.3, "scale": 1.4}),
    "Gumbel": Case(dist.Gumbel, {"loc": 0.3, "scale": 1.4}),
    "Logistic": Case(dist.Logistic, {"loc": 0.3, "scale": 1.4}),
    "AsymmetricLaplace": Case(dist.AsymmetricLaplace, {"loc": 0.3, "scale": 1.4, "asymmetry": 1.5}),
    "Uniform": Case(dist.Uniform, {"low": -1.0, "high": 2.0}),
    "Exponential": Case(dist.Exponential, {"rate": 0.7}),
    "HalfNormal": Case(dist.HalfNormal, {"scale": 0.7}),
    "HalfCauchy": Case(dist.HalfCauchy, {"scale": 0.7}),
    "LogNormal": Case(dist.LogNormal, {"loc": 0.3, "scale": 1.4}),
    "Weibull": Case(dist.Weibull, {"scale": 0.7, "concentration": 1.4}),
    "Pareto": Case(dist.Pareto, {"scale": 0.7, "alpha": 2.5}),
    "InverseGamma": Case(dist.InverseGamma, {"concentration": 2.0, "rate": 0.7}),
    "Gamma": Case(dist.Gamma, {"concentration": 2.0, "rate": 0.7}),
    "Gamma-tiny": Case(dist.Gamma, {"concentration": 0.003, "rate": 0.7}),
    "Chi2": Case(dist.Chi2, {"df": 3.0}),
    "Beta": Case(dist.Beta, {"concentration1": 2.0, "concentration0": 0.7}),
    "Beta-tiny": Case(dist.Beta, {"concentration1": 0.01, "concentration0": 0.02}),
    "Dirichlet": Case(dist.Dirichlet, {"concentration": [0.4, 2.0, 5.0]}),
    "StudentT": Case(dist.StudentT, {"df": 3.0, "loc": 0.3, "scale": 1.4}),
    "Kumaraswamy": Case(dist.Kumaraswamy, {"concentration1": 2.0, "concentration0": 0.7}),
    "ContinuousBernoulli": Case(dist.ContinuousBernoulli, {"probs": 0.7}),
    "MultivariateNormal": Case(dist.MultivariateNormal, {"loc": [0.3, 1.0, -1.0], "scale_tril": TRIL}),
    "LowRankMultivariateNormal": Case(
        dist.LowRankMultivariateNormal,
        {"loc": [0.3, 1.0], "cov_factor": [[1.0], [0.4]], "cov_diag": [0.3, 1.0]},
    ),
    "MultivariateStudentT": Case(
        dist.MultivariateStudentT, {"df": 3.0, "loc": [0.3, 1.0, -1.0], "scale_tril": TRIL}
    ),
    "RelaxedBernoulli": Case(dist.RelaxedBernoulli, {"temperature": 0.6, "logits": 0.4}),
    "RelaxedBernoulli-cold": Case(dist.RelaxedBernoulli, {"temperature": 0.05, "logits": 0.4}),
    "RelaxedOneHotCategorical": Case(
        lambda logits: dist.RelaxedOneHotCategorical(torch.tensor(0.6), logits=logits),
        {"logits": [0.4, 0.0, -1.0]},
    ),
    "LogitRelaxedBernoulli": Case(
        td.relaxed_bernoulli.LogitRelaxedBernoulli, {"temperature": 0.6, "logits": 0.4}
    ),
    "Bernoulli": Case(dist.Bernoulli, {"logits": 0.4}),
    "OneHotCategorical": Case(dist.OneHotCategorical, {"logits": [0.4, 0.0, -1.0]}),
    "Poisson": Case(dist.Poisson, {"rate": 3.5}),
    "Poisson-large": Case(dist.Poisson, {"rate": 5e4}),
    "Geometric": Case(dist.Geometric, {"probs": 0.3}),
    "Binomial": Case(
        lambda logits: dist.Binomial(torch.tensor(12.0, dtype=torch.float64), logits=logits),
        {"logits": 0.4},
    ),
    "Binomial-large": Case(
        lambda logits: dist.Binomial(torch.tensor(1e5, dtype=torch.float64), logits=logits),
        {"logits": 0.4},
    ),
    "BetaBinomial": Case(
        lambda concentration1, concentration0: dist.BetaBinomial(
            concentration1, concentration0, torch.tensor(12.0, dtype=torch.float64)
        ),
        {"concentration1": 2.0, "concentration0": 0.7},
    ),
    "NegativeBinomial": Case(dist.NegativeBinomial, {"total_count": 2.5, "logits": 0.4}),
    "NegativeBinomial-tiny": Case(dist.NegativeBinomial, {"total_count": 0.05, "logits": 6.0}),
    "GammaPoisson": Case(dist.GammaPoisson, {"concentration": 2.5, "rate": 0.4}),
}
CASES = {
    **{f"pyro {name}": case for name, case in THEIRS.items()},
    **{name: Case(entry.make, entry.points[entry.typical]) for name, entry in CONTINUOUS.items()},
    **{name: _relaxed(entry) for name, entry in RELAXED.items()},
}
NOT_COUPLED = {
    *("VonMisesFisher", "PowerSpherical"),
    *("Wishart", "InverseWishart", "LKJCholesky"),
    *("MixtureSameFamily", "MixtureOfDiagNormals", "MixtureOfDiagNormalsSharedCovariance"),
    *("GumbelSinkhorn", "PlackettLuce", "RelaxedSubset"),
}
COUPLED = [name for name in CASES if name.split("-")[0] not in NOT_COUPLED]


def test_which_are_coupled():
    found = {name.split("-")[0] for name, case in CASES.items() if noise_map(case.at(1.0, 1)) is None}
    assert found == NOT_COUPLED


def _correlation(x: Tensor, y: Tensor) -> float:
    """The least one of a coordinate, of ranks: values may have no variance."""
    if len(x.unique()) > DRAWS / 2:
        x, y = (v.argsort(0).argsort(0).double() for v in (x, y))
    x, y = (v.double() - v.double().mean(0) for v in (x, y))
    return float(((x * y).mean(0) / (x.square().mean(0) * y.square().mean(0)).sqrt()).min())


@pytest.mark.parametrize("name", COUPLED)
def test_redraw_is_correlated(name):
    old, new = CASES[name].at(1.0), CASES[name].at(1.03)
    with torch.no_grad():
        value = old.sample()
        assert _correlation(value, couple(old, value, new)) > 0.9


def _near_zero(x: Tensor) -> Tensor:
    """In float64; of what is next to 0, libraries keep more or less."""
    return torch.where(x.abs() < 1e-30, 0.0, x.double())


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_redraw_follows_the_new_law(name, dtype):
    case = CASES[name]
    # By another factor for each; tiny concentrations grow, so that what was next to 0 gets away.
    factor = 1.5 if name.endswith("tiny") else 0.7
    given = {k: x[0].to(dtype) for k, x in case.leaves(1.0, 1).items()}
    old = case.make(**given)
    new = case.make(**{k: x * factor ** (1 / (1 + i)) for i, (k, x) in enumerate(given.items())})
    with torch.no_grad():
        coupled = _near_zero(couple(old, old.sample((MANY,)), new))
        fresh, pilot = (_near_zero(new.sample((MANY,))) for _ in range(2))
        law = noise_map(old).law(old)
        noise, drawn = noise_map(old).inverse(old, old.sample((MANY,))), law.sample((MANY,))
    squashed = (noise.double().tanh() - drawn.double().tanh()).reshape(MANY, -1)
    assert_mean(squashed, torch.zeros_like(squashed[0]))
    squashed = (noise.double().square().tanh() - drawn.double().square().tanh()).reshape(MANY, -1)
    assert_mean(squashed, torch.zeros_like(squashed[0]))
    assert coupled.isfinite().all() and new.support.check(coupled.to(dtype)).all()
    low, middle, high = pilot.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64), 0)

    def features(x: Tensor) -> Tensor:
        s = (x - middle) / (high - low).clamp(min=1e-3)
        return torch.stack([s.tanh(), s.sin(), *((x <= at).double() for at in (low, middle, high))])

    difference = (features(coupled) - features(fresh)).movedim(0, -1).flatten(1)
    assert_mean(difference, torch.zeros_like(difference[0]))


@pytest.mark.parametrize("name", CASES)
def test_unchanged_elements_keep_their_value(name):
    case = CASES[name]
    factor = torch.ones(50, dtype=torch.float64)
    if name.split("-")[0] in ("VonMisesFisher", "PowerSpherical"):
        return  # whose direction can't be multiplied
    factor[::2] = 1.05
    old, new = case.at(1.0, 50), case.at(factor, 50)
    with torch.no_grad():
        value = old.sample()
        coupled = couple(old, value, new)
    assert torch.equal(coupled[1::2], value[1::2])
    assert not torch.equal(coupled[::2], value[::2]) or value.unique().numel() < 20


OF_TWO = {
    *("Beta", "LogBeta", "StudentT", "SkewNormal", "InverseGaussian", "AsymmetricLaplace"),
    *("ExponentiallyModifiedGaussian",),
}
"""Made of more than one number."""
MOVING = {k: case.at(1.0, 1) for k, case in CASES.items() if "StraightThrough" not in k}
MONOTONE = [
    name
    for name in COUPLED
    if name in MOVING and MOVING[name].has_rsample and not MOVING[name].event_shape
    if name.split("-")[0].removeprefix("pyro ") not in {*OF_TWO, "HardConcrete"}
]


@pytest.mark.parametrize("name", MONOTONE)
def test_forward_moves_as_a_draw_does(name):
    """The map of a univariate law that increases is the quantile, whose slope is the velocity."""
    case, step = CASES[name], 1e-5
    leaves = {k: x.requires_grad_() for k, x in case.leaves(1.0, 50).items()}
    fn = case.make(**leaves)
    maps = noise_map(fn)
    value = fn.sample()
    noise = maps.inverse(fn, value).detach()
    moving = pathwise_at(fn, value)
    gradients = torch.autograd.grad(moving.sum(), list(leaves.values()), allow_unused=True)
    with torch.no_grad():
        up, down = (maps.forward(case.at(f, 50), noise) for f in (1 + step, 1 - step))
    slope = sum(g * x for g, x in zip(gradients, leaves.values(), strict=True) if g is not None)
    numerical = (up - down) / (2 * step)
    scale = float(numerical.abs().mean())
    torch.testing.assert_close(slope.detach(), numerical, rtol=2e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("name", COUPLED)
def test_redraw_moves_as_a_draw_does(name):
    case = CASES[name]
    old, leaves = case.at(1.0, 50), {k: x.requires_grad_() for k, x in case.leaves(1.05, 50).items()}
    new = case.make(**leaves)
    if not new.has_rsample or "StraightThrough" in name or "StudentT" in name and new.event_shape:
        return
    assert has_pathwise(new)
    coupled = couple(old, old.sample(), new)
    options = {"allow_unused": True, "retain_graph": True}
    given = torch.autograd.grad(coupled.sum(), list(leaves.values()), **options)
    expected = torch.autograd.grad(
        pathwise_at(new, coupled.detach()).sum(), list(leaves.values()), **options
    )
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("name", COUPLED)
def test_noise_of_the_law(name):
    """Noise is of the batch shape, and leads to the value that it was found from."""
    fn = CASES[name].at(1.0, 200)
    maps = noise_map(fn)
    law = maps.law(fn)
    assert law.batch_shape == fn.batch_shape
    value = fn.sample()
    noise = maps.inverse(fn, value)
    assert noise.shape == law.shape()
    again = maps.forward(fn, noise).detach()
    torch.testing.assert_close(again, value, rtol=1e-4, atol=1e-6)
    assert maps.forward(fn, law.sample()).shape == value.shape


def test_other_class_has_no_common_noise():
    value = torch.tensor(0.3)
    assert transport(value, dist.Normal(0.0, 1.0), dist.Laplace(0.0, 1.0)) is None
    old, new = dist.LogNormal(0.0, 1.0), dist.TransformedDistribution(dist.Laplace(0.0, 1.0), [])
    assert transport(value, old, new) is None


def test_hard_values_of_a_relaxed_law_have_no_noise():
    fn = dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.5), logits=torch.zeros(3))
    assert noise_map(fn) is None and noise_map(dist.Normal(0.0, 1.0)) is not None


def test_of_a_class_of_the_user():
    class Mine(dist.TorchDistribution):
        arg_constraints = {"scale": dist.constraints.positive}
        support = dist.constraints.positive

        def __init__(self, scale):
            self.scale = scale
            super().__init__(scale.shape, validate_args=False)

        def cdf(self, value):
            return -(-value / self.scale).expm1()

        def icdf(self, u):
            return -self.scale * (-u).log1p()

    old, new = Mine(torch.full((5,), 2.0)), Mine(torch.full((5,), 3.0))
    value = torch.linspace(0.1, 4, 5)
    torch.testing.assert_close(couple(old, value, new), 1.5 * value, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "name", one_in(3, ["pyro Beta", "pyro Gamma", "StudentT", "pyro Poisson", "pyro Binomial"], 1)
)
def test_under_vmap_and_captured(name):
    case = CASES[name]
    leaves = case.leaves(1.0, 8)
    value = case.make(**leaves).sample()

    def redrawn(value, *given):
        parameters = dict(zip(leaves, given, strict=True))
        new = case.make(**{k: 1.01 * x for k, x in parameters.items()})
        with torch.no_grad():
            return couple(case.make(**parameters), value, new)

    with pyro.validation_enabled(False):
        batched = torch.func.vmap(redrawn, randomness="different")(value, *leaves.values())
        graph = make_fx(redrawn)(value, *leaves.values())
    assert batched.shape == value.shape and batched.isfinite().all()
    assert graph(value, *leaves.values()).shape == value.shape

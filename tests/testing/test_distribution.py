"""The check of a distribution passes what is right, and names what is wrong."""

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.mixins.parametric import Parametric
from pyro_reparam_ext.numerics.implicit import implicit

from ..distributions.oracle import Joint
from ..distributions.registry import BY_CLASS
from ..slow import one_in

POINTS = [{"shape": 0.8, "rate": 1.5}, {"shape": 2.0, "rate": 0.5}]


class Gompertz(Parametric):
    arg_constraints = {"shape": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, shape, rate, *, validate_args=None):
        super().__init__({"shape": shape, "rate": rate}, validate_args=validate_args)

    def _draw(self, shape):
        hazard = torch.empty(shape, dtype=self.rate.dtype).exponential_()
        return torch.log1p(hazard / self.shape) / self.rate

    def _at(self, value):
        return implicit(value, self.velocity, self.shape, self.rate)

    @staticmethod
    def velocity(value, shape, rate):
        shrunk = -torch.expm1(-rate * value)
        return -shrunk / (shape * rate), -value / rate

    def log_prob(self, value):
        if self._validate_args:
            self._validate_sample(value)
        growth = torch.expm1(self.rate * value)
        return (self.shape * self.rate).log() + self.rate * value - self.shape * growth


class Unnormalised(Gompertz):
    def log_prob(self, value):
        return super().log_prob(value) - self.shape.log()


class OtherSamples(Gompertz):
    def _draw(self, shape):
        return 1.1 * super()._draw(shape)


class Sign(Gompertz):
    @staticmethod
    def velocity(value, shape, rate):
        of_shape, of_rate = Gompertz.velocity(value, shape, rate)
        return -of_shape, of_rate


class Mean(Gompertz):
    @property
    def mean(self):
        return 1 / self.rate


class Cdf(Gompertz):
    def cdf(self, value):
        return torch.exp(-self.shape * torch.expm1(self.rate * value))


class Unvalidated(Gompertz):
    def log_prob(self, value):
        return super().log_prob(value.clamp(min=1e-3))

    def _validate_sample(self, value):
        pass


class Outside(Gompertz):
    def _draw(self, shape):
        return super()._draw(shape) - 1


class Doubles(Gompertz):
    def _draw(self, shape):
        return super()._draw(shape).double()


class Forgetful(Gompertz):
    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new._validate_args = not self._validate_args
        return new


FAULTS = {
    Unnormalised: "the integral of exp",
    OtherSamples: "samples do not follow the density",
    Sign: "pathwise gradient.*sign",
    Mean: "mean is",
    Cdf: "cdf is",
    Unvalidated: "not refused.*_validate_sample",
    Outside: "not in the support",
    Doubles: "dtype of a sample for parameters of torch.float32",
    Forgetful: "validation after expand",
}


def test_what_is_right_passes():
    found = pre.testing.check_distribution(Gompertz, POINTS)
    assert found.quantity.tolist() == 2 * ["samples", "gradient"]


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
def test_a_fault_is_named(make):
    with pytest.raises(AssertionError, match=f"(?s)^{make.__name__} at shape=0.8.*{FAULTS[make]}"):
        pre.testing.check_distribution(make, POINTS)


@pytest.mark.parametrize(
    ("make", "point"),
    [
        (dist.Poisson, {"rate": 2.0}),
        (dist.OneHotCategorical, {"probs": [0.2, 0.3, 0.5]}),
        (dist.Categorical, {"probs": [0.2, 0.3, 0.5]}),
        (dist.Uniform, {"low": 0.5, "high": 2.0}),
        (dist.Dirichlet, {"concentration": [1.0, 2.0, 0.5]}),
        (dist.MultivariateNormal, {"loc": [1.0, 2.0], "scale_tril": [[1.0, 0.0], [0.5, 2.0]]}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_others_made(make, point):
    pre.testing.check_distribution(make, [point])


def test_an_angle_needs_an_oracle():
    """Its density is that of a real number, and has no integral over them all."""

    def functions(value):
        return torch.stack([value.cos(), value.sin()], -1)

    def expectation(loc, concentration):
        ratio = torch.special.i1(concentration) / torch.special.i0(concentration)
        return torch.stack([loc.cos(), loc.sin()]) * ratio

    point = {"loc": 0.3, "concentration": 2.0}
    found = pre.testing.check_distribution(
        pre.distributions.VonMises, [point], oracle=(functions, expectation)
    )
    assert found.quantity.tolist() == ["samples", "gradient"]


@pytest.mark.parametrize("name", one_in(3, sorted(BY_CLASS.keys() - {"VonMises"})))
def test_own_distribution(name):
    entry = BY_CLASS[name]
    known = isinstance(entry.oracle, Joint)
    oracle = (entry.oracle.features, entry.oracle.expectation) if known else None
    point = entry.points[entry.typical]
    pre.testing.check_distribution(entry.make, [point], oracle=oracle)

"""What code of Pyro's that asks for the class of a distribution makes of ours."""

import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.reparam import GumbelSoftmaxReparam, StudentTReparam
from pyro.infer.reparam.strategies import AutoReparam, MinimalReparam

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.wrappers import innermost

from .registry import CLASSES, REGISTRY

NOT_DERIVED = {
    "GeneralizedPareto",
    "Kumaraswamy",
    "MixtureOfDiagNormals",
    "MixtureOfDiagNormalsSharedCovariance",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
}
"""Classes that do not derive from that of Pyro of the same name, as docs/drop_in.md says."""


@pytest.mark.parametrize("name", sorted(name for name in CLASSES if hasattr(dist, name)))
def test_is_an_instance_of_the_namesake(name):
    derived = issubclass(getattr(pre.distributions, name), getattr(dist, name))
    assert derived is (name not in NOT_DERIVED)


def test_the_page_names_every_namesake():
    page = (Path(__file__).parents[2] / "docs" / "drop_in.md").read_text()
    derived, other = next(row for row in page.splitlines() if row.startswith("| `Beta`")).split("|")[
        1:3
    ]
    names = {name for name in CLASSES if hasattr(dist, name)}
    assert set(re.findall(r"`(\w+)`", other)) == NOT_DERIVED
    assert set(re.findall(r"`(\w+)`", derived)) == names - NOT_DERIVED


def fn_of(name):
    return REGISTRY[name].at(REGISTRY[name].points[0])


def trace_of(fn, config, value=None):
    def model():
        return pyro.sample("x", fn, obs=value)

    return poutine.trace(poutine.reparam(model, config=config)).get_trace()


def sites(trace):
    return [name for name, node in trace.nodes.items() if node["type"] == "sample"]


strategies = pytest.mark.parametrize("strategy", [AutoReparam, MinimalReparam])

FAMILIES = {"SkewNormal", "StudentT"}
"""Of location and scale, as Pyro's strategy takes any that has these and is real."""


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - FAMILIES))
@strategies
def test_strategies_leave_all_else_alone(name, strategy):
    fn = fn_of(name)
    trace = trace_of(fn, strategy())
    assert sites(trace) == ["x"] and trace.nodes["x"]["fn"] is fn


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_keeps_its_law(name):
    """The density of the noise, by the slope of the value in it, is that of the value."""
    fn = fn_of(name)
    trace = trace_of(fn, AutoReparam(centered=0.3))
    assert sites(trace) == ["x_decentered", "x"]
    noise = trace.nodes["x_decentered"]
    change = (1 - 0.3) * fn.scale.log()
    expected = noise["fn"].log_prob(noise["value"]) - change
    value = fn.loc + fn.scale.pow(0.7) * (noise["value"] - 0.3 * fn.loc)
    torch.testing.assert_close(trace.nodes["x"]["value"], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fn.log_prob(value), expected, rtol=1e-10, atol=1e-10)


@strategies
def test_parameters_of_an_own_density_may_be_called_loc_and_scale(strategy):
    parameters = {"loc": torch.tensor(1.0), "scale": torch.tensor(2.0)}
    fn = pre.distributions.ImplicitUnivariate(
        parameters, log_density=lambda x, loc, scale: -((x - loc) / scale).square() / 2 - scale.log()
    )
    assert sites(trace_of(fn, strategy())) == ["x"]


def test_an_exponential_of_its_own_rate_is_no_shape():
    """Pyro would keep the rate, beside a normal variable of another scale."""
    one = torch.ones((), dtype=torch.float64)
    fn = pre.distributions.ExponentiallyModifiedGaussian(one, 2 * one, 3 * one)
    assert sites(trace_of(fn, AutoReparam(centered=0.0))) == ["x"]
    trace = trace_of(fn, {"x": pre.reparam.StandardizeReparam()})
    noise = innermost(trace.nodes["x_standard"]["fn"])
    torch.testing.assert_close(
        torch.stack([noise.loc, noise.scale, noise.rate]), one.new_tensor([0, 1, 6])
    )


def test_studentt_reparam_takes_ours():
    one = torch.ones((), dtype=torch.float64)
    trace = trace_of(pre.distributions.StudentT(5 * one, one, 2 * one), {"x": StudentTReparam()})
    gamma, x = trace.nodes["x_gamma"]["value"], trace.nodes["x"]["fn"]
    torch.testing.assert_close(x.scale, 2 * gamma.rsqrt())


class Strategy(AutoReparam):
    """That of docs/drop_in.md."""

    def configure(self, msg):
        relaxed = isinstance(innermost(msg["fn"]), pre.distributions.RelaxedOneHotCategorical)
        if relaxed and not msg["is_observed"]:
            return pre.reparam.GumbelSoftmaxReparam()
        return super().configure(msg)


def relaxed(library):
    return library.RelaxedOneHotCategorical(torch.tensor(0.5), logits=torch.tensor([0.3, 1.0, 0.0]))


def test_auto_reparam_of_a_relaxed_one_hot_variable():
    assert sites(trace_of(relaxed(dist), AutoReparam())) == ["x_uniform", "x"]
    assert sites(trace_of(relaxed(pre.distributions), AutoReparam())) == ["x"]
    trace = trace_of(relaxed(pre.distributions), Strategy(centered=0.0))
    assert sites(trace) == ["x_noise_decentered", "x_noise", "x"]  # of standard noise, the same
    noise = trace.nodes["x_noise"]["value"]
    torch.testing.assert_close(noise, trace.nodes["x_noise_decentered"]["value"], rtol=0, atol=0)
    expected = ((relaxed(dist).logits + noise) / 0.5).softmax(-1)
    torch.testing.assert_close(trace.nodes["x"]["value"], expected)


def test_gumbel_softmax_of_pyro_refuses_ours():
    with pytest.raises(AssertionError):
        trace_of(relaxed(pre.distributions), {"x": GumbelSoftmaxReparam()})

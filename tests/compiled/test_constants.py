"""Numbers that the program writes out may be read; those that it computes from others may not."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.compiled.capture import recorded
from pyro_reparam_ext.compiled.constants import is_constant
from pyro_reparam_ext.errors import CannotCapture

from .steps import assert_same_steps

KEPT = torch.tensor(3.0)


def written_to_a_view(x):
    zeros = torch.zeros(2)
    zeros[0] = x
    return zeros.sum()


VALUES = {
    "literal": (lambda x: torch.tensor(3.0), True),
    "computed from literals": (lambda x: (torch.tensor(3).expand(4) + torch.arange(4)).max(), True),
    "shape of an input": (lambda x: torch.ones(x.shape).sum(), True),
    "input": (lambda x: x + torch.tensor(3.0), False),
    "drawn": (lambda x: torch.rand(2).sum(), False),
    "kept elsewhere": (lambda x: KEPT.clone(), False),
    "written to a view": (written_to_a_view, False),
}


@pytest.mark.parametrize("name", VALUES)
def test_which_are_constant(name):
    value, expected = VALUES[name]
    gm = recorded(lambda x: value(x) + 0 * x, [torch.tensor(2.0)])
    (end,) = (node for node in gm.graph.nodes if node.op == "output")
    node = end.args[0].args[0]  # of the sum that the function ends with
    assert is_constant(node) is expected


@pytest.mark.parametrize(
    "law", [dist.Binomial, lambda n, logits: dist.BetaBinomial(logits.exp(), 2.0, n)]
)
def test_a_total_count_that_is_written_out(law):
    """Distributions make a tensor of it, and their support asks for its value."""

    def model():
        with pyro.plate("rows", 3):
            z = pyro.sample("z", dist.Binomial(4, 0.3))
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor([0.0, 1.0, 3.0]))

    def guide():
        logits = pyro.param("logits", torch.zeros(3))
        with pyro.plate("rows", 3):
            pyro.sample("z", law(4, logits=logits))

    assert_same_steps(lambda: (model, guide, pre.TraceEstimator_ELBO({"z": pre.LocalExpectation()})))


def test_a_total_count_that_is_data():
    """It may be another one at the next step."""

    def model(count):
        z = pyro.sample("z", dist.Binomial(count, 0.3))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    def guide(count):
        pyro.sample("z", dist.Binomial(count, pyro.param("probs", torch.tensor(0.5))))

    elbo = pre.TraceEstimator_ELBO({"z": pre.LocalExpectation()})
    svi = pre.CompiledSVI(model, guide, pyro.optim.SGD({"lr": 1e-3}), elbo)
    with pytest.raises(CannotCapture, match=r"reads a value as a Python number .* at .*test_constants"):
        for count in (4.0, 5.0, 6.0):
            svi.step(torch.tensor(count))

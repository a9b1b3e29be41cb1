"""The shape to which shapes broadcast: as torch says, without what torch imports for it."""

import subprocess
import sys

import pytest
import torch

from pyro_reparam_ext.numerics.shapes import broadcast_shapes

SHAPES = [(), ((),), ((3,), ()), ((1,), (3,)), ((2, 1), (3,)), ((4, 1, 3), (2, 1), (1,)), ((0,), (1,))]


@pytest.mark.parametrize("shapes", SHAPES)
def test_the_shape_is_that_of_torch(shapes):
    shape = broadcast_shapes(*shapes)
    assert shape == torch.broadcast_shapes(*shapes) and isinstance(shape, torch.Size)


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 1), (3, 2, 2, 1), (3,), (2,)), ((0,), (2,))])
def test_what_does_not_broadcast_raises_as_by_torch(shapes):
    for broadcast in (broadcast_shapes, torch.broadcast_shapes):
        with pytest.raises(RuntimeError, match="[Ss]hape mismatch|broadcast"):
            broadcast(*shapes)


def test_a_gradient_imports_no_computer_algebra():
    script = """
import sys, torch, pyro, pyro.distributions as dist, pyro_reparam_ext as pre
def model():
    z = pyro.sample("z", dist.Bernoulli(0.3))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))
def guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.0))))
for estimator in (pre.DisARM(), pre.Enumeration(), None):
    pre.TraceEstimator_ELBO(estimator).loss_and_grads(model, guide)
print("sympy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

import math

import pytest
import torch
from pyro.distributions import constraints
from torch.distributions import biject_to, transform_to

from pyro_reparam_ext.distributions.supports.real import is_real, line


@pytest.mark.parametrize("support", [constraints.real, line])
@pytest.mark.parametrize("dims", [0, 2])
def test_event_dims_are_looked_through(dims, support):
    assert is_real(constraints.independent(support, dims))
    assert not is_real(constraints.independent(constraints.positive, dims))


def test_constrained_vectors_are_not():
    assert is_real(constraints.real_vector)
    assert not is_real(constraints.simplex)


@pytest.mark.parametrize("registry", [biject_to, transform_to])
def test_line_is_the_reals_but_for_its_identity(registry):
    x = torch.tensor([-2.0, 0.0, 3.0, math.nan])
    assert line != constraints.real and repr(line) == repr(constraints.real)
    assert line.event_dim == 0 and not line.is_discrete
    assert torch.equal(line.check(x), constraints.real.check(x))
    transform = registry(line)
    assert transform(x) is x
    assert not transform.log_abs_det_jacobian(x, x).any()

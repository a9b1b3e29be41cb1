import pytest
from pyro.distributions import constraints

from pyro_reparam_ext.distributions.supports.real import is_real


@pytest.mark.parametrize("dims", [0, 2])
def test_event_dims_are_looked_through(dims):
    assert is_real(constraints.independent(constraints.real, dims))
    assert not is_real(constraints.independent(constraints.positive, dims))


def test_constrained_vectors_are_not():
    assert is_real(constraints.real_vector)
    assert not is_real(constraints.simplex)

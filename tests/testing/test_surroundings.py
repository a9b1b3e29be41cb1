"""What is global is as it was."""

import pyro
import pytest
import torch

from pyro_reparam_ext.testing.surroundings import isolated, unchanged


def test_isolated():
    pyro.param("mine", torch.ones(2))
    state = torch.get_rng_state()
    with isolated(0):
        assert not len(pyro.get_param_store())
        pyro.param("theirs", torch.rand(2))
    assert list(pyro.get_param_store()) == ["mine"]
    assert torch.equal(torch.get_rng_state(), state)


def test_what_an_estimator_learns_may_be_added():
    with unchanged("Mine"):
        pyro.param("estimators/z/Mine$$$scale", torch.ones(2))


CHANGES = {
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.set_default_dtype),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.set_grad_enabled),
    "validation": (lambda: pyro.enable_validation(False), pyro.enable_validation),
    "parameter store": (lambda: pyro.param("x", torch.ones(())), lambda _: None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named(what):
    change, undo = CHANGES[what]
    try:
        with pytest.raises(AssertionError, match=f"Mine: .*{what}.*Put back"), unchanged("Mine"):
            change()
    finally:
        undo(torch.float32 if what == "default dtype" else True)

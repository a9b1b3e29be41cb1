"""Warnings name the line of the user's program that they are about."""

import warnings
from contextlib import contextmanager

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam

import pyro_reparam_ext as pre
from pyro_reparam_ext.callers import calling, outside, told

LIBRARY = """
import warnings, sys
def warn(): warnings.warn("mine", stacklevel=outside())
def deeper(): warn()
def frame(): return calling(sys._getframe())
"""


def library(name):
    names = {"__name__": name, "outside": outside, "calling": calling}
    exec(compile(LIBRARY, f"{name}.py", "exec"), names)
    return names


@pytest.mark.parametrize("name", ["pyro_reparam_ext.elbo", "pyro.infer.svi", "torch.nn"])
@pytest.mark.parametrize("function", ["warn", "deeper"])
def test_line_outside_of_the_libraries(name, function):
    with pytest.warns(UserWarning, match="mine") as record:
        library(name)[function]()
    assert record[0].filename == __file__


def test_through_a_context_manager():
    @contextmanager
    def context():
        yield
        library("pyro_reparam_ext.nn")["warn"]()

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        with context():
            pass
    assert record[0].filename == __file__


def test_own_line_of_the_user():
    with pytest.warns(UserWarning, match="mine") as record:
        library("mine")["warn"]()
    assert record[0].filename == "mine.py"


def test_calling():
    assert library("pyro.poutine")["frame"]().f_code.co_name == "test_calling"


def test_level_of_the_caller_itself():
    assert outside() == 1


def model():
    z = pyro.sample("z", dist.Bernoulli(0.3))
    pyro.sample("x", dist.Normal(z if z.item() else -z, 1.0), obs=torch.tensor(0.5))


def guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.tensor(0.2))))


def of_the_elbo():
    pre.TraceEstimator_ELBO(pre.LocalExpectation()).loss_and_grads(model, guide)


def of_svi():
    SVI(model, guide, Adam({"lr": 0.1}), pre.TraceEstimator_ELBO(pre.LocalExpectation())).step()


@pytest.mark.parametrize("call", [of_the_elbo, of_svi])
def test_line_that_called_the_library(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    (warning,) = caught
    assert warning.filename == __file__
    assert warning.lineno == call.__code__.co_firstlineno + 1


def test_errors_are_told_in_a_line_with_the_line_of_the_program():
    try:
        torch.zeros(2) + torch.zeros(3)
    except RuntimeError as error:
        assert told(error).startswith("The size of tensor a (2)")
        assert told(error).endswith(f"(at {__file__}:{error.__traceback__.tb_lineno})")

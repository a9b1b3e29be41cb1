"""Warnings name the line of the user's program that they are about."""

import warnings
from contextlib import contextmanager

import pytest

from pyro_reparam_ext.callers import calling, outside

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

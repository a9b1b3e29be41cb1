"""A program's own error is always what is raised, whatever is found out about it."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

EVALUATIONS = [{"vectorize_particles": True}, {"vectorize_particles": False}]
ERRORS = [IndexError, KeyError, TypeError, AttributeError, AssertionError, StopIteration, RuntimeError]
ERRORS += [ValueError, NotImplementedError, ZeroDivisionError, FileNotFoundError, KeyboardInterrupt]


def model():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))


def guide():
    pyro.sample("z", dist.Normal(pyro.param("p", torch.zeros(())), 1.0))


def raising(*errors):
    """A model that raises one error after another, and the last one from then on."""
    calls = iter(errors)

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))
        raise next(calls, errors[-1])

    return model


@pytest.mark.parametrize("options", EVALUATIONS, ids=str)
@pytest.mark.parametrize("kind", ERRORS)
def test_users_error_is_raised(kind, options):
    error = kind("mine")
    with pytest.raises(kind) as caught:
        pre.TraceEstimator_ELBO(**options).loss_and_grads(raising(error), guide)
    assert caught.value is error
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("second", [kind for kind in ERRORS if kind is not KeyboardInterrupt])
@pytest.mark.parametrize("first", [ValueError, RuntimeError, torch.linalg.LinAlgError])
def test_first_error_is_raised_where_the_second_run_fails_otherwise(first, second):
    error = first("mine")
    elbo = pre.TraceEstimator_ELBO(max_plate_nesting=0)
    with pytest.raises(first) as caught:
        elbo.loss_and_grads(raising(error, second("another")), guide)
    assert caught.value is error


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, torch.linalg.LinAlgError])
def test_what_was_found_out_is_a_note_on_the_users_error(kind):
    pyro.param("p", torch.tensor(math.nan))
    error = kind("mine")

    def checking_model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0, validate_args=False))
        if pyro.settings.get("validate_distributions_pyro"):
            raise error
        return z

    def unchecked():
        pyro.sample("z", dist.Normal(pyro.param("p"), 1.0, validate_args=False))

    elbo = pre.TraceEstimator_ELBO(max_plate_nesting=0)
    with pyro.validation_enabled(True), pytest.raises(kind) as caught:
        elbo.loss_and_grads(checking_model, unchecked)
    assert caught.value is error
    notes = getattr(error, "__notes__", [str(error.__cause__)])
    assert len(notes) == 1 and "'z'" in notes[0] and "'p'" in notes[0] and "learning rate" in notes[0]


@pytest.mark.parametrize("options", EVALUATIONS, ids=str)
def test_complaint_of_a_distribution_names_the_parameter(options):
    pyro.param("p", torch.tensor(math.nan))
    with pyro.validation_enabled(True), pytest.raises(pre.EstimatorError, match="'z'.*'p'") as caught:
        pre.TraceEstimator_ELBO(**options).loss_and_grads(model, guide)
    assert type(caught.value.__cause__) is ValueError


def test_looking_for_the_cause_leaves_no_trace():
    def gambling():
        pyro.param("added", lambda: torch.randn(()))
        raise ValueError("mine")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="mine"):
        pre.TraceEstimator_ELBO().loss_and_grads(gambling, gambling)
    assert torch.equal(torch.get_rng_state(), before)
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("second", [IndexError, ValueError])
def test_bad_gradient_is_reported_where_the_second_run_fails(second):
    calls = []

    def edge():
        calls.append(1)
        if len(calls) > 2:  # after a plain run, and the one that is evaluated
            raise second("another")
        p = pyro.param("p", torch.zeros(()))
        pyro.sample("z", dist.Normal(p.sqrt(), 1.0))

    elbo = pre.TraceEstimator_ELBO(max_plate_nesting=0)
    with pyro.validation_enabled(True), pytest.raises(pre.EstimatorError, match="gradient.*'p'"):
        elbo.loss_and_grads(model, edge)


@pytest.mark.parametrize("options", EVALUATIONS, ids=str)
def test_users_error_is_raised_where_a_tensor_goes_by_several_names(options):
    error = KeyError("mine")

    def naming():
        tensor = torch.nn.Parameter(torch.ones(2))
        pyro.param("a", tensor)
        pyro.param("b", tensor)
        raise error

    with pytest.raises(KeyError) as caught:
        pre.TraceEstimator_ELBO(**options).loss_and_grads(naming, naming)
    assert caught.value is error
    assert not list(pyro.get_param_store().keys())

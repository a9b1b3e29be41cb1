"""A program that does not broadcast is noticed, whatever it does with the dims that it sees."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..statistics import assert_mean
from .forms import BROADCASTING, FORMS, Programs, tensor

ESTIMATORS = {
    "DisARM": (pre.DisARM, 1),
    "Enumeration": (pre.Enumeration, 1),
    "LocalExpectation": (pre.LocalExpectation, 1),
    "REBAR": (pre.REBAR, 1),
    "LeaveOneOut": (pre.LeaveOneOut, 2),
    "Pathwise": (pre.Pathwise, 8),
}
LOOP_ONLY = ("filled in place",)
"""What vmap can't take either."""
LATEST = 16
"""A call by which a coincidence of values has come to light."""


def configured(name, place):
    """The estimators of ``z`` and ``w``, and the number of particles."""
    make, num_particles = ESTIMATORS[name]
    estimators = {"z": make()}
    if place == "guide":
        estimators["w"] = pre.ScoreFunction() if name == "Pathwise" else make()
    return estimators, num_particles


def fallen(name, programs, place, mode=True):
    """An ELBO after the calls in which it learns how the program is run, and the warnings of these."""
    estimators, num_particles = configured(name, place)
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=num_particles, vectorize_particles=mode)
    torch.manual_seed(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(LATEST):
            elbo.loss_and_grads(programs.model, programs.guide)
            if caught:
                break
    return elbo, [str(warning.message) for warning in caught]


def estimate(elbo, programs, calls=1):
    torch.manual_seed(2)
    return gradients(elbo, programs.model, programs.guide, programs.names, calls)


CASES = [
    (name, form, place)
    for name in ESTIMATORS
    for form in FORMS
    for place in ("model", "guide")
    # One evaluation alone has the program's own shapes, but for a dim of size 1.
    if not (name == "DisARM" and place == "guide" and form in ("centred", "flip"))
    and not (name == "Enumeration" and place == "guide" and form == "stack")
    and not (name == "REBAR" and place == "guide" and form in ("sum", "mean of squares", "norm"))
]
FIRST_ONLY = [c for c in CASES if c[1] in ("sum", "matmul", "centred", "element by element")]


@pytest.mark.parametrize(("name", "form", "place"), CASES)
def test_one_warning_then_right(name, form, place):
    programs = Programs(FORMS[form], place, continuous=name == "Pathwise")
    elbo, said = fallen(name, programs, place)
    assert len(said) == 1
    assert "'z'" in said[0] or "'w'" in said[0] or "'x'" in said[0] or "particles" in said[0]
    way = "False" if form in LOOP_ONLY else "'vmap'"
    assert f"vectorize_particles={way} to the ELBO" in said[0]
    after = estimate(elbo, programs)
    explicit, said = fallen(name, programs, place, "vmap")
    assert len(said) == (form in LOOP_ONLY)
    torch.testing.assert_close(estimate(explicit, programs), after, rtol=1e-9, atol=1e-9)
    if name == "Enumeration":
        torch.testing.assert_close(after[0], programs.exact(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_mean_under_vmap(form):
    programs = Programs(FORMS[form], "model")
    mode = False if form in LOOP_ONLY else "vmap"
    elbo = pre.TraceEstimator_ELBO(pre.DisARM(), vectorize_particles=mode)
    assert_mean(estimate(elbo, programs, 60), programs.exact())


@pytest.mark.parametrize(("name", "form", "place"), FIRST_ONLY)
def test_without_validation(name, form, place):
    programs = Programs(FORMS[form], place, continuous=name == "Pathwise")
    with pyro.validation_enabled(False):
        elbo, said = fallen(name, programs, place)
        assert len(said) == 1
        explicit, _ = fallen(name, programs, place, "vmap")
        torch.testing.assert_close(estimate(elbo, programs), estimate(explicit, programs))


@pytest.mark.parametrize("place", ["model", "guide"])
@pytest.mark.parametrize("form", BROADCASTING)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_broadcasts_is_verified_without_a_word(name, form, place):
    programs = Programs(BROADCASTING[form], place, continuous=name == "Pathwise")
    elbo, said = fallen(name, programs, place)
    assert not said
    visible = estimate(elbo, programs)
    explicit, said = fallen(name, programs, place, "vmap")
    assert not said
    torch.testing.assert_close(estimate(explicit, programs), visible, rtol=1e-9, atol=1e-9)
    if name == "Enumeration":
        torch.testing.assert_close(visible[0], programs.exact(), rtol=1e-9, atol=1e-9)


def test_the_two_forms_are_the_same_program():
    for form in BROADCASTING:
        programs = [Programs(forms[form]) for forms in (FORMS, BROADCASTING)]
        torch.testing.assert_close(programs[0].exact(), programs[1].exact())


# -- what is no fault -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DisARM", "LocalExpectation", "LeaveOneOut", "Enumeration"])
def test_random_numbers_of_the_program(name):
    """A program that draws for itself can't be compared; under vmap, it need not be."""
    make, num_particles = ESTIMATORS[name]

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.3))))

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.4)))
        noise = torch.randn((), dtype=torch.float64)
        pyro.sample("x", dist.Normal(z + noise, 1.0), obs=tensor(0.5))

    def losses(mode, calls):
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO(make(), num_particles=num_particles, vectorize_particles=mode)
        elbo.loss_and_grads(model, guide)
        return gradients(elbo, model, guide, ["l"], calls)

    with pytest.warns(UserWarning, match="'x'.*random numbers.*'vmap'") as caught:
        samples = losses(True, 200)
    assert len(caught) == 1
    losses("vmap", 1)
    logit = tensor(0.3).requires_grad_()
    q, loss = logit.sigmoid(), 0.5 * (tensor(2 * torch.pi).log() + 1.0)  # and the variance of the noise
    for z, weight, prior in ((0.0, 1 - q, 0.6), (1.0, q, 0.4)):
        loss = loss + weight * (weight.log() - tensor(prior).log() + 0.5 * (0.5 - z) ** 2)
    exact = torch.stack([loss.detach(), *torch.autograd.grad(loss, logit)])
    assert_mean(samples, exact)


@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
@pytest.mark.parametrize("name", ["LocalExpectation", "LeaveOneOut", "Enumeration"])
def test_sites_that_the_model_draws(name):
    make, num_particles = ESTIMATORS[name]

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.3))))

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.4)))
        e = pyro.sample("e", dist.Normal(z, 1.0))
        with pyro.plate("n", 4, subsample_size=2):
            pyro.sample("x", dist.Normal(z + e, 1.0), obs=tensor(0.5).expand(2))

    estimators = {"z": make()}
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=num_particles)
    for _ in range(4):
        elbo.loss_and_grads(model, guide)

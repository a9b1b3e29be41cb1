"""A program that does not broadcast is noticed, whatever it does with the dims that it sees."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..slow import one_in
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


CASES = [(name, form, place) for name in ESTIMATORS for form in FORMS for place in ("model", "guide")]
FIRST_ONLY = [c for c in CASES if c[1] in ("sum", "matmul", "centred", "element by element")]


@pytest.mark.parametrize(("name", "form", "place"), one_in(3, CASES))
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
@pytest.mark.parametrize("form", one_in(2, BROADCASTING))
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
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "Pathwise"])
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


@pytest.mark.parametrize("name", ["DisARM", "LocalExpectation", "Enumeration"])
def test_numbers_of_several_precisions(name):
    """A 0-dim tensor takes the precision of another one, but not where it has dims itself."""

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.tensor(0.3))))

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.4)))
        pyro.sample("x", dist.Normal(4.0 * (z > 0.5), 1.0), obs=tensor(0.5))

    elbo = pre.TraceEstimator_ELBO(ESTIMATORS[name][0]())
    for _ in range(4):
        elbo.loss_and_grads(model, guide)


@pytest.mark.parametrize(
    ("logit", "prior"),
    [
        (torch.tensor(0.3), torch.tensor(0.4)),
        (torch.tensor(0.3), tensor(0.4)),
        (tensor(0.3), tensor(0.4)),
    ],
    ids=["single", "double prior", "double"],
)
def test_relaxed_values_of_several_precisions(logit, prior):
    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", logit)))

    def model():
        z = pyro.sample("z", dist.Bernoulli(prior))
        pyro.sample("x", dist.Normal(4.0 * z, 1.0), obs=tensor(0.5))

    elbo = pre.TraceEstimator_ELBO(pre.REBAR())
    for _ in range(4):
        elbo.loss_and_grads(model, guide)


# -- what numbers hide ------------------------------------------------------------------------------


def first_warning(elbo, model, guide, calls):
    """The number of the call that warns; None if none does."""
    for call in range(1, calls + 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            elbo.loss_and_grads(model, guide)
        if caught:
            assert len(caught) == 1
            assert "'x'" in str(caught[0].message) and "'vmap'" in str(caught[0].message)
            return call
    return None


def normal_guide():
    pyro.sample("z", dist.Normal(pyro.param("m", tensor(0.3)), 0.3))


def test_weights_that_are_zero_at_first():
    """What the program does to the particles does not show until the weights are trained."""
    weights, x = torch.zeros(3, 3, dtype=torch.float64), torch.tensor([1.0, 2, 3], dtype=torch.float64)
    loc = torch.tensor([0.1, 0.5, -0.4], dtype=torch.float64)

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("m", loc), 0.5).to_event(1))

    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(weights @ z, 1.0).to_event(1), obs=x)

    elbo = pre.TraceEstimator_ELBO(num_particles=3)
    assert first_warning(elbo, model, guide, 2) is None
    weights += torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 2.0], [0.3, 0.0, 1.0]])
    assert first_warning(elbo, model, guide, 2) == 2
    samples = gradients(elbo, model, guide, ["m"], 200)
    mean = loc.clone().requires_grad_()
    divergence = (0.5 * (mean.square() + 0.25 - 1 - tensor(0.25).log())).sum()
    residual = (x - weights @ mean).square().sum() + 0.25 * weights.square().sum()
    loss = divergence + 0.5 * residual + 1.5 * tensor(2 * torch.pi).log()
    exact = torch.cat([loss.detach().reshape(1), *torch.autograd.grad(loss, mean)])
    assert_mean(samples, exact)


def test_a_program_that_changes():
    """A number that is not in any shape: it is found when the program is compared again."""
    warm = [True]

    def model():
        z = pyro.sample("z", dist.Normal(tensor(0.0), 1.0))
        pyro.sample("x", dist.Normal(z if warm[0] else z.mean(), 1.0), obs=tensor(1.0))

    elbo = pre.TraceEstimator_ELBO(num_particles=4)
    assert first_warning(elbo, model, normal_guide, 5) is None
    warm[0] = False
    assert first_warning(elbo, model, normal_guide, 20) == 16 - 5


@pytest.mark.parametrize("seed", range(5))
def test_a_nat_of_many_thousands(seed):
    """Rounding of a sum of many terms hides no fault that counts."""
    data = torch.cat([torch.ones(10), torch.randn(19990)])

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.3)), 0.3))

    def model():
        z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
        loc = torch.cat([z.max().expand(10), torch.zeros(19990)])
        pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=data)

    torch.manual_seed(seed)
    assert first_warning(pre.TraceEstimator_ELBO(num_particles=3), model, guide, 1) == 1


def test_a_nat_of_many_thousands_in_an_alternative():
    data = torch.cat([torch.tensor([1.4]), torch.randn(19999)])

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.tensor(0.3))))

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
        loc = torch.cat([1.4 * z.max().expand(1), torch.zeros(19999)])
        pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=data)  # 0.98 where z is 0

    assert first_warning(pre.TraceEstimator_ELBO(pre.DisARM()), model, guide, 1) == 1


def test_rounding_of_many_thousands_is_no_fault():
    data = torch.randn(20000)

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.3)), 0.3))

    def model():
        z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0)).unsqueeze(-1)
        pyro.sample("x", dist.Normal(z.expand(*z.shape[:-1], 20000), 1.0).to_event(1), obs=data)

    for _ in range(5):
        assert first_warning(pre.TraceEstimator_ELBO(num_particles=3), model, guide, 1) is None


def test_dropout():
    """A network that draws for itself, in a program that does not broadcast."""
    dropout = torch.nn.Dropout(0.5)

    def model():
        z = pyro.sample("z", dist.Normal(tensor(0.0), 1.0))
        loc = dropout(z.mean() * torch.ones(20, dtype=torch.float64))
        pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=torch.ones(20, dtype=torch.float64))

    elbo = pre.TraceEstimator_ELBO(num_particles=4)
    assert first_warning(elbo, model, normal_guide, 1) == 1
    samples = gradients(elbo, model, normal_guide, ["m"], 400)
    mean = tensor(0.3).requires_grad_()
    square = mean.square() + 0.09
    divergence = 0.5 * (square - 1 - tensor(0.09).log())
    # E (1 - 2 b z)^2 with b ~ Bernoulli(0.5)
    loss = divergence + 10 * (1 - 2 * mean + 2 * square) + 10 * tensor(2 * torch.pi).log()
    exact = torch.stack([loss.detach(), *torch.autograd.grad(loss, mean)])
    assert_mean(samples, exact)


def test_each_value_of_a_small_support():
    """A fault that shows at one of three values only."""

    def guide():
        pyro.sample("z", dist.Categorical(logits=pyro.param("l", torch.zeros(3).double())))

    def model():
        z = pyro.sample("z", dist.Categorical(torch.ones(3).double()))
        middle = (z == 1).double()
        loc = z + middle * z.sum()  # right for one value at a time
        pyro.sample("x", dist.Normal(loc, 1.0), obs=tensor(1.0))

    for seed in range(20):
        torch.manual_seed(seed)
        assert first_warning(pre.TraceEstimator_ELBO(pre.Enumeration()), model, guide, 1) == 1


# -- contexts outside of the ELBO -------------------------------------------------------------------

OUTSIDE = {
    "scale": lambda: poutine.scale(scale=0.5),
    "mask": lambda: poutine.mask(mask=torch.tensor(False)),
    "block": lambda: poutine.block(),
}


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("name", ["DisARM", "Enumeration", "LeaveOneOut", "REBAR"])
@pytest.mark.parametrize("context", OUTSIDE)
def test_contexts_outside_of_the_elbo(context, name, mode):
    """What is entered around a step acts when the program is looked at as well."""
    make, num_particles = ESTIMATORS[name]

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.3))))
        pyro.sample("e", dist.Normal(pyro.param("m", tensor(0.1)), 1.0))

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.4)))
        e = pyro.sample("e", dist.Normal(tensor(0.0), 1.0))
        pyro.sample("x", dist.Normal(z + e, 1.0), obs=tensor(0.5))

    elbo = pre.TraceEstimator_ELBO({"z": make()}, num_particles=num_particles, vectorize_particles=mode)
    for _ in range(4):
        with OUTSIDE[context]():
            elbo.loss_and_grads(model, guide)

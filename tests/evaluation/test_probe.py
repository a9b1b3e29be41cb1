"""Programs that agree with plain runs at the values of binary sites by accident, as many do."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from ..slow import one_in
from .forms import BROADCASTING, FORMS, Form, Programs

ESTIMATORS = {
    "DisARM": (pre.DisARM, 1),
    "LocalExpectation": (pre.LocalExpectation, 1),
    "LeaveOneOut": (pre.LeaveOneOut, 2),
    "REBAR": (pre.REBAR, 1),
    "Enumeration": (pre.Enumeration, 1),
}
ACCIDENTAL = {
    "max": Form(lambda z: z.max() + z[..., 0]),
    **{n: FORMS[n] for n in ("flip", "centred", "mean of squares", "stack", "cumsum", "softmax")},
}


def seeds():
    """Eight draws, each from an empty parameter store."""
    for seed in range(8):
        pyro.clear_param_store()
        torch.manual_seed(seed)
        yield seed


def elbo_of(name, programs):
    make, num_particles = ESTIMATORS[name]
    sites = ("z", "w") if programs.place == "guide" else ("z",)
    return pre.TraceEstimator_ELBO({site: make() for site in sites}, num_particles=num_particles)


def first_call(elbo, model, guide):
    """What the first call says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        elbo.loss_and_grads(model, guide)
    return [str(warning.message) for warning in caught]


CASES = [
    (name, form, place)
    for name in ESTIMATORS
    for form in ACCIDENTAL
    for place in ("model", "guide")
    if (name, form, place) != ("LocalExpectation", "flip", "model")  # found in later calls
]


@pytest.mark.parametrize(("name", "form", "place"), one_in(3, CASES))
def test_first_call_falls_to_vmap_whatever_is_drawn(name, form, place):
    for seed in seeds():
        programs = Programs(ACCIDENTAL[form], place)
        said = first_call(elbo_of(name, programs), programs.model, programs.guide)
        assert len(said) == 1, (seed, said)
        assert "vectorize_particles='vmap' to the ELBO" in said[0]


@pytest.mark.parametrize("place", ["model", "guide"])
@pytest.mark.parametrize("form", one_in(3, BROADCASTING))
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_broadcasts_is_never_suspected(name, form, place):
    for _ in seeds():
        programs = Programs(BROADCASTING[form], place)
        assert not first_call(elbo_of(name, programs), programs.model, programs.guide)


# -- some sites have a dim of evaluations, others don't ---------------------------------------------

DATA = torch.tensor([-3.0, -2.9, 0.1, 0.2, 3.0, 3.1])


def gathered(locs, k):
    return locs.expand(*k.shape[:-1], 3).gather(-1, k)


def picked(locs, k):
    return (torch.nn.functional.one_hot(k, 3) * locs).sum(-1)


def mixture_of(pick):
    def mixture():
        locs = pyro.sample("locs", dist.Normal(torch.zeros(3), 5.0).to_event(1))
        with pyro.plate("data", 6):
            k = pyro.sample("k", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(pick(locs, k), 1.0), obs=DATA)

    return mixture


def guide_of_mixture():
    mean = pyro.param("mean", torch.tensor([-1.0, 0.0, 1.0]))
    pyro.sample("locs", dist.Normal(mean, 0.5).to_event(1))
    with pyro.plate("data", 6):
        pyro.sample("k", dist.Categorical(logits=pyro.param("logits", torch.zeros(6, 3))))


def independent():
    a = pyro.sample("a", dist.Bernoulli(0.3))
    b = pyro.sample("b", dist.Bernoulli(0.3))
    c = pyro.sample("c", dist.Normal(a, 1.0))
    pyro.sample("of a", dist.Normal(a, 1.0), obs=DATA[0])
    pyro.sample("of b", dist.Normal(b + c, 1.0), obs=DATA[1])
    pyro.sample("of none", dist.Normal(pyro.param("m", torch.tensor(0.2)), 1.0), obs=DATA[2])


def guide_of_independent():
    a = pyro.sample("a", dist.Bernoulli(logits=pyro.param("l", torch.tensor(0.1))))
    pyro.sample("b", dist.Bernoulli(logits=pyro.param("k", torch.tensor(-0.4))))
    pyro.sample("c", dist.Normal(a + pyro.param("shift", torch.tensor(0.5)), 1.0))


def flow_of(transform):
    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=DATA[0])

    def guide():
        base = dist.Normal(torch.zeros(2), pyro.param("scale", torch.ones(2))).to_event(1)
        pyro.sample("z", dist.TransformedDistribution(base, [transform]))

    return model, guide


PROGRAMS = {
    "indexed": (mixture_of(gathered), guide_of_mixture, {"k": pre.LocalExpectation()}, 1),
    "indexed, enumerated": (mixture_of(gathered), guide_of_mixture, {"k": pre.Enumeration()}, 1),
    "one-hot": (mixture_of(picked), guide_of_mixture, {"k": pre.LocalExpectation()}, 3),
    "one-hot, enumerated": (mixture_of(picked), guide_of_mixture, {"k": pre.Enumeration()}, 3),
    "one-hot, particles": (mixture_of(picked), guide_of_mixture, {"k": pre.LeaveOneOut()}, 2),
    "apart": (independent, guide_of_independent, {"a": pre.DisARM(), "b": pre.DisARM()}, 1),
    "apart, relaxed": (independent, guide_of_independent, {"a": pre.REBAR(), "b": pre.REBAR()}, 3),
    "apart, mixed": (independent, guide_of_independent, {"a": pre.DisARM(), "b": pre.Enumeration()}, 1),
    "known at draws only": (*flow_of(pyro.distributions.transforms.planar(2)), None, 3),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_which_a_part_has_evaluations(name):
    model, guide, estimators, num_particles = PROGRAMS[name]
    for _ in seeds():
        elbo = pre.TraceEstimator_ELBO(estimators, num_particles=num_particles)
        assert not first_call(elbo, model, guide)

"""Forty random programs; that the answer they are compared with is right; and that it bites."""

import math
import warnings
from dataclasses import replace

import pyro
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO

from ..sampling import losses
from ..slow import one_in
from ..statistics import assert_mean
from . import plants
from .campaign import Tally, explain, program_of
from .captured import check_captured
from .check import check, relaxes, sample
from .densities import log_prob
from .exact import exact, exact_within
from .features import broadcasts
from .generate import GRADIENTS, NORMAL_VECTORS, SCHEMES, generate
from .grammar import Bound, Feature, Latent, Law, Plate, Program, Term, parameters
from .source import compiled, render
from .structure import has_exact_site

PROGRAMS, PER_TEST = 40, 5
BOUNDS = [7, 19, 54, 65, 76]
"""Seeds of programs with a bound and one weight for all."""


@pytest.mark.parametrize("start", one_in(2, range(0, PROGRAMS, PER_TEST)))
def test_programs(start):
    tally = Tally()
    for program in map(program_of, range(start, start + PER_TEST)):
        outcome = check(program)
        assert not outcome.fault, explain(program, outcome)
        tally.add(program, outcome)
    assert not tally.refusing(least=PER_TEST), tally


@pytest.mark.parametrize("start", range(0, 10, 5))
def test_captured_steps_are_the_eager_ones(start):
    for program in map(program_of, range(start, start + 5)):
        outcome = check_captured(program)
        assert not outcome.fault, f"{compiled(program).source}\n{outcome}"


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_exact_loss_is_the_mean_of_pyros(seed):
    """Programs of all kinds, run as Pyro runs them."""
    program = replace(generate(seed), bound=None)
    run = compiled(program)
    values = losses(Trace_ELBO(), run.model, run.guide, 200)
    assert_mean(values[:, None], exact(program)[:1])


def test_exact_answer_by_hand():
    """One Bernoulli site and a factor: two terms."""
    guide, prior, factor = Law(10), Law(20), Law(30, scale=2.0)
    latent = Latent("z0", (), "bernoulli", guide, prior)
    program = Program((), (latent,), ("z0",), (Term("f0", (), "factor", factor),))
    run = compiled(program)
    Trace_ELBO().loss(run.model, run.guide)
    a, b, f = (pyro.param(name) for name in ("guide_z0", "model_z0", "model_f0"))
    q, p = a.sigmoid(), b.sigmoid()
    loss = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log() - 2 * f
    gradient = torch.autograd.grad(loss, [a, b, f])
    torch.testing.assert_close(exact(program), torch.stack([loss, *gradient]).detach())


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_exact_bound_by_hand(alpha):
    """Two particles of a Bernoulli site, in a plate whose elements have their own weights, or not."""
    latent = Latent("z0", ("a",), "bernoulli", Law(10), Law(20))
    factor = Term("f0", ("a",), "factor", Law(30, (Feature("value", ("z0",), 40),), scale=2.0))
    outside = Term("f1", (), "factor", Law(50))
    program = Program(
        (Plate("a", 2, -1),), (latent,), ("z0",), (factor,), 2, bound=Bound("dreg", alpha)
    )
    Trace_ELBO().loss(*(getattr(compiled(program), side) for side in ("model", "guide")))
    a, b, f, c = (pyro.param(x) for x in ("guide_z0", "model_z0", "model_f0", "model_f0_0"))
    q, p = (torch.stack([1 - x.sigmoid(), x.sigmoid()]) for x in (a, b))
    log_weight = (p / q).log() + 2 * (f + c * torch.arange(2))

    def bound(log_weight, mass):
        both = (1 - alpha) * torch.stack(torch.broadcast_tensors(log_weight[:, None], log_weight))
        return (mass[:, None] * mass * (both.logsumexp(0) - math.log(2)) / (1 - alpha)).sum()

    own = -2 * bound(log_weight, q)
    gradient = torch.autograd.grad(own, [a, b, f, c], retain_graph=True)
    torch.testing.assert_close(exact(program), torch.stack([own, *gradient]).detach())
    program = replace(program, terms=(factor, outside))
    shared = bound((log_weight[:, None] + log_weight).flatten(), (q[:, None] * q).flatten())
    torch.testing.assert_close(exact(program)[0], -(shared + parameters(program)["model_f1"]).detach())


@pytest.mark.parametrize("kind", ["normal-event", "multivariate_normal"])
def test_densities_of_vectors_are_those_of_the_source(kind):
    law = Law(10)
    program = Program((), (Latent("z0", (), kind, law, None),), ("z0",), ())
    trace = pyro.poutine.trace(compiled(program).guide).get_trace()
    trace.compute_log_prob()
    eta, s = (pyro.param(x) for x in ("guide_z0", "guide_z0_s"))
    site = trace.nodes["z0"]
    torch.testing.assert_close(log_prob(kind, eta, s, site["value"]), site["log_prob"])


@pytest.mark.parametrize("seed", BOUNDS)
def test_exact_bound_is_the_mean_of_pyros(seed):
    program = generate(seed)
    run = compiled(program)
    elbo = RenyiELBO(program.bound.alpha, num_particles=program.num_particles)
    assert_mean(losses(elbo, run.model, run.guide, 300)[:, None], exact(program)[:1])


def test_exact_answer_knows_how_far_it_is_off():
    """The negative entropy of a gamma variable: a rate moves it by 0.3, or if masked not at all."""
    law = Law(2327170, local=True, mask="poutine")
    latent = Latent("z0", ("a",), "gamma", law, None, "StickingTheLanding")
    program = Program((Plate("a", 2, -1),), (latent,), ("z0",), (Term("f0", ("a",), "factor", Law(1)),))
    answer, off = exact_within(program)
    right = torch.tensor([0.0, 0.3], dtype=torch.float64)
    assert ((answer[1:3] - right).abs() <= off[1:3] + 1e-12).all() and (off < 1e-6).all()
    assert check(program).status == "right"


def test_new_kinds_are_drawn():
    drawn = [generate(seed) for seed in range(150)]
    assert {program.particles for program in drawn} == {"independent", *SCHEMES}
    assert {program.bound.gradient for program in drawn if program.bound} == set(GRADIENTS)
    moving = [latent for p in drawn for latent in p.latents if latent.kind in NORMAL_VECTORS]
    assert {"TaylorControlVariate", "StickingTheLanding"} <= {latent.estimator for latent in moving}
    assert any(len([x for x in p.latents if x.estimator == "TaylorControlVariate"]) > 1 for p in drawn)


def test_both_kinds_are_drawn():
    drawn = [generate(seed) for seed in range(40)]
    assert 10 < sum(map(broadcasts, drawn)) < 35
    assert generate(3) == generate(3) and render(generate(3)) == render(generate(3))


def test_what_does_not_broadcast_is_spoken_of_once():
    said = []
    for seed in range(15):
        drawn = generate(seed, True, broadcasting=False)
        program = replace(drawn, particles="independent", bound=None)
        run = compiled(program)
        if not (relaxes(program) or has_exact_site(program)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                sample(program, run, 5, seed)
            said.append(sum("vectorize_particles" in str(w.message) for w in caught))
    assert set(said) <= {0, 1} and sum(said) > 3


@pytest.mark.parametrize("name", sorted(plants.PLANTS))
def test_planted_fault_is_found(name):
    plant = plants.PLANTS[name]
    assert any(plant.found_by(program) for program in plant.programs())

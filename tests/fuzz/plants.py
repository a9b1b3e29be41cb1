"""Faults to plant in the package, each for as long as a context lasts: the programs must find them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import pyro_reparam_ext as pre
from pyro_reparam_ext import particles
from pyro_reparam_ext.distributions.rules.wrappers import num_coordinate_dims, sum_rightmost
from pyro_reparam_ext.estimators.decisions import decision_logits
from pyro_reparam_ext.estimators.gaussian_factor import Factor, Triangle
from pyro_reparam_ext.estimators.protocol import Evaluations
from pyro_reparam_ext.evaluation import log_weights, model_run, ordinary, surrogate, weights
from pyro_reparam_ext.evaluation.costs import Costs
from pyro_reparam_ext.evaluation.modes import Way
from pyro_reparam_ext.evaluation.objective import LogMeanExp
from pyro_reparam_ext.evaluation.program import Program
from pyro_reparam_ext.evaluation.terms import Term
from pyro_reparam_ext.particles import Antithetic, LatinHypercube, Orthogonal, Particles

from .bounds import own_plates
from .check import Outcome, check
from .generate import generate
from .grammar import KINDS, Mode
from .grammar import Program as FuzzProgram
from .structure import estimators, read_sites, reenters


@dataclass(frozen=True)
class Plant:
    """A fault, and the programs among which it is looked for (at most ``within``)."""

    context: Callable[[], AbstractContextManager]
    mode: Mode
    broadcasting: bool | None = None
    of: Callable[[FuzzProgram], bool] = lambda program: True
    """Whether a program could show the fault."""
    within: int = 500

    def programs(self) -> Iterator[FuzzProgram]:
        drawn = (generate(seed, self.mode, self.broadcasting) for seed in range(self.within))
        return (program for program in drawn if self.of(program))

    def found_by(self, program: FuzzProgram) -> Outcome | None:
        """What the fault does to a program that is right without it, if anything."""
        with self.context():
            outcome = check(program, quick=True)
        found = outcome.fault and not check(program).fault
        return outcome if found else None


def having(*labels: str) -> Callable[[FuzzProgram], bool]:
    """Programs with one of these estimators."""
    return lambda program: any(label.startswith(labels) for label in estimators(program))


def unchecked_broadcasting() -> AbstractContextManager:
    """A: a program that does not broadcast is run as if it did."""
    return patch.object(Way, "check", lambda self, runs, look, tracked: None)


@contextmanager
def constant_branch() -> Iterator[None]:
    """B: what a program reads as a number is the ordinary value, whatever the alternative."""
    ordinary: dict[int, tuple[Tensor, Tensor]] = {}
    replayed = model_run._replayed

    def remembering(program: Program, run: Any, *args: Any) -> Any:
        trace = replayed(program, run, *args)
        ordinary.clear()
        for name in run.draws:
            value = trace.nodes[name]["value"]
            # the value is kept as well, so that no other gets its id
            ordinary[id(value)] = (value, program.ordinary.trace.nodes[name]["value"])
        return trace

    def constant(read: Callable) -> Callable:
        return lambda value: read(ordinary.get(id(value), (value, value))[1])

    with (
        patch.object(model_run, "_replayed", remembering),
        patch.object(Tensor, "item", constant(Tensor.item)),
        patch.object(Tensor, "__int__", constant(Tensor.__int__)),
        patch.object(Tensor, "__index__", constant(Tensor.__index__)),
    ):
        yield


def wrong_enumeration_weights() -> AbstractContextManager:
    """C: what sites add that are sampled after an enumerated one is not weighted by its values."""
    return patch.object(Costs, "weighted", lambda self, surrogate, number: surrogate)


def lost_particle() -> AbstractContextManager:
    """C: in a loop the costs of the first particle are left out."""
    evaluate = pre.TraceEstimator_ELBO.evaluate

    def fewer(self: pre.TraceEstimator_ELBO, *args: Any, **kwargs: Any) -> Any:
        runs = evaluate(self, *args, **kwargs)
        return runs[1:] if len(runs) > 1 else runs

    return patch.object(pre.TraceEstimator_ELBO, "evaluate", fewer)


def missing_detach() -> AbstractContextManager:
    """DisARM's coefficient carries a gradient."""

    right = pre.DisARM.surrogate

    def surrogate(self: pre.DisARM, evaluations: Evaluations) -> Tensor:
        site, found = evaluations.site, right(self, evaluations)
        larger = decision_logits(site.base).abs().sigmoid()
        moved = sum_rightmost(larger - larger.detach(), num_coordinate_dims(site.fn) + 1)
        return found * (1 + moved)

    return patch.object(pre.DisARM, "surrogate", surrogate)


def baseline_with_own_cost() -> AbstractContextManager:
    """LeaveOneOut's baseline has the particle's own cost in it: too small by a factor."""

    def mean_of_all(one: Evaluations, *_: Any) -> Tensor | None:
        dim = one.particle_dim
        return None if dim is None else one.cost.mean(dim, keepdim=True)

    return patch.object(surrogate, "_mean_of_others", mean_of_all)


def lost_scale() -> AbstractContextManager:
    """The model's terms are not scaled: neither by ``poutine.scale`` nor in sub-sampled plates."""
    of_model = Term.of_model

    def unscaled(node: Any, *args: Any) -> Term:
        return of_model({**node, "scale": 1.0}, *args)

    return patch.object(Term, "of_model", unscaled)


def sign_of_the_mean() -> AbstractContextManager:
    """TaylorControlVariate adds the mean of its quadratic term, which it has to take away."""
    return patch.object(Factor, "beside", lambda self, curvature: -curvature * self.parameter)


def transposed_factor() -> AbstractContextManager:
    """A multivariate normal is expanded along the rows of its factor, not the columns."""

    def colored(self: Triangle, noise: Tensor) -> Tensor:
        return (self.parameter.mT @ noise[..., None])[..., 0]

    return patch.object(Triangle, "colored", colored)


def held_with_its_value() -> AbstractContextManager:
    """StickingTheLanding holds the log density of the guide altogether, not its parameters alone."""
    right = ordinary.held_in_place

    def held(*args: Any) -> Iterator[Any]:
        return ((name, law, log_prob.detach()) for name, law, log_prob in right(*args))

    return patch.object(ordinary, "held_in_place", held)


def counted_twice() -> AbstractContextManager:
    """What moves with a site that is scored at a copy is averaged over other evaluations too."""
    return patch.object(weights, "is_copied", lambda site: False)


def one_sided_pairs() -> AbstractContextManager:
    """The second of a pair is never negative."""
    right = Antithetic.normals

    def normals(self: Antithetic, count: int, dims: int, like: Tensor) -> Tensor:
        half = right(self, count, dims, like)[: count // 2]
        return torch.cat([half, half.abs()])

    return patch.object(Antithetic, "normals", normals)


def repeated_stratum() -> AbstractContextManager:
    """The highest stratum is the lowest once more."""
    right = LatinHypercube.normals

    def normals(self: LatinHypercube, count: int, dims: int, like: Tensor) -> Tensor:
        found = right(self, count, dims, like)
        low, high = found.amin(0, keepdim=True), found.amax(0, keepdim=True)
        return torch.where(found == high, low, found)

    return patch.object(LatinHypercube, "normals", normals)


def unscrambled_points() -> AbstractContextManager:
    """Sobol points are the same in every gradient."""

    def points(count: int, dims: int, like: Tensor) -> Tensor:
        drawn = torch.quasirandom.SobolEngine(dims).draw(count, dtype=torch.float64)
        return drawn + 0.5 / count

    return patch.object(particles, "scrambled_sobol", points)


def shared_length() -> AbstractContextManager:
    """Vectors at right angles all have the root of the number of dims as length."""
    right = Orthogonal.normals

    def normals(self: Orthogonal, count: int, dims: int, like: Tensor) -> Tensor:
        found = right(self, count, dims, like)
        return found / found.norm(dim=1, keepdim=True) * dims**0.5

    return patch.object(Orthogonal, "normals", normals)


def weight_with_gradient() -> AbstractContextManager:
    """What a site of a bound is charged with moves with its parameters."""
    right = surrogate.charged

    def charged(one: Evaluations, *args: Any) -> Evaluations:
        found, log_prob = right(one, *args), one.site.log_prob
        return replace(found, costs=found.costs * (1 + log_prob - log_prob.detach()))

    return patch.object(surrogate, "charged", charged)


def forgotten_share() -> AbstractContextManager:
    """Sites are charged as if their log density were no part of the weight."""
    return patch.object(LogMeanExp, "share", lambda self, weights, x: torch.zeros_like(x))


def one_weight_for_all() -> AbstractContextManager:
    """Elements of a plate share a weight although they have their own."""
    return patch.object(log_weights, "_own_plates", lambda runs, terms: frozenset())


def expands_a_vector(program: FuzzProgram) -> bool:
    return any(
        latent.kind == "multivariate_normal" and latent.estimator == "TaylorControlVariate"
        for latent in program.latents
    )


def expands_below_a_pair(program: FuzzProgram) -> bool:
    return having("TaylorControlVariate")(program) and having(
        "ARM", "ARMS", "DisARM", "DoubleCV", "RODEO"
    )(program)


def under(scheme: Particles) -> Callable[[FuzzProgram], bool]:
    """Programs whose particles a scheme draws, for sites that it serves."""

    def drawn(program: FuzzProgram) -> bool:
        moving = any(KINDS[latent.kind].continuous for latent in program.latents)
        return program.particles == scheme and moving

    return drawn


def bounded(program: FuzzProgram) -> bool:
    return program.bound is not None and not estimators(program)


def sampled_in_a_bound(program: FuzzProgram) -> bool:
    discrete = any(not KINDS[latent.kind].continuous for latent in program.latents)
    return bounded(program) and discrete


def of_elements(program: FuzzProgram) -> bool:
    return bounded(program) and bool(own_plates(program))


def enumerates_first(program: FuzzProgram) -> bool:
    """Whether a site that is scored follows an enumerated one; small programs only."""
    if len(program.latents) != 2 or program.num_particles > 1:
        return False
    first, last = (latent.estimator for latent in program.latents)
    return first == "Enumeration" and last is not None and last.startswith(("Score", "ARM", "DisARM"))


def reads_numbers(program: FuzzProgram) -> bool:
    """Whether a site that may have alternatives is read as a number; small programs only."""
    few = len(program.latents) < 3 and not program.plates
    alternatives = having("DisARM", "LocalExpectation")(program)
    return few and alternatives and any(program.latent(n).estimator for n in read_sites(program))


def positional_only(program: FuzzProgram) -> bool:
    """Whether a check of a program has nothing to find but that it does not broadcast."""
    return not reenters(program) and not read_sites(program)


PLANTS: dict[str, Plant] = {
    "unchecked-broadcasting": Plant(unchecked_broadcasting, True, False, positional_only),
    "constant-branch": Plant(constant_branch, False, False, reads_numbers),
    "wrong-enumeration-weights": Plant(
        wrong_enumeration_weights, False, None, enumerates_first, within=3000
    ),
    "lost-particle": Plant(lost_particle, False, None, lambda program: program.num_particles > 1),
    "missing-detach": Plant(missing_detach, True, True, having("DisARM")),
    "baseline-with-own-cost": Plant(baseline_with_own_cost, True, True, having("LeaveOneOut")),
    "lost-scale": Plant(lost_scale, True, True),
    "sign-of-the-mean": Plant(sign_of_the_mean, True, True, having("TaylorControlVariate")),
    "transposed-factor": Plant(transposed_factor, True, True, expands_a_vector),
    "held-with-its-value": Plant(held_with_its_value, True, True, having("StickingTheLanding")),
    "counted-twice": Plant(counted_twice, True, True, expands_below_a_pair, within=3000),
    "one-sided-pairs": Plant(one_sided_pairs, True, True, under("antithetic")),
    "repeated-stratum": Plant(repeated_stratum, True, True, under("latin_hypercube")),
    "unscrambled-points": Plant(unscrambled_points, True, True, under("sobol")),
    "shared-length": Plant(shared_length, True, True, under("orthogonal")),
    "weight-with-gradient": Plant(weight_with_gradient, True, True, sampled_in_a_bound),
    "forgotten-share": Plant(forgotten_share, True, True, bounded),
    "one-weight-for-all": Plant(one_weight_for_all, True, True, of_elements),
}

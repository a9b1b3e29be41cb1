"""Whether the package gives a program its right numbers, or says that it can't."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import pyro
import torch
from torch import Tensor

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator

from ..registry import REGISTRY
from ..sampling import gradients
from ..statistics import LEVEL, Counter, p_value
from .bounds import shows_a_part
from .exact import exact_within
from .features import broadcasts
from .forms import FORMS
from .grammar import Program
from .source import Compiled, compiled
from .structure import (
    estimators,
    has_divergence,
    has_exact_site,
    leaves_a_plate,
    read_sites,
    reenters,
)

WIDE = 64
"""Particles of a second look, which sees smaller faults in as many calls."""

Stages = tuple[tuple[int, float], ...]
STAGES: Stages = ((50, 0.01), (400, 1e-3), (3000, LEVEL))
"""Calls under a fresh seed, and the p-value above which a program passes without further ones.

Only :data:`LEVEL` makes it wrong, and only in the last stage: a value that is rarely drawn may be
missing in fewer calls, which a t-test takes for no variance. All stages of a program are one
statistical assertion, and the wide ones another: the 2,000 programs of ``make fuzz`` stay within
``MAX_CASES``.
"""
WIDE_STAGES: Stages = ((20, 0.01), (100, 1e-3), (600, LEVEL))
QUICK: Stages = ((60, 1e-2), (300, 1e-5), (1500, LEVEL))
"""For what is made of a program that fails: every stage may tell that it still does."""

RELAXING = ("REBAR", "RELAX")
"""Unbiased where the program is smooth in the relaxed value: a step has to be given up."""

Status = Literal["right", "ran", "refused", "wrong", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    ``right``: the numbers are those of the exact answer. ``ran``: an estimator is biased, and the
    numbers are finite and repeat. ``refused``: an error of ours, where one may be. The rest is a fault:
    ``wrong`` numbers, or ``failed`` in another way.
    """

    status: Status
    detail: str = ""

    @property
    def fault(self) -> bool:
        return self.status in ("wrong", "failed")


@dataclass(frozen=True)
class Refusal:
    """An error that programs may meet, and which of them."""

    match: str
    of: Callable[[Program], bool]


def relaxes(program: Program) -> bool:
    return any(_relaxing(label) for label in estimators(program))


def _relaxing(label: str) -> bool:
    return (
        any(name.startswith(RELAXING) for name in _parts(label)) or not REGISTRY[label].make().unbiased
    )


def _parts(label: str) -> list[str]:
    """Names of the classes of an estimator, and of what it is combined of."""
    made = REGISTRY[label].make()
    return [type(part).__name__ for part in getattr(made, "parts", (made,))]


def takes_means(program: Program) -> bool:
    """Whether sites are put at their means: that of the estimator, and those sampled after it."""
    return any("MuProp" in _parts(label) for label in estimators(program))


def needs_mean(program: Program) -> bool:
    return any(REGISTRY[label].make().needs_mean for label in estimators(program))


def needs_independence(program: Program) -> bool:
    independent = any(REGISTRY[label].make().iid_particles for label in estimators(program))
    return independent and program.particles != "independent"


def takes_twice(program: Program) -> bool:
    """Whether an estimator may differentiate twice a sampler of torch's that can be once."""
    expands = any(label.startswith(("Taylor", "Joint")) for label in estimators(program))
    return (expands or relaxes(program)) and any(x.kind == "gamma" for x in program.latents)


def has_no_divergence(program: Program) -> bool:
    analytic = [x for x in program.latents if x.estimator == "AnalyticKL"]
    return not all(has_divergence(program, latent) for latent in analytic)


DOCUMENTED = (
    Refusal("from outside that plate", lambda p: has_exact_site(p) and leaves_a_plate(p)),
    Refusal("in one element of it on the others", lambda p: has_exact_site(p) and reenters(p)),
    Refusal("can't be relaxed", lambda p: relaxes(p) and len(p.latents) > 1),
    Refusal("AnalyticKL (has one term|takes the mean|was given)", has_no_divergence),
    Refusal("there is no coupled pair", lambda p: "MeasureValued" in estimators(p)),
    Refusal("shows a part of its elements", lambda p: p.bound is not None and shows_a_part(p)),
    Refusal("was given a bound by several particles", lambda p: p.bound is not None and needs_mean(p)),
    Refusal("can't take apart", lambda p: p.bound is not None and has_exact_site(p)),
    Refusal(
        "a bound by several particles is no mean", lambda p: p.bound is not None and has_exact_site(p)
    ),
    Refusal("drawn independently of each other", needs_independence),
    Refusal("differentiated twice there", takes_twice),
    Refusal("Python number", lambda p: (relaxes(p) or takes_means(p)) and bool(read_sites(p))),
)


def estimates(program: Program) -> bool:
    """Whether the mean of the gradient has to be the exact one."""
    if not all(REGISTRY[label].make().unbiased for label in estimators(program)):
        return False
    first = next(
        (i for i, x in enumerate(program.latents) if x.estimator and _relaxing(x.estimator)), None
    )
    if first is None:
        return True
    relaxed = {latent.name for latent in program.latents[first:]}
    return all(
        FORMS[feature.form].smooth
        for _, _, _, law, _ in program.laws()
        for feature in law.features
        if relaxed & set(feature.sources)
    )


def elbo_of(program: Program) -> pre.TraceEstimator_ELBO:
    count, mode, bound = program.num_particles, program.mode, program.bound
    if bound is not None:
        return pre.ImportanceWeighted_ELBO(count, bound.gradient, bound.alpha, vectorize_particles=mode)
    return pre.TraceEstimator_ELBO(
        _made(program), num_particles=count, vectorize_particles=mode, particles=program.particles
    )


def guide_of(program: Program, run: Compiled) -> Callable[[], None]:
    """The guide; under a bound, which takes no estimators itself, with those of its sites."""
    return pre.config_estimator(run.guide, _made(program)) if program.bound else run.guide


def _made(program: Program) -> dict[str, Estimator]:
    return {x.name: REGISTRY[x.estimator].make() for x in program.latents if x.estimator}


def sample(program: Program, run: Compiled, calls: int, seed: int) -> Tensor:
    """Loss and gradient of each call, as rows."""
    pyro.clear_param_store()
    torch.manual_seed(seed)
    guide = guide_of(program, run)
    return gradients(elbo_of(program), run.model, guide, run.parameters, calls)


def check(program: Program, *, quick: bool = False) -> Outcome:
    """Runs a program and compares it with its exact answer. ``quick``: if it is known to fail."""
    run = compiled(program)
    with warnings.catch_warnings(record=True) as caught, torch.random.fork_rng(devices=[]):
        warnings.simplefilter("always")
        outcome = _first_calls(program, run) or _warned(program, caught)
        if outcome is None:
            outcome = _against_exact(program, run, quick) if estimates(program) else Outcome("ran")
        return outcome if outcome.fault else _warned(program, caught) or outcome


def _warned(program: Program, caught: list[warnings.WarningMessage]) -> Outcome | None:
    """The fault of a warning that should not be."""
    said = [str(w.message) for w in caught if not _may_warn(program, w)]
    return Outcome("failed", f"warned: {said[0]}") if said else None


def _may_warn(program: Program, warning: warnings.WarningMessage) -> bool:
    """Whether a warning says what it should: that the program was run in another way."""
    text = str(warning.message)
    if "Found plate statements" in text or not issubclass(warning.category, UserWarning):
        return True
    if not estimates(program):
        return True
    fell_back = "vectorize_particles" in text and program.mode is not False
    if program.mode == "vmap":
        return fell_back and bool(read_sites(program))
    return fell_back and not broadcasts(program)


def _first_calls(program: Program, run: Compiled) -> Outcome | None:
    """What becomes of a program that is not served, or is not the same again."""
    try:
        first = sample(program, run, 2, program.seed)
        again = sample(program, run, 2, program.seed)
    except pre.EstimatorError as error:
        return _refused(program, error)
    except Exception as error:
        return Outcome("failed", f"{type(error).__name__}: {error}")
    if not first.isfinite().all():
        return Outcome("failed", f"not finite: {first.tolist()}")
    if not torch.equal(first, again):
        return Outcome("failed", f"not the same again: {first.tolist()}, {again.tolist()}")
    return None


def _against_exact(program: Program, run: Compiled, quick: bool) -> Outcome:
    answer = exact_within(program)
    wide = replace(program, num_particles=WIDE)
    looks = [(program, QUICK if quick else STAGES)]
    if program.mode is not False and not read_sites(program) and program.bound is None:
        looks.append((wide, QUICK if quick else WIDE_STAGES))
    for looked_at, stages in looks:
        outcome = _compared(looked_at, run, answer, stages)
        if outcome.fault:
            return outcome
    return Outcome("right")


def _compared(
    program: Program, run: Compiled, answer: tuple[Tensor, Tensor], stages: Stages
) -> Outcome:
    Counter.made += 1
    for number, (calls, enough) in enumerate(stages):
        try:
            rows = sample(program, run, calls, program.seed + 1 + number)
        except Exception as error:
            return Outcome("failed", f"in some calls only: {type(error).__name__}: {error}")
        p = p_value(rows, *answer)
        if p > enough:
            return Outcome("right")
        if p < LEVEL and stages is QUICK:
            break
    return Outcome("wrong", report(program, run, rows, *answer, p))


def _refused(program: Program, error: pre.EstimatorError) -> Outcome:
    for refusal in DOCUMENTED:
        if re.search(refusal.match, str(error)) and refusal.of(program):
            return Outcome("refused", str(error))
    return Outcome("failed", f"refused for no documented reason: {error}")


def report(program: Program, run: Compiled, rows: Tensor, answer: Tensor, off: Tensor, p: float) -> str:
    """A table of right and measured numbers."""
    names = ["loss"]
    store = pyro.get_param_store()
    for name in run.parameters:
        names += [name] * store._params[name].numel()
    mean, error = rows.mean(0), rows.std(0) / len(rows) ** 0.5
    lines = [
        f"p = {p:.1e} after {len(rows)} calls with {program.num_particles} particles",
        f"{'':24} {'right':>9} {'measured':>9} {'error':>8}",
    ]
    for name, right, within, measured, e in zip(names, answer, off, mean, error, strict=True):
        bad = " <--" if abs(right - measured) > 5 * e + 1e-5 + within else ""
        lines.append(f"{name:24} {right:9.4f} {measured:9.4f} {e:8.4f}{bad}")
    return "\n".join(lines)

"""Makes a program that fails smaller, as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..registry import REGISTRY
from .check import Outcome, check
from .features import applies
from .forms import FORMS
from .generate import SMALL
from .grammar import Feature, Latent, Law, Program, Term, parameters

SIMPLE_FORMS = ("value", "weighted", "table", "table_event", "weighted_matrix")


def shrink(program: Program, outcome: Outcome) -> tuple[Program, Outcome]:
    """The smallest program that was found, and what became of it."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in filter(parameters, candidates(program)):
            again = check(candidate, quick=True)
            if again.status == outcome.status and _same(again, outcome):
                program, outcome, smaller = candidate, again, True
                break
    return program, outcome


def _same(first: Outcome, second: Outcome) -> bool:
    """Whether two programs are wrong, or failed by errors that begin alike."""
    return first.status == "wrong" or first.detail[:20] == second.detail[:20]


def candidates(program: Program) -> Iterator[Program]:
    """Programs with one part less, or one part simpler; the largest steps first."""
    for latent in program.latents:
        yield without(program, latent.name)
    for term in program.terms:
        yield replace(program, terms=tuple(t for t in program.terms if t is not term))
    for plate in program.plates:
        yield without_plate(program, plate.name)
    if program.bound is not None:
        yield replace(program, bound=None)
    if program.particles != "independent":
        yield replace(program, particles="independent")
    together = program.bound is not None or program.particles != "independent"
    fewest = max(
        (REGISTRY[x.estimator].num_particles for x in program.latents if x.estimator),
        default=2 if together else 1,
    )
    if program.num_particles > fewest:
        yield replace(program, num_particles=fewest)
    for latent in program.latents:
        for label in (None, "ScoreFunction"):
            if latent.estimator not in (None, label):
                yield with_latent(program, replace(latent, estimator=label))
        if latent.kind != "bernoulli":
            known = latent.estimator is None or REGISTRY[latent.estimator].make().supports(
                SMALL["bernoulli"]
            )
            if known:
                yield mended(with_latent(program, replace(latent, kind="bernoulli")))
    for plate in program.plates:
        for simpler in ({"subsample": None}, {"size": 2, "subsample": None}):
            if replace(plate, **simpler) != plate:
                plates = tuple(replace(p, **simpler) if p is plate else p for p in program.plates)
                yield mended(replace(program, plates=plates))
    yield from _of_laws(program)


def _of_laws(program: Program) -> Iterator[Program]:
    for latent in program.latents:
        for law in simpler_laws(latent.guide):
            yield mended(with_latent(program, replace(latent, guide=law)))
        for law in simpler_laws(latent.model) if latent.model else ():
            yield mended(with_latent(program, replace(latent, model=law)))
    for term in program.terms:
        if term.kind == "partly_observed":
            yield with_term(program, replace(term, kind="binary", guide=None))
        for law in simpler_laws(term.law):
            yield mended(with_term(program, replace(term, law=law)))


def simpler_laws(law: Law) -> Iterator[Law]:
    for feature in law.features:
        yield replace(law, features=tuple(f for f in law.features if f is not feature))
    if law.scale:
        yield replace(law, scale=None)
    if law.mask:
        yield replace(law, mask=None)
    if law.local:
        yield replace(law, local=False)
    for feature in law.features:
        simpler = [replace(feature, wrap="")] if feature.wrap else []
        if feature.form not in SIMPLE_FORMS:
            one = feature.sources[:1]
            simpler += [replace(feature, form=form, sources=one) for form in SIMPLE_FORMS]
        for other in simpler:
            yield replace(law, features=tuple(other if f is feature else f for f in law.features))


# -- parts ----------------------------------------------------------------------------------------


def with_latent(program: Program, latent: Latent) -> Program:
    found = tuple(latent if x.name == latent.name else x for x in program.latents)
    return replace(program, latents=found)


def with_term(program: Program, term: Term) -> Program:
    return replace(program, terms=tuple(term if t.name == term.name else t for t in program.terms))


def without(program: Program, name: str) -> Program:
    return mended(
        replace(
            program,
            latents=tuple(x for x in program.latents if x.name != name),
            order=tuple(x for x in program.order if x != name),
        )
    )


def without_plate(program: Program, name: str) -> Program:
    def left(plates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(plate for plate in plates if plate != name)

    return mended(
        replace(
            program,
            plates=tuple(plate for plate in program.plates if plate.name != name),
            latents=tuple(replace(x, plates=left(x.plates)) for x in program.latents),
            terms=tuple(replace(t, plates=left(t.plates)) for t in program.terms),
        )
    )


def mended(program: Program) -> Program:
    """Without the features that can no longer be computed."""
    names = {latent.name for latent in program.latents}

    def mend(law: Law, plates: tuple[str, ...], latent: bool) -> Law:
        def fits(feature: Feature) -> bool:
            known = set(feature.sources) <= names
            return known and applies(program, feature, plates, latent)

        features = tuple(f for f in law.features if fits(f))
        return replace(law, features=features, local=law.local and bool(plates))

    return replace(
        program,
        latents=tuple(
            replace(
                x,
                guide=mend(x.guide, x.plates, True),
                model=None if x.model is None else mend(x.model, x.plates, True),
            )
            for x in program.latents
        ),
        terms=tuple(replace(t, law=mend(t.law, t.plates, False)) for t in program.terms),
    )


assert set(SIMPLE_FORMS) <= set(FORMS)

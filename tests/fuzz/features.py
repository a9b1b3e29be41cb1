"""The features of a program: which forms may stand where, and how they are written."""

from __future__ import annotations

from .forms import FORMS, Target, Value
from .grammar import Feature, Numbers, Program


def values_of(program: Program, names: tuple[str, ...]) -> list[Value]:
    return [
        Value(
            name,
            (latent := program.latent(name)).kind,
            {plate: program.plate(plate).dim for plate in latent.plates},
            program.batch(latent.plates),
        )
        for name in names
    ]


def target_of(program: Program, plates: tuple[str, ...]) -> Target:
    whole = all(program.plate(name).subsample is None for name in plates)
    return Target(plates, program.batch(plates), whole)


def applies(program: Program, feature: Feature, plates: tuple[str, ...], latent: bool) -> bool:
    """Whether a feature can stand in the law of a site in ``plates``.

    A latent value must not get dims beyond those of its plates.
    """
    form, values = FORMS[feature.form], values_of(program, feature.sources)
    target = target_of(program, plates)
    if len(values) != form.arity or not form.applies(values, target):
        return False
    widest = max(len(v.batch) for v in values) if form.broadcasts else 0
    return not latent or widest <= len(target.batch)


def write(program: Program, feature: Feature, plates: tuple[str, ...], *, plain: bool = False) -> str:
    """The Python expression of a feature; ``plain``: for the exact answer."""
    form = FORMS[feature.form]
    function = form.plain if plain and form.plain else form.write
    source = function(
        values_of(program, feature.sources), target_of(program, plates), Numbers(feature.seed)
    )
    return f"{feature.wrap}({source})" if feature.wrap else source


def features(program: Program) -> list[Feature]:
    return [feature for _, _, _, law, _ in program.laws() for feature in law.features]


def broadcasts(program: Program) -> bool:
    return all(FORMS[feature.form].broadcasts for feature in features(program))

"""Programs as data: what a random model and guide are made of.

All numbers (initial parameters, data, weights, masks) are made from the seeds that the parts carry, so
that a part keeps its numbers when others are taken away.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pyro_reparam_ext.bound_gradients import GradientWord
from pyro_reparam_ext.particles import Particles

Side = Literal["guide", "model"]
TermKind = Literal["gaussian", "binary", "partly_observed", "factor"]
Mode = bool | Literal["vmap"]
"""A value of ``vectorize_particles``."""


@dataclass(frozen=True)
class Kind:
    """A distribution: shapes of an element's value and parameter, how many values a coordinate has."""

    event: tuple[int, ...]
    parameter: tuple[int, ...]
    values: int
    """Values of the support, or nodes of the quadrature."""
    coordinates: int = 1
    continuous: bool = False
    scaled: bool = False
    """Whether it has a second, positive parameter."""


NODES = 21
KINDS = {
    "bernoulli": Kind((), (), 2),
    "bernoulli-event": Kind((2,), (2,), 2, 2),
    "one_hot": Kind((3,), (3,), 3),
    "one_hot-event": Kind((2, 3), (2, 3), 3, 2),
    "categorical": Kind((), (3,), 3),
    "categorical-event": Kind((2,), (2, 3), 3, 2),
    "binomial": Kind((), (), 3),
    "normal": Kind((), (), NODES, continuous=True, scaled=True),
    "log_normal": Kind((), (), NODES, continuous=True, scaled=True),
    "gamma": Kind((), (), 37, continuous=True, scaled=True),
    "normal-event": Kind((2,), (2,), NODES, 2, continuous=True, scaled=True),
    "multivariate_normal": Kind((2,), (2,), NODES, 2, continuous=True, scaled=True),
}
FACTOR = ([[1.0, 0.0], [0.4, 0.0]], [[0.0, 0.0], [0.3, 0.8]])
"""The Cholesky factor of a ``multivariate_normal``: its scale times the first, and the second."""
BINARY = ("bernoulli", "bernoulli-event")


@dataclass(frozen=True)
class Plate:
    name: str
    size: int
    dim: int
    subsample: int | None = None

    @property
    def length(self) -> int:
        """How many elements a run of the program has."""
        return self.subsample or self.size


@dataclass(frozen=True)
class Feature:
    """A deterministic function of one or two values: see :mod:`.forms`."""

    form: str
    sources: tuple[str, ...]
    seed: int
    wrap: str = ""


@dataclass(frozen=True)
class Law:
    """Parameters of a distribution: a free one plus features, each times a coefficient to learn."""

    seed: int
    features: tuple[Feature, ...] = ()
    local: bool = False
    """Whether every element of the plates has a free parameter of its own."""
    scale: float | None = None
    """Of ``poutine.scale``."""
    mask: Literal["poutine", "dist"] | None = None


@dataclass(frozen=True)
class Latent:
    """A site of the guide; of the model too unless it is auxiliary (``model`` is None)."""

    name: str
    plates: tuple[str, ...]
    kind: str
    guide: Law
    model: Law | None
    estimator: str | None = None
    """A label of the registry; None for the default."""


@dataclass(frozen=True)
class Term:
    """What else a model scores: an observation, an observation with a mask, or a factor.

    The unobserved elements of a ``partly_observed`` one are a site of the guide that no other depends
    on, with the law ``guide``. A factor may be the guide's.
    """

    name: str
    plates: tuple[str, ...]
    kind: TermKind
    law: Law
    guide: Law | None = None
    side: Side = "model"


@dataclass(frozen=True)
class Bound:
    """A bound by several particles in the place of the ELBO."""

    gradient: GradientWord
    alpha: float


@dataclass(frozen=True)
class Program:
    """``latents`` are in the order of the guide, ``order`` names them in that of the model."""

    plates: tuple[Plate, ...]
    latents: tuple[Latent, ...]
    order: tuple[str, ...]
    terms: tuple[Term, ...]
    num_particles: int = 1
    mode: Mode = True
    seed: int = 0
    particles: Particles = "independent"
    """The scheme by which they are drawn."""
    bound: Bound | None = None

    def plate(self, name: str) -> Plate:
        return next(plate for plate in self.plates if plate.name == name)

    def latent(self, name: str) -> Latent:
        return next(latent for latent in self.latents if latent.name == name)

    def in_mode(self, mode: Mode) -> Program:
        return replace(self, mode=mode)

    def batch(self, plates: Iterable[str], *, full: bool = False) -> tuple[int, ...]:
        """The shape that plates give to a value; ``full``: without sub-sampling."""
        sizes = {-(p := self.plate(n)).dim: p.size if full else p.length for n in plates}
        return tuple(sizes.get(dim, 1) for dim in range(max(sizes, default=0), 0, -1))

    def laws(self) -> list[tuple[Side, str, tuple[str, ...], Law, str]]:
        """Side, name, plates, law and kind of all that is scored, in the order of the program."""
        found: list[tuple[Side, str, tuple[str, ...], Law, str]] = []
        for latent in self.latents:
            found.append(("guide", latent.name, latent.plates, latent.guide, latent.kind))
        for term in self.terms:
            if term.guide is not None:
                found.append(("guide", unobserved(term), term.plates, term.guide, "bernoulli"))
        for name in self.order:
            latent = self.latent(name)
            if latent.model is not None:
                found.append(("model", name, latent.plates, latent.model, latent.kind))
        return found + [(t.side, t.name, t.plates, t.law, t.kind) for t in self.terms]


def unobserved(term: Term) -> str:
    """The name that Pyro gives to the site of the elements which are not observed."""
    return f"{term.name}_unobserved"


def parameter_shape(kind: str) -> tuple[int, ...]:
    return KINDS[kind].parameter if kind in KINDS else ()


def parameters(program: Program) -> dict[str, Any]:
    """Initial values of all parameters, as nested lists."""
    result: dict[str, Any] = {}
    for side, name, plates, law, kind in program.laws():
        numbers = Numbers(law.seed)
        shape = parameter_shape(kind)
        batch = program.batch(plates, full=True) if law.local else ()
        result[f"{side}_{name}"] = numbers(*batch, *shape)
        if kind in KINDS and KINDS[kind].scaled:
            result[f"{side}_{name}_s"] = -abs(numbers())
        for number, feature in enumerate(law.features):
            strength = 1.0 if kind in KINDS else 2.0
            result[f"{side}_{name}_{number}"] = Numbers(feature.seed + 1, strength)(*shape)
    return result


def elements(shape: tuple[int, ...]) -> int:
    return shape[0] * elements(shape[1:]) if shape else 1


class Numbers:
    """A stream of numbers of two digits, away from zero, as nested lists."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        self.random = random.Random(seed)
        self.scale = scale

    def __call__(self, *shape: int) -> Any:
        if shape:
            return [self(*shape[1:]) for _ in range(shape[0])]
        size = self.scale * self.random.uniform(0.2, 1.2)
        return round(self.random.choice((-1, 1)) * size, 2)

    def bits(self, *shape: int) -> Any:
        """Booleans, both values among them where there is room."""
        count = elements(shape)
        flat = [i % 2 == 0 for i in range(max(count, 2))]
        self.random.shuffle(flat)
        return _nested(flat, shape)


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    step = len(flat) // shape[0]
    return [_nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]

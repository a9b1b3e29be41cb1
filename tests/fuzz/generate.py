"""Draws random programs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pyro.distributions as dist
import torch

from pyro_reparam_ext.bound_gradients import GradientWord
from pyro_reparam_ext.particles import Particles

from ..registry import REGISTRY
from .exact import size
from .features import applies, broadcasts
from .forms import FORMS
from .grammar import KINDS, Bound, Feature, Latent, Law, Mode, Plate, Program, Side, Term, TermKind
from .structure import refused

MAX_ASSIGNMENTS = 6000
MAX_MOVING = 20_000
"""Of programs with more of continuous sites."""
MAX_JOINT = 250_000
"""Assignments of all particles of a bound."""

SMALL = {
    "bernoulli": dist.Bernoulli(torch.tensor(0.5)),
    "bernoulli-event": dist.Bernoulli(torch.ones(2) / 2).to_event(1),
    "one_hot": dist.OneHotCategorical(torch.ones(3)),
    "one_hot-event": dist.OneHotCategorical(torch.ones(2, 3)).to_event(1),
    "categorical": dist.Categorical(torch.ones(3)),
    "categorical-event": dist.Categorical(torch.ones(2, 3)).to_event(1),
    "binomial": dist.Binomial(2, torch.tensor(0.5)),
    "normal": dist.Normal(torch.tensor(0.0), 1.0),
    "log_normal": dist.LogNormal(torch.tensor(0.0), 1.0),
    "gamma": dist.Gamma(torch.tensor(1.0), 1.0),
    "normal-event": dist.Normal(torch.zeros(2), 1.0).to_event(1),
    "multivariate_normal": dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
}
"""One distribution of each kind, to ask estimators whether they support it."""

NORMAL_VECTORS = ("normal-event", "multivariate_normal")
FIRST_KINDS = tuple(kind for kind in KINDS if kind not in NORMAL_VECTORS)

MOVING = ("normal", "normal", *NORMAL_VECTORS)
FAVOURED = ("TaylorControlVariate",) * 3 + ("StickingTheLanding", "MeasureValued", "GaussHermite")
"""Kinds and estimators of the sites of continuous programs, as often as they are named."""

SCHEMES: tuple[Particles, ...] = ("antithetic", "latin_hypercube", "sobol", "orthogonal")
GRADIENTS: tuple[GradientWord, ...] = ("dreg", "pathwise", "vimco", "vimco-star", "score")

LAYOUTS: tuple[tuple[Plate, ...], ...] = (
    (),
    (Plate("a", 2, -1),),
    (Plate("a", 3, -1),),
    (Plate("a", 3, -1, subsample=2),),
    (Plate("a", 2, -1), Plate("b", 2, -2)),
)


def generate(seed: int, mode: Mode = True, broadcasting: bool | None = None) -> Program:
    """The program of a seed. ``broadcasting``: only one that broadcasts, or one that doesn't."""
    any_form = random.Random(seed).random() < 0.6 if broadcasting is None else not broadcasting
    taste = random.Random(f"{seed}/favoured")
    favoured = taste.choice(FAVOURED) if taste.random() < 0.4 else None
    for number in range(10_000):
        rng, more = random.Random(f"{seed}/{number}"), random.Random(f"{seed}/{number}/more")
        draw = _Draw(rng, more, any_form, favoured)
        program = replace(draw.program(), seed=seed, mode=mode)
        wanted = broadcasting is None or broadcasts(program) == broadcasting
        if wanted and size(program) <= (MAX_MOVING if draw.favoured else MAX_ASSIGNMENTS):
            return draw.mostly_served(draw.with_particles(program))
    raise AssertionError("no such program was drawn")


def labels(kind: str, num_particles: int) -> list[str]:
    """The estimators of the registry that support a kind of site."""
    return [
        label
        for label, entry in REGISTRY.items()
        if entry.num_particles <= num_particles and entry.make().supports(SMALL[kind])
    ]


class _Draw:
    """``more``: of what came later, so that the numbers of ``rng`` stay what they were.

    ``favoured``: the estimator of a program with more of continuous sites, else None.
    """

    def __init__(
        self, rng: random.Random, more: random.Random, any_form: bool, favoured: str | None
    ) -> None:
        self.rng, self.more, self.any_form, self.favoured = rng, more, any_form, favoured
        self.plates = rng.choice(LAYOUTS)
        self.num_particles = rng.choice((1, 1, 2, 3))

    def program(self) -> Program:
        rng = self.rng
        program = Program(self.plates, (), (), (), self.num_particles)
        count = rng.choice((1, 1, 2, 2, 3, 4))
        for number in range(self.more.choice((1, 2, 2, 3)) if self.favoured else count):
            program = self.with_latent(program, f"z{number}")
        order = [latent.name for latent in program.latents]
        rng.shuffle(order)
        program = replace(program, order=tuple(order))
        program = self.with_model(program)
        program = self.with_term(program, "y0", rng.choice(("gaussian", "gaussian", "binary")))
        if rng.random() < 0.4:
            program = self.with_term(program, "f0", "factor")
        if rng.random() < 0.3:
            kind: TermKind = rng.choice(("gaussian", "binary", "partly_observed"))
            program = self.with_term(program, "y1", kind)
        if rng.random() < 0.15:
            program = self.with_term(program, "g0", "factor", "guide")
        return program

    def with_latent(self, program: Program, name: str) -> Program:
        rng = self.rng
        kind = rng.choice(FIRST_KINDS)
        if self.favoured and self.more.random() < 0.7:
            kind = self.more.choice(MOVING)
        estimator = self.estimator(kind) if rng.random() < 0.85 else None
        if self.favoured in labels(kind, self.num_particles) and self.more.random() < 0.7:
            estimator = self.favoured
        plates = self.subset()
        earlier = [latent.name for latent in program.latents]
        guide = self.law(program, earlier, plates, 0.5, latent=True)
        latent = Latent(name, plates, kind, guide, Law(0), estimator)
        if rng.random() < 0.12:
            latent = replace(latent, model=None)
        return replace(program, latents=(*program.latents, latent))

    def estimator(self, kind: str) -> str | None:
        """A label of the registry; few biased ones, of which there is less to check."""
        options = labels(kind, self.num_particles)
        if self.rng.random() < 0.85:
            options = [label for label in options if REGISTRY[label].make().unbiased]
        # each class as often as any other, however many entries it has
        of_class: dict[type, list[str]] = {}
        for label in options:
            of_class.setdefault(type(REGISTRY[label].make()), []).append(label)
        return self.rng.choice(self.rng.choice(list(of_class.values())))

    def with_particles(self, program: Program) -> Program:
        """Perhaps a scheme of particles, or a bound in the place of the ELBO."""
        more, chance = self.more, self.more.random()
        if chance < 0.2:
            return replace(
                program, particles=more.choice(SCHEMES), num_particles=more.choice((2, 4, 4))
            )
        counts = [count for count in (2, 3) if size(program) ** count <= MAX_JOINT]
        if chance > 0.45 or not counts:
            return program
        if more.random() < 0.7:  # the word chooses
            latents = tuple(replace(latent, estimator=None) for latent in program.latents)
            program = replace(program, latents=latents)
        bound = Bound(more.choice(GRADIENTS), more.choice((0.0, 0.5)))
        return replace(program, bound=bound, num_particles=more.choice(counts))

    def mostly_served(self, program: Program) -> Program:
        """With the default at sites whose estimators are refused there, but for a few programs."""
        chance, names = self.more.random(), refused(program)
        if chance < 0.1 or not names:
            return program
        latents = [replace(x, estimator=None) if x.name in names else x for x in program.latents]
        return replace(program, latents=tuple(latents))

    def with_model(self, program: Program) -> Program:
        """Priors of the latent sites, each given some of those before it in the model."""
        known: list[str] = []
        for name in program.order:
            latent = program.latent(name)
            if latent.model is None:
                continue
            latent = replace(latent, model=self.law(program, known, latent.plates, 0.4, latent=True))
            latents = tuple(latent if x.name == name else x for x in program.latents)
            program = replace(program, latents=latents)
            known.append(name)
        return program

    def with_term(self, program: Program, name: str, kind: TermKind, side: Side = "model") -> Program:
        plates = self.subset()
        shared = [x.name for x in program.latents if x.model is not None or side == "guide"]
        law = self.law(program, shared, plates, 0.95)
        guide = Law(self.seed()) if kind == "partly_observed" else None
        if kind in ("partly_observed", "factor") and law.mask == "dist":
            law = replace(law, mask="poutine")
        term = Term(name, plates, kind, law, guide, side)
        return replace(program, terms=(*program.terms, term))

    def law(
        self,
        program: Program,
        sources: Sequence[str],
        plates: tuple[str, ...],
        chance: float,
        latent: bool = False,
    ) -> Law:
        rng = self.rng
        features: list[Feature] = []
        while sources and len(features) < 3 and rng.random() < chance:
            feature = self.feature(program, sources, plates, latent)
            if feature is None:
                break
            features.append(feature)
            chance *= 0.7
        return Law(
            self.seed(),
            tuple(features),
            local=bool(plates) and rng.random() < 0.5,
            scale=rng.choice((0.5, 2.0)) if rng.random() < 0.12 else None,
            mask=rng.choice(("poutine", "dist")) if rng.random() < 0.12 else None,
        )

    def feature(
        self, program: Program, sources: Sequence[str], plates: tuple[str, ...], latent: bool
    ) -> Feature | None:
        rng = self.rng
        first = rng.choice(sources)
        options = []
        for name, form in FORMS.items():
            if not (form.broadcasts or self.any_form):
                continue
            chosen = (first,) if form.arity == 1 else (first, rng.choice(sources))
            feature = Feature(name, chosen, self.seed())
            if applies(program, feature, plates, latent):
                options.append(feature)
        if not options:
            return None
        positional = [f for f in options if not FORMS[f.form].broadcasts]
        if positional and rng.random() < 0.5:
            options = positional
        feature = rng.choice(options)
        unbounded = any(KINDS[program.latent(name).kind].continuous for name in feature.sources)
        wrap = "torch.tanh" if unbounded else rng.choice(("", "torch.tanh", "torch.sin"))
        return replace(feature, wrap=wrap)

    def subset(self) -> tuple[str, ...]:
        chosen = self.rng.random()
        names = tuple(plate.name for plate in self.plates)
        if chosen < 0.25 or not names:
            return ()
        if chosen < 0.65 or len(names) == 1:
            return names
        return (self.rng.choice(names),)

    def seed(self) -> int:
        return 10 * self.rng.randrange(10**6)

"""A program as Pyro source that can be read and run alone."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from dataclasses import dataclass

from .features import write
from .grammar import (
    FACTOR,
    KINDS,
    Latent,
    Law,
    Numbers,
    Program,
    Side,
    Term,
    parameter_shape,
    parameters,
)

HEADER = """\
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine


def T(x):
    return torch.tensor(x, dtype=torch.float64)

"""

MADE = {
    "bernoulli": "dist.Bernoulli(logits={eta})",
    "bernoulli-event": "dist.Bernoulli(logits={eta}).to_event(1)",
    "one_hot": "dist.OneHotCategorical(logits={eta})",
    "one_hot-event": "dist.OneHotCategorical(logits={eta}).to_event(1)",
    "categorical": "dist.Categorical(logits={eta})",
    "categorical-event": "dist.Categorical(logits={eta}).to_event(1)",
    "binomial": "dist.Binomial(2, logits={eta})",
    "normal": "dist.Normal({eta}, {s}.exp())",
    "log_normal": "dist.LogNormal(0.3 * {eta}, (0.5 * {s}).exp())",
    "gamma": "dist.Gamma(3 * (0.3 * {s}).exp(), (0.3 * {eta}).exp())",
    "normal-event": "dist.Normal({eta}, {s}.exp()).to_event(1)",
    "multivariate_normal": (
        f"dist.MultivariateNormal({{eta}}, scale_tril={{s}}.exp() * T({FACTOR[0]}) + T({FACTOR[1]}))"
    ),
}


@dataclass(frozen=True)
class Compiled:
    """A program that runs; ``parameters`` are the names of its parameters in the store."""

    source: str
    model: Callable[[], None]
    guide: Callable[[], None]
    parameters: tuple[str, ...]


def compiled(program: Program) -> Compiled:
    source = render(program)
    name = f"<program {program.seed}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space: dict = {"__name__": "fuzz_program"}
    exec(compile(source, name, "exec"), space)
    return Compiled(source, space["model"], space["guide"], tuple(parameters(program)))


def render(program: Program) -> str:
    return HEADER + _Writer(program).whole()


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.initial = parameters(program)

    def whole(self) -> str:
        program = self.program
        guide = [line for latent in program.latents for line in self.guide_site(latent)]
        guide += [line for term in program.terms if term.guide for line in self.unobserved(term)]
        guide += [line for t in program.terms if t.side == "guide" for line in self.term(t)]
        latents = (program.latent(name) for name in program.order)
        model = [line for latent in latents for line in self.model_site(latent)]
        model += [line for t in program.terms if t.side == "model" for line in self.term(t)]
        return f"{self.function('guide', guide)}\n\n{self.function('model', model)}"

    def function(self, name: str, lines: list[str]) -> str:
        body = "".join(f"    {line}\n" for line in self.plates(lines) + lines) or "    pass\n"
        return f"def {name}():\n{body}"

    def plates(self, lines: list[str]) -> list[str]:
        made = []
        for plate in self.program.plates:
            if any(f"plate_{plate.name} " in line for line in lines):
                part = f", subsample_size={plate.subsample}" if plate.subsample else ""
                made.append(
                    f'plate_{plate.name} = pyro.plate("{plate.name}", {plate.size}{part}, '
                    f"dim={plate.dim})"
                )
        return made

    # -- sites ------------------------------------------------------------------------------------

    def guide_site(self, latent: Latent) -> list[str]:
        infer = ', infer={"is_auxiliary": True}' if latent.model is None else ""
        fn = self.distribution("guide", latent.name, latent.kind, latent.guide, latent.plates)
        line = f'{latent.name} = pyro.sample("{latent.name}", {fn}{infer})'
        return self.within(latent.plates, latent.guide, [line])

    def model_site(self, latent: Latent) -> list[str]:
        if latent.model is None:
            return []
        fn = self.distribution("model", latent.name, latent.kind, latent.model, latent.plates)
        line = f'{latent.name} = pyro.sample("{latent.name}", {fn})'
        return self.within(latent.plates, latent.model, [line])

    def unobserved(self, term: Term) -> list[str]:
        assert term.guide is not None
        name = f"{term.name}_unobserved"
        fn = self.distribution("guide", name, "bernoulli", term.guide, term.plates)
        lines = [f"with poutine.mask(mask=~{self.observed(term)}):"]
        lines.append(f'    pyro.sample("{name}", {fn})')
        return self.within(term.plates, term.guide, lines)

    def term(self, term: Term) -> list[str]:
        eta = self.eta(term.side, term.name, term.kind, term.law, term.plates)
        if term.kind == "factor":
            rsample = ", has_rsample=True" if term.side == "guide" else ""
            return self.within(term.plates, term.law, [f'pyro.factor("{term.name}", {eta}{rsample})'])
        made = "dist.Normal({eta}, 0.8)" if term.kind == "gaussian" else MADE["bernoulli"]
        fn = self.masked(made.format(eta=eta), term.law, term.plates)
        mask = f", obs_mask={self.observed(term)}" if term.guide else ""
        line = f'pyro.sample("{term.name}", {fn}, obs={self.data(term)}{mask})'
        return self.within(term.plates, term.law, [line])

    def data(self, term: Term) -> str:
        batch, numbers = self.program.batch(term.plates, full=True), Numbers(term.law.seed + 3)
        if term.kind == "gaussian":
            return self.taken(f"T({numbers(*batch)})", term.plates, 0)
        return self.taken(f"T({numbers.bits(*batch)})", term.plates, 0)

    def observed(self, term: Term) -> str:
        return self.mask(term.law.seed + 4, term.plates)

    # -- parts ------------------------------------------------------------------------------------

    def within(self, plates: tuple[str, ...], law: Law, lines: list[str]) -> list[str]:
        """The lines in the contexts of plates, scale and mask."""
        ordered = sorted((self.program.plate(name) for name in plates), key=lambda p: p.dim)
        contexts = [
            f"plate_{p.name} as i_{p.name}" if p.subsample else f"plate_{p.name} as _" for p in ordered
        ]
        contexts += [f"poutine.scale(scale={law.scale})"] if law.scale else []
        if law.mask == "poutine":
            contexts.append(f"poutine.mask(mask={self.mask(law.seed + 2, plates)})")
        if not contexts:
            return lines
        return [f"with {', '.join(contexts)}:", *(f"    {line}" for line in lines)]

    def distribution(self, side: Side, name: str, kind: str, law: Law, plates: tuple[str, ...]) -> str:
        fn = MADE[kind].format(
            eta=self.eta(side, name, kind, law, plates), s=self.parameter(f"{side}_{name}_s")
        )
        return self.masked(fn, law, plates)

    def masked(self, fn: str, law: Law, plates: tuple[str, ...]) -> str:
        return f"{fn}.mask({self.mask(law.seed + 2, plates)})" if law.mask == "dist" else fn

    def mask(self, seed: int, plates: tuple[str, ...]) -> str:
        bits = Numbers(seed).bits(*self.program.batch(plates, full=True))
        return self.taken(f"torch.tensor({bits})", plates, 0)

    def eta(self, side: Side, name: str, kind: str, law: Law, plates: tuple[str, ...]) -> str:
        dims = len(parameter_shape(kind))
        eta = self.parameter(f"{side}_{name}")
        if law.local:
            eta = self.taken(eta, plates, dims)
        for number, feature in enumerate(law.features):
            source = f"({write(self.program, feature, plates)}){'[..., None]' * dims}"
            eta += f" + {self.parameter(f'{side}_{name}_{number}')} * {source}"
        return f"({eta})" if law.features else eta

    def parameter(self, name: str) -> str:
        return f'pyro.param("{name}", T({self.initial[name]}))' if name in self.initial else ""

    def taken(self, tensor: str, plates: tuple[str, ...], event_dims: int) -> str:
        """The rows of a tensor that a sub-sampling plate has drawn."""
        for plate in map(self.program.plate, plates):
            if plate.subsample:
                tensor += f".index_select({plate.dim - event_dims}, i_{plate.name})"
        return tensor


assert set(MADE) == set(KINDS)

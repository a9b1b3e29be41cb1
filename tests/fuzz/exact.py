"""The negative ELBO of a program and its gradient, in plain torch: a sum over all that may be drawn.

Nothing here is vectorised by hand: one assignment of plain values at a time, under
``torch.func.vmap``. Discrete values are enumerated, continuous ones summed by the trapezoidal rule
(which converges exponentially for what is smooth and decays on both sides), sub-sampled plates over
all draws of their indices. How far the trapezoidal rule is off is told by others, with nodes between.
A bound by several particles is a sum over all that they may draw together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType

import torch
from torch import Tensor

from .bounds import common_scale, expected_loss, own_plates
from .densities import DTYPE, RULES, Rule, T, log_prob, normal, value_at
from .features import write
from .grammar import (
    KINDS,
    Law,
    Numbers,
    Plate,
    Program,
    Side,
    Term,
    elements,
    parameter_shape,
    parameters,
    unobserved,
)

CHUNK = 2048
"""Assignments at once."""


Indices = dict[str, Tensor]


@lru_cache(maxsize=4096)
def _code(source: str) -> CodeType:
    return compile(source, "<feature>", "eval")


def exact_within(program: Program) -> tuple[Tensor, Tensor]:
    """The answer of :func:`exact`, and by how much each of its numbers may be off."""
    kinds = {kind for kind, _ in latent_shapes(program).values()}
    if not any(KINDS[kind].continuous for kind in kinds):
        answer = _by_rule(program, RULES[0])
        return answer, torch.zeros_like(answer)
    found = torch.stack([_by_rule(program, rule) for rule in RULES])
    return found.mean(0), (found[::2].mean(0) - found[1::2].mean(0)).abs()


def exact(program: Program) -> Tensor:
    """The negative ELBO, then its gradient, flat, in the order of the program's parameters."""
    return exact_within(program)[0]


def _by_rule(program: Program, rule: Rule) -> Tensor:
    leaves = {k: T(v).requires_grad_() for k, v in parameters(program).items()}
    draws = list(_subsamples(program))
    losses = [_loss(program, leaves, indices, rule) for indices in draws]
    total = torch.stack(losses).mean()
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    flat = [
        torch.zeros_like(leaf).flatten() if g is None else g.flatten()
        for leaf, g in zip(leaves.values(), gradients, strict=True)
    ]
    return torch.cat([total.detach().reshape(1), *flat])


def _loss(program: Program, leaves: dict[str, Tensor], indices: Indices, rule: Rule) -> Tensor:
    """The negative ELBO, or bound, given the indices of plates."""
    evaluated = torch.func.vmap(lambda a: _Run(program, leaves, indices, a, rule).result())
    parts = [evaluated(assignments) for assignments in _assignments(program, rule)]
    if program.bound is None:
        return torch.stack([(log_weights.exp() * costs).sum() for log_weights, costs in parts]).sum()
    log_weights, costs = (torch.cat(part) for part in zip(*parts, strict=True))
    loss = expected_loss(log_weights, costs, program.num_particles, program.bound.alpha)
    return loss * common_scale(program)


def latent_shapes(program: Program) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Kind, and plain shape of the coordinates, of all that the guide draws."""
    drawn = [(site.name, site.kind, site.plates) for site in program.latents]
    drawn += [(unobserved(t), "bernoulli", t.plates) for t in program.terms if t.guide]
    shapes = {}
    for name, kind, plates in drawn:
        one_hot = kind.startswith("one_hot")
        event = KINDS[kind].event[: len(KINDS[kind].event) - one_hot]
        shapes[name] = (kind, program.batch(plates) + event)
    return shapes


def size(program: Program) -> int:
    """How many assignments there are."""
    shapes = latent_shapes(program).values()
    count = math.prod(KINDS[kind].values ** elements(shape) for kind, shape in shapes)
    return count * len(list(_subsamples(program)))


def _assignments(program: Program, rule: Rule) -> Iterator[dict[str, Tensor]]:
    """For every site which value of the support, or node, each coordinate takes."""
    shapes = latent_shapes(program)
    count = math.prod(rule.values(kind) ** elements(shape) for kind, shape in shapes.values())
    for start in range(0, count, CHUNK):
        number = torch.arange(start, min(start + CHUNK, count))
        chunk = {}
        for name, (kind, shape) in shapes.items():
            digits = []
            for _ in range(elements(shape)):
                digits.append(number % rule.values(kind))
                number = number // rule.values(kind)
            chunk[name] = torch.stack(digits, -1).reshape(-1, *shape)
        # vmap needs something to map over
        yield chunk or {"": torch.zeros(1)}


def _subsamples(program: Program) -> Iterator[Indices]:
    """All indices, in all orders, that sub-sampling plates may draw."""
    plates = [plate for plate in program.plates if plate.subsample]
    choices = [itertools.permutations(range(p.size), p.length) for p in plates]
    for drawn in itertools.product(*choices):
        yield {p.name: torch.tensor(i) for p, i in zip(plates, drawn, strict=True)}


class _Run:
    """One assignment: the probability of its values, and the cost ``log q - log p``."""

    def __init__(
        self,
        program: Program,
        leaves: dict[str, Tensor],
        indices: Indices,
        assignment: dict[str, Tensor],
        rule: Rule,
    ) -> None:
        self.program, self.leaves, self.indices = program, leaves, indices
        self.assignment, self.rule = assignment, rule
        self.values: dict[str, Tensor] = {}
        self.log_weight = torch.zeros((), dtype=DTYPE)
        self.own: frozenset[str] = own_plates(program) if program.bound else frozenset()
        self.common = common_scale(program) if program.bound else 1.0
        self.cost = torch.zeros((), dtype=DTYPE)

    def result(self) -> tuple[Tensor, Tensor]:
        program = self.program
        for latent in program.latents:
            self.draw(latent.name, latent.kind, latent.plates, latent.guide)
        for term in program.terms:
            if term.guide:
                name = unobserved(term)
                mask = ~self.mask(term.law.seed + 4, term.plates)
                self.draw(name, "bernoulli", term.plates, term.guide, mask)
            if term.side == "guide":
                self.cost = self.cost + self.score(*self.term(term), term.plates, term.law)
        for name in program.order:
            latent = program.latent(name)
            if latent.model is not None:
                eta, s = self.parameters("model", name, latent.kind, latent.model, latent.plates)
                log_p = log_prob(latent.kind, eta, s, self.values[name])
                self.cost = self.cost - self.score(log_p, None, latent.plates, latent.model)
        for term in program.terms:
            if term.side == "model":
                self.cost = self.cost - self.score(*self.term(term), term.plates, term.law)
        return self.log_weight, self.cost

    def draw(
        self, name: str, kind: str, plates: tuple[str, ...], law: Law, mask: Tensor | None = None
    ) -> None:
        eta, s = self.parameters("guide", name, kind, law, plates)
        value, log_weight = value_at(kind, eta, s, self.assignment[name], self.rule)
        self.values[name] = value
        log_q = log_prob(kind, eta, s, value)
        log_weight = log_q if log_weight is None else log_weight
        self.log_weight = self.log_weight + log_weight.sum()
        self.cost = self.cost + self.score(log_q, mask, plates, law)

    def term(self, term: Term) -> tuple[Tensor, Tensor | None]:
        """The log density of a term, and its mask of what is observed."""
        eta, s = self.parameters(term.side, term.name, term.kind, term.law, term.plates)
        eta = eta.expand(torch.broadcast_shapes(eta.shape, self.program.batch(term.plates)))
        batch, numbers = self.program.batch(term.plates, full=True), Numbers(term.law.seed + 3)
        if term.kind == "factor":
            return eta, None
        if term.kind == "gaussian":
            data = self.taken(T(numbers(*batch)), term.plates, 0)
            return normal(data, eta, T(0.8)), None
        data = self.taken(T(numbers.bits(*batch)), term.plates, 0)
        if term.kind == "partly_observed":
            observed = self.mask(term.law.seed + 4, term.plates)
            data = torch.where(observed, data, self.values[unobserved(term)])
        return log_prob("bernoulli", eta, s, data), None

    def score(self, log_prob: Tensor, mask: Tensor | None, plates: tuple[str, ...], law: Law) -> Tensor:
        """A log density with masks and scales, summed over plates without weights of their own."""
        if law.mask is not None:
            log_prob = log_prob * self.mask(law.seed + 2, plates)
        if mask is not None:
            log_prob = log_prob * mask
        scale = math.prod(p.size / p.length for p in map(self.program.plate, plates))
        kept = {self.program.plate(name).dim for name in self.own}
        dims = [dim for dim in range(-log_prob.dim(), 0) if dim not in kept]
        total = log_prob.sum(dims, keepdim=bool(kept)) if dims else log_prob
        return total * scale * (law.scale or 1.0) / self.common

    def parameters(
        self, side: Side, name: str, kind: str, law: Law, plates: tuple[str, ...]
    ) -> tuple[Tensor, Tensor]:
        dims = len(parameter_shape(kind))
        eta = self.leaves[f"{side}_{name}"]
        if law.local:
            eta = self.taken(eta, plates, dims)
        for number, feature in enumerate(law.features):
            source = write(self.program, feature, plates, plain=True)
            result = eval(_code(source), {"torch": torch, "T": T, **self.values})
            eta = eta + self.leaves[f"{side}_{name}_{number}"] * result[(..., *[None] * dims)]
        return eta, self.leaves.get(f"{side}_{name}_s", T(0.0))

    def mask(self, seed: int, plates: tuple[str, ...]) -> Tensor:
        bits = Numbers(seed).bits(*self.program.batch(plates, full=True))
        return self.taken(torch.tensor(bits), plates, 0)

    def taken(self, tensor: Tensor, plates: tuple[str, ...], event_dims: int) -> Tensor:
        for plate in map(self.program.plate, plates):
            tensor = self.rows(tensor, plate, event_dims)
        return tensor

    def rows(self, tensor: Tensor, plate: Plate, event_dims: int) -> Tensor:
        if plate.name not in self.indices:
            return tensor
        return tensor.index_select(plate.dim - event_dims, self.indices[plate.name])

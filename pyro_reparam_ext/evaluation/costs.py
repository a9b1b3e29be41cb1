"""From the cost terms of all passes to the costs of one site, and to the cost of the program.

Where sites are enumerated, every term is averaged over their values, by the probabilities of those
sites whose plates it lies in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from ..numerics.shapes import cat_rows
from .at_once import outside
from .axes import PARTICLES
from .enumerated import EnumeratedSites
from .objective import Mean, Objective
from .ordinary import is_tracked
from .passes import Pass
from .program import Dependencies, Program, Span
from .shared_sums import shared_sums
from .terms import Key, Runs, Term, joined_runs, rows_at, weighed


@dataclass(eq=False)
class Costs:
    """All passes of a program; the first is the one with the ordinary evaluation."""

    program: Program
    passes: list[Pass]
    objective: Objective = field(default_factory=Mean)
    own_weights: frozenset[str] = frozenset()
    """The plates whose elements an objective that is no mean weighs by themselves."""

    @cached_property
    def enumerated(self) -> EnumeratedSites:
        """The enumerated sites, and how terms are averaged over them."""
        return EnumeratedSites(self.program, self.passes[0].terms)

    def depend(self, dependencies: Dependencies) -> None:
        """Says which terms depend on which sites."""
        for p in self.passes:
            for term in p.terms:
                term.upstream = dependencies.get(term.key)

    # -- the sites --------------------------------------------------------------------------------

    def downstream(self, numbers: Sequence[int]) -> dict[int, Tensor]:
        """The costs of the sites ``numbers``: ``(1 + alternatives, *batch)``, not detached.

        Summed over terms that depend on the site, over plates that the site is not in, and over those
        in which a term depends on other elements of the site. What sites in the same plates have in
        common is summed once.
        """
        costs: dict[int, Tensor] = {}
        for alike in grouped(numbers, self.view):
            keys: dict[int, set[Key]] = {}
            rows: dict[int, list[Tensor]] = {}
            having = [n for n in alike if self.places.get(n)]
            for sharing in grouped(having, lambda number: self.places[number]):
                places = self.places[sharing[0]]
                varying = self._varying_keys(places)
                self._check_coordinatewise(sharing, varying)
                for place in places:
                    for number, part in self._alternatives(sharing, place, varying):
                        rows.setdefault(number, []).append(part)
                if places[0] != 0:
                    keys |= dict.fromkeys(sharing, varying)
            ordinary = self._ordinary([n for n in alike if n in keys or n not in rows], keys)
            for number in alike:  # shape of each part: (evaluations, *batch)
                parts = [ordinary[number]] if number in ordinary else []
                parts += rows.get(number, [])
                costs[number] = self._in_order(number, cat_rows(parts) if len(parts) > 1 else parts[0])
        return costs

    def _in_order(self, number: int, rows: Tensor) -> Tensor:
        """The costs of a site in the order of its branches, which may lie in several passes."""
        spans = [s for place in self.places.get(number, ()) for s in self.owned(place, number)]
        if all((a.branch, a.start) < (b.branch, b.start) for a, b in pairwise(spans)):
            return rows
        ends = list(accumulate((len(span) for span in spans), initial=1))
        pieces = sorted(zip(spans, ends, strict=False), key=lambda x: (x[0].branch, x[0].start))
        return torch.cat([rows[:1], *(rows[start : start + len(span)] for span, start in pieces)])

    def owned(self, place: int, number: int) -> list[Span]:
        """The spans of a site in the pass number ``place``, which lie side by side."""
        return self._owned[place].get(number, [])

    @cached_property
    def _owned(self) -> list[dict[int, list[Span]]]:
        """By pass: the spans of each of its sites."""
        found: list[dict[int, list[Span]]] = []
        for p in self.passes:
            of_pass: dict[int, list[Span]] = {}
            for span in (*p.spans, *p.joined):
                of_pass.setdefault(span.owner, []).append(span)
            found.append(of_pass)
        return found

    def view(self, number: int) -> tuple[frozenset[str], tuple[str, ...], frozenset[tuple[Key, str]]]:
        """The key of a term summed to the plates of a site: sites of one view share the sum."""
        before = tuple(site.name for site in self.enumerated.before(number))
        site = self.program.sites[number]
        crossed = frozenset(c[1:] for c in self.program.crossed if c[0] == site.name)
        return self._kept(number), before, crossed

    def _kept(self, number: int) -> frozenset[str]:
        """The plates over which the costs of a site stay unsummed."""
        plates = self.program.sites[number].plates
        return plates if self.objective.is_mean else plates & (self.own_weights | {PARTICLES})

    @cached_property
    def _starts(self) -> list[dict[Span, int]]:
        """By pass: where each of its spans starts."""
        return [
            dict(zip(p.spans, accumulate(map(len, p.spans), initial=int(p.ordinary)), strict=False))
            | {span: 0 for span in p.joined}
            for p in self.passes
        ]

    def start(self, place: int, span: Span) -> int:
        """The first evaluation of a span of the pass number ``place``."""
        return self._starts[place][span]

    def _ends(self, place: int, number: int) -> tuple[int, int]:
        """Where the alternatives of a site start and stop in the pass number ``place``."""
        first, last = self.owned(place, number)[0], self.owned(place, number)[-1]
        return self.start(place, first), self.start(place, last) + len(last)

    @cached_property
    def places(self) -> dict[int, tuple[int, ...]]:
        """By site: the passes that its alternatives are in."""
        places: dict[int, list[int]] = {}
        for place, owners in enumerate(self._owned):
            for owner in owners:
                places.setdefault(owner, []).append(place)
        return {owner: tuple(those) for owner, those in places.items()}

    def _runs(self, numbers: Sequence[int], place: int, first: bool) -> list[tuple[int, int]]:
        """The evaluations of some sites in a pass, in order; ``first``: behind the ordinary one."""
        ends = [self._ends(place, number) for number in numbers]
        return joined_runs([(0, 1), *ends] if first else ends)

    def _alternatives(
        self, numbers: list[int], place: int, keys: set[Key]
    ) -> Iterator[tuple[int, Tensor]]:
        """The costs of sites of one view at their alternatives in a pass.

        With those of the ordinary evaluation in front, if it belongs to the pass.
        """
        p = self.passes[place]
        runs = self._runs(numbers, place, p.ordinary)
        size = sum(stop - start for start, stop in runs)
        total = self._sum(self._only(p, keys), p, numbers[0], runs)
        total = total if total.shape[0] == size else total.expand(size, *total.shape[1:])
        position = int(p.ordinary)
        for number in numbers:
            start, stop = self._ends(place, number)
            before, position = position, position + stop - start
            if not p.ordinary:
                yield number, rows_at(total, [(before, position)])
            elif before == 1:
                yield number, rows_at(total, [(0, position)])
            else:
                yield number, rows_at(total, [(0, 1), (before, position)])

    def _only(self, p: Pass, keys: set[Key]) -> list[Term]:
        # Terms that no alternative changes cancel. Where evaluations are run one by one that can't be
        # told, and a term may occur in some of them only.
        return [t for t in p.terms if t.key in keys] if self.program.vectorized else p.terms

    def varying(self, p: Pass) -> list[Term]:
        """The terms that, or whose weights, may differ between the evaluations of a pass."""
        if not self.program.vectorized:
            return p.terms
        sliced = {t.key for t in p.terms if t.sliced}
        return [
            t
            for t in p.terms
            if t.key in sliced or any(("guide", s.name) in sliced for s in self.enumerated.weighing(t))
        ]

    def _varying_keys(self, places: Sequence[int]) -> set[Key]:
        """The terms that vary in any of some passes, if evaluations are not run one by one."""
        if not self.program.vectorized:
            return set()
        return {term.key for place in places for term in self.varying(self.passes[place])}

    def _ordinary(self, numbers: list[int], keys: Mapping[int, set[Key]]) -> dict[int, Tensor]:
        """The costs of sites of one view in the ordinary evaluation.

        ``keys``: which terms to take for a site, where alternatives tell.
        """
        if not numbers:
            return {}
        first = self.passes[0]

        def total(terms: list[Term]) -> Tensor:
            return self._sum(terms, first, numbers[0], [(0, 1)])

        sums = shared_sums(self._met(numbers, keys), total)
        return {number: sums[number] if number in sums else total([]) for number in numbers}

    def _met(self, numbers: list[int], keys: Mapping[int, set[Key]]) -> Iterator[tuple[int, Term]]:
        """Each term of the ordinary evaluation, with the sites (as bits) whose costs it belongs to.

        Those on whose value it, or its weight, depends, as far as is known.
        """
        sites, vectorized = self.program.sites, self.program.vectorized
        always = ordered = 0
        tracked: dict[str, int] = {}
        told: dict[Key, int] = {}
        for number in numbers:
            if number in keys and vectorized:
                for key in keys[number]:
                    told[key] = told.get(key, 0) | 1 << number
            elif number in keys or sites[number].observed:
                # A factor stands for values that were sampled out of sight.
                always |= 1 << number
            elif is_tracked(sites[number].estimator, vectorized):
                tracked[sites[number].name] = 1 << number
            else:
                ordered |= 1 << number
        untracked = ordered | sum(tracked.values())
        order = {site.name: i for i, site in enumerate(sites)}
        by_upstream: dict[frozenset[str], int] = {}
        for term in self.passes[0].terms:
            met, rest = always | told.get(term.key, 0), untracked
            if term.upstream is not None:
                weights = (self.enumerated.upstream[s.name] for s in self.enumerated.weighing(term))
                names = term.upstream.union(*weights)
                if names not in by_upstream:
                    by_upstream[names] = sum(tracked.get(name, 0) for name in names)
                met, rest = met | by_upstream[names], ordered
            if term.side == "guide" and term.name in order:
                rest &= (2 << order[term.name]) - 1
            yield met | rest, term

    def _sum(self, terms: list[Term], p: Pass, number: int, runs: Runs) -> Tensor:
        total: Tensor | None = None
        for term in terms:
            total = term.added_to(total, self.expect(term, p, number, runs))
        return torch.zeros((1,) * (self.program.batch_dims + 1)) if total is None else total

    def _check_coordinatewise(self, numbers: list[int], keys: set[Key]) -> None:
        """Raises where a cost lies outside a plate whose elements are changed all at once.

        Which one of the sites of a shared pass it depends on is known only of those that are tracked.
        """
        every = [self.program.sites[number] for number in numbers]
        sites = [site for site in every if site.estimator.coordinatewise]
        if not sites or not sites[0].plates:
            return
        names = {site.name for site in sites}
        tracked = all(is_tracked(site.estimator, self.program.vectorized) for site in sites)
        known = {t.key: t.upstream for t in self.passes[0].terms} if tracked else {}
        for p in (self.passes[place] for place in self.places[numbers[0]]):
            for term in self._only(p, keys):
                missing = sites[0].plates - set(term.plates)
                upstream = known.get(term.key)
                if not missing or (upstream is not None and upstream.isdisjoint(names)):
                    continue
                listed = " or ".join(f"'{site.name}'" for site in sites)
                what = "changes one coordinate at a time"
                raise outside(listed, sites[0], term, sorted(missing)[0], what)

    def expect(self, term: Term, p: Pass, number: int, runs: Runs) -> Tensor:
        """A term summed to the plates of a site, averaged over enumerated sites.

        Left to :meth:`weighted` are those enumerated before the site, in no plate but its own.
        """
        site, crossed = self.program.sites[number], self.program.crossed
        kept, rows = self._kept(number), term.rows(runs)
        dims = [
            dim
            for name, dim in term.plates.items()
            if name not in kept or (crossed and (site.name, term.key, name) in crossed)
        ]
        if self.program.enumerated:
            rows, weights = rows * self.enumerated.fraction(term), []
            for other in self.enumerated.weighing(term):
                if not self.enumerated.is_before(other, number):
                    probs, dim = p.probs[other.name], self.enumerated.dim(other)
                    weights.append(rows_at(probs, runs) if probs.shape[0] > 1 else probs)
                    dims += [] if dim is None else [dim]
            rows = weighed(rows, weights)
        return rows.sum(dims, keepdim=True) if dims else rows

    # -- the program ------------------------------------------------------------------------------

    def weighted(self, surrogate: Tensor, number: int) -> Tensor:
        """A site's surrogate, averaged over the sites enumerated before it."""
        for site in self.enumerated.before(number):
            surrogate = weighed(surrogate, [self.passes[0].probs[site.name][0].detach()])
        return surrogate


Item = TypeVar("Item")


def grouped(items: Sequence[Item], by: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Items, those with the same ``by`` together; in order."""
    if len(items) <= 1:
        return [list(items)] if items else []
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(by(item), []).append(item)
    return list(groups.values())

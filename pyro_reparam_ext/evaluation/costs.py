"""From the cost terms of all passes to the costs of one site, and to the cost of the program.

Where sites are enumerated, every term is averaged over their values, by the probabilities of those
sites whose plates it lies in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import EstimatorError
from ..estimators.base import Site
from ..numerics.shapes import cat_rows
from .at_once import advice, check_inside
from .ordinary import is_tracked
from .passes import Dependencies, Pass, Program
from .shared_sums import shared_sums
from .terms import Key, Runs, Term, rows_at, weighed


@dataclass(eq=False)
class Costs:
    """All passes of a program; the first is the one with the ordinary evaluation."""

    program: Program
    passes: list[Pass]

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
        for alike in _grouped(numbers, self._view):
            keys: dict[int, set[Key]] = {}
            rows: dict[int, list[Tensor]] = {}
            having = [n for n in alike if n in self.program.alternatives]
            for sharing in _grouped(having, lambda number: self._places[number]):
                places = self._places[sharing[0]]
                varying = self._varying_keys(places)
                self._check_separable(sharing, varying)
                for place in places:
                    for number, part in self._alternatives(sharing, place, varying):
                        rows.setdefault(number, []).append(part)
                if places[0] != 0:
                    keys |= dict.fromkeys(sharing, varying)
            ordinary = self._ordinary([n for n in alike if n in keys or n not in rows], keys)
            for number in alike:
                parts = [ordinary[number]] if number in ordinary else []
                parts += rows.get(number, [])
                costs[number] = cat_rows(parts) if len(parts) > 1 else parts[0]
        return costs

    def _view(self, number: int) -> tuple[frozenset[str], tuple[str, ...], frozenset[tuple[Key, str]]]:
        """What a term summed to the plates of a site depends on: sites of one view share the sum."""
        outer = [site.name for site in self.program.enumerated.values() if self._outer(site, number)]
        site = self.program.sites[number]
        crossed = frozenset(c[1:] for c in self.program.crossed if c[0] == site.name)
        return site.frames, tuple(outer), crossed

    @cached_property
    def _spans(self) -> list[dict[int, tuple[int, int]]]:
        """By pass: where the alternatives of each of its sites start and stop."""
        spans = []
        for p in self.passes:
            start, of_pass = int(p.ordinary), {}
            for group in p.groups:
                of_pass[group.owner] = start, start + len(group)
                start += len(group)
            spans.append(of_pass)
        return spans

    def start(self, place: int, owner: int) -> int:
        """The first evaluation, in the pass number ``place``, of the alternatives of a site."""
        return self._spans[place][owner][0]

    @cached_property
    def _places(self) -> dict[int, tuple[int, ...]]:
        """By site: the passes that its alternatives are in."""
        places: dict[int, list[int]] = {}
        for place, owners in enumerate(self._spans):
            for owner in owners:
                places.setdefault(owner, []).append(place)
        return {owner: tuple(those) for owner, those in places.items()}

    def _runs(self, numbers: Sequence[int], place: int, first: bool) -> list[tuple[int, int]]:
        """The evaluations of some sites in a pass, in order; ``first``: behind the ordinary one."""
        runs = [(0, 1)] if first else []
        for start, stop in (self._spans[place][number] for number in numbers):
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((start, stop))
        return runs

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
            start, stop = self._spans[place][number]
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

    def _varying(self, p: Pass) -> list[Term]:
        """The terms that, or whose weights, may differ between the evaluations of a pass."""
        if not self.program.vectorized:
            return p.terms
        sliced = {t.key for t in p.terms if t.sliced}
        return [
            t
            for t in p.terms
            if t.key in sliced or any(("guide", s.name) in sliced for s in self._enumerated(t))
        ]

    def _varying_keys(self, places: Sequence[int]) -> set[Key]:
        """The terms that vary in any of some passes, if evaluations are not run one by one."""
        if not self.program.vectorized:
            return set()
        return {term.key for place in places for term in self._varying(self.passes[place])}

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
                weights = (self._upstream_of_weights[s.name] for s in self._enumerated(term))
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
            total = term.added_to(total, self._expect(term, p, number, runs))
        return torch.zeros((1,) * (self.program.batch_dims + 1)) if total is None else total

    def gradients(self, numbers: Sequence[int], learn: bool) -> dict[int, Tensor]:
        """The gradients of the summed costs at relaxed alternatives with respect to these values.

        The evaluations of one site don't depend on the values of another: one sum serves them all.
        """
        if not numbers:
            return {}
        relaxed = []
        total = torch.zeros((), device=self.program.sites[numbers[0]].log_prob.device)
        for alike in _grouped(numbers, lambda n: (self._view(n), self._averaged_over(n))):
            owners: dict[int, list[int]] = {}
            for number in alike:
                tensor = self.program.alternatives[number].tensor
                assert tensor is not None
                relaxed.append((number, tensor))
                for place in self._places[number]:
                    owners.setdefault(place, []).append(number)
            for place, those in owners.items():
                p, runs = self.passes[place], self._runs(those, place, first=False)
                probs = [p.probs[name].detach() for name in self._averaged_over(those[0])]
                weights = [rows_at(x, runs) if x.shape[0] > 1 else x for x in probs]
                for term in self._varying(p):
                    part = weighed(self._expect(term, p, those[0], runs), weights)
                    total = term.added_to(total, part.sum())
        gradients = torch.autograd.grad(
            total, [tensor for _, tensor in relaxed], create_graph=learn, retain_graph=True
        )
        return {number: x for (number, _), x in zip(relaxed, gradients, strict=True)}

    def _averaged_over(self, number: int) -> tuple[str, ...]:
        """The sites enumerated before a relaxed one on which its alternatives don't depend.

        One value of its own stands for all of theirs: its gradient is the average over them.
        """
        site, relaxed = self.program.sites[number], self.program.alternatives[number].tensor
        assert relaxed is not None
        events = len(site.fn.event_shape)
        return tuple(
            other.name
            for other in self.program.enumerated.values()
            if self._outer(other, number)
            and (dim := self._dim(other)) is not None
            and relaxed.shape[dim - events] == 1
        )

    def _check_separable(self, numbers: list[int], keys: set[Key]) -> None:
        """Raises where a cost lies outside a plate whose elements are changed all at once.

        Which one of the sites of a shared pass it depends on is not known.
        """
        sites = [self.program.sites[n] for n in numbers if self.program.sites[n].estimator.separable]
        if not sites or not sites[0].frames:
            return
        names = {site.name for site in sites}
        # In a loop, where no dim tells, the sites are tracked.
        known = {} if self.program.vectorized else {t.key: t.upstream for t in self.passes[0].terms}
        for p in (self.passes[place] for place in self._places[numbers[0]]):
            for term in self._only(p, keys):
                missing = sites[0].frames - set(term.frames)
                upstream = known.get(term.key)
                if not missing or (upstream is not None and upstream.isdisjoint(names)):
                    continue
                listed = " or ".join(f"'{site.name}'" for site in sites)
                raise EstimatorError(
                    f"site {listed}: {type(sites[0].estimator).__name__} changes one coordinate at a "
                    f"time in all elements of plate {sorted(missing)[0]!r} at once, but {term.side} "
                    f"site '{term.name}' depends on it from outside that plate. {advice(sites[0])} Or "
                    f"move '{term.name}' into the plate."
                )

    # -- enumerated sites -------------------------------------------------------------------------

    @cached_property
    def _upstream_of_weights(self) -> dict[str, frozenset[str]]:
        """On which sites the probabilities of each enumerated site depend."""
        names = {site.name for site in self.program.enumerated.values()}
        guide = (t for t in self.passes[0].terms if t.side == "guide" and t.name in names)
        return {term.name: term.upstream or frozenset() for term in guide}

    def _expect(self, term: Term, p: Pass, number: int, runs: Runs) -> Tensor:
        """A term summed to the plates of a site, averaged over enumerated sites.

        Left to :meth:`weighted` are those enumerated before the site, in no plate but its own.
        """
        site, crossed = self.program.sites[number], self.program.crossed
        rows = term.rows(runs)
        dims = [
            dim
            for name, dim in term.frames.items()
            if name not in site.frames or (crossed and (site.name, term.key, name) in crossed)
        ]
        if self.program.enumerated:
            rows, weights = rows * self._fraction(term), []
            for other in self._enumerated(term):
                if not self._outer(other, number):
                    probs, dim = p.probs[other.name], self._dim(other)
                    weights.append(rows_at(probs, runs) if probs.shape[0] > 1 else probs)
                    dims += [] if dim is None else [dim]
            rows = weighed(rows, weights)
        return rows.sum(dims, keepdim=True) if dims else rows

    def _outer(self, enumerated: Site, number: int) -> bool:
        before = any(site is enumerated for site in self.program.sites[:number])
        return before and enumerated.frames <= self.program.sites[number].frames

    def _enumerated(self, term: Term) -> list[Site]:
        """The enumerated sites whose probabilities weigh a term: those in no plate but its own."""
        for site in self.program.enumerated.values():
            if self._reaches(site, term):
                check_inside(site, term)
        return [site for site in self.program.enumerated.values() if site.frames <= set(term.frames)]

    def _reaches(self, site: Site, term: Term) -> bool:
        dim = self._dim(site)
        if dim is not None:
            return term.size(dim) > 1
        return term.upstream is not None and site.name in term.upstream

    def _dim(self, site: Site) -> int | None:
        """The dim along which the values of an enumerated site lie, if vectorised."""
        names = list(self.program.ordinary.support_sizes)
        if not self.program.vectorized or site.name not in names:
            return None
        return -(self.program.batch_dims - len(names)) - 1 - names.index(site.name)

    def _fraction(self, term: Term) -> float:
        """In a loop over the values of enumerated sites a term outside their plates recurs."""
        if self.program.vectorized or not self.program.enumerated:
            return 1.0
        sizes = self.program.ordinary.support_sizes
        outside = (s for s in self.program.enumerated.values() if not s.frames <= set(term.frames))
        return 1.0 / math.prod(sizes[site.name] for site in outside)

    # -- the program ------------------------------------------------------------------------------

    def weighted(self, surrogate: Tensor, number: int) -> Tensor:
        """A site's surrogate, averaged over the sites enumerated before it."""
        for site in self.program.enumerated.values():
            if self._outer(site, number):
                surrogate = weighed(surrogate, [self.passes[0].probs[site.name][0].detach()])
        return surrogate

    def expectation(self, term: Term, p: Pass, lawful: list[bool]) -> Tensor:
        """A term summed over all plates and over the ``lawful`` evaluations of a pass.

        Differentiable in the probabilities of enumerated sites.
        """
        if len(lawful) == 1 and not self.program.enumerated:
            return _total(term.log_prob)
        log_prob, sites = term.log_prob, self._enumerated(term)
        if sites:
            kept = frozenset().union(*(site.frames for site in sites))
            dims = [dim for name, dim in term.frames.items() if name not in kept]
            log_prob = term.aligned.sum(dims, keepdim=True) if dims else term.aligned
            log_prob = weighed(log_prob, [p.probs[site.name] for site in sites])
        repeats = sum(lawful)
        if log_prob.shape[:1] == (len(lawful),) and (term.sliced or sites):
            log_prob, repeats = (log_prob if all(lawful) else log_prob[lawful]), 1
        factor = repeats * self._fraction(term)
        return _total(log_prob) if factor == 1 else _total(log_prob) * factor


def _total(x: Tensor) -> Tensor:
    """The sum of all elements; of a single one no operation."""
    return x.sum() if x.dim() else x


def _grouped(numbers: Sequence[int], by: Callable[[int], Hashable]) -> list[list[int]]:
    """Numbers, those with the same ``by`` together; in order."""
    if len(numbers) <= 1:
        return [list(numbers)] if numbers else []
    groups: dict[Hashable, list[int]] = {}
    for number in numbers:
        groups.setdefault(by(number), []).append(number)
    return list(groups.values())

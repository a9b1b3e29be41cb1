"""From the cost terms of all passes to the costs of one site, and to the cost of the program.

Where sites are enumerated, every term is averaged over their values, by the probabilities of those
sites whose plates it lies in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import EstimatorError
from ..estimators.base import Site
from ..estimators.enumeration import Enumeration
from .ordinary import is_tracked
from .passes import Pass, Program
from .slices import Group
from .terms import Term, weighed
from .unwrap import cat_rows


@dataclass(frozen=True, eq=False)
class Costs:
    """All passes of a program; the first is the one with the ordinary evaluation."""

    program: Program
    passes: list[Pass]

    # -- one site ---------------------------------------------------------------------------------

    def downstream(self, number: int) -> Tensor:
        """The costs of site ``number``: ``(1 + alternatives, *batch)``, not detached.

        Summed over terms that depend on the site, and over plates that the site is not in.
        """
        program, site = self.program, self.program.sites[number]
        if number not in program.alternatives:
            terms = [t for t in self.passes[0].terms if self._depends(t, number)]
            return self._sum(terms, self.passes[0], number, 0, 1)
        spans = [
            (p, *p.span(group)) for p in self.passes for group in p.groups if group.owner == number
        ]
        keys = {t.key for p, _, _ in spans for t in p.terms if self._varies(t, p)}
        if site.estimator.separable:
            for p, _, _ in spans:
                for term in self._only(p, keys):
                    self._check_separable(term, site)
        first, start, stop = spans[0]
        if first is self.passes[0] and start == 1 and len(spans) == 1:  # next to the ordinary one
            spans = [(first, 0, stop)]
        else:
            spans = [(self.passes[0], 0, 1), *spans]
        rows = []
        for p, start, stop in spans:
            part = self._sum(self._only(p, keys), p, number, start, stop)
            rows.append(
                part if len(part) == stop - start else part.expand(stop - start, *part.shape[1:])
            )
        return cat_rows(rows) if len(rows) > 1 else rows[0]

    def _only(self, p: Pass, keys: set[tuple[str, str]]) -> list[Term]:
        # Terms that no alternative changes cancel. Where evaluations are run one by one that can't be
        # told, and a term may occur in some of them only.
        return [t for t in p.terms if t.key in keys or not self.program.vectorized]

    def _varies(self, term: Term, p: Pass) -> bool:
        """Whether a term, or its weight, may differ between the evaluations of a pass."""
        if term.sliced or not self.program.vectorized:
            return True
        weights = {("guide", site.name) for site in self._enumerated(term)}
        return any(t.sliced for t in p.terms if t.key in weights)

    def _depends(self, term: Term, number: int) -> bool:
        """Whether a term, or its weight, depends on the value of a site, as far as is known."""
        site = self.program.sites[number]
        if site.observed:
            return True  # a factor stands for values that were sampled out of sight
        if term.upstream is not None and is_tracked(site.estimator, self.program.vectorized):
            weights = {("guide", other.name) for other in self._enumerated(term)}
            of_weights = [t.upstream or () for t in self.passes[0].terms if t.key in weights]
            return site.name in term.upstream or any(site.name in u for u in of_weights)
        if term.side == "model":
            return True
        order = [site.name for site in self.program.sites]
        return term.name not in order or order.index(term.name) >= number

    def _sum(self, terms: list[Term], p: Pass, number: int, start: int, stop: int) -> Tensor:
        total: Tensor | None = None
        for term in terms:
            total = term.added_to(total, self._expect(term, p, number, start, stop))
        return torch.zeros((1,) * (self.program.batch_dims + 1)) if total is None else total

    def gradients(self, number: int, learn: bool) -> Tensor:
        """The gradient of the summed costs at relaxed alternatives with respect to these values."""
        relaxed = self.program.alternatives[number].tensor
        assert relaxed is not None
        total = torch.zeros((), device=relaxed.device)
        for p in self.passes:
            for group in p.groups:
                if group.owner == number:
                    for term in p.terms:
                        if self._varies(term, p):
                            part = self._expect(term, p, number, *p.span(group)).sum()
                            total = term.added_to(total, part)
        return torch.autograd.grad(total, relaxed, create_graph=learn, retain_graph=True)[0]

    def _check_separable(self, term: Term, site: Site) -> None:
        missing = site.frames - set(term.frames)
        if missing:
            raise EstimatorError(
                f"site '{site.name}': {type(site.estimator).__name__} changes one coordinate at a time "
                f"in all elements of plate {sorted(missing)[0]!r} at once, but {term.side} site "
                f"'{term.name}' depends on it from outside that plate. {_advice(site)} Or move "
                f"'{term.name}' into the plate."
            )

    # -- enumerated sites -------------------------------------------------------------------------

    def _expect(self, term: Term, p: Pass, number: int, start: int, stop: int) -> Tensor:
        """A term summed to the plates of a site, averaged over enumerated sites.

        Left to :meth:`weighted` are those enumerated before the site, in no plate but its own.
        """
        frames = self.program.sites[number].frames
        rows = term.rows(start, stop)
        dims = [dim for name, dim in term.frames.items() if name not in frames]
        if self._all_enumerated:
            rows, weights = rows * self._fraction(term), []
            for site in self._enumerated(term):
                if not self._outer(site, number):
                    probs, dim = p.probs[site.name], self._dim(site)
                    weights.append(probs[start:stop] if probs.shape[0] > 1 else probs)
                    dims += [] if dim is None else [dim]
            rows = weighed(rows, weights)
        return rows.sum(dims, keepdim=True) if dims else rows

    def _outer(self, enumerated: Site, number: int) -> bool:
        names = [site.name for site in self.program.sites[:number]]
        return enumerated.name in names and enumerated.frames <= self.program.sites[number].frames

    def _enumerated(self, term: Term) -> list[Site]:
        """The enumerated sites whose probabilities weigh a term: those in no plate but its own."""
        for site in self._all_enumerated:
            outside = site.frames - set(term.frames)
            if outside and self._reaches(site, term):
                raise EstimatorError(
                    f"site '{site.name}': Enumeration gives all elements of plate "
                    f"{sorted(outside)[0]!r} the same value at a time, but {term.side} site "
                    f"'{term.name}' depends on it from outside that plate. {_advice(site)}"
                )
        return [site for site in self._all_enumerated if site.frames <= set(term.frames)]

    @cached_property
    def _all_enumerated(self) -> list[Site]:
        return [s for s in self.program.sites if isinstance(s.estimator, Enumeration)]

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
        if self.program.vectorized or not self._all_enumerated:
            return 1.0
        sizes = self.program.ordinary.support_sizes
        outside = (s for s in self._all_enumerated if not s.frames <= set(term.frames))
        return 1.0 / math.prod(sizes[site.name] for site in outside)

    # -- the program ------------------------------------------------------------------------------

    def weighted(self, surrogate: Tensor, number: int) -> Tensor:
        """A site's surrogate, averaged over the sites enumerated before it."""
        for site in self._all_enumerated:
            if self._outer(site, number):
                surrogate = weighed(surrogate, [self.passes[0].probs[site.name][0].detach()])
        return surrogate

    def expectation(self, term: Term, p: Pass, lawful: list[bool]) -> Tensor:
        """A term summed over all plates and over the ``lawful`` evaluations of a pass.

        Differentiable in the probabilities of enumerated sites.
        """
        if not self._all_enumerated and len(lawful) == 1:
            return term.log_prob.sum()
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
        return log_prob.sum() if factor == 1 else log_prob.sum() * factor


def _advice(site: Site) -> str:
    """Estimators of a site that costs outside its plates may depend on."""
    return site.estimator.advice(site.fn, lambda e: e.separable or isinstance(e, Enumeration))


def plan(program: Program) -> tuple[tuple[Group, ...], list[tuple[Group, ...]]]:
    """The groups that run with the ordinary evaluation, and those of passes without a graph."""
    together: list[Group] = []
    apart: list[tuple[Group, ...]] = []
    for owner, alternatives in program.alternatives.items():
        if alternatives.marginal or alternatives.relaxed:
            together.append(Group(owner, 0, alternatives.count))
            continue
        step = alternatives.chunk or max(alternatives.count, 1)
        for start in range(0, alternatives.count, step):
            apart.append((Group(owner, start, min(start + step, alternatives.count)),))
    return tuple(together), apart

"""Sites that take all values of their support: how the terms of a program are averaged over them.

Every term is averaged by the probabilities of those sites whose plates it lies in.
"""

from __future__ import annotations

import math
from functools import cached_property

from ..estimators.protocol import Site
from .at_once import check_inside
from .program import Program
from .terms import Term


class EnumeratedSites:
    """The enumerated sites of a program, and where their values lie.

    Args:
        program: with its sites.
        terms: of its ordinary evaluation.
    """

    def __init__(self, program: Program, terms: list[Term]) -> None:
        self.program, self.terms = program, terms

    def __bool__(self) -> bool:
        return bool(self.program.enumerated)

    def before(self, number: int) -> list[Site]:
        """Those enumerated before the site ``number``, in no plate but its own."""
        return [site for site in self.program.enumerated.values() if self.is_before(site, number)]

    def is_before(self, enumerated: Site, number: int) -> bool:
        """Whether it is one of :meth:`before`."""
        sites = self.program.sites
        before = any(site is enumerated for site in sites[:number])
        return before and enumerated.plates <= sites[number].plates

    def weighing(self, term: Term) -> list[Site]:
        """Those whose probabilities weigh a term: in no plate but its own."""
        sites = self.program.enumerated.values()
        for site in sites:
            if self._reaches(site, term):
                check_inside(site, term)
        return [site for site in sites if site.plates <= set(term.plates)]

    def _reaches(self, site: Site, term: Term) -> bool:
        dim = self.dim(site)
        if dim is not None:
            return term.size(dim) > 1
        return term.upstream is not None and site.name in term.upstream

    def dim(self, site: Site) -> int | None:
        """The dim along which the values of an enumerated site lie, if vectorised."""
        names = list(self.program.ordinary.support_sizes)
        if not self.program.vectorized or site.name not in names:
            return None
        return -(self.program.batch_dims - len(names)) - 1 - names.index(site.name)

    def fraction(self, term: Term) -> float:
        """The share of a term in a loop over joint values, where one outside their plates recurs."""
        if self.program.vectorized or not self.program.enumerated:
            return 1.0
        sizes = self.program.ordinary.support_sizes
        outside = (s for s in self.program.enumerated.values() if not s.plates <= set(term.plates))
        return 1.0 / math.prod(sizes[site.name] for site in outside)

    @cached_property
    def upstream(self) -> dict[str, frozenset[str]]:
        """On which sites the probabilities of each enumerated site depend."""
        names = {site.name for site in self.program.enumerated.values()}
        guide = (t for t in self.terms if t.side == "guide" and t.name in names)
        return {term.name: term.upstream or frozenset() for term in guide}

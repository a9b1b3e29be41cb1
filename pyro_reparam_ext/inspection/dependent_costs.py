"""The terms of the cost that depend on each site of a guide, by provenance."""

from __future__ import annotations

from dataclasses import dataclass

from ..evaluation.costs import Costs
from ..evaluation.plain import PlainRun, plain_run
from ..evaluation.terms import Term
from ..evaluation.verify import ordinary_values


@dataclass(frozen=True, eq=False)
class DependentCosts:
    """The terms of a program, and the sites that each depends on, as far as that can be told."""

    costs: Costs
    plain: PlainRun | None

    @classmethod
    def of(cls, costs: Costs) -> DependentCosts:
        """Those of a program that was evaluated, by one more plain run of it."""
        try:
            plain = plain_run(costs.program, *ordinary_values(costs))
        except Exception:  # not to be scored at a given value: nothing can be told
            plain = None
        return cls(costs, plain)

    def terms(self, site: str) -> list[Term]:
        """The terms of guide and model that depend on the value of a site, or on that of a later one
        that depends on it."""
        if self.plain is None:
            return []
        moved = self._moved_by(site)
        return [t for t in self.plain.terms.values() if _depends(t, moved)]

    def _moved_by(self, site: str) -> set[str]:
        """A site, and the later ones whose distribution depends on it."""
        assert self.plain is not None
        moved = {site}
        for name in self.plain.sites:  # in the order in which they are sampled
            term = self.plain.terms.get(("guide", name))
            if term is not None and _depends(term, moved):
                moved.add(name)
        return moved

    def words(self, site: str) -> str:
        """The same as in the formula of the ELBO: ``q`` for the guide's, ``p`` for the model's."""
        sides = {"guide": "q", "model": "p"}
        return " ".join(f"{sides[term.side]}({term.name})" for term in self.terms(site))

    def are_inside(self, site: str) -> bool:
        """Whether all of them lie inside the plates of a site, and no element depends on another's."""
        if self.plain is None:
            return False
        moved = self._moved_by(site)
        if any(crossing[0] in moved for crossing in self.costs.program.crossed):
            return False
        plates = self.plain.sites[site].plates
        return all(plates <= set(term.plates) for term in self.terms(site))


def _depends(term: Term, sites: set[str]) -> bool:
    own = term.side == "guide" and term.name in sites
    return own or not sites.isdisjoint(term.upstream or ())

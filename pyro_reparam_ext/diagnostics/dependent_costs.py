"""The terms of the cost that depend on each site of a guide, by provenance."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import Delta

from ..distributions.rules.wrappers import innermost
from ..evaluation.costs import Costs
from ..evaluation.plain import PlainRun, plain_run
from ..evaluation.terms import Term
from ..evaluation.verify import ordinary_values


@dataclass(frozen=True, eq=False)
class DependentCosts:
    """The terms of a program, with the sites that each depends on; nothing where that can't be told."""

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
        """The terms of guide and model whose value depends on that of a site."""
        if self.plain is None:
            return []
        moved = self._moved_by(site)
        terms = self.plain.terms.values()
        return [t for t in terms if not moved.isdisjoint(t.upstream or ()) or t.key == ("guide", site)]

    def _moved_by(self, site: str) -> set[str]:
        """A site, and those that are functions of it, as in an autoguide."""
        assert self.plain is not None
        moved = {site}
        for name, other in self.plain.sites.items():  # in the order in which they are sampled
            term = self.plain.terms.get(("guide", name))
            if isinstance(innermost(other.fn), Delta) and term is not None:
                moved |= {name} if not moved.isdisjoint(term.upstream or ()) else set()
        return moved

    def words(self, site: str) -> str:
        """The same as in the formula of the ELBO: ``q`` for the guide's, ``p`` for the model's."""
        sides = {"guide": "q", "model": "p"}
        return " ".join(f"{sides[term.side]}({term.name})" for term in self.terms(site))

    def are_inside(self, site: str) -> bool:
        """Whether all of them lie inside the plates of a site, and no element depends on another's."""
        if self.plain is None or any(crossing[0] == site for crossing in self.costs.program.crossed):
            return False
        plates = self.plain.sites[site].plates
        return all(plates <= set(term.plates) for term in self.terms(site))

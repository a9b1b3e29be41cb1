"""The sentence that says whether a guide did its work, and what to do if it did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .bound import Bound
from .misfit import Cause
from .slope import Slope

if TYPE_CHECKING:
    from pandas import DataFrame

SHARE = 0.25
"""The share of the gap that a further step has to gain for a guide to be called unconverged."""
NATS = 0.1
"""Gains below this are of no matter: that of a mean which is 0.45 sds off."""
FAR, RATIO = 0.5, 0.25
"""The shift in the guide's sds, and the log of a ratio of sds, from which on a marginal is off."""
FEW = 0.2
"""The share of a plate's elements that count as few."""
UNSEEN = "what the guide never draws, such as another mode, no weight can show"


@dataclass(frozen=True, eq=False)
class Findings:
    """All that is known of a guide.

    ``shapes``: k-hat of the elements of plates. ``causes``: the strongest first. ``discrete``,
    ``points``: the sites of discrete values, and those that the guide gives one value.
    """

    khat: float
    limit: float
    bound: Bound
    slope: Slope
    sites: DataFrame
    shapes: dict[str, np.ndarray]
    causes: Sequence[Cause]
    discrete: frozenset[str]
    points: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether draws of the guide can stand for the posterior."""
        tails = self.khat <= self.limit and not self.sites["bad"].any()
        return tails and not self.shifted and not self.unconverged

    @property
    def unconverged(self) -> bool:
        """Whether much of what is wrong may be mended by further training."""
        return self.slope.is_real and self.slope.gain > max(NATS, SHARE * self.bound.gap)

    @property
    def shifted(self) -> list[str]:
        """The sites whose marginals the weights move by more than can be left, beyond chance."""
        mean = self.sites["mean_shift"].abs() - 2 * self.sites["mean_shift_error"]
        ratio = self.sites["sd_ratio"]
        log_ratio = np.abs(np.log(ratio)) - 2 * self.sites["sd_ratio_error"] / ratio
        return list(self.sites.index[(mean > FAR) | (log_ratio > RATIO)])

    @property
    def few_bad(self) -> tuple[str, list[int]] | None:
        """A plate with few elements that are served much worse than the others; which ones."""
        for plate, shapes in self.shapes.items():
            bad = np.flatnonzero(shapes > self.limit)
            few = 0 < len(bad) <= max(1, FEW * len(shapes)) and len(shapes) > 2
            if few and shapes.max() > np.median(shapes) + 0.3:
                return plate, [int(i) for i in bad[np.argsort(-shapes[bad])]]
        return None


def sentence(found: Findings) -> str:
    """The diagnosis of what was found, with a remedy."""
    gap, error = found.bound.gap, found.bound.gap_error
    facts = f"k-hat {found.khat:.2f}, gap {gap:.2g} ± {error:.1g} nats"
    gain = f"{found.slope.gain:.2g} nats"
    if found.ok:
        text = f"the guide's draws can stand for the posterior ({facts})"
        text += f"; {UNSEEN}."
    elif found.unconverged:
        text = (
            f"not converged ({facts}): a few steps along the gradient, which is not zero beyond its "
            f"error, still gain about {gain}; train on, with a learning rate that decays, with more "
            f"particles or an estimator of less variance, and check again."
        )
    else:
        text = f"the guide is too poor, and at its best ({facts}): {_cause(found)}."
    if found.points:
        text = f"given the points of {listed(found.points)}, {text}"
    return text[0].upper() + text[1:]


def point_estimate(points: Sequence[str]) -> str:
    """The sentence for a guide that gives every site one value."""
    return (
        f"The guide gives {listed(points)} one point each, which no weight can judge: give these sites "
        f"a distribution (AutoNormal, AutoMultivariateNormal) to know how far the posterior reaches."
    )


def _cause(found: Findings) -> str:
    """In which way the guide is too poor, the clearest first."""
    off = [name for name in found.shifted if name in found.discrete]
    if found.few_bad is not None:
        return _of_elements(*found.few_bad)
    if found.causes and found.causes[0].kind in ("funnel", "dependence"):
        return _of_cause(found.causes[0])
    if off:
        return _of_discrete(off[0])
    if found.causes:
        return _of_cause(found.causes[0])
    worst = str(found.sites.index[0])
    return _of_discrete(worst) if worst in found.discrete else _of_site(found.sites)


def _of_elements(plate: str, elements: list[int]) -> str:
    shown = ", ".join(map(str, elements[:5])) + (", ..." if len(elements) > 5 else "")
    return (
        f"it serves {'element' if len(elements) == 1 else 'elements'} {shown} of plate '{plate}' "
        f"badly, and the others well; give these parameters of their own, or the network that serves "
        f"the plate more capacity, and look whether they are outliers of the model"
    )


def _of_cause(cause: Cause) -> str:
    where = _named(*cause.first)
    if cause.kind == "funnel":
        return (
            f"the width of '{cause.second[0]}' changes with '{cause.first[0]}', a funnel; "
            f"reparameterise site '{cause.second[0]}' of the model by LocScaleReparam(0.0) or "
            f"StandardizeReparam (non-centred)"
        )
    if cause.kind == "dependence":
        return (
            f"it is too narrow, since it leaves out that {where} and {_named(*cause.second)} depend on "
            f"each other; take a guide of full rank (AutoMultivariateNormal), or a flow"
        )
    if cause.kind == "tails":
        return f"the posterior of {where} has heavier tails; take a guide of such tails, or a flow"
    return (
        f"the posterior of {where} has mass beyond the guide on one side, as where there are several "
        f"modes; start from several places, or take a mixture or a flow"
    )


def _of_discrete(site: str) -> str:
    return (
        f"it hardly visits values of '{site}' that the weights ask for, as where there are several "
        f"modes; start from several places, enumerate the site, or let other sites depend on it in "
        f"the guide"
    )


def _of_site(sites: DataFrame) -> str:
    """The site that the weights move most, where they show no cause."""
    row = sites.iloc[0]
    where = _named(str(sites.index[0]), str(row["coordinate"]))
    if row["sd_ratio"] > 1:
        return (
            f"few draws, far out, have nearly all of the weight, most of all in {where}: it is too "
            f"narrow, or sits on one of several modes; start from several places, or take a wider "
            f"family (of full rank, a mixture, a flow)"
        )
    return f"few draws have nearly all of the weight, most of all in {where}; take a flow"


def _named(site: str, index: str) -> str:
    return f"'{site}[{index}]'" if index else f"'{site}'"


def listed(names: Sequence[str]) -> str:
    """Names of sites in quotation marks, the first few of many."""
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return f"{shown}, ..." if len(names) > 4 else shown

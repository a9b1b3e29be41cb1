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
ELSEWHERE = 0.15
"""The change in the probability of lying below a value, from which on a marginal is off."""
EACH = FAR**2 / 2
"""Nats of the gap for each coordinate that can be left: those of a mean which is so far off."""
FEW = 0.2
"""The share of a plate's elements that count as few."""
UNSEEN = "what the guide never draws, such as another mode, no weight can show"


@dataclass(frozen=True, eq=False)
class Findings:
    """All that is known of a guide.

    ``shapes``: k-hat of the elements of plates. ``causes``: the strongest first. ``discrete``,
    ``points``: the sites of discrete values, and those that the guide gives one value.
    ``coordinates``: how many there are, points not counted. ``dependent``: pairs of sites that the
    guide lets depend on each other, one site alone for its own coordinates.
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
    coordinates: int
    dependent: frozenset[frozenset[str]] = frozenset()

    @property
    def ok(self) -> bool:
        """Whether draws of the guide can stand for the posterior."""
        tails = self.khat <= self.limit and not self.sites["bad"].any()
        return tails and not self.shifted and not self.apart and not self.unconverged

    @property
    def apart(self) -> bool:
        """Whether the gap is larger than can be left, beyond chance."""
        return self.bound.gap - 2 * self.bound.gap_error > EACH * self.coordinates

    @property
    def unconverged(self) -> bool:
        """Whether much of what is wrong may be mended by further training."""
        return self.slope.is_real and self.slope.gain > max(NATS, SHARE * self.bound.gap)

    @property
    def untold(self) -> bool:
        """Whether the gradient is too noisy to tell if further training would mend it."""
        return not self.slope.is_real and self.slope.most > max(NATS, SHARE * self.bound.gap)

    @property
    def shifted(self) -> list[str]:
        """The sites whose marginals the weights move by more than can be left, beyond chance."""
        mean = self.sites["mean_shift"].abs() - 2 * self.sites["mean_shift_error"]
        ratio = self.sites["sd_ratio"]
        log_ratio = np.abs(np.log(ratio)) - 2 * self.sites["sd_ratio_error"] / ratio
        cdf = self.sites["cdf_shift"] - 2 * self.sites["cdf_shift_error"]
        return list(self.sites.index[(mean > FAR) | (log_ratio > RATIO) | (cdf > ELSEWHERE)])

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
    tail = f"k-hat {found.khat:.2f}" if np.isfinite(found.khat) else "weights without a tail"
    facts = f"{tail}, gap {gap:.2g} ± {error:.1g} nats"
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
    elif found.untold:
        text = (
            f"not converged or too poor, which can't be told ({facts}): the gradient is too noisy, a "
            f"step along it may gain {found.slope.most:.2g} nats; train on with an estimator of less "
            f"variance, and check by it (estimators=...). If it is at its best: {_cause(found)}."
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
        return _of_cause(found.causes[0], found.dependent)
    if off:
        return _of_discrete(off[0])
    if found.causes:
        return _of_cause(found.causes[0], found.dependent)
    worst = str(found.sites.index[0])
    if worst in found.discrete:
        return _of_discrete(worst)
    if found.khat > found.limit:
        return _of_tail(found.sites)
    if not found.shifted:
        return (
            "no marginal is far off, but all of them together are, as where sites depend on each other "
            "and the guide leaves it out; take a guide of full rank (AutoMultivariateNormal), or a flow"
        )
    return _of_marginal(found.sites)


def _of_elements(plate: str, elements: list[int]) -> str:
    shown = ", ".join(map(str, elements[:5])) + (", ..." if len(elements) > 5 else "")
    return (
        f"it serves {'element' if len(elements) == 1 else 'elements'} {shown} of plate '{plate}' "
        f"badly, and the others well; give these parameters of their own, or the network that serves "
        f"the plate more capacity, and look whether they are outliers of the model"
    )


def _of_cause(cause: Cause, dependent: frozenset[frozenset[str]]) -> str:
    where = _named(*cause.first)
    if cause.kind == "funnel" and cause.second[0].endswith("_decentered"):
        return (
            f"the width of '{cause.second[0]}' changes with '{cause.first[0]}', a funnel that is left "
            f"in this form of the model; let LocScaleReparam() learn a form between the two, or take a "
            f"flow"
        )
    if cause.kind == "funnel":
        return (
            f"the width of '{cause.second[0]}' changes with '{cause.first[0]}', a funnel; "
            f"reparameterise site '{cause.second[0]}' of the model by LocScaleReparam(0.0) or "
            f"StandardizeReparam (non-centred)"
        )
    if cause.kind == "dependence" and {cause.first[0], cause.second[0]} in dependent:
        return (
            f"in the posterior {where} and {_named(*cause.second)} depend on each other in another "
            f"way; take a flow"
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


def _of_tail(sites: DataFrame) -> str:
    """The site that the weights move most, where few draws have most of them and none shows why."""
    row = sites.iloc[0]
    where = _named(str(sites.index[0]), str(row["coordinate"]))
    if row["sd_ratio"] > 1:
        return (
            f"few draws, far out, have nearly all of the weight, most of all in {where}: it is too "
            f"narrow, or sits on one of several modes; start from several places, or take a wider "
            f"family (of full rank, a mixture, a flow)"
        )
    return f"few draws have nearly all of the weight, most of all in {where}; take a flow"


def _of_marginal(sites: DataFrame) -> str:
    """The marginal that the weights change most, where many draws have a part in it."""
    row = sites.iloc[0]
    where, ratio = _named(str(sites.index[0]), str(row["coordinate"])), row["sd_ratio"]
    moved = max(abs(row["mean_shift"]) / FAR, abs(np.log(ratio)) / RATIO)
    if moved < row["cdf_shift"] / ELSEWHERE:
        return (
            f"the weights give {where} another shape than the guide does, of much the same mean and "
            f"sd, as where there are several modes within its reach; take a mixture or a flow"
        )
    return (
        f"the weights move the mean of {where} by {row['mean_shift']:.2g} sds of the guide, and make "
        f"its sd {ratio:.2g} times as large; give it a distribution of its own that can be so, or "
        f"take a richer family (of full rank, a mixture, a flow)"
    )


def _named(site: str, index: str) -> str:
    return f"'{site}[{index}]'" if index else f"'{site}'"


def listed(names: Sequence[str]) -> str:
    """Names of sites in quotation marks, the first few of many."""
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return f"{shown}, ..." if len(names) > 4 else shown

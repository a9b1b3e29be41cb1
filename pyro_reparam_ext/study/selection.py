"""Which estimators a program should have: by measurement, site by site."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyro.distributions import TorchDistribution
from tqdm.auto import tqdm

from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..estimators.advice import unbiased_for
from ..estimators.base import Estimator, least_particles
from .driver import restored
from .elbo_call import ElboCall
from .pilot import Pilot

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Candidates = Sequence[Estimator] | Mapping[str, Sequence[Estimator]] | None
"""Estimators to choose from: the same at all sites that they serve, or by the names of sites."""

PARTICLES = (1, 2, 4, 8, 16, 32)
"""Numbers of particles that are tried."""
TIMING = 1.1
"""The ratio of two times, measured in short, that may be one."""
NEGLIGIBLE = 0.01
"""The variance, over the squared norm of the gradient, that is not worth much time."""
ROUNDS = (50, 200, 800)
"""Draws of each candidate that is left in a round."""
REPORTED = [
    *("unbiased", "variance", "variance_low", "variance_high", "bias_z", "evaluations"),
    *("seconds_per_gradient", "work_normalized_variance", "draws"),
]
"""What a report has of the summary of a study."""
SWEEPS = 3
"""Times that all sites are gone through, at most: one may hide the noise of another at first."""


@dataclass(frozen=True, eq=False)
class Selection(Mapping[str, Estimator]):
    """Estimators by the names of sites, as measured by :func:`select_estimators`.

    It is a mapping, to be passed as ``estimators=``; ``num_particles`` go with it, and :meth:`elbo` has
    both. ``report`` has one row for each candidate at each site, when it was measured last.
    """

    chosen: Mapping[str, Estimator]
    num_particles: int
    report: DataFrame = field(repr=False)

    def __getitem__(self, site: str) -> Estimator:
        return self.chosen[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def elbo(self, **options: Any) -> TraceEstimator_ELBO:
        """An ELBO with these estimators and particles, and other options as they are given."""
        return TraceEstimator_ELBO(dict(self.chosen), num_particles=self.num_particles, **options)


def select_estimators(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    candidates: Candidates = None,
    budget: float | None = None,
    max_plate_nesting: float = float("inf"),
    seed: int = 0,
    progress: bool = True,
    **kwargs: Any,
) -> Selection:
    r"""Chooses an estimator for each site of a guide, and the particles, by measured efficiency.

    The least work-normalised variance wins, :math:`\mathrm{Var}[g]` times the seconds of one
    gradient: the variance that is left after a given time. (A hundredth of the squared norm of the
    gradient is added to each variance, or what is exact would win at any cost.) Sites are gone
    through one after the other, the others as chosen so far, until nothing changes. At a site all
    candidates are measured by a few draws of the gradient, as :func:`gradient_study` does, those
    that can still be best by four times as many, and so on (successive halving). Where some can't
    be told apart in the end, the one with the fewest evaluations is taken, and the report says
    ``tied``. A candidate that is biased counts by its mean squared error, and none is tried unless
    it is named. One that is unbiased on a condition, such as ``Pathwise`` if the cost has no jump,
    is compared with one that is without, before it is taken.

    Particles are then doubled as long as that lowers the product by a sixth or more.

    The answer holds at the parameters as they are, which are left as they are, and for data of this
    size: at the start of training and late in it, different estimators may be best.

    Args:
        model: a Pyro model.
        guide: its guide. A site with an ``infer["estimator"]`` of its own keeps it.
        *args: arguments of model and guide.
        candidates: estimators to choose from, or a mapping to these from names of sites, which are the
            only ones then that are chosen for. None: at each site all that are unbiased there.
        budget: seconds after which no further round is begun. None: no limit.
        max_plate_nesting: as of ``TraceEstimator_ELBO``.
        seed: of the random numbers.
        progress: whether to show a bar over the rounds; never if stderr is no terminal.
        **kwargs: keyword arguments of model and guide.

    Returns:
        A mapping from sites to estimators, with ``num_particles`` and a ``report``: for each ``site``
        and ``candidate``, as last measured, the ``variance`` of the gradient with its interval,
        ``bias_z``, ``evaluations``, ``seconds_per_gradient``, ``work_normalized_variance``, ``draws``,
        whether it was ``chosen``, and whether it is ``tied`` with that.

    Raises:
        EstimatorError: a site is unknown, or no candidate serves it.

    References:
        Karnin, Koren, Somekh, Almost Optimal Exploration in Multi-Armed Bandits, 2013 (successive
        halving).

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.3)).to_event(1))
        ...     pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=torch.tensor(1.0))
        >>> def guide():
        ...     logits = pyro.param("logits", torch.zeros(3))
        ...     pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))
        >>> selection = pre.select_estimators(model, guide)
        >>> type(selection["z"]).unbiased
        True
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), selection.elbo())
    """
    elbo = TraceEstimator_ELBO(max_plate_nesting=max_plate_nesting)
    call = ElboCall(elbo, model, guide, args, kwargs)
    with restored(model, guide):
        choices = _choices(_latent(call), candidates)
        pilot = Pilot(call, seed)
        chosen = {site: found[0] for site, found in choices.items()}
        rows: dict[str, list[dict[str, Any]]] = {}
        deadline = None if budget is None else time.monotonic() + budget
        open_sites = [site for site, found in choices.items() if len(found) > 1]
        with tqdm(desc="select_estimators", unit="round", disable=None if progress else True) as bar:
            for _ in range(SWEEPS):
                before = dict(chosen)
                for site in open_sites:
                    chosen[site], rows[site] = _at_site(
                        pilot, site, choices[site], chosen, deadline, bar
                    )
                if chosen == before or len(open_sites) == 1 or _is_over(deadline):
                    break
            num_particles = _particles(pilot, chosen, deadline, bar)
    return Selection(chosen, num_particles, _table([row for site in rows.values() for row in site]))


def _at_site(
    pilot: Pilot,
    site: str,
    candidates: list[Estimator],
    chosen: Mapping[str, Estimator],
    deadline: float | None,
    bar: tqdm,
) -> tuple[Estimator, list[dict[str, Any]]]:
    """The estimator that is best at a site, the others as chosen, and a row on each candidate."""
    left = {repr(estimator): estimator for estimator in candidates}
    rows: dict[str, Series] = {}
    for draws in ROUNDS:
        bar.set_postfix_str(f"{site}: {len(left)} candidates", refresh=False)
        bar.update()
        measured = pilot.measure({k: {**chosen, site: x} for k, x in left.items()}, draws)
        error, seconds = _squared_error(measured), measured["seconds_per_gradient"]
        measured["work_normalized_variance"] = error * seconds
        measured["error"] = error + NEGLIGIBLE * _squared_norm(measured)  # by which they are judged
        rows |= {label: row for label, row in measured.iterrows()}
        best = measured.loc[(measured["error"] * seconds).idxmin()]
        left = {label: x for label, x in left.items() if _is_tied(measured.loc[label], best)}
        if len(left) == 1 or _is_over(deadline):
            break
    winner = min(left, key=lambda label: rows[label]["evaluations"])  # the first of equals
    if _fails(pilot, site, winner, candidates, chosen, rows):
        others = [x for x in candidates if repr(x) != winner]
        best_of_others, found = _at_site(pilot, site, others, chosen, deadline, bar)
        row = rows[winner]
        failed = {"site": site, "candidate": winner, **row[REPORTED], "chosen": False, "tied": False}
        return best_of_others, [*found, {**failed, "unbiased": False}]
    found = []
    for label, row in rows.items():
        status = {"chosen": label == winner, "tied": label in left and len(left) > 1}
        found.append({"site": site, "candidate": label, **row[REPORTED], **status})
    return left[winner], found


def _fails(
    pilot: Pilot,
    site: str,
    winner: str,
    candidates: list[Estimator],
    chosen: Mapping[str, Estimator],
    rows: Mapping[str, Series],
) -> bool:
    """Whether an estimator that is unbiased on a condition differs from one that is without."""
    known = {repr(x): x for x in candidates}
    witnesses = [label for label, x in known.items() if x.unbiased and not x.condition]
    if not (known[winner].unbiased and known[winner].condition and witnesses):
        return False
    witness = min(witnesses, key=lambda label: rows[label]["variance"])
    both = {label: {**chosen, site: known[label]} for label in (winner, witness)}
    return not pilot.measure(both, ROUNDS[-1]).loc[winner, "unbiased"]


def _squared_error(summary: DataFrame) -> Series:
    """The variance, and the squared bias of what is not unbiased."""
    bias = (summary["relative_bias"] ** 2 * _squared_norm(summary)).fillna(0.0)
    return summary["variance"] + bias.where(~summary["unbiased"], 0.0)


def _squared_norm(summary: DataFrame) -> float:
    """That of the gradient, the same for all candidates."""
    ratio = (summary["variance"] / summary["relative_variance"]).replace(math.inf, math.nan)
    return float(ratio.max()) if ratio.notna().any() else 0.0


def _is_tied(row: Series, best: Series) -> bool:
    """Whether a candidate may be as good as the best, as far as it was measured."""
    least = row["error"] - row["variance"] + row["variance_low"]
    most = best["error"] - best["variance"] + best["variance_high"]
    limit = TIMING * most * best["seconds_per_gradient"]
    return bool(least * row["seconds_per_gradient"] <= limit)


def _particles(pilot: Pilot, chosen: Mapping[str, Estimator], deadline: float | None, bar: tqdm) -> int:
    """The number of particles from which on more of them gain little."""
    least = least_particles(chosen.values())
    best, before = least, math.inf
    for particles in (p for p in PARTICLES if p >= least):
        bar.set_postfix_str(f"{particles} particles", refresh=False)
        bar.update()
        now = pilot.product(chosen, ROUNDS[0], particles)
        if now > before * 5 / 6:
            break
        best, before = particles, now
        if now == 0 or _is_over(deadline):
            break
    return best


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _latent(call: ElboCall) -> dict[str, TorchDistribution]:
    """The sites to choose for, with their distributions."""
    sites = {}
    for run in call.evaluate():
        for site in run.program.sites:
            if not site.observed and "estimator" not in site.infer:
                sites[site.name] = site.fn
    return sites


def _choices(
    sites: Mapping[str, TorchDistribution], candidates: Candidates
) -> dict[str, list[Estimator]]:
    """The estimators to choose from at each site: those that serve it; if not named, unbiased ones."""
    if isinstance(candidates, Mapping):
        for name in candidates:
            if name not in sites:
                raise EstimatorError(
                    f"candidates: site '{name}' is unknown, or has an estimator of its own; expected "
                    f"some of {', '.join(map(repr, sites)) or 'none'}."
                )
    choices = {}
    for name, fn in sites.items():
        if candidates is None:
            choices[name] = unbiased_for(fn, lambda estimator: False)
            continue
        given = candidates.get(name, ()) if isinstance(candidates, Mapping) else candidates
        found = [estimator for estimator in given if estimator.serves(fn)]
        if not found and (isinstance(candidates, Mapping) and name in candidates):
            raise EstimatorError(
                f"candidates: none of those for site '{name}' can serve {type(fn).__name__}, was given "
                f"{', '.join(map(repr, given)) or 'none'}. Use some of "
                f"{', '.join(repr(x) for x in unbiased_for(fn, lambda estimator: False))}."
            )
        if found:
            choices[name] = found
    return choices


def _table(rows: list[dict[str, Any]]) -> DataFrame:
    import pandas as pd

    columns = ["site", "candidate"]
    return pd.DataFrame(rows).set_index(columns) if rows else pd.DataFrame(columns=columns)

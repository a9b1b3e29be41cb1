"""Which estimators a program should have: by measurement, site by site."""

from __future__ import annotations

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
from .race import FIRST, Race

if TYPE_CHECKING:
    from pandas import DataFrame

Candidates = Sequence[Estimator] | Mapping[str, Sequence[Estimator]] | None
"""Estimators to choose from: the same at all sites that they serve, or by the names of sites."""

PARTICLES = 32
"""Particles that are tried, at most."""
GAIN = 5 / 6
"""The ratio of work-normalised variances from which on more particles are worth it."""
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
    through one after the other, the others as chosen so far, until nothing changes; after the first
    time only candidates are measured that may have become better than what was chosen. At a site all
    candidates are measured by a few draws of the gradient, as :func:`gradient_study` does, those
    that can still be best by four times as many, and so on (successive halving). Where some can't
    be told apart in the end, the report says ``tied``, and of those within a tenth of the best the
    one with the fewest evaluations is taken. A candidate that is biased counts by its mean squared
    error, and none is tried unless it is named. One that is unbiased on a condition, such as
    ``Pathwise`` if the cost has no jump, is compared with one that is without, before it is taken.

    A candidate that raises, or has a gradient that is not finite, is left out, and the report says why.

    Particles are doubled as long as that lowers the product by a sixth or more, as predicted by the
    times of a gradient with the fewest particles and with twice as many; what is predicted is
    measured once.

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
        whether it was ``chosen``, whether it is ``tied`` with that, and why it ``failed``, if it did.

    Raises:
        EstimatorError: a site is unknown, or no candidate serves it. Where all candidates of a site
            fail, the error of the first.

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
    return selected(call, candidates, budget=budget, seed=seed, progress=progress)


def selected(
    call: ElboCall,
    candidates: Candidates = None,
    *,
    num_particles: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Selection:
    """As :func:`select_estimators`, for the call of an ELBO. ``num_particles``: if they are fixed."""
    deadline = None if budget is None else time.monotonic() + budget

    def is_over() -> bool:
        return deadline is not None and time.monotonic() > deadline

    with (
        restored(call.model, call.guide),
        tqdm(desc="select_estimators", unit="round", disable=None if progress else True) as bar,
    ):

        def advance(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        choices = _choices(_latent(call), candidates, num_particles)
        pilot = Pilot(call, seed, num_particles or 1)
        chosen = {site: found[0] for site, found in choices.items()}
        races = {
            site: Race(site, {repr(x): x for x in found})
            for site, found in choices.items()
            if len(found) > 1
        }
        now = 0.0, 0.0
        for sweep in range(SWEEPS):
            before = dict(chosen)
            for site, race in races.items():
                labels = race.hopeful(*now) if sweep else list(race.candidates)
                if len(labels) > 1:
                    others = {name: x for name, x in chosen.items() if name != site}
                    chosen[site] = race.run(pilot, others, labels, is_over, advance)
                    now = race.level
            if chosen == before or len(races) == 1 or is_over():
                break
        particles = num_particles
        if particles is None:
            advance("particles")
            particles = least_particles(chosen.values())
            if not is_over():
                particles = _particles(pilot, chosen, particles)
    return Selection(
        chosen, particles, _table([row for race in races.values() for row in race.report()])
    )


def _particles(pilot: Pilot, chosen: Mapping[str, Estimator], least: int) -> int:
    """The number of particles from which on more of them gain little.

    The time of a gradient is :math:`a + b K`, and its variance proportional to :math:`1 / K`: so twice
    as many are worth it as long as :math:`K b \\le 2 a`. What comes of that is measured once.
    """
    once, twice = pilot.seconds(chosen, least), pilot.seconds(chosen, 2 * least)
    each = max((twice - once) / least, 0.0)
    fixed = max(once - each * least, 0.0)
    best = least
    while 2 * best <= PARTICLES and fixed + 2 * best * each <= 2 * GAIN * (fixed + best * each):
        best *= 2
    if best > least:
        before, after = (pilot.product(chosen, FIRST, particles) for particles in (least, best))
        best = best if after <= GAIN * before else least
    return best


def _latent(call: ElboCall) -> dict[str, TorchDistribution]:
    """The sites to choose for, with their distributions."""
    sites = {}
    for run in call.evaluate():
        for site in run.program.sites:
            if not site.observed and "estimator" not in site.infer:
                sites[site.name] = site.fn
    return sites


def _choices(
    sites: Mapping[str, TorchDistribution], candidates: Candidates, num_particles: int | None
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
            found = unbiased_for(
                fn, lambda x: num_particles is not None and x.min_particles > num_particles
            )
            if found:
                choices[name] = found
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

"""Draws of a guide, and of the latent sites of the model as the guide has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions import Delta, TorchDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from tqdm.auto import tqdm

from ..config import Configuration
from ..distributions.rules.wrappers import innermost
from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..estimators.protocol import Site
from ..estimators.score_function import ScoreFunction
from ..evaluation.axes import PARTICLES
from ..evaluation.costs import Costs
from ..evaluation.first_run import plain_traces
from ..evaluation.program import Program

FLOATS = 2**22
"""Draws made at once: as many as take about this many floats."""
LOOPED = 25
"""Draws between two movements of the progress bar where each is a run of its own."""
REPLACED = ("estimator", "enumerate", "baseline")


class PlainSites(Messenger):
    """Takes off the sites of a guide what says how their gradient is found: draws are of the guide."""

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        message["infer"] = {k: x for k, x in message["infer"].items() if k not in REPLACED}


@dataclass(frozen=True)
class Way:
    """The way in which a program is run for many draws: at once in its own shapes, or one by one."""

    max_plate_nesting: float
    vectorized: bool = True

    def elbo(self, num_particles: int, estimators: Configuration = None) -> TraceEstimator_ELBO:
        """An ELBO that runs the program so."""
        return TraceEstimator_ELBO(
            estimators,
            num_particles=num_particles,
            max_plate_nesting=self.max_plate_nesting + self.vectorized,
            vectorize_particles="vmap" if self.vectorized else False,
        )


@dataclass(frozen=True, eq=False)
class Latent:
    """A latent site that model and guide have in common, and the guide's draws of it.

    ``values`` has shape ``(draws, *shape)``, with ``shape`` that of the site's value in one run.
    ``laws`` are the guide's distributions, one for each run of many draws. ``plates``: their dims,
    counted from the right of the batch dims. ``point``: whether the guide gives it one value.
    """

    name: str
    values: Tensor
    discrete: bool
    laws: list[tuple[TorchDistribution, Program]]
    plates: Mapping[str, int] = field(default_factory=dict)
    point: bool = False

    @property
    def shape(self) -> torch.Size:
        return self.values.shape[1:]


@dataclass(frozen=True, eq=False)
class GuideDraws:
    """The runs of guide and model at draws of the guide, and the latent sites.

    ``runs`` have ``num_samples`` draws in all, or some more. ``way``: how they were made.
    """

    runs: list[Costs]
    sites: dict[str, Latent]
    way: Way


def guide_draws(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    *,
    num_samples: int,
    max_plate_nesting: float,
    progress: bool,
) -> GuideDraws:
    """Draws of a guide, many in one run where the program can be vectorised.

    Raises:
        EstimatorError: a plate subsamples, so that no draw is one given all data.
    """
    with torch.no_grad():
        traces = plain_traces(model, guide, args, kwargs)
    check_whole(*traces)
    footprint = sum(
        node["value"].numel()
        for trace in traces
        for node in trace.nodes.values()
        if node["type"] == "sample" and isinstance(node["value"], Tensor)
    )
    chunk = max(2, min(num_samples, FLOATS // max(footprint, 1)))
    guide = PlainSites()(guide)
    runs: list[Costs] = []
    with tqdm(total=num_samples, desc="draws", disable=None if progress else True) as bar:
        for costs in _runs(model, guide, args, kwargs, num_samples, chunk, max_plate_nesting):
            runs += costs
            bar.update(sum(run.program.num_particles for run in costs))
    sites = _latent_sites(runs, traces[0], num_samples)
    return GuideDraws(runs, sites, Way(max_plate_nesting, runs[0].program.vectorized))


def _runs(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    num_samples: int,
    chunk: int,
    max_plate_nesting: float,
) -> Iterator[list[Costs]]:
    way, done = Way(max_plate_nesting), 0
    elbo = way.elbo(chunk, ScoreFunction())
    with torch.no_grad():
        while done < num_samples:
            costs = elbo.evaluate(model, guide, args, kwargs)
            vectorized = costs[0].program.vectorized
            done += chunk if vectorized else len(costs)
            yield costs
            if not vectorized and elbo.vectorize_particles:
                elbo = Way(max_plate_nesting, vectorized=False).elbo(LOOPED, ScoreFunction())


def check_whole(*traces: Trace) -> None:
    """Raises for a plate that takes a part of its elements: its draws are not those given all data."""
    for trace in traces:
        for name, node in trace.nodes.items():
            if node["type"] == "sample" and site_is_subsample(node):
                size = getattr(node["fn"], "size", None)
                given = node["value"]
                if size is not None and isinstance(given, Tensor) and len(given) < size:
                    raise EstimatorError(
                        f"plate '{name}': it takes {len(given)} of {size} elements at a time, expected "
                        f"all of them: a draw and its weight are those given all data. Call with the "
                        f"data as a whole, without subsample_size; or with a part of it as if it were "
                        f"the data, in a plate of its size."
                    )


def _latent_sites(runs: list[Costs], trace: Trace, num_samples: int) -> dict[str, Latent]:
    """The sites that occur in guide and model in every run."""
    common = [name for name in _names(runs[0]) if all(name in _names(run) for run in runs)]
    found = {}
    for name in common:
        sites = [next(s for s in run.program.sites if s.name == name) for run in runs]
        if name not in trace.nodes:
            continue
        shape = trace.nodes[name]["value"].shape
        pairs = zip(sites, runs, strict=True)
        values = [_values(site, run.program, shape) for site, run in pairs]
        fn = sites[0].fn
        of_guide = next(t for t in runs[0].passes[0].terms if t.key == ("guide", name))
        inherited = isinstance(innermost(fn), Delta) and of_guide.upstream
        found[name] = Latent(
            name,
            torch.cat(values)[:num_samples].detach().cpu(),
            _is_discrete(fn),
            [(site.fn, run.program) for site, run in zip(sites, runs, strict=True)],
            {p: d for p, d in of_guide.plates.items() if p != PARTICLES},
            isinstance(innermost(fn), Delta) and not inherited,
        )
    return found


def _names(run: Costs) -> list[str]:
    model = {term.name for term in run.passes[0].terms if term.side == "model"}
    return [s.name for s in run.program.sites if s.name in model and not s.observed]


def _values(site: Site, program: Program, shape: torch.Size) -> Tensor:
    """The values of a site, draws on the left."""
    value, draws = site.value, program.num_particles
    if program.particle_dim is None:
        return value.reshape(shape)[None]
    dim = value.dim() - len(site.fn.event_shape) + program.particle_dim
    if dim < 0:
        return value.reshape(shape).expand(draws, *shape)
    value = value.movedim(dim, 0)
    return value.reshape(len(value), *shape).expand(draws, *shape)


def _is_discrete(fn: TorchDistribution) -> bool:
    try:
        return bool(fn.support.is_discrete)
    except (AttributeError, NotImplementedError):
        return False

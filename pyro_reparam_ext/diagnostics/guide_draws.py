"""Draws of a guide, and of the latent sites of the model as the guide has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
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
    """Takes off sites what says how their gradient is found: draws are of the program as it is."""

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
class Law:
    """A distribution of the values of a site in some draws, which lie along its batch dim ``dim``.

    ``dim`` is negative, and None where there is one draw.
    """

    fn: TorchDistribution
    draws: int
    dim: int | None

    @classmethod
    def of_run(cls, fn: TorchDistribution, program: Program) -> Law:
        """The law in a run of many draws."""
        return cls(fn, program.num_particles, program.particle_dim)


@dataclass(frozen=True, eq=False)
class Latent:
    """A site of the model, and the values that it has at draws of the guide.

    ``values`` has shape ``(draws, *shape)``, with ``shape`` that of the site's value in one run.
    ``laws`` are its distributions, one for each run of many draws; none of a site that is computed.
    ``plates``: their dims, counted from the right of the batch dims. ``point``: whether the guide
    gives it one value. ``sources``: the sites of the guide that it depends on, with itself; ``joint``:
    those of them whose coordinates depend on each other.
    """

    name: str
    values: Tensor
    discrete: bool = False
    laws: Sequence[Law] = ()
    plates: Mapping[str, int] = field(default_factory=dict)
    point: bool = False
    sources: frozenset[str] = frozenset()
    joint: frozenset[str] = frozenset()

    @property
    def shape(self) -> torch.Size:
        return self.values.shape[1:]

    def may_depend_on(self, other: Latent) -> bool:
        """Whether the guide lets coordinates of the two depend on each other (of one site: with it)."""
        if self.joint & other.joint:
            return True
        return self is not other and (self.name in other.sources or other.name in self.sources)


@dataclass(frozen=True, eq=False)
class GuideDraws:
    """The runs of guide and model at draws of the guide, and the sites of the model.

    ``runs`` have ``num_samples`` draws in all, or some more. ``sites``: those that model and guide have
    in common. ``computed``: deterministic and reparameterised ones of the model, functions of these.
    ``local``: what lies in a plate that takes a part of its elements, and is in neither. ``way``: how
    the draws were made.
    """

    runs: list[Costs]
    sites: dict[str, Latent]
    computed: dict[str, Latent]
    local: list[str]
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
    whole: bool = True,
    weighed: bool = False,
) -> GuideDraws:
    """Draws of a guide, many in one run where the program can be vectorised.

    Args:
        whole: whether plates have to take all of their elements.
        weighed: whether the densities of the model are made use of. If not, sites that training sums
            out have one value in all draws, and ``computed`` is of that value.

    Raises:
        EstimatorError: a plate subsamples, so that no draw is one given all data; or a density is
            asked for, and the model has sites that training sums out.
    """
    with torch.no_grad():
        traces = plain_traces(model, guide, args, kwargs)
    if whole:
        check_whole(*traces)
    enumerated = enumerated_names(*traces)
    if weighed:
        _check_none_enumerated(enumerated)
    model = poutine.condition(model, {name: traces[1].nodes[name]["value"] for name in enumerated})
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
    computed = _computed_sites(runs, traces[1], num_samples)
    partial = partial_plates(*traces)
    local = [x for x in (*sites.values(), *computed.values()) if x.plates.keys() & partial.keys()]
    inside = {t.name for t in runs[0].passes[0].terms if t.plates.keys() & partial.keys()}
    local += [x for x in computed.values() if local and _depends(runs[0], x.name, inside)]
    names = {site.name for site in local}
    return GuideDraws(
        runs,
        {name: site for name, site in sites.items() if name not in names},
        {name: site for name, site in computed.items() if name not in names},
        sorted(names),
        Way(max_plate_nesting, runs[0].program.vectorized),
    )


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


def enumerated_names(of_guide: Trace, of_model: Trace) -> list[str]:
    """The sites of a model that training sums out, since the guide does not draw them."""
    return [
        name
        for name, node in of_model.nodes.items()
        if node["type"] == "sample" and not node["is_observed"] and name not in of_guide
        if node["infer"].get("enumerate")
    ]


def _check_none_enumerated(names: list[str]) -> None:
    if names:
        raise EstimatorError(
            f"site '{names[0]}': it is enumerated in training and the guide does not draw it, so that "
            f"a draw of the guide has no weight; expected a model that is a density of what the guide "
            f"draws. Sum '{names[0]}' out in the model (MixtureSameFamily for a mixture, DiscreteHMM "
            f"for a chain), or draw it in the guide; marginals and simulate_calibration serve the "
            f"model as it is."
        )


def partial_plates(*traces: Trace) -> dict[str, tuple[int, int]]:
    """The plates that take a part of their elements: how many, and of how many."""
    found = {}
    for trace in traces:
        for name, node in trace.nodes.items():
            if node["type"] == "sample" and site_is_subsample(node):
                size, given = getattr(node["fn"], "size", None), node["value"]
                if size is not None and isinstance(given, Tensor) and len(given) < size:
                    found[name] = len(given), size
    return found


def check_whole(*traces: Trace) -> None:
    """Raises for a plate that takes a part of its elements: its draws are not those given all data."""
    for name, (given, size) in partial_plates(*traces).items():
        raise EstimatorError(
            f"plate '{name}': it takes {given} of {size} elements at a time, expected all of them: a "
            f"draw and its weight are those given all data. Call with the data as a whole, without "
            f"subsample_size; or with a part of it as if it were the data, in a plate of its size."
        )


def _latent_sites(runs: list[Costs], trace: Trace, num_samples: int) -> dict[str, Latent]:
    """The sites that occur in guide and model in every run."""
    joint = {s.name for s in runs[0].program.sites if innermost(s.fn).event_shape}
    common = [name for name in _names(runs[0]) if all(name in _names(run) for run in runs)]
    found = {}
    for name in common:
        sites = [next(s for s in run.program.sites if s.name == name) for run in runs]
        if name not in trace.nodes:
            continue
        shape = trace.nodes[name]["value"].shape
        pairs = list(zip(sites, runs, strict=True))
        values = [
            _values(site.value, len(site.fn.event_shape), run.program, shape) for site, run in pairs
        ]
        fn = sites[0].fn
        of_guide = next(t for t in runs[0].passes[0].terms if t.key == ("guide", name))
        inherited = isinstance(innermost(fn), Delta) and of_guide.upstream
        sources = (of_guide.upstream or frozenset()) | {name}
        found[name] = Latent(
            name,
            torch.cat(values)[:num_samples].detach().cpu(),
            _is_discrete(fn),
            [Law.of_run(site.fn, run.program) for site, run in pairs],
            {p: d for p, d in of_guide.plates.items() if p != PARTICLES},
            isinstance(innermost(fn), Delta) and not inherited,
            sources,
            sources & joint,
        )
    return found


def _computed_sites(runs: list[Costs], trace: Trace, num_samples: int) -> dict[str, Latent]:
    """The sites that the model computes in every run."""
    found = {}
    for name in runs[0].program.computed:
        nodes = [run.program.computed.get(name) for run in runs]
        if name not in trace.nodes or not all(nodes):
            continue
        shape = trace.nodes[name]["value"].shape
        values = [
            _values(node["value"], node["fn"].event_dim, run.program, shape)
            for node, run in zip(nodes, runs, strict=True)
            if node is not None
        ]
        frames = trace.nodes[name]["cond_indep_stack"]
        found[name] = Latent(
            name,
            torch.cat(values)[:num_samples].detach().cpu(),
            plates={frame.name: frame.dim for frame in frames if frame.vectorized},
        )
    return found


def _depends(run: Costs, name: str, others: set[str]) -> bool:
    """Whether a site of the model depends on others, as far as it is known."""
    term = next(term for term in run.passes[0].terms if term.key == ("model", name))
    return term.upstream is None or bool(term.upstream & others)


def _names(run: Costs) -> list[str]:
    model = {term.name for term in run.passes[0].terms if term.side == "model"}
    return [s.name for s in run.program.sites if s.name in model and not s.observed]


def _values(value: Tensor, event_dim: int, program: Program, shape: torch.Size) -> Tensor:
    """The values of a site, draws on the left."""
    draws = program.num_particles
    if program.particle_dim is None:
        return value.reshape(shape)[None]
    dim = value.dim() - event_dim + program.particle_dim
    if dim < 0:
        return value.reshape(shape).expand(draws, *shape)
    value = value.movedim(dim, 0)
    return value.reshape(len(value), *shape).expand(draws, *shape)


def _is_discrete(fn: TorchDistribution) -> bool:
    try:
        return bool(fn.support.is_discrete)
    except (AttributeError, NotImplementedError):
        return False

"""``inspect_sites``: a table of the latent sites of a program, and of what is wrong with them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from pyro.infer import ELBO
from pyro.poutine.util import site_is_subsample
from torch import nn

from ..config import choose
from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..estimators.protocol import Site
from ..evaluation.costs import Costs
from ..evaluation.invisible import invisible
from ..evaluation.modes import Way
from .dependent_costs import DependentCosts
from .failed_run import defects_noted
from .recommendation import Recommendation, Surroundings, enumerable_size, recommend
from .row import Row
from .sampler_words import sampler_words

if TYPE_CHECKING:
    import pandas as pd

MODES = {True: "broadcast", "vmap": "vmap", False: "loop"}


def inspect_sites(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    elbo: ELBO | None = None,
    **kwargs: Any,
) -> pd.DataFrame:
    """A table of the latent sites of a guide and a model: how each is trained, and what is wrong.

    Runs the program once as the ELBO does at its first call, at the parameters as they are. Afterwards
    parameters, parameter store, buffers and random state are what they were before.

    Args:
        model: a Pyro model.
        guide: its guide.
        *args: arguments of model and guide.
        elbo: the :class:`~pyro_reparam_ext.TraceEstimator_ELBO` to train by, with its estimators,
            particles and mode; None for one without options. It stays as it is, too.
        **kwargs: keyword arguments of model and guide.

    Returns:
        A row for each latent site of the guide, in the order in which they are sampled, then those that
        the model alone has. ``print`` shows the outer columns, ``table.loc[site]`` all of one site:

        - ``distribution``: its class, then ``to_event``, ``masked`` and ``expanded``;
        - ``sampler``: pathwise, discrete, or what is known to be wrong with it at these parameters;
        - ``plates``: with their sizes, ``rows[20 of 100]`` for a subsample;
        - ``coordinates``: numbers, or categories, in one element of the plates;
        - ``values`` that a coordinate can take: infinite for counts, NaN for what is continuous;
        - ``estimator``, and ``chosen_by`` what: the site's ``infer``, ``estimators=``, or the default;
        - ``evaluations`` of the program that a gradient at this site takes, for each particle;
        - ``mode`` in which these are run: broadcast, vmap or a loop;
        - ``costs``: terms that depend on the site, ``q`` of the guide and ``p`` of the model;
        - ``mode_reason``: what failed in the faster modes;
        - ``recommended``: another distribution or estimator, and ``why``; empty where all is well.

    Raises:
        EstimatorError: ``elbo`` is another one. What the ELBO raises for the program stays as it is,
            with a note on the defects of the guide's distributions, if there are any.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     angle = pyro.sample("angle", dist.VonMises(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(angle.cos(), 1.0), obs=torch.tensor(0.3))
        >>> def guide():
        ...     loc = pyro.param("loc", torch.tensor(0.5))
        ...     pyro.sample("angle", dist.VonMises(loc, 2.0))
        >>> table = pre.inspect_sites(model, guide)
        >>> print(table[["distribution", "sampler", "recommended"]])
              distribution              sampler                 recommended
        site
        angle     VonMises  no pathwise sampler  pre.distributions.VonMises
    """
    import pandas as pd

    ours = _untouched(elbo)
    with invisible(model, guide), torch.enable_grad():
        with defects_noted(guide, args, kwargs):
            runs = ours.evaluate(model, guide, args, kwargs)
        way = ours.way(model, guide, args, kwargs)
        rows = _rows(runs, ours, way)
    columns = [column.name for column in fields(Row)]
    return pd.DataFrame(map(vars, rows.values()), index=pd.Index(rows, name="site"), columns=columns)


def _untouched(elbo: ELBO | None) -> TraceEstimator_ELBO:
    """An ELBO like ``elbo``, with what its estimators have learned, that leaves no trace in it."""
    if elbo is None:
        return TraceEstimator_ELBO()
    if not isinstance(elbo, TraceEstimator_ELBO):
        raise EstimatorError(
            f"elbo: expected a TraceEstimator_ELBO, whose estimators can be told, was given "
            f"{type(elbo).__name__}. Pass elbo=TraceEstimator_ELBO(...), or leave it out."
        )
    new = copy.copy(elbo)
    new.states = nn.ModuleDict(dict(elbo.states.items()))
    return new


def _rows(runs: list[Costs], elbo: TraceEstimator_ELBO, way: Way) -> dict[str, Row]:
    """By site; one that occurs in several runs is described by the first of these."""
    mode = MODES[way.mode], _on_one_line("; ".join(way.reasons))
    rows: dict[str, Row] = {}
    for run in runs:
        nodes, latent = run.program.ordinary.nodes, [s for s in run.program.sites if not s.observed]
        if all(site.name in rows for site in latent):
            continue
        dependent = DependentCosts.of(run)
        enumerable = math.prod(map(enumerable_size, latent))
        for site in latent:
            inside = dependent.are_inside(site.name)
            around = Surroundings(elbo.num_particles, enumerable, inside)
            row = _row_of_guide(site, nodes[site.name], around, dependent, elbo, mode)
            rows.setdefault(site.name, row)
    for run in runs:
        for name, node in run.program.model_nodes.items():
            if not site_is_subsample(node):
                rows.setdefault(name, _row_of_model(node, mode))
    return rows


def _row_of_guide(
    site: Site,
    node: Mapping[str, Any],
    around: Surroundings,
    dependent: DependentCosts,
    elbo: TraceEstimator_ELBO,
    mode: tuple[str, str],
) -> Row:
    source = dependent.costs.program.ordinary.source
    return Row.of(
        node,
        mode,
        sampler=sampler_words(site.fn),
        estimator=_on_one_line(repr(site.estimator)),
        chosen_by=choose(elbo.estimators, dict(node), source)[1],
        evaluations=site.estimator.evaluations(site.fn),
        costs=dependent.words(site.name),
        advice=recommend(site, around),
    )


def _row_of_model(node: Mapping[str, Any], mode: tuple[str, str]) -> Row:
    return Row.of(
        node,
        mode,
        sampler="drawn by the model",
        advice=Recommendation(f"sample '{node['name']}' in the guide", "it keeps its prior"),
    )


def _on_one_line(text: str) -> str:
    return " ".join(text.split())

r"""``simulate_calibration``: is the fitted guide right on average over data that the model makes?

A truth :math:`\tilde z` is drawn from the prior, data :math:`\tilde x` given it, and the guide is
fitted to these. If the guide is the posterior, the rank of :math:`\tilde z` among its draws is uniform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import EstimatorError
from ..evaluation.first_run import plain_traces
from ..evaluation.invisible import invisible
from ..evaluation.terms import is_computed
from ..parameters import ParametersMet
from .guide_draws import enumerated_names, guide_draws
from .held_parameters import held

if TYPE_CHECKING:
    from pandas import DataFrame

FEWEST = 10
"""Simulations below which no test of the ranks tells anything."""


def simulate_calibration(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    refit: Callable[..., Any],
    simulations: int = 100,
    num_samples: int = 100,
    max_plate_nesting: float = math.inf,
    seed: int = 0,
    progress: bool = True,
    **kwargs: Any,
) -> DataFrame:
    r"""Tests by simulated data whether guides that are fitted as this one are calibrated.

    Unlike :func:`check_guide`, which looks at one posterior from inside of the guide, it sees a guide
    that misses modes, and says of each coordinate in which way it is off; and it asks for a fit per
    simulation, of data that the prior finds likely. Each fit starts from the parameters as they are.
    Afterwards parameters, parameter store and random state are what they were before.

    Args:
        model: a Pyro model. Its observed sites are drawn anew, whatever data they have.
        guide: its guide.
        *args: arguments of model and guide. A tensor among them that is the value of an observed site
            itself is replaced by the simulated one, so that guides may depend on the data.
        refit: trains the guide: called as ``refit(model, guide, *args, **kwargs)`` with a model that is
            conditioned on simulated data. What it returns is not used.
        simulations: how many data are simulated.
        num_samples: draws of each fitted guide among which the truth is ranked.
        max_plate_nesting: bound on the nesting of plates; found by a run of the program if infinite.
        seed: of the random state.
        progress: a progress bar (only in a terminal).
        **kwargs: keyword arguments of model and guide.

    Returns:
        One row per coordinate of each latent site of the guide, and of deterministic and
        reparameterised ones (not where training sums out sites, of which they may be computed), with
        the index ``(site, index)``, the least likely first. ``p_value``: that the ranks are uniform,
        by the test of Kolmogorov and Smirnov (times the number of rows for all
        of them together); ``mean_rank``: 0.5 if the guide is right, less where its draws are too high;
        ``spread``: the ranks' sd over that of uniform ones, above 1 where the guide is too narrow,
        below where it is too wide.

    Raises:
        EstimatorError: there are fewer than 10 simulations, or the model has a factor, by which no
            data can be drawn, or no observed site.

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman, 2018, Validating Bayesian Inference Algorithms with
        Simulation-Based Calibration, https://arxiv.org/abs/1804.06788; Yao, Vehtari, Simpson, Gelman,
        2018, Yes, but Did It Work?: Evaluating Variational Inference,
        https://arxiv.org/abs/1802.02538

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     return pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))
        >>> def guide():
        ...     mean = pyro.param("mean", torch.tensor(0.0))
        ...     pyro.sample("z", dist.Normal(mean, 0.5**0.5))
        >>> def refit(model, guide):  # in place of SVI: the exact posterior
        ...     guide()
        ...     pyro.param("mean").data.fill_(model() / 2)
        >>> table = pre.simulate_calibration(model, guide, refit=refit, simulations=40)
        >>> bool(table.loc[("z", ""), "p_value"] > 0.01)
        True
    """
    if simulations < FEWEST:
        raise EstimatorError(
            f"simulations: expected at least {FEWEST}, which a test needs, was given {simulations}."
        )
    ranks: dict[tuple[str, str], list[float]] = {}
    with invisible(model, guide):
        torch.manual_seed(seed)
        with torch.no_grad(), ParametersMet() as leaves:
            of_guide, of_model = plain_traces(model, guide, args, kwargs)
        observed = _observed(of_model)
        summed_out = enumerated_names(of_guide, of_model)
        for _ in tqdm(range(simulations), desc="simulations", disable=None if progress else True):
            with held(leaves), invisible(model, guide):
                torch.manual_seed(seed := seed + 1_000_003)
                truth, simulated, given = _simulated(model, args, kwargs, observed)
                with torch.enable_grad():
                    refit(simulated, guide, *given[0], **given[1])
                draws = guide_draws(
                    simulated,
                    guide,
                    *given,
                    num_samples=num_samples,
                    max_plate_nesting=max_plate_nesting,
                    progress=False,
                )
                computed = {} if summed_out else draws.computed
                for name, site in {**draws.sites, **computed}.items():
                    for key, rank in _ranks(name, site.values, truth[name]):
                        ranks.setdefault(key, []).append(rank)
    return _table(ranks)


def _observed(trace: Trace) -> dict[str, Tensor]:
    """The observed sites of a model, with their values."""
    found = {}
    for name, node in trace.nodes.items():
        if node["type"] != "sample" or not node["is_observed"] or site_is_subsample(node):
            continue
        if is_computed(node):  # given its value, the truth would be known
            continue
        if site_is_factor(node):
            raise EstimatorError(
                f"site '{name}': it is a factor, by which data can't be drawn; expected observed sites "
                f"with distributions. Write it as a sample statement with obs=."
            )
        found[name] = node["value"]
    if not found:
        raise EstimatorError(
            "simulate_calibration: the model has no observed site, expected at least one, of which "
            "data are drawn. Pass the model with its data (obs=)."
        )
    return found


def _simulated(
    model: Callable[..., Any], args: tuple, kwargs: dict, observed: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Callable[..., Any], tuple[tuple, dict]]:
    """A truth, the model conditioned on data of it, and the arguments with these data in place."""
    free = poutine.uncondition(model)
    with torch.no_grad():
        trace = poutine.trace(free).get_trace(*args, **kwargs)
    values = {name: node["value"] for name, node in trace.nodes.items() if node["type"] == "sample"}
    data = {name: values[name].detach() for name in observed}
    names = {id(value): name for name, value in observed.items()}

    def replaced(x: Any) -> Any:
        return data[names[id(x)]] if id(x) in names else x

    given = tuple(map(replaced, args)), {key: replaced(x) for key, x in kwargs.items()}
    return values, poutine.condition(model, data=data), given


def _ranks(name: str, values: Tensor, truth: Tensor) -> list[tuple[tuple[str, str], float]]:
    """By coordinate, the rank of the truth among draws, between 0 and 1; by chance among equals."""
    truth = truth.detach().cpu().reshape(values.shape[1:])
    below, equal = (values < truth).sum(0), (values == truth).sum(0)
    rank = (below + torch.rand(below.shape) * (equal + 1)) / (len(values) + 1)
    return [
        ((name, ", ".join(map(str, place))), float(rank[place])) for place in np.ndindex(*rank.shape)
    ]


def _table(ranks: dict[tuple[str, str], list[float]]) -> DataFrame:
    import pandas as pd
    from scipy import stats

    rows = [
        {
            "p_value": float(stats.kstest(x, "uniform").pvalue),
            "mean_rank": float(np.mean(x)),
            "spread": float(np.std(x) * 12**0.5),
        }
        for x in ranks.values()
    ]
    index = pd.MultiIndex.from_tuples(ranks, names=["site", "index"])
    return pd.DataFrame(rows, index=index).sort_values("p_value", kind="stable")

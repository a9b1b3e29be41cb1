"""``check_guide``: did it work?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pyro.infer.inspect import get_dependencies

from ..config import Configuration
from ..errors import EstimatorError
from ..evaluation.invisible import invisible
from ..nn.kl_weight import tempered
from ..nn.layers.weight_noise_context import noisy_context
from ..schedule import measuring
from .advice import Findings, point_estimate, sentence
from .bound import bound
from .guide_check import GuideCheck
from .guide_draws import Latent, guide_draws
from .misfit import causes
from .pareto import tail_shapes, threshold
from .sites import local_shapes, sites_table
from .slope import Slope, slope
from .weighted_draws import WeightedDraws, weighted_draws

FEWEST = 100
"""Draws below which a tail can't be fitted."""


def check_guide(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    num_samples: int = 4000,
    estimators: Configuration = None,
    max_plate_nesting: float = math.inf,
    seed: int = 0,
    progress: bool = True,
    **kwargs: Any,
) -> GuideCheck:
    r"""Tells whether a guide can stand for the posterior, and if not, what to do.

    Draws from the guide, with weights :math:`w = p(x, z) / q(z)`. If the guide is the posterior they
    are all the same. Where their tail is heavy, the guide leaves out much of the posterior: the shape
    :math:`\hat k` of a generalised Pareto distribution, fitted to the largest weights, says how heavy
    (moments up to :math:`1 / \hat k` are finite). The advice tells *noise* from *guide*: where the
    ELBO's gradient is not zero beyond its error, and a few steps along it gain much of the gap, the
    guide has not converged; where it is at its best and the weights are bad, the family is too poor,
    and the log weights' dependence on the draws says in which way (correlation left out, a funnel,
    another mode, heavy tails, single elements of a plate).

    Nothing is changed: parameter store, random state and modules are what they were before.

    What it can't see: a mode, or a tail, that no draw came near; the fit then looks right. In many
    dimensions the fitted tail is that of the bulk of the weights rather than of their limit, and
    :math:`\hat k` rises above 0.7 for guides whose marginals are good (at some 200 coordinates, if each
    sd is a tenth too small): look at ``sites`` and at the k-hats of single elements. :math:`\hat k` has
    an error of its own, 0.14 at 4,000 draws.

    Args:
        model: a Pyro model.
        guide: its guide, trained.
        *args: arguments of model and guide: all data, since weights are those given all data.
        num_samples: draws; many at once where the program can be vectorised, else one after another.
        estimators: of the gradient that tells whether the guide has converged, as of
            ``TraceEstimator_ELBO``; None: at discrete sites such as have little variance.
        max_plate_nesting: bound on the nesting of plates; found by a run of the program if infinite.
        seed: of the random state of the draws.
        progress: a progress bar (only in a terminal).
        **kwargs: keyword arguments of model and guide.

    Raises:
        EstimatorError: a context is entered that draws weights apart from the guide; there are fewer
            than 100 draws, a plate subsamples, the model has sites that
            training sums out, model and guide share no latent site, or a draw has no finite weight.

    References:
        Yao, Vehtari, Simpson, Gelman, 2018, Yes, but Did It Work?: Evaluating Variational Inference,
        https://arxiv.org/abs/1802.02538; Vehtari, Simpson, Gelman, Yao, Gabry, 2024, Pareto smoothed
        importance sampling, https://arxiv.org/abs/1507.02646; Dhaka, Catalina, Welandawe, Andersen,
        Huggins, Vehtari, 2021, Challenges and opportunities in high-dimensional variational inference,
        https://arxiv.org/abs/2103.01085

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))
        >>> def guide():
        ...     pyro.sample("z", dist.Normal(0.5, pyro.param("scale", torch.tensor(0.5**0.5))))
        >>> check = pre.check_guide(model, guide)
        >>> check.ok, round(check.gap, 3)
        (True, 0.0)
    """
    if num_samples < FEWEST:
        raise EstimatorError(
            f"num_samples: expected at least {FEWEST}, of which a tail of weights can be fitted, was "
            f"given {num_samples}."
        )
    context = noisy_context()
    if context:
        raise EstimatorError(
            f"check_guide: inside {context} the model draws its weights anew, which are then not those "
            f"that the guide is scored for; expected no such context. Leave it, and check."
        )
    with invisible(model, guide), measuring():
        torch.manual_seed(seed)
        drawn = guide_draws(
            model,
            guide,
            args,
            kwargs,
            num_samples=num_samples,
            max_plate_nesting=max_plate_nesting,
            progress=progress,
            weighed=True,
        )
        draws = weighted_draws(drawn, num_samples)
        _check_draws(draws)
        with torch.enable_grad():
            gap = bound(draws.log_weights).gap
            left = slope(model, guide, args, kwargs, draws.way, max(1.0, gap), estimators)
        parents = _parents(model, args, kwargs)
    return _judged(draws, left, parents)


def _judged(draws: WeightedDraws, left: Slope, parents: dict[str, frozenset[str]]) -> GuideCheck:
    """The verdict on draws."""
    num_samples = len(draws.log_weights)
    limit, shapes = threshold(num_samples), local_shapes(draws)
    points = [name for name, site in draws.sites.items() if site.point]
    discrete = frozenset(name for name, site in draws.sites.items() if site.discrete)
    found = Findings(
        khat=float(tail_shapes(draws.log_weights)),
        limit=limit,
        bound=bound(draws.log_weights),
        slope=left,
        sites=sites_table(draws, shapes, limit),
        shapes=shapes,
        causes=[],
        discrete=discrete,
        points=points,
        coordinates=sum(site.shape.numel() for site in draws.sites.values() if not site.point),
    )
    judged = len(points) < len(draws.sites)
    if judged and not (found.ok or found.unconverged):
        free = draws.sites.keys() - discrete - set(points)
        values = {name: draws.sites[name].values.numpy() for name in sorted(free)}
        shown = causes(draws.log_weights, values, parents)
        pairs = {frozenset({cause.first[0], cause.second[0]}) for cause in shown if cause.second[0]}
        dependent = {pair for pair in pairs if _may_depend([draws.sites[name] for name in pair])}
        found = replace(found, causes=shown, dependent=frozenset(dependent))
    return GuideCheck(
        ok=judged and found.ok,
        khat=found.khat if judged else math.nan,
        elbo=found.bound.elbo,
        elbo_error=found.bound.elbo_error,
        gap=found.bound.gap,
        gap_error=found.bound.gap_error,
        gain=left.gain if left.is_real else 0.0,
        sites=found.sites,
        advice=sentence(found) if judged else point_estimate(points),
        limit=limit,
        num_samples=num_samples,
        local=shapes,
        objective=tempered(),
    )


def _may_depend(sites: list[Latent]) -> bool:
    """Whether the guide lets two sites depend on each other, or the coordinates of one."""
    return sites[0].may_depend_on(sites[-1])


def _check_draws(draws: WeightedDraws) -> None:
    if not draws.sites:
        raise EstimatorError(
            "check_guide: model and guide share no latent site, expected at least one. Name the sites "
            "of the guide as those of the model."
        )
    bad = np.flatnonzero(~np.isfinite(draws.log_weights))
    if len(bad):
        raise EstimatorError(
            f"check_guide: {len(bad)} of {len(draws.log_weights)} draws of the guide have the log "
            f"weight {draws.log_weights[bad[0]]}, expected finite ones. The guide draws values that "
            f"the model excludes, or a density overflows: give the guide the support of the model."
        )


def _parents(model: Callable[..., Any], args: tuple, kwargs: dict) -> dict[str, frozenset[str]]:
    """By latent site, those that its distribution in the model depends on; none if it can't be told."""
    try:
        found = get_dependencies(model, args, kwargs)["prior_dependencies"]
    except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError, IndexError):
        return {}
    return {name: frozenset(upstream) - {name} for name, upstream in found.items()}

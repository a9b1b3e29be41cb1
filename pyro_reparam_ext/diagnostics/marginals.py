"""``marginals``: what the posterior looks like, coordinate by coordinate, as a guide has it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..callers import outside
from ..errors import EstimatorError
from ..evaluation.first_run import plain_traces, plate_nesting
from ..evaluation.invisible import invisible
from .advice import listed
from .enumerated_sites import depend_on_enumerated, enumerated_sites
from .guide_draws import enumerated_names, guide_draws, partial_plates
from .summaries import summaries

if TYPE_CHECKING:
    from pandas import DataFrame


def marginals(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    num_samples: int = 1000,
    max_plate_nesting: float = math.inf,
    seed: int = 0,
    progress: bool = True,
    **kwargs: Any,
) -> DataFrame:
    r"""Tabulates the guide's marginal of every coordinate of each latent site of the model.

    Sites have the names and the values that they have in the model (constrained, in the place of an
    autoguide's ``_auto_latent``), in its order. Deterministic sites are there too, and reparameterised
    ones by the names that they had; and discrete sites that training sums out (``infer={"enumerate":
    "parallel"}``, by ``TraceEnum_ELBO``), by their probabilities given the draws of the others. What
    lies in a plate that takes a part of the data only is left out, with a warning.

    Where the values of a discrete site are few, their probabilities are the mean of the site's
    distribution over the guide's draws of what it depends on,

    .. math:: \hat P(z = k) = \frac1S \sum_s q(z = k \mid \text{parents}_s),

    which is exact where there are none, and has less variance than counts else (Rao-Blackwell).

    Args:
        model: a Pyro model.
        guide: its guide.
        *args: arguments of model and guide.
        num_samples: draws of the guide; many at once where the program can be vectorised.
        max_plate_nesting: bound on the nesting of plates; found by a run of the program if infinite.
        seed: of the random state of the draws.
        progress: a progress bar (only in a terminal).
        **kwargs: keyword arguments of model and guide.

    Returns:
        One row per coordinate, with the index ``(site, index)``, where ``index`` is ``"2, 0"`` for
        ``value[2, 0]``, and empty for a scalar. Columns are ``mean``, ``sd``, the quantiles ``5%``,
        ``50%`` and ``95%``, and ``P(0)``, ``P(1)`` ... of the values (or classes) of discrete sites,
        each with a column ``<name>_error``, its Monte Carlo standard error. What a site does not have
        is NaN: probabilities of continuous values, the mean of one-hot classes, quantiles where there
        are probabilities.

    Raises:
        EstimatorError: there are fewer than 2 draws; model and guide share no latent site, or none
            outside of a plate that takes a part of the data; or an enumerated site is neither
            Bernoulli nor categorical.

    References:
        Maritz, Jarrett, 1978, A note on estimating the variance of the sample median (for the errors
        of quantiles).

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     b = pyro.sample("b", dist.Bernoulli(0.3))
        ...     pyro.sample("z", dist.Normal(b, 1.0))
        >>> def guide():
        ...     b = pyro.sample("b", dist.Bernoulli(0.25))
        ...     pyro.sample("z", dist.Normal(4 * b, 1.0))
        >>> table = pre.marginals(model, guide)
        >>> table.loc["b", ["P(1)", "P(1)_error"]]
               P(1)  P(1)_error
        index
                0.25         0.0
        >>> float(table.loc[("z", ""), "mean"].round(1))
        1.0
    """
    import pandas as pd

    if num_samples < 2:
        raise EstimatorError(f"num_samples: expected at least 2, was given {num_samples}.")
    with invisible(model, guide), torch.no_grad():
        torch.manual_seed(seed)
        traces = plain_traces(model, guide, args, kwargs)
        draws = guide_draws(
            model,
            guide,
            args,
            kwargs,
            num_samples=num_samples,
            max_plate_nesting=max_plate_nesting,
            progress=progress,
            whole=False,
        )
        found, left = {**draws.sites, **draws.computed}, draws.local
        if names := enumerated_names(*traces):
            if partial_plates(*traces):
                left = [*left, *names]
            else:
                nesting = plate_nesting(model, guide, args, kwargs)
                given = model, args, kwargs, traces[1]
                found |= enumerated_sites(*given, names, draws.sites, nesting, progress)
                of_prior = depend_on_enumerated(*given, draws.computed, draws.sites, nesting)
                found = {name: site for name, site in found.items() if name not in of_prior}
                _warn_of_prior(sorted(of_prior))
        in_order = [found[name] for name in traces[1].nodes if name in found]
        rows = {key: row for site in in_order for key, row in summaries(site)}
    if left:
        _of_local(left, raises=not rows)
    if not rows:
        raise EstimatorError(
            "marginals: model and guide share no latent site, expected at least one. Name the sites of "
            "the guide as those of the model."
        )
    index = pd.MultiIndex.from_tuples(rows, names=["site", "index"])
    return pd.DataFrame(list(rows.values()), index=index)


def _of_local(names: list[str], raises: bool) -> None:
    """Warns of sites that depend on the part of the data that a run takes, or raises."""
    text = (
        f"marginals: the sites {listed(names)} lie in a plate that takes a part of its elements at a "
        f"time, or depend on one that does; expected all elements. Call with the data as a whole, "
        f"without subsample_size, to have them"
    )
    if raises:
        raise EstimatorError(f"{text}.")
    warnings.warn(f"{text}. The table has the sites outside.", stacklevel=outside())


def _warn_of_prior(names: list[str]) -> None:
    """Warns of computed sites that are known given an enumerated site only."""
    if names:
        warnings.warn(
            f"marginals: the sites {listed(names)} are computed of a site that is enumerated, and are "
            f"left out; expected functions of what the guide draws. Draw the enumerated sites by "
            f"pyro.infer.infer_discrete, and compute them of these.",
            stacklevel=outside(),
        )

"""A warning where the gradient's noise has grown until it hides the gradient."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from ..callers import outside
from ..elbo import TraceEstimator_ELBO
from ..study.sampler import Sampler

GROWN = 100.0
"""How many times its least so far a variance has to be."""
HIDDEN = 0.01
"""The ratio below which one gradient says next to nothing."""


def warn_where_noise_has_grown(rows: Sequence[dict[str, Any]], sampler: Sampler) -> None:
    """Warns of the parameters whose noise was found to have grown by the last measurement, once each.

    At an optimum the signal vanishes: that alone is no fault. So the variance itself has to grow.
    """
    last = rows[-1]["step"]
    for row in (row for row in rows if row["step"] == last):
        own = [other for other in rows if other["parameter"] == row["parameter"]]
        least = list(accumulate((x["variance"] for x in own), min))
        bad = [
            x["snr"] < HIDDEN and x["variance"] > GROWN * so_far
            for x, so_far in zip(own, least, strict=True)
        ]
        if bad[-1] and sum(bad) == 1:
            moved = _sites_moved(row["parameter"], sampler)
            sites = f" (of site {', '.join(map(repr, moved))})" if moved else ""
            times = row["variance"] / least[-1]
            warnings.warn(
                f"step {last}: the gradient of parameter '{row['parameter']}'{sites} has a "
                f"signal-to-noise ratio of {row['snr']:.1e}, and {times:.0f} times the variance that "
                f"it had. Measure estimators for the site by select_estimators, take more particles, "
                f"or lower the learning rate.",
                stacklevel=outside(),
            )


def _sites_moved(parameter: str, sampler: Sampler) -> list[str]:
    """The latent sites of the guide whose distributions a parameter moves."""
    if not isinstance(sampler.call.elbo, TraceEstimator_ELBO):
        return []
    leaf, found = sampler.parameters[parameter], []
    with sampler.call.context():
        for run in sampler.call.evaluate():
            for site in run.program.sites:
                if site.log_prob.requires_grad and not site.observed:
                    total = site.log_prob.sum()
                    gradient = torch.autograd.grad(total, leaf, allow_unused=True, retain_graph=True)
                    found += [site.name] if gradient[0] is not None else []
    return list(dict.fromkeys(found))

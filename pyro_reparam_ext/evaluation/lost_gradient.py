"""Where the gradient of a relaxed or straight-through value is lost, in the same words everywhere.

Such a value trains its site by the gradient of the costs. Where the program turns it into a number (a
branch, an index), or computes with it what has no gradient (``z > 0.5``, ``table[z.long()]``), that
gradient is lost without a trace, and the site is trained as if nothing depended on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..callers import outside
from ..errors import EstimatorError

REMEDY = (
    "an estimator that evaluates the program at values of the support: LocalExpectation, "
    "Enumeration, LeaveOneOut or ScoreFunction; where the program branches, in an ELBO with "
    "vectorize_particles=False."
)
"""Estimators that take their gradient from values, not through them."""


def read_as_number(site: str, who: str, line: str, remedy: str) -> EstimatorError:
    """The error for a program that makes a number of a site's value at ``line``."""
    return EstimatorError(
        f"site '{site}': {who} takes the gradient of the costs at its value, but the program reads the "
        f"value, or what was computed from it, as a Python number (a branch, .item(), an index of a "
        f"list) at {line}, by which the gradient is lost; expected tensor operations on it. {remedy}"
    )


def warn_of_lost(site: str, who: str, terms: Sequence[str], remedy: str) -> None:
    """Warns that the log densities ``terms`` depend on a site's value without a gradient."""
    warnings.warn(
        f"site '{site}': {who} takes the gradient of the costs at its value, but the log density of "
        f"{', '.join(terms)} depends on it without a gradient (z > 0.5, table[z.long()], argmax): the "
        f"gradient is biased, as if that cost did not depend on the site. {remedy} Or write the cost "
        f"as a differentiable function: (z * table).sum(-1) of a one-hot z, torch.lerp(low, high, z) "
        f"of a binary one.",
        stacklevel=outside(),
    )


def reaches(cost: Tensor, value: Tensor) -> bool:
    """Whether a cost has a gradient in a value."""
    if not cost.requires_grad:
        return False
    gradient = torch.autograd.grad(cost.sum(), value, allow_unused=True, retain_graph=True)
    return gradient[0] is not None

"""What a program must not do with a value that carries a gradient in place of a discrete one.

A relaxed or straight-through value trains its site by the gradient of the costs. Where the program
turns it into a number (a branch, an index), or computes with it what has no gradient (``z > 0.5``,
``table[z.long()]``), that gradient is lost without a trace, and the site is trained as if nothing
depended on it.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ..callers import outside
from ..errors import EstimatorError
from ..estimators.base import Site
from .passes import Pass
from .plain import PlainRun


def is_soft(site: Site) -> bool:
    """Whether a site's value stands for a discrete one and is trained through its gradient."""
    biased = not site.estimator.is_unbiased_at(site.fn)
    return site.estimator.differentiable and biased and not site.observed


def check_reads(site: Site, plain: PlainRun) -> None:
    """Raises if the program made a number of a site's soft value."""
    line = plain.control.lines.get(site.name)
    if line is not None:
        raise EstimatorError(
            f"site '{site.name}': {type(site.estimator).__name__} takes the gradient of the costs at "
            f"its value, but the program reads the value, or what was computed from it, as a Python "
            f"number (a branch, .item(), an index of a list) at {line}, by which the gradient is lost; "
            f"expected tensor operations on it. {_REMEDY}"
        )


def check_gradients(site: Site, value: Tensor, run: Pass, plain: PlainRun) -> None:
    """Warns if a cost depends on a site's soft ``value`` and has no gradient in it."""
    if not (value.requires_grad and torch.is_grad_enabled()):
        return
    lost = []
    for term in run.terms:
        depends = site.name in (plain.terms[term.key].upstream or ())
        if depends and term.name != site.name and not _reaches(term.log_prob, value):
            lost.append(f"'{term.name}' of the {term.side}")
    if lost:
        warnings.warn(
            f"site '{site.name}': {type(site.estimator).__name__} takes the gradient of the costs at "
            f"its value, but the log density of {', '.join(lost)} depends on it without a gradient "
            f"(z > 0.5, table[z.long()], argmax, round): the gradient is biased, as if that cost did "
            f"not depend on the site. {_REMEDY} Or write the cost as a differentiable function: "
            f"(z * table).sum(-1) of a one-hot z, torch.lerp(low, high, z) of a binary one.",
            stacklevel=outside(),
        )


def _reaches(cost: Tensor, value: Tensor) -> bool:
    if not cost.requires_grad:
        return False
    gradient = torch.autograd.grad(cost.sum(), value, allow_unused=True, retain_graph=True)
    return gradient[0] is not None


_REMEDY = (
    "Use an estimator that evaluates the program at values of the support: LocalExpectation, "
    "Enumeration, LeaveOneOut or ScoreFunction; where the program branches, in an ELBO with "
    "vectorize_particles=False."
)

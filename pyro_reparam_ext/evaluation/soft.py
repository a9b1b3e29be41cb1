"""Checks of what a program does with a value that carries a gradient in place of a discrete one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..distributions.mixins.relaxed_discrete import RelaxedDiscrete
from ..distributions.rules.wrappers import innermost
from ..estimators.protocol import Site
from .lost_gradient import REMEDY, reaches, read_as_number, warn_of_lost
from .passes import Pass
from .plain import PlainRun


def is_soft(site: Site) -> bool:
    """Whether a site's value stands for a discrete one and is trained through its gradient."""
    fn = innermost(site.fn)
    relaxed = isinstance(innermost(getattr(fn, "source", fn)), _RELAXED)
    biased = relaxed or not site.estimator.is_unbiased_at(site.fn)
    return site.estimator.differentiable and biased and not site.observed


def _remedy(site: Site) -> str:
    is_own_sampler = site.fn.has_rsample
    return f"{'Leave the site discrete, and use' if is_own_sampler else 'Use'} {REMEDY}"


def check_reads(site: Site, plain: PlainRun) -> None:
    """Raises if the program made a number of a site's soft value."""
    line = plain.control.lines.get(site.name)
    if line is not None:
        raise read_as_number(site.name, type(site.estimator).__name__, line, _remedy(site))


def check_gradients(site: Site, value: Tensor, run: Pass, plain: PlainRun) -> bool:
    """Warns if a cost depends on a site's soft ``value`` and has no gradient in it; True if so."""
    if not (value.requires_grad and torch.is_grad_enabled()):
        return False
    lost = []
    for term in run.terms:
        known = plain.terms.get(term.key)
        if term.side == "guide" and plain.sites[term.name].estimator.analytic:
            continue  # that of the model is the term of both
        depends = known is not None and site.name in (known.upstream or ())
        if depends and term.name != site.name and not reaches(term.log_prob, value):
            lost.append(f"'{term.name}' of the {term.side}")
    if lost:
        warn_of_lost(site.name, type(site.estimator).__name__, lost, _remedy(site))
    return bool(lost)


_RELAXED = (
    RelaxedDiscrete,
    torch.distributions.RelaxedBernoulli,
    torch.distributions.RelaxedOneHotCategorical,
)

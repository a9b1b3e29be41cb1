"""Checks of the alternatives that an estimator asks for."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import EstimatorError
from ..estimators.protocol import Branch, Site


def is_asked(site: Site) -> bool:
    """Whether the estimator of a site is asked for alternatives, if gradients are recorded."""
    differentiable = not site.observed and site.log_prob.requires_grad
    return differentiable and site.estimator.contributes(site.fn)


def checked(site: Site, branches: Any) -> tuple[Branch, ...]:
    """The alternatives of a site, as its estimator made them.

    Raises:
        EstimatorError: they are no tuple of branches, or one of them can't be evaluated.
    """
    if not isinstance(branches, tuple) or not all(isinstance(x, Branch) for x in branches):
        raise EstimatorError(
            f"{_of(site)} are of type {type(branches).__name__}, expected a tuple of Branch. Return "
            f"(branch,) for a single one, and () for none."
        )
    for branch in branches:
        _check_tensor(site, branch)
        _check_weights(site, branch)
        if branch.joint and not (branch.count == 1 and branch.order == 2 and branch.weights is None):
            raise EstimatorError(
                f"{_of(site)} are joint with a count of {branch.count}, an order of {branch.order} and "
                f"weights {branch.weights!r}; expected one alternative, of order 2, without weights."
            )
    return branches


def check_count(site: Site, branches: tuple[Branch, ...]) -> None:
    """Raises where an estimator asks for other evaluations than it says."""
    said, found = site.estimator.evaluations(site.fn), 1 + sum(branch.count for branch in branches)
    if said != found:
        name = type(site.estimator).__name__
        raise EstimatorError(
            f"site '{site.name}': {name}.evaluations is {said}, but {found} are run: the ordinary one, "
            f"and {found - 1} alternatives. Return {found} for this distribution, or let alternatives "
            f"return {said - 1}."
        )


def _check_tensor(site: Site, branch: Branch) -> None:
    """A tensor to take derivatives in is there, where the order asks for them."""
    if branch.order < 1 or (branch.tensor is not None and branch.tensor.requires_grad):
        return
    found = "no tensor" if branch.tensor is None else "a tensor that does not require a gradient"
    raise EstimatorError(
        f"{_of(site)} are of order {branch.order} with {found}, expected one that requires a gradient. "
        f"Make the values differentiable in the parameters, or require it by .requires_grad_(), and "
        f"not under torch.no_grad()."
    )


def _check_weights(site: Site, branch: Branch) -> None:
    """Weights are a number, or one for each alternative and batch element."""
    weights = branch.weights
    if not isinstance(weights, Tensor):
        return
    expected = (branch.count, *site.fn.batch_shape)
    fits = weights.dim() == len(expected) and weights.shape[:1] == expected[:1]
    rest = zip(weights.shape[1:], expected[1:], strict=False)
    if not (fits and all(size in (1, good) for size, good in rest)):
        raise EstimatorError(
            f"{_of(site)} have weights of shape {tuple(weights.shape)}, expected {expected}: one for "
            f"each alternative on the leftmost dim, then the batch shape of the site (or 1). Give a "
            f"number if all have the same."
        )


def _of(site: Site) -> str:
    return f"site '{site.name}': the alternatives of {type(site.estimator).__name__}"

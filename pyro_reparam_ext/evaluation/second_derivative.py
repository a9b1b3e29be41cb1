"""Second derivatives that are not there: an error, where autograd would return another number.

A surrogate is made so that its gradient is an estimate of the loss's gradient. Its Hessian is in
general no estimate of anything: costs stand in it as numbers (:func:`first_order`). An estimator that
learns from a gradient differentiates that once more, through samplers that may have no second
derivative (:func:`check_twice`, :func:`learning`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance
from torch import Tensor
from torch.autograd import forward_ad

from ..distributions.rules.known_defects import has_twin, is_differentiable_once
from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..estimators.enumeration import Enumeration
from ..estimators.pathwise import Pathwise
from ..estimators.protocol import Branch, Site
from .passes import Pass
from .program import Program

AUTO_PATHWISE = "pre.reparam.AutoPathwise() around the guide, which samples by pre.distributions"


def first_order(surrogate: Tensor, sites: Sequence[Site]) -> Tensor:
    """``surrogate``; its gradient can't be differentiated again unless that is right at all ``sites``.

    Else a second derivative raises, in any parameter, whatever it is taken by: backward passes through
    the gradient, or forward mode over it (``torch.func.hessian``). A first derivative by forward mode
    raises as well: what is made for a backward pass only is not in the surrogate then.
    """
    estimated = [site for site in sites if not site.estimator.has_second_derivative(site.fn)]
    estimated = [site for site in estimated if site.log_prob.requires_grad or _has_tangent(site)]
    if not estimated:
        return surrogate
    for site in estimated:
        if not site.log_prob.requires_grad:
            raise _no_forward_mode(site)
    # Autograd functions and hooks take a tensor that carries provenance for one without a gradient.
    surrogate = detach_provenance(surrogate)
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return _FirstOrder.apply(surrogate, estimated)
    guarded = surrogate.view_as(surrogate)  # a hook at the tensor that it refers to would be a cycle
    guarded.register_hook(lambda gradient: _once(gradient, surrogate, estimated))
    return guarded


def _once(gradient: Tensor, surrogate: Tensor, sites: Sequence[Site]) -> Tensor:
    """``gradient``; to autograd it depends on all that ``surrogate`` does, by what raises."""
    if not torch.is_grad_enabled() and forward_ad._current_level < 0:
        return gradient  # nobody can differentiate it
    return _Raising.apply(gradient, surrogate, sites)


def _has_tangent(site: Site) -> bool:
    """Whether forward-mode derivatives are taken in parameters of the site."""
    if forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(site.log_prob).tangent is not None


def check_twice(
    program: Program, passes: Sequence[Pass], branches: Sequence[tuple[int, Branch]]
) -> None:
    """Raises where an estimator uses a derivative that a sampler downstream does not have.

    Args:
        program: that was evaluated.
        passes: its evaluations.
        branches: by the number of their site, those whose gradient is differentiated once more: in
            relaxed values, or at means, with which the sampler moves.
    """
    if not branches:
        return
    moving = [site for site in program.sites if site.estimator.differentiable]
    once = {site.name: site for site in moving if is_differentiable_once(site.fn)}
    if not once:
        return
    terms = [t for p in passes for t in p.terms if t.side == "guide" and t.name in once]
    for number, branch in branches:
        for term in terms:
            if _depends(term.log_prob, branch.tensor):
                raise _no_learning(program.sites[number], once[term.name])


def _depends(log_prob: Tensor, relaxed: Tensor | None) -> bool:
    if relaxed is None or not log_prob.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(log_prob.sum(), relaxed, retain_graph=True, allow_unused=True)
    return gradient is not None


def _no_learning(owner: Site, site: Site) -> EstimatorError:
    remedy = f"Put {AUTO_PATHWISE}, or use" if has_twin(site.fn) else "Use"
    other = "Pathwise" if owner.estimator.differentiable else "LocalExpectation or ScoreFunction"
    return EstimatorError(
        f"site '{owner.name}': {type(owner.estimator).__name__} takes the derivative of the gradient "
        f"at site '{site.name}' downstream; expected a sampler that can be differentiated twice there, "
        f"and that of {type(innermost(site.fn)).__name__} can be once. {remedy} {other} for "
        f"'{owner.name}'."
    )


@contextmanager
def learning(sites: Sequence[Site]) -> Iterator[None]:
    """Names the sites whose estimators learn from relaxed values, where a derivative is missing."""
    try:
        yield
    except RuntimeError as error:
        names = ", ".join(f"'{site.name}'" for site in sites)
        if not names:
            raise
        raise EstimatorError(
            f"site {names}: {type(sites[0].estimator).__name__} learns from the derivative of a "
            f"gradient, which guide or model do not have downstream: {error} Use LocalExpectation or "
            f"ScoreFunction for {names}."
        ) from error


class _FirstOrder(torch.autograd.Function):
    """The identity, as :func:`_once` hands its gradient back: the hook for functions of torch.func."""

    @staticmethod
    def forward(surrogate: Tensor, sites: Sequence[Site]) -> Tensor:
        return surrogate.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        surrogate, ctx.sites = inputs
        ctx.save_for_backward(surrogate)
        ctx.save_for_forward(surrogate)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (surrogate,) = ctx.saved_tensors
        return _once(gradient, surrogate, ctx.sites), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _Raising.apply(tangent, *ctx.saved_tensors, ctx.sites)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, Any]:
        return _FirstOrder.apply(*inputs), in_dims[0]


class _Raising(torch.autograd.Function):
    """The identity in ``gradient``, with no derivative: not in it, not in ``surrogate``."""

    @staticmethod
    def forward(gradient: Tensor, surrogate: Tensor, sites: Sequence[Site]) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.sites = inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise _no_second_derivative(ctx.sites)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        raise _no_second_derivative(ctx.sites)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, Any]:
        return _Raising.apply(*inputs), in_dims[0]


def _no_second_derivative(sites: Sequence[Site]) -> EstimatorError:
    site = sites[0]
    return EstimatorError(
        f"site '{site.name}': {type(site.estimator).__name__} estimates the first derivative of the "
        f"loss only, which was differentiated again; expected, at every site of the guide that has "
        f"parameters, Enumeration, or Pathwise with a right sampler that can be differentiated twice. "
        f"{_remedy(site)}"
    )


def _no_forward_mode(site: Site) -> EstimatorError:
    return EstimatorError(
        f"site '{site.name}': {type(site.estimator).__name__} makes its estimate in a backward pass, "
        f"and the loss was differentiated in forward mode (torch.func.jvp, jacfwd). Use backward(), "
        f"torch.autograd.grad, torch.func.grad or jacrev. For more than one derivative: {_remedy(site)}"
    )


def _remedy(site: Site) -> str:
    fn, given = innermost(site.fn), type(innermost(site.fn)).__name__
    if isinstance(fn, Enumeration.supported):
        return f"Use Enumeration for '{site.name}'."
    if has_twin(fn):
        return f"Put {AUTO_PATHWISE}, and use Pathwise for '{site.name}'."
    if Pathwise().supports(fn) and Pathwise().has_second_derivative(fn):
        return f"Use Pathwise for '{site.name}'."
    return f"No estimator has one for {given}: use a finite or a reparameterised distribution."

"""A surrogate loss that has a first derivative only says so when it is differentiated again.

A surrogate is made so that its gradient is an estimate of the loss's gradient. Its Hessian is in
general no estimate of anything: costs stand in it as numbers. Autograd would return one all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance
from torch import Tensor
from torch.autograd import forward_ad

from ..errors import EstimatorError
from ..estimators.base import Site
from ..estimators.enumeration import Enumeration
from ..estimators.pathwise import Pathwise, has_twin
from .unwrap import innermost

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
    # An autograd function takes a tensor that carries provenance for one without a gradient.
    return _FirstOrder.apply(detach_provenance(surrogate), estimated)


def _has_tangent(site: Site) -> bool:
    """Whether forward-mode derivatives are taken in parameters of the site."""
    if forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(site.log_prob).tangent is not None


def check_twice(site: Site, log_prob: Tensor, relaxed: Tensor, owner: Site) -> None:
    """Raises if ``site`` was drawn from what the ``relaxed`` values of ``owner`` move.

    For a site whose sampler can be differentiated once, where ``owner`` learns from the derivative of
    a gradient.
    """
    if not (isinstance(site.estimator, Pathwise) and log_prob.requires_grad):
        return
    if torch.autograd.grad(log_prob.sum(), relaxed, retain_graph=True, allow_unused=True)[0] is None:
        return
    remedy = f"Put {AUTO_PATHWISE}, or use" if has_twin(site.fn) else "Use"
    raise EstimatorError(
        f"site '{owner.name}': {type(owner.estimator).__name__} learns from the derivative of the "
        f"gradient at site '{site.name}' downstream; expected a sampler that can be differentiated "
        f"twice there, and that of {type(innermost(site.fn)).__name__} can be once. {remedy} "
        f"LocalExpectation or ScoreFunction for '{owner.name}'."
    )


class _FirstOrder(torch.autograd.Function):
    """The identity. What it hands back of a gradient depends, for autograd, on all parameters."""

    generate_vmap_rule = True

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
        if not torch.is_grad_enabled() and forward_ad._current_level < 0:
            return gradient, None  # nobody can differentiate it
        return _Raising.apply(gradient, *ctx.saved_tensors, ctx.sites), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _Raising.apply(tangent, *ctx.saved_tensors, ctx.sites)


class _Raising(torch.autograd.Function):
    """The identity in ``gradient``, with no derivative: not in it, not in ``surrogate``."""

    generate_vmap_rule = True

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

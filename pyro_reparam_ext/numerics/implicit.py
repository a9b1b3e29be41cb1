r"""Gradients of a sample by implicit differentiation.

A sample :math:`x` of a univariate distribution with CDF :math:`F_\theta` moves with the parameters so
that :math:`F_\theta(x)` stays as it is, whatever the sampler was:

.. math::
    \frac{dx}{d\theta} = -\frac{\partial_\theta F_\theta(x)}{f_\theta(x)}

(Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018, arXiv 1805.08498; Jankowiak,
Obermeyer, *Pathwise Derivatives Beyond the Reparameterization Trick*, 2018, arXiv 1806.01851.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Velocity = Callable[..., tuple[Tensor, ...]]
PullBack = Callable[..., tuple[Tensor | None, ...]]


class _Implicit(torch.autograd.Function):
    """``value`` as it is; its gradient in the parameters is what ``pull_back`` says."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        # Of no number of arguments of its own: what torch.compile inlines has another derivative.
        return inputs[0].view_as(inputs[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.pull_back, *parameters = inputs
        ctx.save_for_backward(output, *parameters)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, *parameters = ctx.saved_tensors
        gradients = ctx.pull_back(gradient, value, *parameters)
        summed = (
            None if g is None else g.sum_to_size(p.shape)
            for g, p in zip(gradients, parameters, strict=True)
        )
        return None, None, *summed


def implicit(value: Tensor, velocity: Velocity, *parameters: Tensor) -> Tensor:
    r"""The value, with the gradient :math:`dx/d\theta` that ``velocity`` says, elementwise.

    Args:
        value: a draw, without a gradient, in a shape that all parameters broadcast to.
        velocity: ``velocity(value, *parameters)`` returns :math:`dx/d\theta_i` for each parameter. It
            runs in the backward pass only. A function of the module, not a closure over tensors;
            where it is differentiable, so is the gradient.
        parameters: tensors, not expanded: what depends on them alone is then computed in their shape.
    """

    return implicit_joint(value, _Elementwise(velocity), *parameters)


def implicit_joint(value: Tensor, pull_back: PullBack, *parameters: Tensor) -> Tensor:
    """The value, with the vector-Jacobian product ``pull_back(gradient, value, *parameters)``.

    For coordinates that move together. It returns one gradient for each parameter, which is then
    summed to the parameter's shape.
    """
    if _is_constant(value, *parameters):
        return value
    return _Implicit.apply(value, pull_back, *parameters)


def _is_constant(*inputs: Tensor) -> bool:
    """Whether no gradient can be asked for, where torch.compile can't trace a function with its own.

    Not within a transform of torch.func, nor where tensors have tangents: they do not say so.
    """
    if not torch.is_grad_enabled():
        return True
    if not torch.compiler.is_compiling() or forward_ad._current_level >= 0:
        return False
    transformed = torch._C._are_functorch_transforms_active()
    return not (transformed or any(x.requires_grad for x in inputs))


class _Elementwise:
    def __init__(self, velocity: Velocity) -> None:
        self.velocity = velocity

    def __call__(self, gradient: Tensor, value: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient * v for v in self.velocity(value, *parameters))


def as_drawn(drawn: Tensor, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """A tensor saved of a draw; for a second derivative, with the gradient of ``function(*inputs)``.

    The function says what was saved again, from the value and the parameters, less precisely.
    """
    if not torch.is_grad_enabled():
        return drawn
    again = function(*inputs)
    return again + (drawn - again).detach()


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, source: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise RuntimeError("The gradient of this sampler can't be differentiated a second time.")


def once(x: Tensor, source: Tensor) -> Tensor:
    """``x``, which raises when it is differentiated, also as a function of ``source``.

    For pull-backs that are right to first order only: no second derivative rather than a wrong one.
    """
    if _is_constant(x, source):
        return x
    return _Once.apply(x, source)

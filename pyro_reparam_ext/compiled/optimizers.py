"""One step of the user's optimisers as tensor operations on their own state.

The state stays in the user's objects: what counts steps in Python counts in a tensor from now on.
Learning rates are an input, so that schedulers go on as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro.infer.util import zero_grads
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..errors import CannotCapture

State = dict[str, Tensor]
"""What an optimiser keeps of one parameter."""
Group = dict[str, Any]
"""The settings of an optimiser."""
Sizes = list[Tensor]
"""The learning rate; of Adam's kind the size of the next step and the factor of its spread, too."""


class Slot:
    """One parameter, with its optimiser.

    ``clip`` clips the gradient, as Pyro's optimisers do if asked.
    """

    def __init__(self, optim: PyroOptim, param: Tensor) -> None:
        self.param = param
        self.optimizer = optimizer_of(optim.optim_objs[param])
        self.clip: Callable[[Tensor], None] | None = optim.grad_clip[param]
        self.state: dict[Tensor, dict[str, Any]] = self.optimizer.state
        self.groups: list[dict[str, Any]] = self.optimizer.param_groups
        self.group = self.groups[0]
        self.flags = self._flags()
        if param._post_accumulate_grad_hooks:
            name = pyro.get_param_store().param_name(param)
            raise CannotCapture(
                f"parameter '{name}' has a hook that is called when its gradient has been accumulated, "
                f"which happens in no graph. Use Tensor.register_hook, which is recorded, or pass "
                f"fallback='eager'."
            )

    @property
    def is_served(self) -> bool:
        """Whether its step can be a part of the graph."""
        served = type(self.optimizer) in _STEPS and len(self.groups) == 1
        return served and not self.group.get("differentiable", False)

    @property
    def is_current(self) -> bool:
        """Whether the optimiser has still the same state: loading makes a new one."""
        same = self.optimizer.state is self.state and self.optimizer.param_groups is self.groups
        return same and self._flags() == self.flags

    def _flags(self) -> tuple[bool, bool, int, int]:
        p = self.param
        hooks = len(p._backward_hooks or ()), len(p._post_accumulate_grad_hooks or ())
        return p.requires_grad, p.grad is None, *hooks

    def tensors(self) -> State:
        """The tensors of the state; numbers in it become tensors."""
        state = self.state.get(self.param, {})
        for key, x in state.items():
            if isinstance(x, (int, float)) and not isinstance(x, bool):
                state[key] = torch.tensor(float(x), dtype=torch.float64)
        return {key: x for key, x in state.items() if isinstance(x, Tensor)}


class Optimizers:
    """The optimisers of some parameters, each of which has taken a step before.

    ``steady``: whether their settings, but for learning rates, are expected to stay what they are.
    ``captured``: whether their step is a part of the graph. Other optimisers than Adam, AdamW, SGD and
    Pyro's ClippedAdam take their own step, eagerly, with the gradients of the graph.
    """

    def __init__(self, optim: PyroOptim, params: Sequence[Tensor], steady: bool) -> None:
        self.optim = optim
        self.slots = [Slot(optim, p) for p in params]
        self.captured = steady and all(slot.is_served for slot in self.slots)
        served = self.slots if self.captured else []
        self.states = [slot.tensors() for slot in served]
        self._groups = [slot.group for slot in served]
        self._decaying = [group for group in self._groups if group.get("lrd", 1.0) != 1.0]
        self._known = [group["lr"] for group in self._groups]
        self._settings = [dict(group) for group in self._groups]
        self.rates = torch.tensor([float(rate) for rate in self._known], dtype=torch.float64)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors that they keep."""
        return [x for state in self.states for x in state.values()]

    def is_current(self) -> bool:
        """Whether the user's objects still keep the very tensors that are written."""
        return all(slot.is_current for slot in self.slots)

    def is_steady(self) -> bool:
        """Whether no setting but the learning rate has changed: they are constants of the graph."""
        for group, before in zip(self._groups, self._settings, strict=True):
            before["lr"] = group["lr"]
            if group != before:
                return False
        return True

    def undo(self, steps: int) -> None:
        """Takes back the decay of the learning rates in steps that were not taken."""
        for group in self._decaying:
            group["lr"] /= group["lrd"] ** steps

    def refresh(self) -> None:
        """Writes the learning rates of the next step into their tensor."""
        for group in self._decaying:
            group["lr"] *= group["lrd"]
        rates = [group["lr"] for group in self._groups]
        if rates != self._known:
            self.rates.copy_(torch.tensor([float(rate) for rate in rates], dtype=torch.float64))
            self._known = rates

    def step(self, grads: Sequence[Tensor | None]) -> None:
        """Writes the next values of parameters and state, by tensor operations alone."""
        moved = []
        slots = zip(self.slots, self.states, self.rates.unbind(), grads, strict=True)
        for slot, state, rate, grad in slots:
            if grad is None:
                if slot.param.grad is None:
                    continue
                grad = torch.zeros_like(slot.param)  # as SVI leaves it, where there once was one
            if slot.clip is not None:
                slot.param.grad = grad
                slot.clip(slot.param)
                grad, slot.param.grad = slot.param.grad, None
            moved.append((slot, state, _sizes(slot.group, state, rate), grad))
        if not moved:
            return
        # In memory of their own: the compiler would compute them anew for every few elements.
        sizes = iter(torch.stack([x for _, _, own, _ in moved for x in own]).unbind())
        for slot, state, own, grad in moved:
            of_slot = [next(sizes).to(slot.param.dtype) for _ in own]
            _STEPS[type(slot.optimizer)](slot.group, slot.param, grad, state, of_slot)

    def eager_step(self, grads: Sequence[Tensor | None]) -> None:
        """The step of optimisers that are no part of the graph."""
        params = [slot.param for slot in self.slots]
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        self.optim(params)
        zero_grads(params)  # as SVI leaves them


def optimizer_of(x: Any) -> Optimizer:
    """The optimiser in one of Pyro's slots, which may hold a scheduler."""
    return getattr(x, "optimizer", x)


def _sizes(group: Group, state: State, rate: Tensor) -> Sizes:
    """Those of the next step, for averages that began at zero."""
    if "betas" not in group:
        return [rate]
    beta1, beta2 = group["betas"]
    count = state["step"].add_(1).double()
    return [rate, rate / (1 - beta1**count), (1 - beta2**count).sqrt()]


def _adam(group: Group, p: Tensor, grad: Tensor, state: State, sizes: Sizes) -> None:
    (beta1, beta2), (rate, size, spread) = group["betas"], sizes
    grad = -grad if group["maximize"] else grad
    if group["weight_decay"]:
        if group["decoupled_weight_decay"]:
            p.mul_(1 - rate * group["weight_decay"])
        else:
            grad = grad + group["weight_decay"] * p
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(grad, 1 - beta1)
    square.mul_(beta2).add_((1 - beta2) * grad * grad)
    if group["amsgrad"]:
        square = state["max_exp_avg_sq"].copy_(torch.maximum(state["max_exp_avg_sq"], square))
    p.sub_(size * mean / (square.sqrt() / spread + group["eps"]))


def _sgd(group: Group, p: Tensor, grad: Tensor, state: State, sizes: Sizes) -> None:
    (rate,) = sizes
    grad = -grad if group["maximize"] else grad
    if group["weight_decay"]:
        grad = grad + group["weight_decay"] * p
    if group["momentum"]:
        velocity = state["momentum_buffer"]
        velocity.mul_(group["momentum"]).add_((1 - group["dampening"]) * grad)
        grad = grad + group["momentum"] * velocity if group["nesterov"] else velocity
    p.sub_(rate * grad)


def _clipped_adam(group: Group, p: Tensor, grad: Tensor, state: State, sizes: Sizes) -> None:
    (beta1, beta2), (_, size, spread) = group["betas"], sizes
    grad = grad.clamp(-group["clip_norm"], group["clip_norm"])
    if group["weight_decay"]:
        grad = grad + group["weight_decay"] * p
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.mul_(beta1).add_((1 - beta1) * grad)
    deviation = grad - mean if group["centered_variance"] else grad
    square.mul_(beta2).add_((1 - beta2) * deviation * deviation)
    p.sub_(size * spread * mean / (square.sqrt() + group["eps"]))


_STEPS: dict[type, Callable[[Group, Tensor, Tensor, State, Sizes], None]] = {
    Adam: _adam,
    AdamW: _adam,
    SGD: _sgd,
    ClippedAdam: _clipped_adam,
}
"""From group, parameter, gradient, state and sizes to the next values, which are written."""

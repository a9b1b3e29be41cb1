"""A step of ``SVI`` from the gradients of several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro.infer import SVI
from pyro.infer.util import zero_grads
from pyro.optim import PyroOptim
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..elbo import TraceEstimator_ELBO
from ..errors import CannotCapture
from ..evaluation.invisible import modules_of, same_random_state
from ..parameters import ParametersMet
from ..schedule import measuring
from .optimizers import optimizer_of
from .ranks import Layout, Ranks, noise_mark


def make_parameters(svi: SVI, elbo: Any, ranks: Ranks, args: tuple, kwargs: dict[str, Any]) -> None:
    """Runs the programs once, so that parameters and what estimators learn are there, alike on all."""
    with ranks.told(), same_random_state():
        before = noise_mark()
        with torch.no_grad(), measuring(), _buffers_kept(svi.model, svi.guide):
            with ParametersMet() as params:
                svi.loss(svi.model, svi.guide, *args, **kwargs)
                if isinstance(elbo, TraceEstimator_ELBO):
                    elbo.register()
        noise = before if noise_mark() != before else None  # of programs that draw any
    ranks.agree(trained(params), averages_of(elbo), noise)


def eager_step(svi: SVI, elbo: Any, ranks: Ranks, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """A step as ``SVI`` takes it; returns the mean loss. NaN: not finite, the step was not taken.

    Raises:
        Exception: of this rank's program.
        EstimatorError: another rank failed. Parameters and what is averaged are as before.
    """
    before = [(x, x.clone()) for x in averages_of(elbo).values()]
    params: dict[str, Tensor] = {}
    taken = False
    try:
        with ranks.told(), ParametersMet() as params:
            loss = torch.as_tensor(svi.loss_and_grads(svi.model, svi.guide, *args, **kwargs))
        layout = ranks.agree(trained(params), averages_of(elbo))
        with torch.no_grad():
            with ranks.told():
                vector = layout.packed(loss.detach(), {p: p.grad for p in params.values()})
            mean, grads = layout.unpacked(ranks.mean(layout, vector, captured=False))
        taken = all(bool(x.isfinite().all()) for x in (mean, *grads.values()))
        if not taken:
            return torch.tensor(math.nan)
        for p, grad in grads.items():
            p.grad = grad
        svi.optim(set(params.values()))
        return mean.double()
    finally:
        zero_grads(params.values())
        if not taken:
            for x, value in before:
                x.copy_(value)


def averages_of(elbo: Any) -> dict[str, Tensor]:
    """The running averages of estimators, which ranks average over ranks."""
    if not isinstance(elbo, TraceEstimator_ELBO):
        return {}
    named = sorted(elbo.states.named_buffers())
    return {f"buffer {name}": x for name, x in named if x.is_floating_point()}


def trained(params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that have a gradient, each once, in an order that is the same on all ranks."""
    by_tensor = {p: name for name, p in sorted(params.items(), reverse=True) if p.requires_grad}
    return {name: p for p, name in sorted(by_tensor.items(), key=lambda item: item[1])}


def kept_by(optim: PyroOptim, params: Mapping[str, Tensor]) -> list[Tensor]:
    """Parameters, and the moments that optimisers keep of them, in the same order on all ranks."""
    found = []
    for p in params.values():
        state = optimizer_of(optim.optim_objs[p]).state.get(p, {})
        moments = (x for key, x in sorted(state.items()) if key != "step")  # which counts alike
        found += [p, *(x for x in moments if isinstance(x, Tensor))]
    return found


@contextmanager
def _buffers_kept(*programs: Callable[..., Any]) -> Iterator[None]:
    """Buffers of the modules of programs are afterwards what they were."""
    before = [(module, dict(module._buffers)) for module in modules_of(*programs)]
    buffers = [x for _, own in before for x in own.values() if not (x is None or is_lazy(x))]
    values = [(x, x.clone()) for x in buffers]
    try:
        yield
    finally:
        for module, own in before:
            module._buffers.update(own)
        for x, value in values:
            x.copy_(value)


def known_layout(ranks: Ranks | None, params: dict[str, Tensor], elbo: Any) -> Layout | None:
    """The layout of what processes average in a step that moves these parameters."""
    if ranks is None:
        return None
    layout = ranks.known(trained(params), averages_of(elbo))
    if layout is None:
        raise CannotCapture(
            "the step moves other parameters than the one before did, with arguments of the same "
            "kind. Let the program use the same ones each time, or pass fallback='eager'."
        )
    return layout

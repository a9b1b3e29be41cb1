"""Draws of the gradient of a program: many at once where its samplers can be batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyro
import torch
from torch import Tensor

from ..elbo import TraceEstimator_ELBO
from ..study.substitution import BatchedDraws
from .programs import Parameters, Program

CHUNKS, AT_ONCE = 3, 500
"""Times that draws of a gradient are made, and how many at once."""
CALLS, MANY = 30, 100
"""Calls in place of draws where a sampler can't be batched, and their particles."""
FEW = 4
"""Draws of the same loss that are enough."""

Step = tuple[Tensor, Parameters]
"""Losses, and gradients by the names of parameters; draws of them on the leftmost dim."""


def gradient(elbo: TraceEstimator_ELBO, program: Program) -> Step:
    """Loss and gradient of one call, as in training."""
    leaves = program.leaves()
    loss = elbo.differentiable_loss(program.model, program.guide, leaves)
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return loss.detach(), dict(zip(leaves, gradients, strict=True))


def calls(elbo: TraceEstimator_ELBO, program: Program, times: int) -> Step:
    """Draws by calls, one after the other."""
    return joined([gradient(elbo, program) for _ in range(CALLS * times)], torch.stack)


def draws(elbo: TraceEstimator_ELBO, program: Program, times: int) -> Step:
    """Draws under ``vmap``."""
    parameters = program.leaves()
    elbo.complete(program.model, program.guide, (parameters,), {})
    (run,) = elbo.evaluate(program.model, program.guide, (parameters,), {})
    known = {t.key: t.upstream for t in run.passes[0].terms if t.upstream is not None}

    def losses(p: Parameters) -> tuple[Tensor, Tensor]:
        with BatchedDraws({}):
            runs = elbo.evaluate(program.model, program.guide, (p,), {}, known)
            estimate = elbo.surrogate(runs, learn=False)
        return estimate.surrogate, estimate.loss

    def one(_: Tensor, p: Parameters) -> Step:
        gradients, loss = torch.func.grad(losses, has_aux=True)(p)
        return loss, gradients

    many = torch.vmap(one, in_dims=(0, None), randomness="different")
    with pyro.validation_enabled(False), torch.no_grad():
        few = many(torch.arange(FEW), program.initial)
        if not varies(list(few[0])):
            return few
        chunks = [many(torch.arange(AT_ONCE), program.initial) for _ in range(CHUNKS * times)]
    return joined(chunks, torch.cat)


def varies(losses: Sequence[Tensor]) -> bool:
    """Whether more draws may say more: not after a few that had the same loss."""
    return len(losses) < FEW or any(not torch.equal(loss, losses[0]) for loss in losses)


def joined(steps: Sequence[Step], join: Callable[[list[Tensor]], Tensor]) -> Step:
    """Draws of all steps on the leftmost dim."""
    gradients = [of_step for _, of_step in steps]
    named = {name: join([of_step[name] for of_step in gradients]) for name in gradients[0]}
    return join([loss for loss, _ in steps]), named

"""Several draws of the Bernoulli program by hand, and their slopes; probabilities near 0 and 1."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

import pyro_reparam_ext as pre
from pyro_reparam_ext.noise import standard_uniform

from .closed_form import Program


def values(program: Program, count: int) -> Tensor:
    """The draws of a site that takes ``count``: the ordinary one, then all others together."""
    probs = program.logits.sigmoid()
    first = standard_uniform(probs.shape, probs)[None]
    rest = standard_uniform(torch.Size((count - 1, *probs.shape)), probs)
    return (torch.cat([first, rest]) < probs).to(probs.dtype)


def slopes(program: Program, z: Tensor) -> Tensor:
    """The gradient of the costs in the values."""
    z = z.clone().requires_grad_()
    cost = program.cost(z, program.logits, program.weight)
    return torch.autograd.grad(cost.sum(), z)[0]


COSTS = torch.tensor([2.0, -3.0])


def at_the_ends(elbo: pre.TraceEstimator_ELBO, calls: int) -> tuple[Tensor, Tensor]:
    """Gradients in logits, in single precision, of probabilities 1e-6 and 1 - 1e-6; the exact one.

    The costs are linear in the value.
    """
    probs = torch.tensor([1e-6, 1 - 1e-6], dtype=torch.float64)
    start = probs.logit().float()

    def guide() -> None:
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("ends", start.clone())).to_event(1))

    def model() -> None:
        z = pyro.sample("z", dist.Bernoulli(torch.full((2,), 0.5)).to_event(1))
        pyro.factor("cost", -(z * COSTS).sum(-1))

    rows = []
    for _ in range(calls):
        pyro.clear_param_store()
        elbo.loss_and_grads(model, guide)
        rows.append(pyro.param("ends").grad)
    return torch.stack(rows), (probs * (1 - probs) * (start.double() + COSTS)).float()

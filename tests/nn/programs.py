"""A network whose parameters a guide gives independent normals, run within the contexts of nn."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from pyro_reparam_ext.nn import flipout, local_reparameterization, to_bayesian
from pyro_reparam_ext.nn.layers.linear_map import LinearMap

from ..statistics import assert_mean

CONTEXTS = (local_reparameterization, flipout)
PARTICLES = "num_particles_vectorized"
"""The plate in which an ELBO runs its particles at once."""


class one_draw(flipout):
    """The plain draw, by the layers of the contexts: torch's are not all vmapped."""

    def estimate(self, call: LinearMap, memory: dict) -> Tensor:
        return call.mean() + call.apply(*call.inputs, *call.deviations())


class Network:
    """A module, its inputs, and the law of its parameters; the ``certain`` ones have no prior."""

    def __init__(
        self,
        module: nn.Module,
        *inputs: Tensor,
        scale: float = 0.3,
        certain: tuple[str, ...] = (),
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.module = module.to(dtype)
        # one tensor given twice stays one: attention looks for it
        cast = {x: x.to(dtype) if x.is_floating_point() else x for x in inputs}
        self.inputs = tuple(cast[x] for x in inputs)
        self.certain = {name: x.detach() for name, x in module.named_parameters() if name in certain}
        prior: dict = dict.fromkeys(certain)
        self.bayesian = to_bayesian(module, {**prior, "*": dist.Normal(0.0, 1.0)})
        self.loc = {name: x.detach().clone() for name, x in self.bayesian.initial_values().items()}
        # not all the same, so that a wrong broadcast shows
        self.scale = {name: scale * (0.5 + torch.rand_like(x)) for name, x in self.loc.items()}

    def at(self, parameters: dict[str, Tensor]) -> Any:
        """Torch's own module at these values of its random parameters."""
        return functional_call(self.module, {**self.certain, **parameters}, self.inputs)

    def run(
        self, context: AbstractContextManager, loc: dict[str, Tensor], scale: dict[str, Tensor]
    ) -> Any:
        """What the model makes of a guide's draw within the context; a dim more for particles."""
        extra = {loc[name].dim() - x.dim() for name, x in self.loc.items()} == {1}
        size = next(iter(loc.values())).shape[0]
        plate = pyro.plate(PARTICLES, size, dim=-1) if extra else nullcontext()

        def guide() -> None:
            with plate:
                for name, x in self.loc.items():
                    pyro.sample(name, dist.Normal(loc[name], scale[name]).to_event(x.dim()))

        def model() -> Any:
            with plate:
                return self.bayesian(*self.inputs)

        trace = poutine.trace(guide).get_trace()
        with context:
            return poutine.replay(model, trace=trace)()

    def once(self, context: AbstractContextManager) -> Any:
        return self.run(context, self.loc, self.scale)

    def particles(self, context: AbstractContextManager, draws: int) -> tuple[Any, dict, dict]:
        """As many runs at once, with the parameters of each: the draw is that of dim 0."""
        loc, scale = (
            {name: x.expand(draws, *x.shape).clone().requires_grad_() for name, x in law.items()}
            for law in (self.loc, self.scale)
        )
        return self.run(context, loc, scale), loc, scale


def tensors(outputs: Any) -> list[Tensor]:
    return [x for x in tree_leaves(outputs) if isinstance(x, Tensor)]


def assert_equals_torch(network: Network, context: AbstractContextManager) -> None:
    """With weights that hardly vary, a layer gives what torch's gives, and so do its gradients."""
    loc = {name: x.clone().requires_grad_() for name, x in network.loc.items()}
    scale = {name: torch.full_like(x, 1e-30) for name, x in loc.items()}
    sides = []
    for run in (lambda: network.run(context, loc, scale), lambda: network.at(loc)):
        outputs = tensors(run())
        loss = sum((x * torch.linspace(0.5, 2.0, x.numel()).view_as(x)).sum() for x in outputs)
        sides.append([*outputs, *torch.autograd.grad(loss, list(loc.values()), materialize_grads=True)])
    for given, expected in zip(*sides, strict=True):
        assert type(given) is Tensor
        torch.testing.assert_close(given, expected)


def assert_law_of_plain(
    network: Network, context: AbstractContextManager, draws: int, examples: int = 0
) -> None:
    """Each example has the joint law that it has with one draw of the weights, up to second moments.

    So has the gradient of a sum of squares its mean. Paired with independent plain draws, so that
    differences have mean zero. ``examples``: the dim of the outputs along which examples lie.
    """
    samples = [_moments(network, c, draws, examples) for c in (context, one_draw())]
    difference = samples[0] - samples[1]
    assert_mean(difference, torch.zeros_like(difference[0]))


def _moments(network: Network, context: AbstractContextManager, draws: int, examples: int) -> Tensor:
    outputs, loc, scale = network.particles(context, draws)
    y = torch.cat([x.movedim(examples + 1, 1).flatten(2) for x in tensors(outputs)], -1)
    gradients = torch.autograd.grad(y.square().sum(), [*loc.values(), *scale.values()])
    products = y.unsqueeze(-1) * y.unsqueeze(-2)
    return torch.cat([x.flatten(1) for x in (y, products, *gradients)], 1).detach()

"""Baselines, taken from the costs before they weigh a score: averages, networks, values, other data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.util import detach
from torch import Tensor, nn

from ..errors import EstimatorError
from .protocol import Evaluations


class MovingAverage(nn.Module):
    """A decaying average of past costs. The current cost enters only after it has been used."""

    decay: float = 0.9
    total: Tensor
    weight: Tensor

    def __init__(self, decay: float = decay) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self) -> Tensor:
        return self.total / self.weight.clamp(min=torch.finfo(self.weight.dtype).tiny)

    @torch.no_grad()
    def update(self, cost: Tensor) -> None:
        self.total.mul_(self.decay).add_((1 - self.decay) * cost.mean())
        self.weight.mul_(self.decay).add_(1 - self.decay)


class Shrinkage(nn.Module):
    """The share of the mean cost elsewhere in the plates, in a baseline of one element.

    ``products``: decaying averages of ``(f - m) (e - m)`` and of ``(e - m) ** 2``, where ``f`` is the
    cost of an element in one particle, ``m`` its mean in the others, and ``e`` the mean of ``m`` over
    all other elements. Their ratio is the share ``s`` with which ``m + s (e - m)`` predicted past costs
    best.
    """

    decay = 0.95
    products: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("products", torch.zeros(2, dtype=like.dtype))

    def forward(self) -> Tensor:
        # Only the ratio counts: that the averages begin at zero is no matter once there is anything.
        told, distance = self.products
        return (told / distance.clamp(min=torch.finfo(told.dtype).tiny)).clamp(0, 1)

    @torch.no_grad()
    def update(self, cost: Tensor, others: Tensor, elsewhere: Tensor) -> None:
        """Takes note of costs, after they have been used."""
        distance = elsewhere - others
        told = ((cost - others) * distance).mean()
        products = torch.stack([told, distance.square().mean()])
        self.products.mul_(self.decay).add_((1 - self.decay) * products)


def mean_elsewhere(evaluations: Evaluations) -> Tensor | None:
    """For each element of the plates, the mean of ``evaluations.others`` over all other elements.

    None where there are no other elements.
    """
    others, particle_dim = evaluations.others, evaluations.particle_dim
    if others is None:
        return None
    plates = range(-others.dim(), 0) if particle_dim is None else range(particle_dim + 1, 0)
    dims = [dim for dim in plates if others.shape[dim] > 1]
    count = math.prod(others.shape[dim] for dim in dims)
    return (others.sum(dims, keepdim=True) - others) / (count - 1) if dims else None


class Network(nn.Module):
    """Holds a user's baseline network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


@dataclass(frozen=True, eq=False)
class SiteBaseline:
    """The baseline that a site's ``infer["baseline"]`` asks of ``TraceGraph_ELBO``.

    The sum of those that are given: a decaying average of the costs, and a network or a value, which
    are trained by squared error on the costs. Their parameters are the user's to register
    (``pyro.module``). The average is that of ``ScoreFunction("ema")``: of the mean cost of past steps,
    without a bias towards 0 in the first ones.

    ``average``: the decay of the average. ``network``: is called with the detached ``network_input``.
    """

    average: float | None = None
    network: Callable[[Any], Tensor] | None = None
    network_input: Any = None
    value: Tensor | float | None = None

    def predict(self, evaluations: Evaluations) -> Tensor | None:
        """The costs as the network or the given value predicts them.

        In ``TraceGraph_ELBO`` they predict the ELBO's terms, ``log p - log q``: costs with their sign
        turned.
        """
        if self.network is not None:
            return -fitted(self.network(detach(self.network_input)), evaluations)
        return None if self.value is None else -fitted(torch.as_tensor(self.value), evaluations)


def fitted(prediction: Tensor, evaluations: Evaluations) -> Tensor:
    """A baseline in the shape of the costs, from one number per batch element or ones that broadcast.

    The particles may be left out of it, and a last dim of 1 may be added, as networks do. A shape that
    can be read in two ways is refused: read in the wrong one, it would be a baseline of other elements.
    """
    expected, particle_dim = evaluations.cost.shape, evaluations.particle_dim
    own = expected if particle_dim is None else expected[len(expected) + particle_dim + 1 :]
    if prediction.numel() == 1:
        return prediction.reshape(()).expand(expected)
    if _trimmed(prediction.shape) in (_trimmed(own), _trimmed(expected)):
        return prediction.reshape(_trimmed(prediction.shape)).expand(expected)
    fitting = [prediction] if _fits(prediction.shape, own, expected) else []
    if prediction.shape[-1] == 1 and _broadcasts(_trimmed(prediction.shape[:-1]), expected):
        fitting.append(prediction.squeeze(-1))
    if len(fitting) == 1:
        return fitting[0].reshape(_trimmed(fitting[0].shape)).expand(expected)
    which = "which fits" if fitting else "expected one that broadcasts to"
    raise EstimatorError(
        f"site '{evaluations.site.name}': the baseline returned shape {tuple(prediction.shape)}, "
        f"{which} the site's costs, {tuple(expected)}{', in two ways' if fitting else ''}. Give the "
        f"network's inputs as infer={{'baseline_input': ...}} and let it return one number per batch "
        f"element, shape {tuple(own)}."
    )


def _fits(shape: torch.Size, own: torch.Size, expected: torch.Size) -> bool:
    """Whether a shape broadcasts to the site's own batch shape, or with the particles to the costs'."""
    shape = _trimmed(shape)
    if len(shape) <= len(_trimmed(own)):
        return _broadcasts(shape, own)
    # Beside particles, a last dim of 1 is that of a network, unless the site has it itself.
    return _broadcasts(shape, expected) and shape[-1] == expected[-1]


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)


def _trimmed(shape: torch.Size) -> torch.Size:
    """Without dims of 1 on the left."""
    while shape[:1] == (1,):
        shape = shape[1:]
    return shape

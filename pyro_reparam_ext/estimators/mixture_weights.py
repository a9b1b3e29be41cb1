"""Weights of several gradients with one mean, by the products that were measured of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.wrappers import innermost
from ..numerics.elimination import solved
from .fitted import FittedCoefficients
from .protocol import Evaluations

DECAY = 0.99
"""Of the average of past products."""
RIDGE = 1e-3
"""What is added to the noise of each gradient, as a share of their mean noise."""


class Weights(nn.Module):
    """How much each of several estimators counts, and what they learn themselves."""

    def __init__(self, states: Sequence[nn.Module | None]) -> None:
        super().__init__()
        kept = {str(number): state for number, state in enumerate(states) if state is not None}
        self.parts, self.count = nn.ModuleDict(kept), len(states)

    def of(self, number: int) -> nn.Module | None:
        """The state of one estimator."""
        key = str(number)
        return self.parts[key] if key in self.parts else None

    def forward(self) -> Tensor:
        """Numbers that sum to 1, shape ``(estimators,)``."""
        raise NotImplementedError

    def update(self, gradients: Tensor) -> None:
        """Takes note of gradients, shape ``(estimators, parameters)``."""
        raise NotImplementedError


class MixtureWeights(Weights):
    """By the products of the gradients.

    ``products``: a decaying average of these, summed over all parameters.
    """

    products: Tensor

    def __init__(self, states: Sequence[nn.Module | None], like: Tensor) -> None:
        super().__init__(states)
        self.register_buffer("products", torch.zeros(len(states), len(states), dtype=like.dtype))

    def forward(self) -> Tensor:
        """Those of least noise among those that sum to 1, shape ``(estimators,)``."""
        products = self.products
        identity = torch.eye(len(products), dtype=products.dtype, device=products.device)
        scale = (products * identity).sum() / len(products)
        # Only ratios count: that the average begins at zero is no matter once there is anything.
        noise = products + torch.where(scale > 0, RIDGE * scale, 1.0) * identity
        found = solved(noise, torch.ones_like(noise[:, 0]))
        return found / found.sum()

    @torch.no_grad()
    def update(self, gradients: Tensor) -> None:
        """Takes note of gradients, shape ``(estimators, parameters)``."""
        self.products.mul_(DECAY).add_((1 - DECAY) * (gradients @ gradients.mT))


class DifferenceWeights(Weights):
    """By how the first gradient differs from each of the others: control variates, fitted to it.

    Gradients of one draw differ by far less than they vary. At first the first one counts alone.
    """

    def __init__(self, states: Sequence[nn.Module | None], like: Tensor) -> None:
        super().__init__(states)
        self.fitted = FittedCoefficients(len(states) - 1, like.detach())

    def forward(self) -> Tensor:
        found = self.fitted()
        return torch.cat([1 - found.sum()[None], found])

    @torch.no_grad()
    def update(self, gradients: Tensor) -> None:
        first, *others = gradients
        self.fitted.note([first - x for x in others], first)


def noise_in_guide(evaluations: Evaluations, surrogate: Tensor) -> Tensor:
    """The noise of a surrogate's gradient in the parameters of the guide, as one vector.

    Where there are enough particles, one half of them less the other, so that the mean is gone. Those
    that schemes draw as pairs or in strata are in the same half.
    """
    dim = evaluations.particle_dim
    if dim is not None and surrogate.shape[dim] >= 4:
        quarter, rest = divmod(surrogate.shape[dim] // 2, 2)
        half = surrogate.new_tensor([1.0] * quarter + [0.0] * rest + [-1.0] * quarter)
        signs = torch.cat([half, half, half.new_zeros(surrogate.shape[dim] % 2)])
        surrogate = surrogate * signs.reshape((-1,) + (1,) * (-1 - dim))
    gradients = torch.autograd.grad(
        surrogate.sum(),
        list(evaluations.parameters),
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([x.flatten() for x in gradients])


def gradient_in_parameters(evaluations: Evaluations, surrogate: Tensor) -> Tensor:
    """The gradient of a surrogate in the parameters of the site's distribution, as one vector.

    Of classes in their free logits; summed over particles that lie along a dim.
    """
    site, dim = evaluations.site, evaluations.particle_dim
    base = innermost(site.traced or site.fn)  # whose tensors all parts are made of
    found, parameters = [], _parameters(base)
    gradients = torch.autograd.grad(
        surrogate.sum(), parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    for parameter, gradient in zip(parameters, gradients, strict=True):
        free = _free(base, parameter, gradient)
        events = len(site.fn.event_shape) + free.dim() - len(base.shape())
        if dim is not None and free.dim() >= events - dim:
            free = free.sum(dim - events, keepdim=True)
        found.append(free.flatten())
    return torch.cat(found)


def _parameters(base: TorchDistribution) -> list[Tensor]:
    """The tensors that a distribution was made of, and that are learned."""
    given = getattr(base, "_param", None)  # of torch's that take probs or logits
    found = [given] if given is not None else [base.__dict__.get(name) for name in base.arg_constraints]
    return [x for x in found if isinstance(x, Tensor) and x.requires_grad]


def _free(base: TorchDistribution, parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in free logits, where probabilities of classes are the parameter."""
    classes = (torch.distributions.Categorical, torch.distributions.OneHotCategorical)
    if not isinstance(base, classes):
        return gradient
    probs = base.probs.detach()
    if parameter is base.logits:
        return gradient - probs * gradient.sum(-1, keepdim=True)
    return probs * (gradient - (probs * gradient).sum(-1, keepdim=True))

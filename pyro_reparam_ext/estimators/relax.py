"""RELAX: REBAR with a network added to its control variate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributions.rules.relaxation import RELAXABLE
from ..errors import EstimatorError
from .base import Estimator
from .protocol import Evaluations, Paper, Site
from .relaxed_pair import Controlled, RelaxedControlVariate, RelaxedPairs, pair_of

TEMPERATURE = 0.5
"""The temperature at which learning starts."""
HIDDEN = 64
"""Hidden units of the default network."""


class FreeControlVariate(RelaxedControlVariate):
    """The parameters that RELAX learns at a site: scale, temperature, and those of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(TEMPERATURE)
        self.network = network


class OfRelaxedValue(nn.Module):
    """A small network of a relaxed value with ``event_dims`` dims and ``size`` numbers; 0 at first."""

    def __init__(self, size: int, event_dims: int, like: Tensor) -> None:
        super().__init__()
        self.event_dims = event_dims
        self.hidden = nn.Linear(size, HIDDEN, dtype=like.dtype)
        self.out = nn.Linear(HIDDEN, 1, dtype=like.dtype)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, value: Tensor) -> Tensor:
        flat = value.flatten(-self.event_dims) if self.event_dims else value.unsqueeze(-1)
        found: Tensor = self.out(nn.functional.leaky_relu(self.hidden(flat), 0.3))
        return found


@dataclass(frozen=True, eq=False)
class RELAX(RelaxedPairs, Estimator):
    r"""REBAR with a network added to its control variate, which learns what relaxed costs miss.

    With :math:`b = H(z)` the value, :math:`\tilde z \sim q(z \mid b)`, :math:`\sigma_T` the relaxation
    at temperature :math:`T`, and :math:`c(z) = \eta f(\sigma_T(z)) + r(\sigma_T(z))`,

    .. math::
        \big(f(b) - c(\tilde z)\big)\,\nabla_\phi \log q_\phi(b)
        + \nabla_\phi c(z) - \nabla_\phi c(\tilde z)

    The gradients of :math:`c` reach the site's own logits only. The network :math:`r`, :math:`\eta` and
    :math:`T` are trained, per site, on the variance of the gradient with respect to the logits, and
    nothing else is trained on it. ``SVI`` trains them with the optimiser it has; the default network
    starts at 0, where this is :class:`REBAR`.

    Serves Bernoulli and one-hot sites; three evaluations. As with :class:`REBAR`, discrete sites
    downstream are relaxed in two of them, and the gradient is unbiased if the cost, continued to values
    between the support points, is continuous.

    Args:
        control_variate: the network :math:`r`. It is called with relaxed values, shape
            ``(2, *batch, *event)``, and returns ``(2, *batch)``, with or without a last dim of 1. It
            has to be continuous. ``None``: a network of one hidden layer, made for each site.

    Raises:
        EstimatorError: the site is not Bernoulli or OneHotCategorical, ``control_variate`` is no module
            or returns another shape, or a site downstream can neither be relaxed nor sampled pathwise,
            or has a pathwise sampler that can't be differentiated twice.

    References:
        Grathwohl, Choi, Wu, Roeder, Duvenaud, 2018, Backpropagation through the Void: Optimizing
        Control Variates for Black-Box Gradient Estimation, https://arxiv.org/abs/1711.00123

    Example:
        >>> import torch
        >>> import pyro_reparam_ext as pre
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.RELAX(network)})
    """

    control_variate: nn.Module | None = None

    unbiased = True
    condition = "the cost is continuous in the relaxed value"
    paper = Paper(
        "Grathwohl, Choi, Wu, Roeder, Duvenaud",
        "Backpropagation through the Void: "
        "Optimizing Control Variates for Black-Box Gradient Estimation",
        2018,
        "1711.00123",
    )
    supported = RELAXABLE

    def __post_init__(self) -> None:
        if not (self.control_variate is None or isinstance(self.control_variate, nn.Module)):
            raise EstimatorError(
                f"RELAX: control_variate must be None or an nn.Module, was given "
                f"{self.control_variate!r}."
            )

    def new_state(self, site: Site) -> nn.Module:
        event, network = torch.Size(site.fn.event_shape), self.control_variate
        return FreeControlVariate(network or OfRelaxedValue(event.numel(), len(event), site.log_prob))

    def owns(self, state: nn.Module) -> bool:
        assert isinstance(state, FreeControlVariate)
        if self.control_variate is None:
            return isinstance(state.network, OfRelaxedValue)
        return state.network is self.control_variate

    def controlled(self, evaluations: Evaluations) -> Controlled:
        relaxed = super().controlled(evaluations)
        site, values = evaluations.site, pair_of(evaluations).tensor
        assert values is not None
        found = _values_of(site, values)
        (slopes,) = torch.autograd.grad(found.sum(), values, create_graph=True, materialize_grads=True)
        return Controlled(relaxed.cost + found[1], relaxed.slopes + slopes)


def _values_of(site: Site, values: Tensor) -> Tensor:
    """The network at relaxed values: one number for each and for each batch element."""
    assert isinstance(site.state, FreeControlVariate)
    found: Tensor = site.state.network(values)
    expected = values.shape[: values.dim() - len(site.fn.event_shape)]
    if found.shape == (*expected, 1):
        found = found.squeeze(-1)
    if found.shape != expected:
        raise EstimatorError(
            f"site '{site.name}': the control_variate of RELAX returned shape {tuple(found.shape)} for "
            f"relaxed values of shape {tuple(values.shape)}, expected {tuple(expected)}, or with a "
            f"last dim of 1: one number for each value of the site."
        )
    return found

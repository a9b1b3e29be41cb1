"""A distribution at one point of its parameters, and what can be worked out there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import biject_to

from .quadrature import Line, nodes, stretched

DTYPE = torch.float64
DRAWS = 10_000
STEP = 1e-4
"""The relative step of numerical derivatives in a parameter."""
PRECISION = 1e-4
"""The relative error of what is not sampled."""
OUTSIDE = -123.4
"""No value of a distribution that has values outside of its support."""

Parameters = dict[str, Tensor]
Oracle = tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]
"""A function of values that has numbers on its last dim, and their exact means, of the parameters."""


class Point:
    """A distribution at one point."""

    def __init__(
        self,
        make: Callable[..., TorchDistribution],
        point: Mapping[str, Any],
        oracle: Oracle | None,
    ) -> None:
        self.make, self.oracle = make, oracle
        self.parameters = {k: torch.as_tensor(x, dtype=DTYPE) for k, x in point.items()}
        self.fn = make(**self.parameters)
        self.who = type(self.fn).__name__

    @cached_property
    def value(self) -> Tensor:
        return self.fn.sample((DRAWS,))

    @cached_property
    def broadcast(self) -> tuple[TorchDistribution, torch.Size]:
        """The distribution of parameters of different batch shapes, and the one that follows."""
        shapes = [(3, 1), (2,)]
        parameters = {
            k: x.expand(*shapes[min(i, 1)], *x.shape)
            for i, (k, x) in enumerate(self.parameters.items())
        }
        return self.make(**parameters), torch.Size((3, 2) if len(parameters) > 1 else (3, 1))

    @cached_property
    def line(self) -> Line | None:
        """Nodes on the real line, where the samples are; None where there is no quadrature."""
        fn = self.fn
        if self.oracle is not None or fn.event_shape:
            return None
        if fn.support.is_discrete:
            return stretched(0.0, 1.0, DTYPE)
        try:
            transform = biject_to(fn.support)
        except NotImplementedError:
            return None
        low, middle, high = transform.inv(self.value).quantile(
            torch.tensor([0.2, 0.5, 0.8], dtype=DTYPE)
        )
        return stretched(float(middle), float(high - low), DTYPE)

    def weights(self, fn: TorchDistribution) -> tuple[Tensor, Tensor]:
        """Values in ascending order, and their weights in expectations."""
        assert self.line is not None
        values, log_volume = nodes(fn, self.line)
        known = values.isfinite() & log_volume.isfinite()
        values, log_volume = values[known], log_volume[known]
        inside = fn.support.check(values)
        values, log_volume = values[inside], log_volume[inside]
        weight = (fn.log_prob(values) + log_volume).exp()
        known = weight.isfinite() & (weight > 0)
        values, order = values[known].sort()
        return values, weight[known][order]

    def exact_cdf(self, value: Tensor) -> Tensor:
        """The CDF, by the trapezoidal rule up to a value."""
        values, weight = self.weights(self.fn)
        cumulative = weight.cumsum(0) - 0.5 * weight
        after = torch.searchsorted(values, value).clamp(1, len(values) - 1)
        before = after - 1
        step = (values[after] - values[before]).clamp(min=1e-300)
        share = ((value - values[before]) / step).clamp(0, 1)
        return torch.lerp(cumulative[before], cumulative[after], share)

    def features(self, value: Tensor) -> Tensor:
        """Functions of a value, on the last dim: bounded ones, where its expectations are known."""
        if self.oracle is not None:
            return self.oracle[0](value)
        if self.line is None:
            dims = len(self.fn.event_shape)
            return value.flatten(-dims) if dims else value.unsqueeze(-1)
        middle, high = self.value.double().quantile(torch.tensor([0.5, 0.9], dtype=DTYPE))
        z = (value - middle) / (high - middle).clamp(min=1e-6)
        return torch.stack([torch.tanh(z), torch.exp(-0.5 * (z - 1) ** 2), torch.sin(2 * z)], -1)

    def expected(self, parameters: Parameters) -> Tensor:
        """The expectation of the features, by quadrature."""
        values, weight = self.weights(self.make(**parameters))
        return weight @ self.features(values)

    def exact_mean(self, parameters: Parameters) -> Tensor | None:
        """The same by the oracle, or by the distribution's own mean."""
        if self.oracle is not None:
            return self.oracle[1](**parameters)
        mean = implemented(lambda: self.make(**parameters).mean)
        return None if mean is None else mean.reshape(-1)

    def exact_gradient(self) -> Tensor | None:
        """The derivative of each expectation in each coordinate of the free parameters."""
        if self.line is not None:
            return torch.stack(list(self._differences()), -1)
        leaves = {k: x.clone().requires_grad_() for k, x in self.free.items()}
        means = self.exact_mean(self.bound(leaves))
        if means is None or not means.requires_grad:
            return None
        return torch.stack([flat_gradient(mean, leaves, 0) for mean in means])

    def _differences(self) -> Iterator[Tensor]:
        for name, x in self.free.items():
            for unit in torch.eye(x.numel(), dtype=DTYPE).reshape(-1, *x.shape):
                step = STEP * (x * unit).abs().sum().clamp(min=0.01)
                ends = [self.bound({**self.free, name: x + h * unit}) for h in (step, -step)]
                up, down = (self.expected(end) for end in ends)
                yield (up - down) / (2 * step)

    # -- parameters -------------------------------------------------------------------------------

    @cached_property
    def free(self) -> Parameters:
        """The parameters without constraints, in which derivatives are taken."""
        return {
            name: x if (transform := self._transform(name)) is None else transform.inv(x)
            for name, x in self.parameters.items()
        }

    def bound(self, free: Parameters) -> Parameters:
        """The parameters of free ones."""
        found = {}
        for name, x in free.items():
            transform = self._transform(name)
            found[name] = x if transform is None else transform(x)
            if self.fn.arg_constraints.get(name) is constraints.sphere:
                found[name] = x / x.norm(dim=-1, keepdim=True)
        return found

    def _transform(self, name: str) -> Any:
        """The map from free coordinates to a parameter; None where there is none, or no need."""
        constraint = self.fn.arg_constraints.get(name)
        if constraint is None or constraint is constraints.sphere or not _has_event(constraint):
            return None
        try:
            return biject_to(constraint)
        except NotImplementedError:
            return None


def _has_event(constraint: Any) -> bool:
    """Whether it is one of several coordinates together."""
    try:
        return constraint.event_dim > 0
    except NotImplementedError:  # it depends on other parameters
        return False


def flat_gradient(output: Tensor, leaves: Parameters, batch_dims: int) -> Tensor:
    """The gradient in all leaves, side by side, with so many dims on the left."""
    gradients = torch.autograd.grad(
        output, list(leaves.values()), retain_graph=True, materialize_grads=True
    )
    return torch.cat([x.unsqueeze(-1).flatten(batch_dims) for x in gradients], -1)


def implemented(get: Callable[[], Tensor]) -> Tensor | None:
    try:
        return get()
    except NotImplementedError:
        return None

"""Distributions that a site may have, each with its exact expectation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ..distributions.rules.coupling import couple
from ..distributions.rules.discrete_noise import hard_sample
from ..distributions.rules.wrappers import coordinate_support, coordinates
from ..evaluation.invisible import same_random_state
from ..noise import NoiseSource
from ..study.substitution import BatchedDraws
from .quadrature import evenly, nodes

DTYPE = torch.float64
LINE = evenly(12.0, 321, DTYPE)
"""Where a real value, or one that is mapped to the real line, has any weight."""


@dataclass(frozen=True)
class Family:
    r"""A distribution of a site, as a function of one real vector, for :func:`check_estimator`.

    Its expectations are sums over the values of all coordinates, if these are few; over the first
    counts, of one that has no bound; or the trapezoidal rule on the real line, of a single continuous
    coordinate. With :math:`\theta` near 0, within about :math:`\pm 3`, next to nothing may lie beyond.

    Args:
        name: what the report calls it.
        size: the number of elements of ``theta``.
        make: the distribution, from a tensor whose last dim has ``size`` elements of any sign; the
            other dims are its batch shape. ``Bernoulli(logits=theta).to_event(1)`` has one logit for
            each of ``size`` coordinates.

    Example:
        >>> import pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> gamma = pre.testing.Family(
        ...     "Gamma", 2, lambda theta: dist.Gamma(2 + theta[..., 0].tanh(), theta[..., 1].exp())
        ... )
        >>> pre.testing.check_estimator(pre.Pathwise, [gamma]).distribution.unique().tolist()
        ['Gamma']
    """

    name: str
    size: int
    make: Callable[[Tensor], TorchDistribution]

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def typical(self) -> TorchDistribution:
        """The distribution at zero."""
        return self.make(torch.zeros(self.size, dtype=DTYPE))

    @cached_property
    def num_features(self) -> int:
        value = torch.zeros(self.typical.event_shape, dtype=torch.long)
        return self.features(value).shape[-1]

    def features(self, value: Tensor) -> Tensor:
        """Real numbers on the last dim that tell a value from others; smooth and bounded."""
        dims = len(self.typical.event_shape)
        if self._classes is not None:
            value, dims = self._classes[value], dims + 1
        elif not self._is_bounded:
            value = torch.tanh(0.8 * value)
        return value.flatten(-dims) if dims else value.unsqueeze(-1)

    @cached_property
    def is_batched(self) -> bool:
        """Whether ``vmap`` can draw many values at once, and change them by common random numbers."""

        def draw(theta: Tensor) -> tuple[Tensor, Tensor]:
            with BatchedDraws({}):
                fn = self.make(theta)
                value = hard_sample(fn, NoiseSource())
                return fn.log_prob(value).sum(), couple(fn, value, self.make(theta + 0.1))

        warned = torch.is_warn_always_enabled()
        torch.set_warn_always(True)
        try:
            with same_random_state(), warnings.catch_warnings():
                warnings.simplefilter("error")
                batched = torch.vmap(torch.func.grad(draw, has_aux=True), randomness="different")
                batched(torch.zeros(3, 2, self.size, dtype=DTYPE))
        except (RuntimeError, NotImplementedError, Warning):
            return False
        finally:
            torch.set_warn_always(warned)
        return True

    @cached_property
    def _classes(self) -> Tensor | None:
        """One row for each class of an integer Categorical."""
        base = coordinates(self.typical)
        categorical = isinstance(base, torch.distributions.Categorical)
        return torch.eye(len(coordinate_support(base)), dtype=DTYPE) if categorical else None

    @cached_property
    def _is_bounded(self) -> bool:
        return coordinates(self.typical).support in (constraints.boolean, constraints.one_hot)

    def expect(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Values on a new leftmost dim, and their weights in the expectation.

        The weights are differentiable in ``theta``.
        """
        fn = self.make(theta)
        values, log_volume = nodes(fn, LINE)
        ones = (1,) * len(fn.batch_shape)
        shape = values.shape[:1] + fn.batch_shape + fn.event_shape
        values = values.reshape(values.shape[:1] + ones + fn.event_shape).expand(shape)
        return values, (fn.log_prob(values) + log_volume.reshape((-1, *ones))).exp()


def _rows(theta: Tensor) -> Tensor:
    return theta.unflatten(-1, (2, 3))


FAMILIES = (
    Family("Bernoulli, to_event", 2, lambda t: dist.Bernoulli(logits=t).to_event(1)),
    Family("Bernoulli", 1, lambda t: dist.Bernoulli(logits=t[..., 0])),
    Family("OneHotCategorical", 3, lambda t: dist.OneHotCategorical(logits=t)),
    Family(
        "OneHotCategorical, to_event",
        6,
        lambda t: dist.OneHotCategorical(logits=_rows(t)).to_event(1),
    ),
    Family("Categorical", 3, lambda t: dist.Categorical(logits=t)),
    Family("Categorical, to_event", 6, lambda t: dist.Categorical(logits=_rows(t)).to_event(1)),
    Family("Binomial", 1, lambda t: dist.Binomial(3, logits=t[..., 0])),
    Family("Normal", 2, lambda t: dist.Normal(t[..., 0], (0.2 * t[..., 1]).exp())),
    Family("Poisson", 1, lambda t: dist.Poisson((0.3 * t[..., 0] - 0.5).exp())),
)
"""The distributions that are tried where none are named."""

"""Priors that sample: how the sites of a prior's function meet a parameter's dims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Size, Tensor

from ..errors import EstimatorError
from ..numerics.shapes import broadcast_shapes

T = TypeVar("T")

PriorAt = Callable[[Size], TorchDistribution | None]
"""The prior of a parameter, if it has one, by the dims of particles that it has on the left."""


@dataclass(frozen=True)
class Hyperprior:
    """The sites that a prior's function samples, learnt from one call in a run without particles.

    ``sites``: of each site that it samples, the number of dims of its value, and how many of them are
    batch dims. ``gap``: how many dims of size one have to stand between the dims of particles and the
    site's own for the function to mean the same at every particle; None where no number does.
    """

    sites: dict[str, tuple[int, int]]
    gap: int | None


CERTAIN = Hyperprior({}, 0)
"""Of a prior that samples nothing."""


class _Sampled(Messenger):
    """Notes the values that a prior's function samples."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, tuple[Tensor, int]] = {}
        """With the number of event dims."""
        self.indices: dict[str, Tensor] = {}
        """Of plates."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            self.indices[msg["name"]] = msg["value"]
        else:
            self.values[msg["name"]] = msg["value"], msg["fn"].event_dim


class _Given(Messenger):
    """Gives these values to the sites of a prior's function."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
            msg["done"] = msg["stop"] = True


def drawn(function: Callable[[], T], hyperprior: Hyperprior) -> tuple[T, Size]:
    """The prior that a function makes of its own draws, and the dims of particles on its left.

    In Pyro those stand right before a value's own dims, where the other dims of the parameter have to
    go. So the function samples in a first run, and is given the values with dims between in a second.
    """
    result: Any = None
    with _Sampled() as sampled:
        try:
            result = function()
        except Exception:
            if sampled.values.keys() != hyperprior.sites.keys():
                raise
            # Of all values: as they are they may not go together.
    given, particles = dict(sampled.indices), Size()
    for site, (value, event_dim) in sampled.values.items():
        own, batch = hyperprior.sites.get(site, (event_dim, 0))
        outer = value.dim() - own
        if outer > 0:
            # A plate of the function's own stands where particles' dims are elsewhere.
            dims = value.shape[:outer] + (1,) * batch
            particles = broadcast_shapes(particles, dims)
            value = value.reshape(dims + (1,) * (hyperprior.gap or 0) + value.shape[outer:])
        given[site] = value
    if particles and hyperprior.gap is None:
        raise EstimatorError(
            f"site '{next(iter(sampled.values))}': to_bayesian can't tell which dims of the prior made "
            f"from it are those of {tuple(particles)} particles. Let the function use only elementwise "
            f"arithmetic, unsqueeze(-1) and [..., None], or take vectorize_particles=False."
        )
    if particles or result is None:
        with _Given(given):
            result = function()
    return result, particles


def learn(prior_at: PriorAt, value: Tensor) -> Hyperprior | None:
    """Runs the prior of a parameter without particles; None where it has none."""
    draws = []
    with _kept_random_state(value), poutine.block(), torch.no_grad():
        # A size that no dim of the parameter has, so that none is taken for another.
        for _ in range(next(n for n in range(3, 4 + value.dim() + 3) if n not in value.shape)):
            with _Sampled() as sampled:
                fn = prior_at(Size())
            if fn is None:
                return None
            if not sampled.values:
                return CERTAIN
            w = fn.sample()
            draws.append((sampled.values, w, fn.log_prob(w)))
        gaps = range(value.dim(), -1, -1)
        gap = next((gap for gap in gaps if _means_the_same(prior_at, draws, gap)), None)
    sites = {name: (x.dim(), x.dim() - event_dim) for name, (x, event_dim) in draws[0][0].items()}
    return Hyperprior(sites, gap)


def _means_the_same(prior_at: PriorAt, draws: list[Any], gap: int) -> bool:
    """Whether the prior at several particles at once has the densities of the priors one by one."""
    if any(values.keys() != draws[0][0].keys() for values, _, _ in draws):
        return False
    size = len(draws)
    stacked = {
        name: torch.stack([values[name][0] for values, _, _ in draws]).reshape(
            (size, *(1,) * (1 + gap), *x.shape)
        )
        for name, (x, _) in draws[0][0].items()
    }
    w = torch.stack([w for _, w, _ in draws]).unsqueeze(1)
    expected = torch.stack([log_prob for _, _, log_prob in draws]).unsqueeze(1)
    try:
        with _Given(stacked):
            fn = prior_at(Size((size, 1)))
        if fn is None:
            return False
        given = fn.log_prob(w)
    except (RuntimeError, ValueError, IndexError):
        return False
    return given.shape == expected.shape and torch.allclose(given, expected, rtol=1e-3, atol=1e-3)


@contextmanager
def _kept_random_state(value: Tensor) -> Iterator[None]:
    devices = [value.device] if value.is_cuda else []
    with torch.random.fork_rng(devices):
        yield

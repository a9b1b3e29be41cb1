"""The standard noise that samplers start from, never at an end of its range."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import ClassVar, Protocol

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor

from .contexts import Holding


def standard_uniform(shape: Size, like: Tensor) -> Tensor:
    """Uniform on (0, 1), both excluded: a shift by less than half of the step keeps it off 0."""
    u = torch.rand(shape, dtype=like.dtype, device=like.device)
    return u.add_(torch.finfo(u.dtype).eps / 8)


def standard_exponential(shape: Size, like: Tensor) -> Tensor:
    """By the logarithm of a uniform, which is vectorised on a CPU, unlike ``exponential_``."""
    return standard_uniform(shape, like).log_().neg_()


def uniform_like(x: Tensor) -> Tensor:
    """Uniform noise in the shape and dtype of ``x``."""
    return standard_uniform(x.shape, x)


def gumbel_of(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise at uniform noise."""
    return -(-uniform.log()).log()


def gumbel_like(x: Tensor) -> Tensor:
    """Standard Gumbel noise in the shape and dtype of ``x``."""
    return gumbel_of(uniform_like(x))


def logistic_like(x: Tensor) -> Tensor:
    """Standard logistic noise in the shape and dtype of ``x``."""
    return uniform_like(x).logit()


def signs_like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """-1 or 1 with equal probability, in the dtype of ``x``."""
    return torch.randint(0, 2, shape, dtype=x.dtype, device=x.device).mul_(2).sub_(1)


class Streams(Protocol):
    """Random numbers that are kept apart by what they are drawn for."""

    def of(self, kind: str, name: str) -> AbstractContextManager[None]:
        """Entered around what is drawn for one site, or one plate."""


_streams: ContextVar[Streams | None] = ContextVar("streams", default=None)
_COMMON = nullcontext()


def noise_of(kind: str, name: str) -> AbstractContextManager[None]:
    """A context around all that is drawn for one source of noise: ``"site"`` or ``"plate"``.

    Random numbers are the common ones of torch there, unless :func:`drawn_apart` says otherwise.
    """
    streams = _streams.get()
    return _COMMON if streams is None else streams.of(kind, name)


def drawn_apart(streams: Streams | None) -> AbstractContextManager[None]:
    """The noise of each source comes from a stream of its own inside; None: it does not."""
    return Holding(_streams, streams)


def is_drawn_apart() -> bool:
    """Whether each source of noise has a stream of its own."""
    return _streams.get() is not None


class NoiseSource:
    """Where the noise behind the values of a guide comes from: independent draws.

    Another source may let the particles depend on each other, as quasi-random ones do.

    Args:
        num_particles: samples of the guide that the ELBO averages.
        particle_dim: the batch dim (negative) along which they lie; None if there is only one, or if
            they are run one by one.
    """

    iid: ClassVar[bool] = True
    """Whether the particles are independent of each other."""
    unbiased: bool = True
    """Whether the noise is fresh in every gradient."""

    def __init__(self, num_particles: int = 1, particle_dim: int | None = None) -> None:
        self.num_particles, self.particle_dim = num_particles, particle_dim

    def begin(self, particle: int) -> None:
        """Says which particle comes next, where they are run one by one."""

    def check(self, name: str, fn: TorchDistribution) -> None:
        """Raises an error that names the site where a pathwise one can't be drawn from this source."""

    def uniform(self, shape: Size, like: Tensor) -> Tensor:
        """Uniform noise on (0, 1), both excluded, in the dtype and on the device of ``like``."""
        return standard_uniform(shape, like)

    def normal(self, shape: Size, like: Tensor) -> Tensor:
        """Standard normal noise."""
        return torch.randn(shape, dtype=like.dtype, device=like.device)

    def sample(self, fn: TorchDistribution) -> Tensor:
        """A draw of a distribution, by its own sampler: pathwise where that is."""
        return fn()

"""Schemes by which the particles of an ELBO are drawn together, so that their mean has less noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Literal, get_args

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor
from torch import distributions as td
from torch.special import ndtr, ndtri

from .distributions.rules.noise_map import NoiseMap, noise_map
from .distributions.rules.quantile import inside, like, quantile
from .distributions.rules.wrappers import coordinates, innermost
from .errors import EstimatorError
from .noise import NoiseSource, is_drawn_apart
from .numerics.sobol import MOST, scrambled_sobol

Particles = Literal["independent", "antithetic", "latin_hypercube", "sobol", "orthogonal", "fixed"]


class Scheme:
    """Independent particles, and the base of the others."""

    def check(self, num_particles: int) -> None:
        """Raises where so many particles can't be drawn by it."""

    def source(self, num_particles: int, particle_dim: int | None) -> NoiseSource:
        """The noise of one gradient."""
        return NoiseSource(num_particles, particle_dim)


class Dependent(Scheme):
    """Particles that depend on each other, of which each has the law of a single one.

    Over all gradients, or, where they are fixed, over all seeds.
    """

    name: ClassVar[str]
    unbiased: ClassVar[bool] = True
    """Whether the noise is fresh in every gradient."""

    def check(self, num_particles: int) -> None:
        if num_particles < 2:
            raise EstimatorError(
                f"particles={self.name!r} draws several particles together, was given num_particles="
                f"{num_particles}; expected 2 or more. Set num_particles, or leave particles out."
            )

    def source(self, num_particles: int, particle_dim: int | None) -> NoiseSource:
        self.check(num_particles)
        return DependentSource(self, num_particles, particle_dim)

    def normals(self, count: int, dims: int, like: Tensor) -> Tensor:
        """Standard normal numbers, independent between dims: shape ``(count, dims)``."""
        raise NotImplementedError

    def take(self, start: int, dims: int, source: DependentSource, like: Tensor) -> Tensor:
        """The normals of some dims of one gradient, ``start`` of which were taken before."""
        return self.normals(source.num_particles, dims, like)


class Antithetic(Dependent):
    r"""Pairs of particles at noise :math:`\epsilon` and :math:`-\epsilon`."""

    name = "antithetic"

    def check(self, num_particles: int) -> None:
        super().check(num_particles)
        if num_particles % 2:
            raise EstimatorError(
                f"particles='antithetic' needs pairs of particles, was given "
                f"num_particles={num_particles}; expected an even number. Set "
                f"num_particles={num_particles + 1}."
            )

    def normals(self, count: int, dims: int, like: Tensor) -> Tensor:
        half = torch.randn(count // 2, dims, dtype=like.dtype, device=like.device)
        return torch.cat([half, -half])


class LatinHypercube(Dependent):
    """One particle in each of as many strata of equal probability, in every dim."""

    name = "latin_hypercube"

    def normals(self, count: int, dims: int, like: Tensor) -> Tensor:
        options: dict[str, Any] = {"dtype": torch.float64, "device": like.device}
        within = torch.rand(count, dims, **options).clamp(1e-12, 1 - 1e-12)
        strata = torch.arange(count, **options).unsqueeze(-1)
        places = torch.rand(count, dims, **options).argsort(0)
        # Scattered, as a compiled step keeps that: it would compute the rest anew at each use.
        return torch.zeros_like(within).scatter(0, places, ndtri((strata + within) / count))


class Joint(Dependent):
    """Numbered over the dims of all sites, in the order in which the guide samples them.

    How many there are is learned from the first gradient, whose particles are independent.
    """

    most: ClassVar[float] = math.inf
    """Dims that can be drawn together; independent numbers stand for the rest."""

    def __init__(self) -> None:
        self.dims = 0

    def take(self, start: int, dims: int, source: DependentSource, like: Tensor) -> Tensor:
        if is_drawn_apart():
            raise EstimatorError(
                f"particles='{self.name}' draws the noise of all sites together, so that none has a "
                f"share of it; expected particles whose sites are drawn one by one. Use "
                f"'independent', 'antithetic' or 'latin_hypercube' to attribute the noise."
            )
        end = start + dims
        together = int(min(self.dims, self.most))
        if end > self.dims:
            self.dims = end
            if end > self.most:
                warnings.warn(
                    f"particles='{self.name}': the guide has {end} or more dims, of which "
                    f"{self.most} are drawn together; the others are independent.",
                    stacklevel=2,
                )
        if source.drawn is None and together:
            source.drawn = self.normals(source.num_particles, together, like)
        blocks, known = [], 0
        if source.drawn is not None:  # by which not all dims may have been known
            blocks.append(source.drawn[:, start:end])
            known = blocks[0].shape[1]
        if known < dims:
            size = source.num_particles, dims - known
            blocks.append(torch.randn(size, dtype=torch.float64, device=like.device))
        return torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]


class Sobol(Joint):
    """Points of a Sobol sequence under a fresh scramble."""

    name = "sobol"
    most = MOST

    def normals(self, count: int, dims: int, like: Tensor) -> Tensor:
        return ndtri(scrambled_sobol(count, dims, like))


class Orthogonal(Joint):
    """Normal vectors of independent lengths in directions at right angles to each other."""

    name = "orthogonal"

    def normals(self, count: int, dims: int, like: Tensor) -> Tensor:
        blocks, left = [], count
        while left > 0:
            rows = min(left, dims)
            drawn = torch.randn(2, dims, rows, dtype=torch.float64, device=like.device)
            directions, corner = torch.linalg.qr(drawn[0])
            signs = corner.diagonal().sign()  # so that the directions are uniform
            blocks.append((directions * signs * drawn[1].norm(dim=0)).mT)
            left -= rows
        return torch.cat(blocks)


class Fixed(Dependent):
    """Drawn once, at the first gradient, and the same in all that follow: a deterministic objective.

    The sample-average approximation: the mean over the particles is another function than the ELBO,
    whose maximum is near that of the ELBO if the particles are many for the parameters that they move.
    """

    name = "fixed"
    unbiased = False

    def __init__(self) -> None:
        self.kept: Tensor | None = None

    def take(self, start: int, dims: int, source: DependentSource, like: Tensor) -> Tensor:
        end, known = start + dims, 0
        if self.kept is not None:
            count, known = self.kept.shape
            if count != source.num_particles:
                raise EstimatorError(
                    f"particles='fixed' has drawn {count} particles for good, was given num_particles="
                    f"{source.num_particles} since; expected as many as at first. Make another ELBO."
                )
        if end > known:
            options: dict[str, Any] = {"dtype": torch.float64, "device": like.device}
            more = torch.randn(source.num_particles, end - known, **options)
            self.kept = more if self.kept is None else torch.cat([self.kept, more], 1)
        assert self.kept is not None
        return self.kept[:, start:end]


SCHEMES: dict[str, Callable[[], Scheme]] = {
    "independent": Scheme,
    "antithetic": Antithetic,
    "latin_hypercube": LatinHypercube,
    "sobol": Sobol,
    "orthogonal": Orthogonal,
    "fixed": Fixed,
}


def scheme_of(particles: str, num_particles: int) -> Scheme:
    """The scheme of an option of an ELBO.

    Raises:
        EstimatorError: there is none of this name, or it needs other particles.
    """
    if not isinstance(particles, str) or particles not in SCHEMES:
        raise EstimatorError(
            f"particles must be one of {', '.join(map(repr, get_args(Particles)))}; "
            f"was given {particles!r}."
        )
    scheme = SCHEMES[particles]()
    scheme.check(num_particles)
    return scheme


class DependentSource(NoiseSource):
    """The noise of one gradient whose particles depend on each other.

    Particles that are run one by one take their rows of what the first of them has had drawn for all.
    Where one samples other sites than those before it, it is the first.
    """

    iid = False

    def __init__(self, scheme: Dependent, num_particles: int, particle_dim: int | None) -> None:
        super().__init__(num_particles, particle_dim)
        self.scheme, self.used, self.particle = scheme, 0, 0
        self.unbiased = scheme.unbiased
        self.drawn: Tensor | None = None
        self._taken: dict[Hashable, Tensor] = {}

    def begin(self, particle: int) -> None:
        self.used, self.particle = 0, particle

    def check(self, name: str, fn: TorchDistribution) -> None:
        """Raises where a pathwise site can't be drawn at given noise."""
        if noise_map(fn) is None and not isinstance(innermost(fn), Delta):
            raise EstimatorError(
                f"site '{name}': particles='{self.scheme.name}' gives the noise to every sampler, was "
                f"given {type(innermost(fn)).__name__}, whose value is no function of given noise; "
                f"expected a distribution with a noise map, as location-scale families, vectors of "
                f"normals, flows over them, Gamma, Beta and Dirichlet, or any with cdf and icdf. Use "
                f"particles='independent', or ScoreFunction at this site."
            )

    def sample(self, fn: TorchDistribution) -> Tensor:
        maps = noise_map(fn)
        if maps is None:
            return super().sample(fn)
        return maps.forward(fn, self._noise(maps, fn))

    @torch.no_grad()
    def _noise(self, maps: NoiseMap, fn: TorchDistribution) -> Tensor:
        law = maps.law(fn)
        base = coordinates(law)
        zero = like(base, 0.0)
        if self.particle_dim is None:
            noise = self._take(law.shape().numel(), zero)[self.particle].reshape(law.shape())
        else:
            at = len(law.batch_shape) + self.particle_dim
            rest = law.shape()[:at] + law.shape()[at + 1 :]
            noise = self._take(rest.numel(), zero)
            noise = noise.reshape(self.num_particles, *rest).movedim(0, at)
        if not isinstance(base, td.Normal):
            noise = quantile(base, inside(ndtr(noise.double())))
        return noise.to(zero.dtype)

    def _take(self, dims: int, like: Tensor) -> Tensor:
        """The normals of the next dims, for all particles."""
        start, self.used = self.used, self.used + dims
        key = start, dims, like.dtype, like.device
        if key not in self._taken:
            self._taken[key] = self.scheme.take(start, dims, self, like)
        return self._taken[key]

"""A program: a model and a guide with their arguments, after the ordinary run of the guide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..estimators.protocol import Branch, Site
from ..parameters import parameters_in, unconstrained
from .axes import Visible
from .ordinary import OrdinaryGuide, Resolve
from .terms import Crossing

Dependencies: TypeAlias = Mapping[tuple[str, str], frozenset[str]]
"""Which sites the term ``(side, name)`` depends on."""


@dataclass(frozen=True, eq=False)
class Span:
    """Alternatives ``start`` to ``stop - 1`` of the branch number ``branch`` of the site ``owner``."""

    owner: int
    branch: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(eq=False)
class Program:
    """A model and a guide with their arguments, and what the ordinary run of the guide found.

    ``batch_dims`` counts the dims of plates, particles and enumerated sites; evaluations lie left of
    them. ``vectorized`` is False where every evaluation is run by itself. ``model_values`` has what the
    model alone drew in the ordinary run, as it saw it; ``model_nodes`` the same with all dims,
    ``computed`` its deterministic sites. ``enumerated``: the sites that are, by name. ``branches``: by
    the number of a site, the alternatives that its estimator asks for. ``crossed``: in which plates a
    term depends on other elements of a site than its own. ``footprint``: the numbers in all values
    of one evaluation.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    args: tuple
    kwargs: dict
    resolve: Resolve
    vectorized: bool
    axes: Visible
    ordinary: OrdinaryGuide
    batch_dims: int
    num_particles: int = 1
    max_plate_nesting: float = float("inf")
    sites: list[Site] = field(default_factory=list)
    enumerated: dict[str, Site] = field(default_factory=dict)
    branches: dict[int, tuple[Branch, ...]] = field(default_factory=dict)
    model_values: dict[str, dict[str, Any]] = field(default_factory=dict)
    model_nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    computed: dict[str, dict[str, Any]] = field(default_factory=dict)
    model_parameters: dict[str, Tensor] = field(default_factory=dict)
    crossed: set[Crossing] = field(default_factory=set)
    footprint: int = 0

    def parameters(self) -> dict[str, Tensor]:
        """The unconstrained parameters of guide and model."""
        model = {name: unconstrained(value) for name, value in self.model_parameters.items()}
        return {**parameters_in(self.ordinary.trace), **model}

    def guide_parameters(self) -> list[Tensor]:
        """The unconstrained parameters of the guide that are learned."""
        return [x for x in parameters_in(self.ordinary.trace).values() if x.requires_grad]

    # -- alternatives -----------------------------------------------------------------------------

    def branch(self, span: Span) -> Branch:
        """The branch that some evaluations belong to."""
        return self.branches[span.owner][span.branch]

    def all_branches(self) -> Iterator[tuple[int, int, Branch]]:
        """Each branch with the number of its site and its own."""
        for owner, branches in self.branches.items():
            for number, branch in enumerate(branches):
                yield owner, number, branch

    @property
    def num_alternatives(self) -> int:
        """Evaluations beside the ordinary one."""
        return sum(branch.count for _, _, branch in self.all_branches())

    def values(self, span: Span) -> Tensor:
        """Alternative values of a site."""
        return self.branch(span).values(span.start, span.stop)

    def size_of(self, fn: TorchDistribution) -> int:
        """The numbers in the value of a site in one evaluation."""
        dims = self.batch_dims + len(fn.event_shape)
        return fn.shape()[-dims:].numel() if dims else 1

    # -- dims -------------------------------------------------------------------------------------

    @property
    def particles(self) -> tuple[int, ...]:
        """The size of the dim of particles, if there is one."""
        return (self.num_particles,) if self.vectorized and self.num_particles > 1 else ()

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The sizes of the dims between evaluations and plates: enumerated sites, then particles."""
        sizes = self.ordinary.support_sizes.values() if self.vectorized else ()
        return (*reversed(tuple(sizes)), *self.particles)

    @property
    def plate_dims(self) -> int:
        """The number of dims that plates take, without particles and enumerated sites."""
        return self.batch_dims - len(self.inner_shape)

    @property
    def particle_dim(self) -> int | None:
        """The dim of vectorised particles, left of those of the plates."""
        return -1 - self.plate_dims if self.particles else None

    @property
    def num_latent(self) -> int:
        return sum(not site.observed for site in self.ordinary.sites)

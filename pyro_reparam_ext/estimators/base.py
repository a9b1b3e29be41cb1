"""What an estimator is: the three questions that every estimator answers.

1. How is the site sampled?  :meth:`Estimator.draw`, :meth:`Estimator.redraw`,
   :meth:`Estimator.log_prob`.
2. Which extra evaluations of the program does it need?  :meth:`Estimator.alternatives`.
3. How do the downstream costs become a surrogate loss term?  :meth:`Estimator.surrogate`, and for
   control variates that learn, :meth:`Estimator.new_state` and :meth:`Estimator.learning_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.coupling import couple
from ..distributions.rules.discrete import log_prob
from ..distributions.rules.discrete_noise import hard_sample
from ..distributions.rules.wrappers import coordinates, innermost
from ..errors import EstimatorError
from ..ignored import warn_where_ignored


@dataclass(frozen=True)
class Paper:
    """Where an estimator was published."""

    authors: str
    title: str
    year: int
    arxiv: str | None = None


@dataclass(eq=False)
class Draw:
    """A value of a site; with its unconstrained coordinate where it is relaxed, or with its noise.

    A relaxed ``value`` alone loses the ``coordinate`` to rounding: in float32 ``sigmoid(17.)`` is 1.
    ``noise`` is what an estimator chose to remember of how it made the value.
    """

    value: Tensor
    coordinate: Tensor | None = None
    noise: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Draw:
        """``function`` of each of its tensors."""
        rest = (None if x is None else function(x) for x in (self.coordinate, self.noise))
        return Draw(function(self.value), *rest)


@dataclass(eq=False)
class Site:
    """A sample site of the guide, as the ordinary run left it.

    ``fn`` is the distribution as traced (plates expanded; without ``scale`` and ``mask``), ``draw``
    the sampled value, ``log_prob`` the log density of that value, shape ``fn.batch_shape``,
    differentiable, neither scaled nor masked.
    """

    name: str
    fn: TorchDistribution
    draw: Draw
    log_prob: Tensor
    estimator: Estimator
    state: nn.Module | None = None
    frames: frozenset[str] = frozenset()
    infer: Mapping[str, Any] = field(default_factory=dict)
    observed: bool = False

    @property
    def value(self) -> Tensor:
        return self.draw.value

    @cached_property
    def base(self) -> TorchDistribution:
        """The distribution of the site's single coordinates."""
        return coordinates(self.fn)


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Alternative values of one site, each of which costs one evaluation of the program.

    ``values(start, stop)`` gives alternatives number ``start`` to ``stop - 1``, stacked on a new
    leftmost dim. ``marginal``: each of them follows the site's own law, so that model parameters may
    learn from its evaluation. ``relaxed``: values between the support points, all in ``tensor``; the
    surrogate gets the gradient of the costs with respect to it, and sites downstream are relaxed at
    ``temperature``. Alternatives that are neither are evaluated without an autograd graph, at most
    ``chunk`` at once.
    """

    count: int
    values: Callable[[int, int], Tensor]
    marginal: bool = False
    relaxed: bool = False
    tensor: Tensor | None = None
    temperature: Tensor | float | None = None
    chunk: int | None = None


@dataclass(frozen=True, eq=False)
class Evaluations:
    """What a surrogate is made of: one site, its alternatives, and what the program made of them.

    - ``costs``: shape ``(1 + alternatives.count, *batch)``, detached; the downstream costs
      (``log q - log p``, scaled and masked) for the ordinary value and then for each alternative,
      unsummed over the plates of the site.
    - ``gradients``: for relaxed alternatives the gradient of the summed costs with respect to the
      alternative values, shape ``(count, *value.shape)``.
    - ``particle_dim``: the dim of ``costs`` (negative) over which the particles lie, if vectorised.
    - ``peers``: costs of the ordinary value in the other particles, if those were run in a loop.
    - ``inputs``: what a baseline network is given.
    """

    site: Site
    costs: Tensor
    alternatives: Alternatives | None = None
    gradients: Tensor | None = None
    particle_dim: int | None = None
    peers: Tensor | None = None
    inputs: tuple[Any, ...] = ()

    @property
    def cost(self) -> Tensor:
        """The costs of the ordinary evaluation."""
        return self.costs[0]


class Estimator:
    """How the gradient of an expectation flows through one sample site of a guide.

    Subclasses are frozen dataclasses of options. The base class is a complete estimator for sites
    without extra evaluations whose value carries no gradient; a subclass overrides what differs.
    """

    unbiased: ClassVar[bool]
    """Whether the mean of the gradient is the gradient of the ELBO."""
    condition: ClassVar[str] = ""
    """What ``unbiased`` depends on beyond the distribution of the site, which only the user, or a
    ``gradient_study``, can tell; empty if nothing."""
    paper: ClassVar[Paper]
    supported: ClassVar[tuple[type, ...]] = (torch.distributions.Distribution,)
    """Distributions of a site's coordinates (under ``to_event``, ``expand``, ``mask``) it can serve."""
    differentiable: ClassVar[bool] = False
    """Whether the sampled value carries a gradient to the parameters of its distribution."""
    uses_cost: ClassVar[bool] = False
    """Whether the downstream cost itself is a coefficient, so that costs that don't depend on the
    site only add variance and have to be found by provenance. (In differences between evaluations
    they cancel by themselves.)"""
    separable: ClassVar[bool] = False
    """Whether alternatives are coordinate by coordinate, so that every cost that depends on the site
    has to lie inside the plates of the site."""

    def __new__(cls, *args: Any, **options: Any) -> Estimator:
        warn_where_ignored(f"{cls.__name__}, made while the guide runs,")
        return super().__new__(cls)

    # -- what it serves ---------------------------------------------------------------------------

    def supports(self, fn: TorchDistribution) -> bool:
        """Whether sites distributed as ``fn`` can be served."""
        # A Delta moves with what its value was made of, and has no score of its own: for Pathwise only.
        return isinstance(innermost(fn), self.supported) and not isinstance(innermost(fn), Delta)

    def serves(self, fn: TorchDistribution) -> bool:
        """Whether it can serve sites with the parameters of ``fn`` too. It may look at their values."""
        return self.supports(fn)

    def is_unbiased_at(self, fn: TorchDistribution) -> bool:
        """Whether the gradient is unbiased at sites distributed as ``fn``."""
        return self.unbiased

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        """Whether the gradient at sites distributed as ``fn`` may be differentiated a second time.

        The mean is then the second derivative of the ELBO, mixed ones included. Where this is False
        autograd would return another number, and the ELBO raises.
        """
        return False

    def check(self, name: str, fn: TorchDistribution, num_particles: int) -> None:
        """Raises :class:`~pyro_reparam_ext.EstimatorError` if the site ``name`` can't be served."""
        if self.supports(fn):
            return
        base = innermost(fn)
        made_by = getattr(base, "made_by", type(base).__name__)
        if isinstance(base, Delta):
            raise EstimatorError(
                f"site '{name}': {type(self).__name__} can't serve {made_by}, whose value is a "
                f"function of other sites; expected Pathwise. Configure no estimator for it, and "
                f"{type(self).__name__} for the sites that its value is made of, or for '{name}' as it "
                f"was before it was reparameterised."
            )
        expected = ", ".join(cls.__name__ for cls in self.supported)
        raise EstimatorError(
            f"site '{name}': {type(self).__name__} can't serve {made_by}; "
            f"expected one of: {expected}. {self.advice(fn)} Or configure no estimator for this "
            f"site to get the default. {self.remedy(fn)}".rstrip()
        )

    def advice(
        self, fn: TorchDistribution, but: Callable[[Estimator], bool] = lambda estimator: False
    ) -> str:
        """Which unbiased estimators to use in place of this one, except for those in ``but``."""
        from .advice import advise  # it knows every estimator

        return advise(fn, lambda estimator: type(estimator) is type(self) or but(estimator))

    def fault(self, fn: TorchDistribution) -> str | None:
        """What is wrong with an option at sites distributed as ``fn``, if anything.

        Asked after a failure only: it may look at values.
        """
        return None

    def remedy(self, fn: TorchDistribution) -> str:
        """One sentence more for the error of an unsupported ``fn``."""
        return ""

    def evaluations(self, fn: TorchDistribution) -> int:
        """Evaluations of the program that one gradient costs at a site distributed as ``fn``."""
        return 1

    # -- 1. how the site is sampled ---------------------------------------------------------------

    def draw(self, fn: TorchDistribution) -> Draw:
        """A value of the site in the ordinary run."""
        return Draw(hard_sample(fn))

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        """The value under a changed distribution ``fn``, by common random numbers."""
        with torch.no_grad():
            return Draw(couple(site.fn, site.value, fn))

    def log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        """Scores a draw under ``fn``, the site's distribution in the guide or in the model."""
        return log_prob(fn, draw.value, hard=not self.differentiable)

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        """Scores a draw under ``fn`` in the guide, where that differs from the model."""
        return self.log_prob(fn, draw)

    # -- 2. extra evaluations ---------------------------------------------------------------------

    def alternatives(self, site: Site) -> Alternatives | None:
        """Alternative values of the site to evaluate the program at, if any."""
        return None

    def has_alternatives(self) -> bool:
        """Whether it may want any."""
        return type(self).alternatives is not Estimator.alternatives

    # -- 3. the surrogate loss --------------------------------------------------------------------

    def has_surrogate(self, fn: TorchDistribution) -> bool:
        """Whether it may add a term of its own to the costs at sites distributed as ``fn``."""
        return type(self).surrogate is not Estimator.surrogate

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        """A term whose gradient is the estimate, shape ``fn.batch_shape`` (broadcast with the costs).

        It adds to the derivative of the costs themselves, which the ELBO takes; ``None`` adds nothing.
        """
        return None

    def new_state(self) -> nn.Module | None:
        """A module with what the estimator learns at one site, if anything."""
        return None

    def owns(self, state: nn.Module) -> bool:
        """Whether a state that was made earlier at the same site is one of this estimator's."""
        return True

    def learning_loss(self, evaluations: Evaluations) -> Tensor | None:
        """What the parameters of the state are trained on; it reaches nothing else."""
        return None

    def update(self, evaluations: Evaluations) -> None:
        """Advances buffers of the state after a training step."""


def require_positive(owner: str, **options: Any) -> None:
    """Raises an :class:`~pyro_reparam_ext.EstimatorError` for an option that is a number <= 0."""
    for name, option in options.items():
        if isinstance(option, (int, float)) and not option > 0:
            raise EstimatorError(f"{owner}: {name} must be positive, was given {option!r}.")

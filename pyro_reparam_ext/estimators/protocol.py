"""The data that pass between an estimator and the evaluation of a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.wrappers import coordinates
from ..errors import EstimatorError
from .joint import Joint

if TYPE_CHECKING:
    from .base import Estimator


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
    ``noise`` is any tensor that an estimator chose to remember of how it made the value.
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
    differentiable, neither scaled nor masked. ``plates``: the names of the plates it lies in.
    ``particle_dim``: the batch dim (negative) over which the particles lie, if vectorised.
    ``traced``: the distribution that ``log_prob`` was asked of, where dims were added to ``fn`` since.
    ``score_term``: if the estimator ``adds_score``, a zero that moves with the guide's parameters as
    the log density in the costs does, scaled and masked, and with no value.
    """

    name: str
    fn: TorchDistribution
    draw: Draw
    log_prob: Tensor
    estimator: Estimator
    state: nn.Module | None = None
    plates: frozenset[str] = frozenset()
    particle_dim: int | None = None
    infer: Mapping[str, Any] = field(default_factory=dict)
    observed: bool = False
    traced: TorchDistribution | None = None
    score_term: Tensor | None = None

    @property
    def value(self) -> Tensor:
        return self.draw.value

    @property
    def noise(self) -> Tensor:
        """The tensor that the estimator's ``draw`` has kept of how it made the value.

        Raises:
            EstimatorError: the estimator did not make it.
        """
        if self.draw.noise is None:
            raise EstimatorError(
                f"site '{self.name}': {type(self.estimator).__name__} needs the noise that the value "
                f"was made of, was given a value by a handler (such as poutine.replay), or its own "
                f"draw kept none; expected Draw(value, noise=...). Let the site be sampled, or "
                f"configure another estimator for it."
            )
        return self.draw.noise

    @cached_property
    def base(self) -> TorchDistribution:
        """The distribution of the site's single coordinates."""
        return coordinates(self.fn)


class Downstream:
    """How sites after one are drawn again in its evaluations: by their own estimators, coupled.

    That is by common random numbers. A subclass may draw them in another way.
    """

    relaxes: ClassVar[bool] = False
    """Whether discrete sites have values between their support points in these evaluations."""

    def __call__(self, site: Site, fn: TorchDistribution) -> Draw:
        """A value of ``site``, as the ordinary run left it, under its changed distribution ``fn``."""
        return site.estimator.redraw(site, fn)

    @classmethod
    def joined(cls, parts: Sequence[tuple[Downstream, int]]) -> Downstream | None:
        """One that serves the evaluations of several, so many of each; None: each draws its own."""
        return parts[0][0] if cls is Downstream or len(parts) == 1 else None


COUPLED = Downstream()


@dataclass(frozen=True, eq=False)
class Branch:
    """Alternative values of one site, each of which costs one evaluation of the program.

    Most are made by :meth:`of`, from a tensor of them.

    Args:
        count: how many there are.
        values: ``values(start, stop)`` gives number ``start`` to ``stop - 1``, stacked on a new
            leftmost dim: shape ``(stop - start, *value.shape)``, in the dtype of the site's value.
        weights: the share of each alternative in an unbiased mean of the costs, the ordinary value
            having what is left of 1: a number for all alike, or a tensor of shape ``(count, *batch)``
            that may depend on what was drawn. Model parameters, and what is pathwise elsewhere, learn
            from this mean. None: from the ordinary value alone. With a tensor, every cost that depends
            on the site has to lie inside the plates of the site.
        order: 0: the costs are all that is asked for. 1: their gradient with respect to ``tensor``,
            too. 2: and products of their Hessian with a vector.
        tensor: what ``values`` are rows of, where ``order`` is 1 or more. The ordinary value itself
            with a ``count`` of 0: its costs are known anyway. It has to require a gradient.
        downstream: how sites that the guide samples after this one are drawn in these evaluations.
        chunk: how many are evaluated at once, at most, where nothing but the costs is asked for. None:
            as many as bound the memory that they take.
        part: the number of the estimator that it belongs to, in a combination of them.
        joint: whether it shares its evaluation, of a single alternative, with the joint branches of
            other sites, as far as these sites don't depend on each other: costs and gradients are then
            those where all of them take their alternatives, which :attr:`Evaluations.joint` has. With
            a count of 1 and an order of 2.
        way: of a joint branch, what :attr:`Joint.moved` takes the Hessian times, in the shape of its
            tensor. None: the way from there to the ordinary value.
        trains: whether ``learning_loss`` differentiates the gradient of the costs once more: the
            program has to have second derivatives then.

    Alternatives without weights and of order 0 are evaluated without an autograd graph.
    """

    count: int
    values: Callable[[int, int], Tensor]
    weights: Tensor | float | None = None
    order: int = 0
    tensor: Tensor | None = None
    downstream: Downstream = COUPLED
    chunk: int | None = None
    trains: bool = False
    part: int = 0
    joint: bool = False
    way: Tensor | None = None

    @classmethod
    def of(
        cls,
        values: Tensor,
        *,
        weights: Tensor | float | None = None,
        order: int = 0,
        downstream: Downstream = COUPLED,
    ) -> Branch:
        """A branch from a tensor of alternative values, stacked on the leftmost dim."""
        tensor = values if order else None
        return cls(len(values), lambda a, b: values[a:b], weights, order, tensor, downstream)

    @classmethod
    def at_ordinary(cls, value: Tensor, *, order: int) -> Branch:
        """No further evaluation: derivatives of the costs at the ordinary value itself."""
        return cls(0, lambda a, b: value[None][a:b], order=order, tensor=value)

    @property
    def needs_graph(self) -> bool:
        """Whether anything is differentiated through its evaluations."""
        return self.weights is not None or self.order > 0


@dataclass(frozen=True, eq=False)
class Evaluations:
    """The parts of a surrogate: one site, its alternatives, and what the program made of them.

    - ``costs``: shape ``(1 + alternatives, *batch)``, detached; the downstream costs
      (``log q - log p``, scaled and masked) for the ordinary value and then for each alternative,
      branch after branch, unsummed over the plates of the site.
    - ``branches``: as :meth:`Estimator.alternatives` gave them.
    - ``gradients``: for each branch of order 1 or more the gradient of the summed costs with respect
      to its tensor, in the shape of that; else None.
    - ``differentiated``: for each of these branches what costs were differentiated in: its tensor, or,
      for the ordinary value, that before the site got the dims of its program's plates.
    - ``particle_dim``: the dim of ``costs`` (negative) over which the particles lie, if vectorised.
    - ``others``: for estimators that need other particles, what the costs of the ordinary value would
      be at the mean log weight of the other particles: the leave-one-out baseline; None without any.
    - ``inputs``: what a baseline network is given.
    - ``joint``: the evaluation of a joint branch, with the other sites that share it.
    - ``parameters``: those of the guide, unconstrained, where an estimator ``adds_score``.
    - ``kept``: for what ``Estimator.surrogate`` has found and ``Estimator.update`` needs.
    """

    site: Site
    costs: Tensor
    branches: tuple[Branch, ...] = ()
    gradients: Sequence[Tensor | None] = ()
    particle_dim: int | None = None
    others: Tensor | None = None
    inputs: tuple[Any, ...] = ()
    differentiated: Sequence[Tensor | None] = ()
    joint: Joint | None = None
    parameters: Sequence[Tensor] = ()
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> Tensor:
        """The costs of the ordinary evaluation."""
        return self.costs[0]

    @property
    def mean_cost(self) -> Tensor:
        """The mean of the costs by the weights of the branches; unbiased for that of the site's law."""
        mean = self.cost
        for number, branch in enumerate(self.branches):
            if branch.weights is not None:
                excess = self.costs_of(number) - self.cost
                mean = mean + (branch.weights * excess).sum(0)
        return mean

    def only(self, numbers: Sequence[int]) -> Evaluations:
        """The costs and gradients of some of the branches, and of the ordinary value."""
        rows = [self.costs[:1], *(self.costs_of(number) for number in numbers)]
        return replace(
            self,
            costs=torch.cat(rows),
            branches=tuple(self.branches[number] for number in numbers),
            gradients=[self.gradients[number] for number in numbers] if self.gradients else (),
            differentiated=[self.differentiated[number] for number in numbers],
        )

    def costs_of(self, branch: int) -> Tensor:
        """The costs of the alternatives of one branch."""
        start = 1 + sum(b.count for b in self.branches[:branch])
        return self.costs[start : start + self.branches[branch].count]

    def gradient(self, branch: int = 0) -> Tensor:
        """The gradient of the costs of one branch in its tensor."""
        gradient = self.gradients[branch]
        assert gradient is not None, "the branch is of order 0"
        return gradient

    def hessian_product(self, vector: Tensor, branch: int = 0) -> Tensor:
        """The Hessian of the costs of a branch of order 2, times a vector shaped as its tensor."""

        tensor, gradient = self.differentiated[branch], self.gradient(branch)
        assert tensor is not None
        if not gradient.requires_grad:  # the costs are linear
            return torch.zeros_like(gradient)
        (product,) = torch.autograd.grad(
            gradient, tensor, vector, retain_graph=True, materialize_grads=True
        )
        return product.detach().reshape(gradient.shape)

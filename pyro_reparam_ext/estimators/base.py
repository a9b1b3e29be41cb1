"""The base class of estimators: three questions that each of them answers.

1. How is the site sampled?  :meth:`Estimator.draw`, :meth:`Estimator.redraw`,
   :meth:`Estimator.log_prob`.
2. Which extra evaluations of the program does it need?  :meth:`Estimator.alternatives`.
3. How do the downstream costs become a surrogate loss term?  :meth:`Estimator.surrogate`, and for
   control variates that learn, :meth:`Estimator.new_state` and :meth:`Estimator.learning_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.coupling import couple
from ..distributions.rules.discrete import log_prob
from ..distributions.rules.discrete_noise import hard_sample
from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..ignored import warn_where_ignored
from ..noise import NoiseSource
from .protocol import Branch, Draw, Evaluations, Paper, Site


class Estimator:
    """How the gradient of an expectation flows through one sample site of a guide.

    Subclasses are frozen dataclasses of options. The base class is a complete estimator for sites
    without extra evaluations whose value carries no gradient; a subclass overrides what differs.
    """

    unbiased: ClassVar[bool]
    """Whether the mean of the gradient is the gradient of the ELBO."""
    condition: ClassVar[str] = ""
    """The condition that ``unbiased`` depends on beyond the distribution of the site, which only the
    user, or a ``gradient_study``, can tell; empty if there is none."""
    paper: ClassVar[Paper]
    supported: ClassVar[tuple[type, ...]] = (torch.distributions.Distribution,)
    """Distributions of a site's coordinates (under ``to_event``, ``expand``, ``mask``) it can serve."""
    differentiable: ClassVar[bool] = False
    """Whether the sampled value carries a gradient to the parameters of its distribution."""
    uses_cost: ClassVar[bool] = False
    """Whether the downstream cost itself is a coefficient, so that costs that don't depend on the
    site only add variance and have to be found by provenance. (In differences between evaluations
    they cancel by themselves.)"""
    coordinatewise: ClassVar[bool] = False
    """Whether alternatives are coordinate by coordinate, so that every cost that depends on the site
    has to lie inside the plates of the site."""
    enumerated: ClassVar[bool] = False
    """Whether the site takes all values of its :meth:`support` in place of a sample."""
    holds_guide_parameters: ClassVar[bool] = False
    """Whether the guide scores the value with its parameters held: the log density moves with the value
    and those of other sites that the distribution depends on, and with nothing else."""
    adds_score: ClassVar[bool] = False
    """Whether it needs what is left out so by itself, as ``site.score_term``."""
    scored_at_copy: ClassVar[bool] = False
    """Whether guide and model are scored at a copy of the value, ``site.value``, in which the costs are
    differentiated apart from all that is sampled after the site; ``site.noise`` is what was copied. It
    takes ``holds_guide_parameters``, and what is beside it is held too."""
    analytic: ClassVar[bool] = False
    """Whether the terms of the site in guide and model are one: the divergence of its distributions."""
    noiseless_entropy: ClassVar[bool] = False
    """Whether :meth:`guide_log_prob` has the gradient of the negative entropy, and none in the value:
    then nothing is held in it where other sites are scored at copies."""
    needs_mean: ClassVar[bool] = False
    """Whether the gradient is right only for a mean over particles, as the ELBO is."""
    min_particles: ClassVar[int] = 1
    """Particles that the ELBO has to have."""
    iid_particles: ClassVar[bool] = False
    """Whether the gradient is right only if the particles are drawn independently of each other."""

    def __new__(cls, *args: Any, **options: Any) -> Estimator:
        if cls not in _CHECKED:
            _check_class(cls)
            _CHECKED.add(cls)
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

    def check(self, name: str, fn: TorchDistribution, source: NoiseSource) -> None:
        """Raises :class:`~pyro_reparam_ext.EstimatorError` if the site ``name`` can't be served.

        ``source``: of the noise of all sites; it knows the particles.
        """
        if not self.supports(fn):
            self._refuse(name, fn)
        if source.num_particles < self.min_particles:
            raise EstimatorError(
                f"site '{name}': {type(self).__name__} needs other particles, was given "
                f"num_particles={source.num_particles}, expected at least {self.min_particles}. Set "
                f"num_particles={self.min_particles} in the ELBO for {type(self).__name__}. Else: "
                f"{self.advice(fn)}"
            )
        if self.iid_particles and not source.iid:
            raise EstimatorError(
                f"site '{name}': {type(self).__name__} needs particles that are drawn independently "
                f"of each other, was given those of {type(source).__name__}, by which its gradient "
                f"would be biased. "
                f"{self.advice(fn, lambda estimator: estimator.iid_particles)}"
            )

    def _refuse(self, name: str, fn: TorchDistribution) -> None:
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
        """The fault of an option at sites distributed as ``fn``, if there is one.

        Asked after a failure only: it may look at values.
        """
        return None

    def remedy(self, fn: TorchDistribution) -> str:
        """One sentence more for the error of an unsupported ``fn``."""
        return ""

    def evaluations(self, fn: TorchDistribution) -> int:
        """Evaluations of the program that one gradient costs at a site distributed as ``fn``.

        One, and one for each of the :meth:`alternatives`: what is said here is held against them.
        """
        return 1

    def contributes(self, fn: TorchDistribution) -> bool:
        """Whether it may add anything to the derivative of the costs at sites distributed as ``fn``.

        Where this is False, neither :meth:`alternatives` nor :meth:`surrogate` is asked.
        """
        own, base = type(self), Estimator
        return own.alternatives is not base.alternatives or own.surrogate is not base.surrogate

    @property
    def conditional(self) -> type[Estimator]:
        """The class whose ``condition`` it is unbiased on: its own, or that of a part."""
        return type(self)

    # -- 1. how the site is sampled ---------------------------------------------------------------

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        """A value of the site in the ordinary run, from the noise of ``source``."""
        return Draw(hard_sample(fn, source))

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

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        """Alternative values of the site to evaluate the program at, if any."""
        return ()

    def support(self, name: str, fn: TorchDistribution, enumerated: int = 1) -> Tensor:
        """All values of an enumerated site, shape ``(size,) + fn.event_shape``.

        ``enumerated``: the joint support size of the sites that are enumerated already.
        """
        raise NotImplementedError

    # -- 3. the surrogate loss --------------------------------------------------------------------

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        """A term whose gradient is the estimate, shape ``fn.batch_shape`` (broadcast with the costs).

        It adds to the derivative of the costs themselves, which the ELBO takes; ``None`` adds nothing.
        """
        return None

    def new_state(self, site: Site) -> nn.Module | None:
        """A module with what the estimator learns at one site, if anything."""
        return None

    def owns(self, state: nn.Module) -> bool:
        """Whether a state that was made earlier at the same site is one of this estimator's."""
        return True

    def learning_loss(self, evaluations: Evaluations) -> Tensor | None:
        """The loss that the parameters of the state are trained on; it reaches nothing else."""
        return None

    def update(self, evaluations: Evaluations) -> None:
        """Advances buffers of the state after a training step."""


def least_particles(estimators: Iterable[Estimator]) -> int:
    """The number of particles that an ELBO needs for all of some estimators."""
    return max((estimator.min_particles for estimator in estimators), default=1)


_CHECKED: WeakSet[type] = WeakSet()


def _check_class(cls: type[Estimator]) -> None:
    """Raises for a class that lacks what every estimator has to say."""
    if not hasattr(cls, "unbiased"):
        raise EstimatorError(
            f"{cls.__name__}: the class does not say whether its gradient is unbiased; expected a "
            f"class variable, unbiased = True or unbiased = False."
        )
    annotations = vars(cls).get("__annotations__", {})
    options = [name for name, annotation in annotations.items() if "ClassVar" not in str(annotation)]
    if options and "__dataclass_params__" not in vars(cls):
        raise EstimatorError(
            f"{cls.__name__}: its options ({', '.join(options)}) are not those of a dataclass; "
            f"expected the class to be decorated by @dataclass(frozen=True, eq=False)."
        )


def require_positive(owner: str, **options: Any) -> None:
    """Raises an :class:`~pyro_reparam_ext.EstimatorError` for an option that is a number <= 0."""
    for name, option in options.items():
        if isinstance(option, (int, float)) and not option > 0:
            raise EstimatorError(f"{owner}: {name} must be positive, was given {option!r}.")

"""Several estimators at one site, mixed by weights that are fitted to their noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..noise import NoiseSource
from .base import Estimator, least_particles
from .control_variates import SeveralSamples, dot
from .mixture_weights import (
    DifferenceWeights,
    MixtureWeights,
    Weights,
    gradient_in_parameters,
    noise_in_guide,
)
from .pathwise import Pathwise, is_partly_reparameterised
from .protocol import Branch, Draw, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class Combine(Estimator):
    r"""The weighted mean of several unbiased estimators that has the least noise.

    .. math::
        \sum_k w_k\, g_k, \qquad w = \frac{C^{-1} 1}{1^\top C^{-1} 1}

    with :math:`g_k` the gradients of the parts, and :math:`C` a decaying average of
    :math:`\sum_d g_{jd}\, g_{kd}` over the parameters :math:`d` of the site's distribution, in *past*
    steps: the weights don't depend on the noise that they weigh, and the mean stays unbiased. Second
    moments serve as well as covariances, since all parts have the same mean. Until something is
    measured, the parts count alike.

    The parts share one value of the site. Where :class:`LeaveOneOut` is one of them, it uses the values
    of the others too, of those estimators whose values follow the law of the site (``DisARM``,
    ``ARMS``, ``DoubleCV``, ``RODEO``, ``UnorderedSet``): of two antithetic pairs, ``DisARM`` compares
    values within each pair, and ``LeaveOneOut`` those of one pair with the other.

    Of :class:`Pathwise` and :class:`StickingTheLanding`, the parts of a moving value, one has the score
    of the guide, the other has not. How much of it to take is a least squares fit of past steps,

    .. math::
        g_1 + c\, (g_2 - g_1), \qquad c = \frac{\sum (g_1 - g_2)\, g_1}{\sum (g_1 - g_2)^2},

    over the guide's parameters and a decaying average, with the gradients' noise in place of the
    gradients where there are four particles or more: one half of them less the other. It begins as the
    first part. Far from the posterior the score may take noise away, near to it the score is noise; in
    between a share is best, and at the posterior a 10,000th is left of it. To fit, the gradient in
    the value is taken once more, by another pass backwards through the model.

    Serves what all of its parts serve; one evaluation, and those that each part adds to it. Of pathwise
    parts: no sampler that is partly reparameterised, no function of other sites, no bound by several
    particles.

    Args:
        parts: two or more unbiased estimators of sampled values, or ``Pathwise`` and
            ``StickingTheLanding``.

    Raises:
        EstimatorError: a part is biased, enumerated, or a combination itself; or one is pathwise, and
            another one is not, or has a control variate of its own (``TaylorControlVariate``, which
            fits the score by itself).

    References:
        Geffner, Domke, 2018, Using Large Ensembles of Control Variates for Variational Inference,
        https://arxiv.org/abs/1810.12482

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pairs = pre.Combine([pre.DisARM(), pre.LeaveOneOut()])
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pairs}, num_particles=2)
        >>> either = pre.Combine([pre.Pathwise(), pre.StickingTheLanding()])
        >>> elbo = pre.TraceEstimator_ELBO(either, num_particles=16)
    """

    parts: Sequence[Estimator]

    unbiased = True
    paper = Paper(
        "Geffner, Domke",
        "Using Large Ensembles of Control Variates for Variational Inference",
        2018,
        "1810.12482",
    )

    def __post_init__(self) -> None:
        parts = tuple(self.parts)
        object.__setattr__(self, "parts", parts)
        if len(parts) < 2:
            raise EstimatorError(
                f"Combine: parts must be two or more estimators, was given {len(parts)}."
            )
        for part in parts:
            wrong = _unfit(part)
            if wrong:
                raise EstimatorError(
                    f"Combine: {part!r} {wrong}; expected unbiased estimators of sampled values, such "
                    f"as DisARM, LeaveOneOut or REBAR, or Pathwise and StickingTheLanding. Leave it "
                    f"out, or let it serve a site by itself."
                )
        moving = [part for part in parts if part.differentiable]
        if moving and len(moving) < len(parts):
            other = next(part for part in parts if not part.differentiable)
            raise EstimatorError(
                f"Combine: {moving[0]!r} differentiates through the sample, and {other!r} takes it as "
                f"drawn; expected parts of one kind. Leave one of them out."
            )

    # -- facts: those of any part -----------------------------------------------------------------

    @property
    def uses_cost(self) -> bool:  # type: ignore[override]
        return any(part.uses_cost for part in self.parts)

    @property
    def coordinatewise(self) -> bool:  # type: ignore[override]
        return any(part.coordinatewise for part in self.parts)

    @property
    def iid_particles(self) -> bool:  # type: ignore[override]
        return any(part.iid_particles for part in self.parts)

    @property
    def min_particles(self) -> int:  # type: ignore[override]
        return least_particles(self.parts)

    @property
    def conditional(self) -> type[Estimator]:
        return next((p.conditional for p in self.parts if p.conditional.condition), type(self))

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        return any(part.differentiable for part in self.parts)

    # The costs have what pathwise parts share: all but the score of the guide.
    holds_guide_parameters = adds_score = needs_mean = differentiable

    def supports(self, fn: TorchDistribution) -> bool:
        if self.differentiable and (is_partly_reparameterised(fn) or isinstance(innermost(fn), Delta)):
            return False
        return all(part.supports(fn) for part in self.parts)

    def serves(self, fn: TorchDistribution) -> bool:
        return all(part.serves(fn) for part in self.parts)

    def is_unbiased_at(self, fn: TorchDistribution) -> bool:
        return all(part.is_unbiased_at(fn) for part in self.parts)

    def check(self, name: str, fn: TorchDistribution, source: NoiseSource) -> None:
        for part in self.parts:
            part.check(name, fn, source)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 1 + sum(part.evaluations(fn) - 1 for part in self.parts)

    # -- what the parts do ------------------------------------------------------------------------

    @property
    def _drawing(self) -> Estimator:
        """The part that draws the value: one that differentiates the costs in it, if there is one."""
        slopes = (part for part in self.parts if isinstance(part, SeveralSamples))
        return next(slopes, self.parts[0])

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        return self._drawing.draw(fn, source)

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        return self._drawing.redraw(site, fn)

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        return self._drawing.guide_log_prob(fn, draw)

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        if self.differentiable:  # to measure its noise
            return (Branch.at_ordinary(site.value, order=1),) if site.value.requires_grad else ()
        return tuple(
            replace(branch, part=number)
            for number, part in enumerate(self.parts)
            for branch in part.alternatives(_seen_by(site, number))
        )

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        weights = _state_of(evaluations.site)()
        terms = evaluations.kept["terms"] = self._surrogates(evaluations)
        return sum(
            (w * term for w, term in zip(weights[1:], terms[1:], strict=True)), weights[0] * terms[0]
        )

    def new_state(self, site: Site) -> nn.Module:
        return self._weights([part.new_state(site) for part in self.parts], site.log_prob)

    @property
    def _weights(self) -> type[DifferenceWeights] | type[MixtureWeights]:
        return DifferenceWeights if self.differentiable else MixtureWeights

    def owns(self, state: nn.Module) -> bool:
        if not isinstance(state, self._weights) or state.count != len(self.parts):
            return False
        kept = (state.of(number) for number in range(len(self.parts)))
        return all(x is None or part.owns(x) for part, x in zip(self.parts, kept, strict=True))

    def learning_loss(self, evaluations: Evaluations) -> Tensor | None:
        losses = [
            part.learning_loss(one)
            for part, one in self._each(evaluations)
            if one.site.state is not None
        ]
        found = [loss for loss in losses if loss is not None]
        return torch.stack(found).sum() if found else None

    def update(self, evaluations: Evaluations) -> None:
        gradients = self._gradients(evaluations)
        for part, one in self._each(evaluations):
            if one.site.state is not None:
                part.update(one)
        if gradients:
            _state_of(evaluations.site).update(torch.stack(gradients))

    def _gradients(self, evaluations: Evaluations) -> list[Tensor]:
        """Those of the parts, or their noise; none if the value does not move."""
        terms = evaluations.kept["terms"]
        if not self.differentiable:
            return [gradient_in_parameters(evaluations, term) for term in terms]
        if not (evaluations.branches and evaluations.parameters):
            return []
        site, slope = evaluations.site, evaluations.gradient().detach()
        path = dot(site, slope, site.value)
        return [noise_in_guide(evaluations, path + term) for term in terms]

    def _surrogates(self, evaluations: Evaluations) -> list[Tensor]:
        """The terms that the parts add to the derivative of the costs."""
        if self.differentiable:  # the costs have no score
            score = evaluations.site.score_term
            assert score is not None
            return [torch.zeros_like(score) if p.holds_guide_parameters else score for p in self.parts]
        terms = []
        for part, one in self._each(evaluations):
            term = part.surrogate(one)
            assert term is not None, "parts are estimators of sampled values"
            terms.append(term)
        return terms

    def _each(self, evaluations: Evaluations) -> Iterator[tuple[Estimator, Evaluations]]:
        """Each part, and what it sees: its own alternatives, or all, if it makes none."""
        for number, part in enumerate(self.parts):
            site = _seen_by(evaluations.site, number)
            own = [i for i, branch in enumerate(evaluations.branches) if branch.part == number]
            one = evaluations.only(own) if own else evaluations
            yield part, replace(one, site=site)


def _seen_by(site: Site, number: int) -> Site:
    """A site as the part of a combination sees it: with its own state.

    Only those that differentiate the costs in the value see one that can be differentiated in.
    """
    assert isinstance(site.estimator, Combine)
    part = site.estimator.parts[number]
    draw = site.draw if isinstance(part, SeveralSamples) else site.draw.map(Tensor.detach)
    seen = replace(site, estimator=part, state=_state_of(site).of(number), draw=draw)
    seen.__dict__["base"] = site.base  # its tensors are the ones that are differentiated in
    return seen


def _state_of(site: Site) -> Weights:
    assert isinstance(site.state, Weights)
    return site.state


def _unfit(part: Estimator) -> str:
    """The reason why an estimator can't be a part of a combination; empty if it can."""
    if not isinstance(part, Estimator):
        return "is no estimator"
    if isinstance(part, Combine):
        return "is a combination itself, whose parts can be given here"
    if not part.unbiased:
        return "is biased"
    if part.enumerated:
        return "takes all values in place of a sample"
    if part.differentiable and not _is_plain(part):
        return "differentiates through the sample in a way of its own"
    return ""


def _is_plain(part: Estimator) -> bool:
    """Whether it is pathwise, with the score of the guide or without, and nothing beside that."""
    cls = type(part)
    own = cls.surrogate is not Pathwise.surrogate or cls.alternatives is not Pathwise.alternatives
    return isinstance(part, Pathwise) and not own and not part.analytic

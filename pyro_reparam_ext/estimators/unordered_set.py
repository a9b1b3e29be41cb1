"""Values drawn without replacement, each weighted by its share in the set of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete import log_prob
from ..distributions.rules.without_replacement import (
    WithoutReplacement,
    classes,
    without_replacement,
)
from ..distributions.rules.wrappers import innermost, num_coordinates
from ..errors import EstimatorError
from ..numerics.without_replacement import first_and_second
from .base import Estimator
from .one_coordinate import is_coordinate, to_rows
from .protocol import Branch, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False, kw_only=True)
class _Set(Branch):
    """The other values of the set at each coordinate.

    ``score``: the log probabilities of the whole set, differentiable. ``share``: of each value in the
    expectation; ``second``: of each second value given the first, both detached. All with one row for
    each coordinate: shape ``(D, k, *batch)``, and ``(D, k, k, *batch)``.
    """

    score: Tensor
    share: Tensor
    second: Tensor


@dataclass(frozen=True, eq=False)
class UnorderedSet(Estimator):
    r"""The score function of values drawn without replacement, by the set that they make.

    A set :math:`S` of :math:`k` different values, in whatever order, has an unbiased mean of costs
    that is less noisy than the cost of the first one. With the leave-one-out ratio
    :math:`R(S, s) = P(S \mid s\ \text{first}) / P(S)`, and :math:`R^{\setminus s}` that of the rest of
    the set among the values without :math:`s`,

    .. math::
        \sum_{s \in S} R(S, s)\, \nabla_\phi q_\phi(s)\, \big(f(s) - B_s\big), \qquad
        B_s = q_\phi(s) f(s) + \sum_{s' \in S \setminus s} q_\phi(s')\, R^{\setminus s}(S, s')\, f(s')

    The ratios are computed by a recursion over the subsets of the set, exactly. With as many samples as
    values all are 1, and the gradient is exact. Serves categorical and one-hot sites, subsets
    (:class:`~pyro_reparam_ext.distributions.ConditionalBernoulli`) and orders
    (:class:`~pyro_reparam_ext.distributions.PlackettLuce` without a temperature). A class, a subset, an
    order is one coordinate; of D of them under ``to_event`` each has a set of its own, the others being
    as they were drawn: ``1 + D (k - 1)`` evaluations, from which the model learns too.

    For classes it lies between :class:`LeaveOneOut` and :class:`LocalExpectation`, which evaluates all.
    Subsets and orders are drawn item by item, whatever their number, each from what those before it
    have left. It is for many values of which few are likely: of values that hardly ever come twice,
    those drawn without replacement say as much as those of :class:`LeaveOneOut`, which takes less time.

    Args:
        num_samples: how many values are drawn, the ordinary one among them; all, where there are fewer.
        baseline: whether :math:`B_s`, whose mean is that of the costs, is subtracted.

    Raises:
        EstimatorError: ``num_samples`` is not from 2 to 12; a cost that depends on the site lies
            outside one of the site's plates.

    References:
        Kool, van Hoof, Welling, 2020, Estimating Gradients for Discrete Random Variables by Sampling
        without Replacement, https://arxiv.org/abs/2002.06043; of sequences, the same, 2019, Stochastic
        Beams and Where to Find Them, https://arxiv.org/abs/1903.06059

    Example:
        >>> import pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> pre.UnorderedSet(4).evaluations(dist.Categorical(torch.ones(10)))
        4
        >>> subset = pre.distributions.ConditionalBernoulli(3, logits=torch.zeros(10))
        >>> pre.UnorderedSet(4).evaluations(subset)
        4
    """

    num_samples: int = 2
    baseline: bool = True

    unbiased = True
    paper = Paper(
        "Kool, van Hoof, Welling",
        "Estimating Gradients for Discrete Random Variables by Sampling without Replacement",
        2020,
        "2002.06043",
    )
    supported = classes()
    coordinatewise = True
    uses_cost = True  # shares weigh what depends on the site, and nothing else
    max_samples: ClassVar[int] = 12
    """The ratios take memory for 2 ** 12 subsets then."""

    def __post_init__(self) -> None:
        if not 2 <= self.num_samples <= self.max_samples:
            raise EstimatorError(
                f"UnorderedSet: num_samples must be from 2 to {self.max_samples}, was given "
                f"{self.num_samples!r}. LocalExpectation evaluates every class, however many."
            )

    def supports(self, fn: TorchDistribution) -> bool:
        return super().supports(fn) and without_replacement(innermost(fn)) is not None

    def remedy(self, fn: TorchDistribution) -> str:
        if not isinstance(innermost(fn), self.supported):
            return ""
        return "Of orders it serves hard ones: PlackettLuce(logits), without a temperature."

    def evaluations(self, fn: TorchDistribution) -> int:
        return 1 + num_coordinates(fn) * (self._set_size(innermost(fn)) - 1)

    def contributes(self, fn: TorchDistribution) -> bool:
        return self.evaluations(fn) > 1

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        base, first = site.base, site.value.unsqueeze(0)
        with torch.no_grad():
            others = _rule(base).others(base, site.value, self._set_size(base) - 1)
        log_probs = log_prob(base, torch.cat([first, others.values]))
        with torch.no_grad():
            possible = torch.cat([log_probs[:1] > -torch.inf, others.possible])
            drawn = torch.where(possible, log_probs, -torch.inf).movedim(0, -1)
            share, second = first_and_second(drawn, others.log_outside)
            values = self._values(site, others.values)
        score = to_rows(site, torch.where(possible, log_probs, 0.0))
        share = to_rows(site, share.movedim(-1, 0))
        weights = share[:, 1:].flatten(0, 1) / len(share)
        return (
            _Set(
                count=len(weights),
                values=lambda start, stop: values[start:stop],
                weights=weights,
                score=score,
                share=share,
                second=to_rows(site, second.movedim((-2, -1), (0, 1))),
            ),
        )

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        (found,) = evaluations.branches
        assert isinstance(found, _Set)
        share, costs = found.share, _by_coordinate(evaluations.costs, len(found.share))
        if self.baseline:
            # B_s is a mean with weights that add up to 1: q(s), and the others have the rest.
            differences = costs.unsqueeze(2) - costs.unsqueeze(1)
            others = -found.score.detach().expm1()
            costs = others * (found.second * differences).sum(2)
        return (share * costs * found.score).sum((0, 1))

    def _set_size(self, base: TorchDistribution) -> int:
        return min(self.num_samples, _rule(base).size(base))

    def _values(self, site: Site, others: Tensor) -> Tensor:
        """The site's value with one coordinate changed to one of its other values, in that order."""
        count, size = num_coordinates(site.fn), len(others)
        number = torch.arange(count * size, device=others.device)  # coordinate, then value
        changed = is_coordinate(site, number // size)
        changed = changed.reshape(changed.shape + (1,) * len(site.base.event_shape))
        return torch.where(changed, others[number % size], site.value)


def _rule(base: TorchDistribution) -> WithoutReplacement:
    rule = without_replacement(base)
    assert rule is not None
    return rule


def _by_coordinate(costs: Tensor, count: int) -> Tensor:
    """Costs of the set at each coordinate, shape ``(D, k, *batch)``: the ordinary value is in all."""
    others = costs[1:].unflatten(0, (count, -1))
    return torch.cat([costs[:1].expand(count, 1, *costs.shape[1:]), others], 1)

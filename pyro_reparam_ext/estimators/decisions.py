"""Discrete values as binary decisions, and the gradient from values whose decisions are coupled.

A Bernoulli value is one decision, a class those on the way to its leaf of a balanced binary tree.
"""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.classes import class_of, value_of
from ..distributions.rules.discrete_noise import is_binary
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.wrappers import coordinates, num_coordinate_dims, sum_rightmost
from ..noise import NoiseSource, uniform_like
from ..numerics.binary_tree import leaf, node_logits, path
from ..numerics.dirichlet_copula import both_below
from ..numerics.relaxation import within
from .protocol import Draw, Site

DECIDED = (
    torch.distributions.Bernoulli,
    torch.distributions.OneHotCategorical,
    torch.distributions.Categorical,
)
"""Distributions of coordinates that are made of binary decisions."""


def decision_logits(base: TorchDistribution) -> Tensor:
    """The log-odds of each decision, shape ``(*batch, *coordinates, decisions)``; all are finite."""
    logits = exact_logits(base)
    return within(logits).unsqueeze(-1) if is_binary(base) else node_logits(logits)


@torch.no_grad()
def draw_decided(fn: TorchDistribution, source: NoiseSource) -> Draw:
    """A value and its noise, one uniform ``u`` for each decision, which is ``u < probability``."""
    base = coordinates(fn)
    logits = decision_logits(base)
    noise = source.uniform(logits.shape, logits)
    return Draw(_decided(base, noise < logits.sigmoid()), noise=noise)


def decision_noise(site: Site) -> Tensor:
    """The noise of a site's value; drawn given the value, if that was not made of any."""
    if site.draw.noise is not None:
        return site.draw.noise
    logits = decision_logits(site.base)
    reached, decisions = _decisions(site.base, site.value)
    noise, probs, rest = uniform_like(logits), logits.sigmoid(), (-logits).sigmoid()
    given = torch.where(decisions, noise * probs, probs + noise * rest)
    return torch.where(reached, given, noise)


def decided(site: Site, decisions: Tensor) -> Tensor:
    """The values of a site that decisions lead to."""
    return _decided(site.base, decisions).to(site.value.dtype)


def coupled_surrogate(site: Site, values: Tensor, costs: Tensor) -> Tensor:
    r"""The surrogate of ``n`` values, any two of which are coupled as in a Dirichlet copula of ``n``.

    With :math:`p` the probability of a decision :math:`b`, :math:`\alpha` its log-odds, and
    :math:`r_i` whether value :math:`i` comes to it at all,

    .. math::
        \frac{1}{n (n - 1)} \sum_i r_i (b_i - p) \sum_j \big(f_i - f_j\big)
        \big(1 + r_j (\rho - 1)\big)\,\nabla \alpha, \qquad
        \rho = \frac{p (1 - p)}{\Pr(b_i \ne b_j) / 2},

    since the cost of a value that does not come to a decision is independent of it.

    Args:
        site: the site.
        values: shape ``(n, *groups, *value.shape)``: groups are independent of each other.
        costs: those of the values, shape ``(n, *groups, *batch)``.

    Returns:
        A tensor of shape ``(*groups, *batch)``.
    """
    base, count = site.base, len(values)
    logits, dims = decision_logits(base), num_coordinate_dims(site.fn) + 1
    with torch.no_grad():
        costs = costs - costs.mean(0)
        costs = costs.reshape(costs.shape + (1,) * dims)
        ratio = _ratio(logits, count)
        if is_binary(base):  # all come to the decision, and p cancels
            weight = ratio * (costs * values.unsqueeze(-1)).sum(0) / (count - 1)
        else:
            reached, decisions = _decisions(base, values)
            score = reached * torch.where(decisions, (-logits).sigmoid(), -logits.sigmoid())
            together = reached.sum(0) * costs - (reached * costs).sum(0)
            weight = score * (count * costs + (ratio - 1) * together)
            weight = weight.sum(0) / (count * (count - 1))
    return sum_rightmost(weight * logits, dims)


def _ratio(logits: Tensor, count: int) -> Tensor:
    """How likely two independent values decide differently, over how likely two coupled ones do."""
    rare = (-logits.abs()).sigmoid()  # the smaller probability of the two
    tiny = torch.finfo(rare.dtype).tiny
    return logits.abs().sigmoid() / (1 - both_below(rare, count) / rare.clamp(min=tiny))


def _decided(base: TorchDistribution, decisions: Tensor) -> Tensor:
    return value_of(base, decisions.squeeze(-1) if is_binary(base) else leaf(decisions))


def _decisions(base: TorchDistribution, values: Tensor) -> tuple[Tensor, Tensor]:
    """Which decisions values come to, and how they decide there."""
    number = class_of(base, values)
    if not is_binary(base):
        return path(number, base.logits.shape[-1])
    decisions = number.unsqueeze(-1) > 0
    return torch.ones_like(decisions), decisions

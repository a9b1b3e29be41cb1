"""The exact expectation over each coordinate, with the others held at their sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pyro.distributions import BetaBinomial, TorchDistribution
from torch import Tensor

from ..distributions.rules.classes import class_of
from ..distributions.rules.discrete import support_log_probs
from ..distributions.rules.wrappers import (
    coordinate_support,
    coordinates,
    num_coordinates,
)
from ..noise import NoiseSource
from .base import Estimator, require_positive
from .one_coordinate import is_coordinate, to_rows
from .protocol import Branch, Evaluations, Paper, Site
from .support import check_support, has_one_support


@dataclass(frozen=True, eq=False, kw_only=True)
class _Table(Branch):
    """All other values of each coordinate, and the log probabilities of all, support on the left."""

    log_probs: Tensor


@dataclass(frozen=True, eq=False)
class LocalExpectation(Estimator):
    r"""The expectation over each coordinate's support, exactly, given a sample of the others.

    .. math::
        \sum_d \sum_k \nabla_\phi q_\phi(z_d = k)\; f(z_{-d}, z_d = k)

    For factorised sites (the coordinates that ``to_event`` joins). For categoricals this is the
    IndeCateR estimator. ``D`` coordinates with ``K`` values each cost ``1 + D (K - 1)`` evaluations;
    those of the alternatives build no autograd graph. Serves Bernoulli, categorical and one-hot sites,
    and Binomial and BetaBinomial ones of one ``total_count``.

    Args:
        max_evaluations: how many alternatives are evaluated at once, a bound on memory that does not
            change the result. ``None``: as many as have about 64 million numbers in all their values.

    Raises:
        EstimatorError: a cost that depends on the site lies outside one of the site's plates.

    References:
        Titsias, Lázaro-Gredilla, 2015, Local Expectation Gradients for Black Box Variational
        Inference, https://arxiv.org/abs/1503.01494; De Smet, Sansone, Zuidberg Dos Martires, 2023,
        Differentiable Sampling of Categorical Distributions Using the CatLog-Derivative Trick,
        https://arxiv.org/abs/2311.12569

    Example:
        >>> import pyro_reparam_ext as pre
        >>> pre.LocalExpectation(max_evaluations=64)
        LocalExpectation(max_evaluations=64)
    """

    max_evaluations: int | None = None

    unbiased = True
    paper = Paper(
        "Titsias, Lázaro-Gredilla",
        "Local Expectation Gradients for Black Box Variational Inference",
        2015,
        "1503.01494",
    )
    supported = (
        torch.distributions.Bernoulli,
        torch.distributions.Categorical,
        torch.distributions.OneHotCategorical,
        torch.distributions.Binomial,
        BetaBinomial,
    )
    coordinatewise = True

    def __post_init__(self) -> None:
        require_positive("LocalExpectation", max_evaluations=self.max_evaluations)

    def check(self, name: str, fn: TorchDistribution, source: NoiseSource) -> None:
        super().check(name, fn, source)
        check_support(self, name, fn)

    def serves(self, fn: TorchDistribution) -> bool:
        return self.supports(fn) and has_one_support(fn)

    def evaluations(self, fn: TorchDistribution) -> int:
        size = len(coordinate_support(coordinates(fn)))
        return 1 + (size - 1) * num_coordinates(fn)

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        fn, base = site.fn, site.base
        support, index = coordinate_support(base), class_of(base, site.value)
        others, event_dim = len(support) - 1, len(base.event_shape)
        log_probs = support_log_probs(base, support, site.value)

        def values(start: int, stop: int) -> Tensor:
            """Alternative ``d * others + s``: coordinate ``d`` moved ``s + 1`` places on."""
            number = torch.arange(start, stop, device=site.value.device)  # shape: (rows,)
            shift = (number % others + 1).reshape((-1,) + (1,) * index.dim())
            place = (index + shift) % len(support)  # shape: (rows, *batch, *coordinates)
            moved = support[place]  # shape: (rows, *batch, *coordinates, *event of a coordinate)
            mask = is_coordinate(site, number // others)
            # The program never sees an impossible value: the ordinary one stands for it.
            mask = mask & (log_probs.gather(0, place) > -math.inf)
            return torch.where(mask.reshape(mask.shape + (1,) * event_dim), moved, site.value)

        count = others * num_coordinates(fn)
        return (_Table(count, values, chunk=self.max_evaluations, log_probs=log_probs),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        (table,) = evaluations.branches
        assert isinstance(table, _Table)
        site, log_probs = evaluations.site, table.log_probs
        index, size = class_of(site.base, site.value), len(log_probs)
        order = index + torch.arange(1, size, device=index.device).reshape((-1,) + (1,) * index.dim())
        probs = log_probs.gather(0, order % size).exp()  # shape: (size - 1, *batch, *coordinates)
        # Alternatives are ordered (coordinate, value); bring the probabilities into that order.
        probs = to_rows(site, probs).flatten(0, 1)  # shape: (alternatives, *batch)
        return (probs * (evaluations.costs[1:] - evaluations.cost)).sum(0)

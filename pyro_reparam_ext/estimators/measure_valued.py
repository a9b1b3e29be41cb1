"""Measure-valued gradients: differences of costs at coupled pairs of values of a coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.weak_derivative import (
    WeakDerivative,
    WeakDerivatives,
    classes,
    weak_derivatives,
)
from ..distributions.rules.wrappers import innermost, num_coordinates
from ..errors import EstimatorError
from ..noise import NoiseSource
from .base import Estimator
from .one_coordinate import is_coordinate, to_rows
from .protocol import Branch, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pairs(Branch):
    """The values of all pairs, coordinate by coordinate, and the derivatives that they belong to."""

    derivatives: list[WeakDerivative]


@dataclass(frozen=True, eq=False)
class MeasureValued(Estimator):
    r"""A difference of costs for each parameter of each coordinate, the others held: no score, no path.

    With :math:`\nabla_\theta p_\theta = c_\theta (p^+ - p^-)` the derivative of the density of one
    coordinate :math:`d`,

    .. math::
        \sum_d c_{\theta_d} \big(f(z_{-d}, z_d^+) - f(z_{-d}, z_d^-)\big) \nabla_\phi \theta_d ,
        \qquad z_d^\pm \sim p^\pm_{\theta_d}

    The two values are coupled, and one of them is the value that was drawn wherever its law allows
    that. For a Poisson rate this is :math:`f(z_d + 1) - f(z_d)`, for a Binomial probability what one
    trial makes that succeeds instead of failing. Costs that do not depend on a coordinate cancel.

    =========================================  ================================  ==================
    distribution                               parameters                        evaluations for D
    =========================================  ================================  ==================
    Poisson, Binomial, Bernoulli, Exponential  all (``total_count`` is fixed)    1 + D
    Gamma, Weibull                             ``rate``; ``scale``               1 + D
    Geometric, NegativeBinomial                ``probs`` or ``logits``           1 + 2 D
    Uniform                                    ``low``, ``high``                 1 + 2 D
    Normal                                     ``loc``, ``scale``                1 + 3 D
    Categorical of K values                    ``probs`` or ``logits``           1 + (K - 1) D
    =========================================  ================================  ==================

    For Bernoulli and Categorical it is :class:`LocalExpectation`. Costs need not be differentiable, nor
    continuous.

    Raises:
        EstimatorError: the distribution is another one, or a parameter requires a gradient that has no
            such pair: the ``concentration`` of Gamma and Weibull, ``total_count``; or a cost that
            depends on the site lies outside one of the site's plates.

    References:
        Pflug, 1989, Sampling derivatives of probabilities; Mohamed, Rosca, Figurnov, Mnih, 2020, Monte
        Carlo Gradient Estimation in Machine Learning, https://arxiv.org/abs/1906.10652 (section 6);
        Heidergott, Vázquez-Abad, 2000, Measure-valued differentiation for Markov chains.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def guide():
        ...     rate = pyro.param("rate", torch.ones(5), constraint=dist.constraints.positive)
        ...     q = dist.Poisson(rate).to_event(1)
        ...     pyro.sample("z", q, infer={"estimator": pre.MeasureValued()})
    """

    unbiased = True
    paper = Paper(
        "Mohamed, Rosca, Figurnov, Mnih",
        "Monte Carlo Gradient Estimation in Machine Learning",
        2020,
        "1906.10652",
    )
    supported = classes()
    coordinatewise = True

    def supports(self, fn: TorchDistribution) -> bool:
        return weak_derivatives(type(innermost(fn))) is not None

    def serves(self, fn: TorchDistribution) -> bool:
        return self.supports(fn) and not _learned_without(fn)

    def check(self, name: str, fn: TorchDistribution, source: NoiseSource) -> None:
        super().check(name, fn, source)
        learned = _learned_without(fn)
        if learned:
            raise EstimatorError(
                f"site '{name}': MeasureValued was given a {type(innermost(fn)).__name__} whose "
                f"{' and '.join(learned)} requires a gradient, in which there is no coupled pair; "
                f"expected it fixed. Detach it, or: {self.advice(fn)}"
            )

    def evaluations(self, fn: TorchDistribution) -> int:
        base = innermost(fn)
        return 1 + num_coordinates(fn) * _rule(base).values(base)

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        derivatives = _rule(site.base).at(site.base, site.value)
        ends = torch.stack([end.to(site.value.dtype) for end in _ends(derivatives)]).detach()

        def values(start: int, stop: int) -> Tensor:
            """Alternative ``d * len(ends) + e``: coordinate ``d`` at end ``e``."""
            number = torch.arange(start, stop, device=site.value.device)
            here = is_coordinate(site, number // len(ends))
            return torch.where(here, ends[number % len(ends)], site.value)

        count = len(ends) * num_coordinates(site.fn)
        return (_Pairs(count, values, derivatives=derivatives),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, (pairs,) = evaluations.site, evaluations.branches
        assert isinstance(pairs, _Pairs)
        costs = evaluations.costs[1:].unflatten(0, (num_coordinates(site.fn), -1))
        terms, end = [], 0
        for derivative in pairs.derivatives:
            sides = []
            for value in (derivative.plus, derivative.minus):
                sides.append(evaluations.cost if value is None else costs[:, end])
                end += value is not None
            moved = derivative.constant * derivative.parameter
            terms.append(to_rows(site, moved) * (sides[0] - sides[1]))
        return torch.stack(terms).sum((0, 1))


def _rule(base: TorchDistribution) -> WeakDerivatives:
    rule = weak_derivatives(type(base))
    assert rule is not None
    return rule


def _ends(derivatives: list[WeakDerivative]) -> list[Tensor]:
    """The values at which costs have to be known, in order."""
    return [end for d in derivatives for end in (d.plus, d.minus) if end is not None]


def _learned_without(fn: TorchDistribution) -> list[str]:
    """The parameters in which there is no derivative, and one is asked for."""
    base = innermost(fn)
    found = (getattr(base, name) for name in _rule(base).without)
    names = _rule(base).without
    return [n for n, x in zip(names, found, strict=True) if isinstance(x, Tensor) and x.requires_grad]

"""ARMS: several values that keep away from each other, by a Dirichlet copula."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..errors import EstimatorError
from ..noise import NoiseSource
from ..numerics.dirichlet_copula import others
from .base import Estimator
from .decisions import (
    DECIDED,
    coupled_surrogate,
    decided,
    decision_logits,
    decision_noise,
    draw_decided,
)
from .protocol import Branch, Draw, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class ARMS(Estimator):
    r"""The score function with the mean of values as baseline that keep away from each other.

    Values :math:`b_i = 1[u_i < p]` of a Bernoulli site are made of uniforms :math:`u_1, \dots, u_n`
    that a Dirichlet copula couples, where :math:`p \le 1/2`; else :math:`1 - b_i` are. The gradient is

    .. math::
        \frac{1}{n - 1} \sum_i \Big(f(b_i) - \frac1n \sum_j f(b_j)\Big)\, \rho\,
        \nabla_\phi \log q_\phi(b_i), \qquad \rho = \frac{p (1 - p)}{\Pr(b_1 = 1, b_2 = 0)}.

    A class is the end of a way through a balanced binary tree, and each turn on it is such a value, as
    for :class:`DisARM`; two values are a pair of that. (CARMS couples classes by permuted intervals
    instead. Its weights grow with the square of the number of classes, and have more variance.)

    Serves Bernoulli, categorical and one-hot sites; ``num_samples`` evaluations, each of which the
    model learns from.

    Args:
        num_samples: values per particle, 2 or more.

    Raises:
        EstimatorError: ``num_samples`` is less than 2.

    References:
        Dimitriev, Zhou, 2021, ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary Variables,
        https://arxiv.org/abs/2105.14141; Dimitriev, Zhou, 2021, CARMS:
        Categorical-Antithetic-REINFORCE Multi-Sample Gradient Estimator,
        https://arxiv.org/abs/2110.14002

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.ARMS(num_samples=3)})
    """

    num_samples: int = 4

    unbiased = True
    paper = Paper(
        "Dimitriev, Zhou",
        "ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary Variables",
        2021,
        "2105.14141",
    )
    supported = DECIDED

    def __post_init__(self) -> None:
        if self.num_samples < 2:
            raise EstimatorError(
                f"ARMS: num_samples must be 2 or more, was given {self.num_samples!r}."
            )

    def evaluations(self, fn: TorchDistribution) -> int:
        return self.num_samples

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        return draw_decided(fn, source)

    @torch.no_grad()
    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        logits, noise = decision_logits(site.base), decision_noise(site)
        # What keeps apart are the decisions of the smaller probability.
        mirrored = logits > 0
        noise = others(torch.where(mirrored, 1 - noise, noise), self.num_samples)
        decisions = (noise < (-logits.abs()).sigmoid()) ^ mirrored
        return (Branch.of(decided(site, decisions), weights=1 / self.num_samples),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, (branch,) = evaluations.site, evaluations.branches
        values = torch.cat([site.value[None], branch.values(0, branch.count)])
        return coupled_surrogate(site, values, evaluations.costs)

"""DisARM: antithetic pairs of discrete values with the augmentation integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..noise import NoiseSource, uniform_like
from .base import Estimator, require_positive
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
class DisARM(Estimator):
    r"""Antithetic pairs of discrete values, the augmenting noise integrated out (also: U2G).

    A Bernoulli value :math:`b = 1[u < p]` has the twin :math:`\tilde b = 1[1 - u < p]`. With
    :math:`\alpha` the logits, the gradient of coordinate :math:`d` is

    .. math::
        \tfrac12 \big(f(b) - f(\tilde b)\big)\, (-1)^{\tilde b_d}\, 1[b_d \ne \tilde b_d]\,
        \sigma(|\alpha_d|)

    A class is the end of a way through a balanced binary tree, and each turn on it is such a value,
    with a twin of its own (DisARM-Tree). Turns that both classes come to have the gradient above; a
    turn :math:`b` that only one of them, of cost :math:`f`, comes to has

    .. math::
        \tfrac12 \big(f - \tilde f\big)\, (b - p).

    Serves Bernoulli, categorical and one-hot sites; the average over ``num_pairs`` independent pairs
    takes ``2 * num_pairs`` evaluations, each of which the model learns from.

    Args:
        num_pairs: antithetic pairs per particle.

    References:
        Dong, Mnih, Tucker, 2020, DisARM: An Antithetic Gradient Estimator for Binary Latent
        Variables, https://arxiv.org/abs/2006.10680; Dong, Mnih, Tucker, 2021, Coupled Gradient
        Estimators for Discrete Latent Variables, https://arxiv.org/abs/2106.08056; Yin, Ho, Yan, Qian,
        Zhou, 2020, Probabilistic Best Subset Selection via Gradient-Based Optimization,
        https://arxiv.org/abs/2006.06448

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def guide():
        ...     logits = pyro.param("logits", torch.zeros(5))
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     pyro.sample("z", q, infer={"estimator": pre.DisARM()})
    """

    num_pairs: int = 1

    unbiased = True
    paper = Paper(
        "Dong, Mnih, Tucker",
        "DisARM: An Antithetic Gradient Estimator for Binary Latent Variables",
        2020,
        "2006.10680",
    )
    supported = DECIDED

    def __post_init__(self) -> None:
        require_positive("DisARM", num_pairs=self.num_pairs)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 2 * self.num_pairs

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        return draw_decided(fn, source)

    @torch.no_grad()
    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        logits, first = decision_logits(site.base), decision_noise(site)
        noise = torch.stack([first] + [uniform_like(logits) for _ in range(self.num_pairs - 1)])
        # first the values but the ordinary one, then all twins
        decisions = torch.cat([noise[1:], 1 - noise]) < logits.sigmoid()
        return (Branch.of(decided(site, decisions), weights=1 / (2 * self.num_pairs)),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, (branch,) = evaluations.site, evaluations.branches
        values = torch.cat([site.value[None], branch.values(0, branch.count)])
        pairs = (x.unflatten(0, (2, self.num_pairs)) for x in (values, evaluations.costs))
        return coupled_surrogate(site, *pairs).mean(0)

"""DisARM: antithetic pairs of Bernoulli values with the augmentation integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.wrappers import coordinates, num_coordinate_dims, sum_rightmost
from ..noise import NoiseSource
from ..numerics.relaxation import within
from .base import Estimator, require_positive
from .protocol import Branch, Draw, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class DisARM(Estimator):
    r"""Antithetic pairs of Bernoulli values, the augmenting noise integrated out (also: U2G).

    A value :math:`b = 1[u < p]` has the twin :math:`\tilde b = 1[1 - u < p]`. With :math:`\alpha` the
    logits, the gradient of coordinate :math:`d` is

    .. math::
        \tfrac12 \big(f(b) - f(\tilde b)\big)\, (-1)^{\tilde b_d}\, 1[b_d \ne \tilde b_d]\,
        \sigma(|\alpha_d|)

    Serves Bernoulli sites; the average over ``num_pairs`` independent pairs takes
    ``2 * num_pairs`` evaluations, each of which the model learns from.

    Args:
        num_pairs: antithetic pairs per particle.

    References:
        Dong, Mnih, Tucker, 2020, DisARM: An Antithetic Gradient Estimator for Binary Latent
        Variables, https://arxiv.org/abs/2006.10680; Yin, Ho, Yan, Qian, Zhou, 2020, Probabilistic
        Best Subset Selection via Gradient-Based Optimization, https://arxiv.org/abs/2006.06448

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
    supported = (torch.distributions.Bernoulli,)

    def __post_init__(self) -> None:
        require_positive("DisARM", num_pairs=self.num_pairs)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 2 * self.num_pairs

    @torch.no_grad()
    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        probs = coordinates(fn).probs
        noise = source.uniform(probs.shape, probs)
        return Draw((noise < probs).to(probs.dtype), noise=noise)

    @torch.no_grad()
    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        probs, values = site.base.probs, []
        noise = _noise(probs, site.value) if site.draw.noise is None else site.draw.noise
        for pair in range(self.num_pairs):
            if pair:
                noise = torch.rand_like(probs)
                values.append(noise < probs)
            values.append(1 - noise < probs)
        # twin, value, twin, ...; shape: (2 num_pairs - 1, *value.shape)
        stacked = torch.stack(values) if self.num_pairs > 1 else values[0][None]
        stacked = stacked.to(site.value.dtype)
        return (Branch.of(stacked, weights=1 / (2 * self.num_pairs)),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site, costs = evaluations.site, evaluations.costs
        logits, dims = within(site.base.logits), num_coordinate_dims(site.fn)
        twins = evaluations.branches[0].values(0, len(costs) - 1)
        if self.num_pairs > 1:
            values, twins = torch.cat([site.value[None], twins[1::2]]), twins[0::2]
            differences = costs[0::2] - costs[1::2]  # shape: (num_pairs, *batch)
        else:
            values, twins = site.value, twins[0]
            differences = costs[0] - costs[1]  # shape: batch
        # (-1)^twin where value and twin differ, 0 where they agree
        sign = values - twins
        coefficient = (sign * logits.detach().abs().sigmoid()).detach()
        terms = 0.5 * differences * sum_rightmost(coefficient * logits, dims)
        return terms.mean(0) if self.num_pairs > 1 else terms


def _noise(probs: Tensor, value: Tensor) -> Tensor:
    """The uniform ``u`` behind a value ``1[u < probs]``."""
    noise = torch.rand_like(probs) * torch.where(value > 0.5, probs, 1 - probs)
    return torch.where(value > 0.5, noise, probs + noise)

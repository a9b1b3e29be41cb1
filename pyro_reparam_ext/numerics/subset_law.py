r"""The law of the k items that arrive first, item i after an exponential time of rate :math:`e^{l_i}`.

Integrals over time are taken by the trapezoidal rule in its logarithm, where every arrival has the same
width: whatever the logits are, the same nodes serve. Their relative precision is 1e-10 in float64, 1e-6
in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from .log1mexp import log1mexp
from .log_weighted_sum import log_weighted_sum


def log_subset_probability(value: Tensor, logits: Tensor, k: int) -> Tensor:
    r"""The logarithm of the probability of the subset, given as a k-hot vector in the last dim.

    With :math:`R` the rate of the first arrival among all others,

    .. math::
        P(y) = \int_0^1 \prod_i \Big(1 - v^{e^{l_i} / R}\Big)^{y_i} dv, \qquad
        R = \sum_i (1 - y_i)\, e^{l_i},

    defined and smooth for every value in [0, 1] but for ones everywhere.
    """
    log_rates = logits - log_weighted_sum(1 - value, logits).unsqueeze(-1)
    log_times, log_weights = _nodes(k, logits)
    # v = exp(-e^s), with s the logarithm of the time.
    log_arrived = _log_arrived(log_rates.unsqueeze(-2) + log_times.unsqueeze(-1))
    return ((value.unsqueeze(-2) * log_arrived).sum(-1) + log_weights).logsumexp(-1)


def inclusion_probabilities(logits: Tensor, k: int) -> Tensor:
    """The probability of each item to be among the first k; n steps on n k numbers at each node."""
    n = logits.shape[-1]
    log_times, log_weights = _nodes(k, logits)
    # At each node item i arrives at e^s / e^l_i. Axes: item, node, count of the others' arrivals.
    now = (log_times - logits.unsqueeze(-1)).unsqueeze(-1)
    is_zero = torch.arange(k, device=logits.device) == 0
    counts = is_zero.to(logits.dtype).expand(now.shape[:-1] + (k,))
    itself = torch.eye(n, dtype=torch.bool, device=logits.device)
    for j in range(n):
        log_p = _log_arrived(now + logits[..., j, None, None, None])
        arrived = torch.where(itself[:, j, None, None], 0.0, log_p.exp())
        counts = counts + arrived * (pad(counts[..., :-1], (1, 0)) - counts)
    return (counts.sum(-1) * log_weights.exp()).sum(-1)


def _log_arrived(log_time: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x = e^log_time."""
    low, high = -60.0, 5.0
    x = log_time.clamp(low, high).exp()
    # Below, log(1 - exp(-x)) = log x to rounding.
    return log1mexp(-x) + (log_time - low).clamp(max=0)


def _nodes(k: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of times, and of their weights with the density of an exponential time."""
    start, step, count = _rule(k, 24.0 if like.dtype == torch.float64 else 14.5)
    log_times = start + step * torch.arange(count, dtype=like.dtype, device=like.device)
    return log_times, math.log(step) + log_times - log_times.exp()


def _rule(k: int, digits: float) -> tuple[float, float, int]:
    r"""First node, step h and number of nodes, for a relative error of about ``exp(-digits)``.

    At a distance :math:`\theta < \pi / 2` from the real line the integrand grows by up to
    :math:`\cos(\theta)^{-(k + 1)}`, and the error is that times :math:`e^{-2 \pi \theta / h}`.
    """
    angles = [0.05 * i for i in range(1, 32)]
    step = max([2 * math.pi * t / (digits - (k + 1) * math.log(math.cos(t))) for t in angles])
    # Below, the integrand falls like e^s or faster; above, no slower than a Gamma(k + 1) density.
    start, end = -digits - 1, math.log(k + 1 + digits + math.sqrt(2 * digits * (k + 1)))
    return start, step, math.ceil((end - start) / step) + 1

r"""The ELBO, and how much tighter the importance-weighted bound of the same draws is.

.. math:: \mathrm{gap} = \log \frac1S \sum_s w_s - \frac1S \sum_s \log w_s

It is at least 0, and 0 for a guide that is exact. Its mean grows with :math:`S` to the divergence
:math:`KL(q, p(z \mid x))`, so that it is a lower bound of it.

References:
    Burda, Grosse, Salakhutdinov, 2016, Importance Weighted Autoencoders,
    https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bound:
    """The ELBO and the gap in nats, with their standard errors."""

    elbo: float
    elbo_error: float
    gap: float
    gap_error: float


def bound(log_weights: np.ndarray) -> Bound:
    """ELBO and gap of log weights, shape ``(draws,)``."""
    draws, elbo, top = len(log_weights), log_weights.mean(), log_weights.max()
    weights = np.exp(log_weights - top)
    tighter = np.log(weights.mean()) + top
    influence = weights / weights.mean() - 1 - (log_weights - elbo)
    return Bound(
        float(elbo),
        float(log_weights.std(ddof=1) / draws**0.5),
        max(float(tighter - elbo), 0.0),
        float(influence.std(ddof=1) / draws**0.5),
    )

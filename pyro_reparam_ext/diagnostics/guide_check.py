"""The result of a check: a verdict, its figures, and the sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame


CONSTANT = 1e-7
"""The error of the ELBO, over its size, of weights that are constant up to rounding."""


@dataclass(frozen=True, eq=False, repr=False)
class GuideCheck:
    """Whether a guide did its work, by importance weights of its own draws.

    Returned by :func:`check_guide`.

    - ``ok``: whether the guide's draws can stand for the posterior. No k-hat lies above the ``limit``
      for so many draws (``num_samples``). Beyond two errors, the weights move no mean by more than half
      of the guide's sd, change no sd by more than a factor of 1.3 and no probability of lying below a
      value by more than 0.15, and the gap is no more than 1/8 nat for each coordinate, that of a mean
      which is half an sd off. A few steps along the gradient gain less than a quarter of the gap, or
      less than 0.1 nats;
    - ``khat``: the Pareto shape of the weights' tail; minus infinity where the weights are bounded and
      their bound is met often. Its standard error is about ``(1 + khat) / sqrt(tail)`` with the
      ``3 sqrt(num_samples)`` draws of the tail: 0.14 at 0.9 and 4,000 draws;
    - ``elbo``: in nats, with ``elbo_error``;
    - ``gap``: how much tighter the importance-weighted bound of all draws is, in nats, with
      ``gap_error``: on average no more than the divergence of the guide from the posterior;
    - ``gain``: the nats that a few steps along the gradient would gain; 0 where the slope can't be told
      from zero;
    - ``sites``: one row per latent site, the worst first. ``khat``: that of the weights of the worst
      element of its plate, where model and guide factorise over it, else NaN; ``elements`` of that
      plate, ``bad`` ones among them, and the ``worst``. ``mean_shift``: how far the weights of the
      program move the mean, in sds of the guide; ``sd_ratio``: their sd over the guide's;
      ``cdf_shift``: the most by which they change the probability of lying below a value; with errors,
      of the ``coordinate`` where they are the furthest;
    - ``advice``: one sentence;
    - ``local``: by plate, k-hat of each element;
    - ``objective``: one sentence where the ELBO is of a tempered objective, else empty.
    """

    ok: bool
    khat: float
    elbo: float
    elbo_error: float
    gap: float
    gap_error: float
    gain: float
    sites: DataFrame
    advice: str
    limit: float
    num_samples: int
    local: dict[str, np.ndarray] = field(default_factory=dict)
    objective: str = ""

    def __repr__(self) -> str:
        shown = self.sites.head(10)[["khat", "bad", "worst", "mean_shift", "sd_ratio"]].round(2)
        more = len(self.sites) - len(shown)
        lines = [
            f"GuideCheck: {'ok' if self.ok else 'not ok'}",
            self.advice,
            self._figures(),
            *([self.objective] if self.objective else []),
            shown.to_string(),
            *([f"... and {more} more sites"] if more > 0 else []),
        ]
        return "\n".join(lines)

    def _figures(self) -> str:
        if np.isnan(self.khat):
            return f"a point estimate has no k-hat and no gap; log joint density {self.elbo:.2f}"
        tail = f"k-hat {self.khat:.2f} (limit {self.limit:.2f}, {self.num_samples:,} draws)"
        if self.khat == -np.inf:
            constant = self.elbo_error <= CONSTANT * max(1.0, abs(self.elbo))
            tail = "weights are constant: the guide is exact" if constant else "weights have no tail"
            tail += f" ({self.num_samples:,} draws)"
        return (
            f"{tail}, ELBO {self.elbo:.2f} ± {self.elbo_error:.2f}, gap {self.gap:.2f} ± "
            f"{self.gap_error:.2f} nats"
        )

    def plot(self, axes: Any = None) -> Any:
        """k-hat of every element of a plate, and how far the weights move each site.

        Args:
            axes: two matplotlib axes; made if not given.

        Returns:
            The two axes.
        """
        from .plot import plot_check

        return plot_check(self, axes)

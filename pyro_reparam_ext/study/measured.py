"""What was measured of one label of a study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .conditions import Conditions
from .moments import Moments


@dataclass(frozen=True, eq=False)
class Measured:
    """Draws of one label's gradient, and what is known of it."""

    moments: Moments
    kept: dict[str, np.ndarray]
    unbiased: bool
    conditions: Conditions
    evaluations: int
    seconds: float
    batched: bool

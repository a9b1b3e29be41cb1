"""Signal-to-noise ratios read off the moments that an optimiser keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def running_ratios(
    parameters: Mapping[str, Tensor], state: Callable[[Tensor], Mapping[str, Any]]
) -> dict[str, float]:
    r"""The ratio of each parameter whose optimiser keeps both moments of its gradients.

    With the running mean :math:`m` and the running square :math:`v` of Adam, both corrected for where
    they began, :math:`v - m^2` is the variance but for the noise of :math:`m` itself, which has
    :math:`\tfrac{1 - \beta}{1 + \beta}` of it. The two are means over different numbers of steps, so
    that the difference is rough where the ratio is above one.

    Args:
        parameters: by their names.
        state: what the optimiser keeps for a parameter, with its ``betas``.
    """
    found = {}
    for name, parameter in parameters.items():
        kept = state(parameter)
        if not {"exp_avg", "exp_avg_sq"} <= kept.keys() or kept["betas"] is None:
            continue
        with torch.no_grad():
            steps = float(torch.as_tensor(kept.get("step", 1)))
            first, second = kept["betas"]
            mean = kept["exp_avg"] / (1 - first**steps)
            square = kept["exp_avg_sq"] / (1 - second**steps)
            noise = (1 - first) / (1 + first)
            variance = float((square - mean.square()).sum().clamp(min=0)) / (1 - noise)
            signal = max(float(mean.square().sum()) - noise * variance, 0.0)
        found[name] = signal / variance if variance else float("nan")
    return found

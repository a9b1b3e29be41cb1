"""The table of latent sites: the k-hat of their own weights, and how far the weights move them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .guide_draws import Latent
from .pareto import smoothed_weights, tail_shapes
from .shift import Shift, shift
from .weighted_draws import WeightedDraws

if TYPE_CHECKING:
    from pandas import DataFrame


def local_shapes(draws: WeightedDraws) -> dict[str, np.ndarray]:
    """By plate over which the program factorises: k-hat of each of its elements."""
    return {plate: tail_shapes(weights) for plate, weights in draws.local.items()}


@dataclass(frozen=True, eq=False)
class _Moved:
    """The shift of all coordinates of a site, in the shape of its value, and the worst of them."""

    shift: Shift
    worst: int
    index: str


def sites_table(draws: WeightedDraws, shapes: dict[str, np.ndarray], limit: float) -> DataFrame:
    """One row per latent site, the worst first; see :class:`~pyro_reparam_ext.GuideCheck`."""
    import pandas as pd

    joint = smoothed_weights(draws.log_weights)
    rows: dict[str, dict[str, Any]] = {}
    order: dict[str, tuple[bool, float]] = {}
    for name, site in draws.sites.items():
        plates = [plate for plate in site.plates if plate in shapes]
        plate = max(plates, key=lambda p: shapes[p].max()) if plates else None
        of_site = shapes[plate] if plate is not None else np.array([])
        moved = _moved(site, joint)
        worst = moved.worst
        rows[name] = {
            "khat": of_site.max() if of_site.size else np.nan,
            "elements": of_site.size or 1,
            "bad": int((of_site > limit).sum()),
            "worst": f"{plate}[{of_site.argmax()}]" if of_site.size else "",
            "mean_shift": moved.shift.mean[worst] + 0.0,
            "mean_shift_error": moved.shift.mean_error[worst],
            "sd_ratio": np.exp(moved.shift.log_ratio[worst]),
            "sd_ratio_error": np.exp(moved.shift.log_ratio[worst]) * moved.shift.log_ratio_error[worst],
            "cdf_shift": moved.shift.cdf[worst],
            "cdf_shift_error": moved.shift.cdf_error[worst],
            "coordinate": moved.index,
        }
        order[name] = (bool(rows[name]["bad"]), float(moved.shift.distance[worst]))
    names = sorted(rows, key=lambda name: order[name], reverse=True)
    return pd.DataFrame.from_dict({n: rows[n] for n in names}, orient="index").rename_axis("site")


def _moved(site: Latent, weights: np.ndarray) -> _Moved:
    """The shift of a site under the weights of the program, shape ``(draws,)``."""
    values = site.values.double().numpy()
    shape = values.shape[1:]
    found = shift(values.reshape(len(values), -1), weights[:, None])
    worst = int(found.distance.argmax())
    index = np.unravel_index(worst, shape) if shape else ()
    return _Moved(found, worst, ", ".join(map(str, index)))

"""Counts with hierarchical rates: failures of pumps, or stops by the police of New York."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

PUMPS = {
    "failures": (5, 1, 5, 14, 3, 19, 1, 1, 4, 22),
    "thousands of hours": (94.320, 15.720, 62.880, 125.760, 5.240, 31.440, 1.048, 1.048, 2.096, 10.480),
}
"""Ten pumps of a nuclear power plant (Gaver and O'Muircheartaigh, 1987)."""

FRISK = "frisk_with_noise.dat"


class Subset(NamedTuple):
    """Stops for one type of crime, in precincts by the share of their people that is black."""

    crime: int
    above: float
    most: float


VIOLENT = Subset(1, 0.0, 0.1)
WEAPONS = Subset(2, 0.1, 0.4)
"""The subset by which gradients are compared (Miller et al., 2017)."""


@dataclass(frozen=True)
class Counts:
    """Counts with their exposures, and by factor the level of each of them, ``0, 1, ...``."""

    name: str
    counts: Tensor
    exposure: Tensor
    levels: dict[str, Tensor]


def model(data: Counts) -> None:
    """Log rates are a mean and, for each factor, an effect of the level, of a scale that is learned."""
    log_rate = pyro.sample("mu", dist.Normal(0.0, 5.0)) + data.exposure.log()
    for factor, levels in data.levels.items():
        scale = pyro.sample(f"{factor}_scale", dist.HalfNormal(1.0))
        with pyro.plate(f"{factor}s", int(levels.max()) + 1):
            effect = pyro.sample(factor, dist.Normal(0.0, scale))
        log_rate = log_rate + effect[..., levels]
    with pyro.plate("data", len(data.counts)):
        pyro.sample("count", dist.Poisson(log_rate.exp()), obs=data.counts)


def load(data_dir: str | Path | None = None, subset: Subset = VIOLENT) -> Counts:
    """The stops in ``data_dir``, or the pumps if it is None."""
    return pumps() if data_dir is None else stops(Path(data_dir) / FRISK, subset)


def pumps() -> Counts:
    failures, hours = (torch.tensor(column, dtype=torch.float32) for column in PUMPS.values())
    return Counts("pumps", failures, hours, {"pump": torch.arange(len(failures))})


def stops(path: Path, subset: Subset = VIOLENT) -> Counts:
    """Stops by ethnicity and precinct.

    The exposure is the number of arrests in the year before, at least one. That the stops are of 15
    months is left to the mean.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has not the columns of this file.
    """
    columns = ["stops", "pop", "past.arrests", "precinct", "eth", "crime"]
    try:
        frame = pd.read_csv(path, sep=r"\s+", skiprows=6)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file. --data-dir takes a folder with {FRISK}, of the book's data."
        ) from None
    if list(frame.columns) != columns:
        raise ValueError(f"{path}: expected the columns {columns}, found {list(frame.columns)}.")
    people = frame.drop_duplicates(["precinct", "eth"]).pivot(
        index="precinct", columns="eth", values="pop"
    )
    share = people[1] / people.sum(axis=1)
    where = people.index[(share > subset.above) & (share <= subset.most)]
    chosen = frame[(frame["crime"] == subset.crime) & frame["precinct"].isin(where)]
    precincts = np.unique(chosen["precinct"], return_inverse=True)[1]
    return Counts(
        "stops",
        torch.tensor(chosen["stops"].to_numpy(), dtype=torch.float32),
        torch.tensor(chosen["past.arrests"].clip(lower=1).to_numpy(), dtype=torch.float32),
        {
            "ethnicity": torch.tensor(chosen["eth"].to_numpy() - 1),
            "precinct": torch.tensor(precincts),
        },
    )

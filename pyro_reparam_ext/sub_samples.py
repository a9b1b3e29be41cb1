"""Sub-samples of plates that are chosen, and not drawn: together they have the costs of all data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeAlias

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .errors import EstimatorError
from .evaluation.recorder import DRAWN_FOR_ALL

Indices: TypeAlias = Mapping[str, Tensor]
"""By the name of a plate, the data that it shows."""


LOOKS = 3
"""Pairs of sub-samples of a plate that are looked at."""


@dataclass(frozen=True)
class Draws:
    """A plate draws ``part`` of its ``size`` data."""

    size: int
    part: int


class ChosenIndices(Messenger):
    """Notes which plates of a program draw a sub-sample, and gives them another.

    Indices that the program itself gives to a plate stay as they are.

    Attributes:
        plates: those that draw, by name.
        one_by_one: the names of those whose data are run one by one.
        chosen: what they get; each plate that draws has to be among them. None: what they draw.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plates: dict[str, Draws] = {}
        self.one_by_one: set[str] = set()
        self.chosen: Indices | None = None

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        if site_is_subsample(message):
            self._subsample(message)
            return
        frames = message["cond_indep_stack"]
        self.one_by_one |= {x.name for x in frames if not x.vectorized} & self.plates.keys()

    def _subsample(self, message: dict[str, Any]) -> None:
        fn, name = message["fn"], message["name"]
        drawn = message["value"] is None or DRAWN_FOR_ALL in message["infer"]
        if not drawn or fn.subsample_size is None or fn.subsample_size >= fn.size:
            return
        self.plates[name] = Draws(fn.size, fn.subsample_size)
        if self.chosen is None:
            return
        if name not in self.chosen:
            raise EstimatorError(
                f"plate {name!r}: take_snapshot was given a program that draws its sub-sample in some "
                f"runs only, expected the plates {sorted(self.chosen)} in each. {GIVE_BATCHES}"
            )
        device = "cuda" if fn.use_cuda else fn.device
        message["value"], message["done"] = self.chosen[name].to(device), True

    # -- which to choose ----------------------------------------------------------------------------

    def of_all_data(self) -> list[tuple[float, Indices]]:
        """Sub-samples with weights, in whose weighted mean costs are those of all data.

        Plates are independent of each other: it takes every batch of one with every one of the others.

        Raises:
            EstimatorError: a plate that is run one by one draws a part that does not divide its size:
                the names of its sites would be repeated.
        """
        for name in sorted(self.one_by_one):
            plate = self.plates[name]
            if plate.size % plate.part:
                raise EstimatorError(
                    f"plate {name!r}: take_snapshot was given one that is run one by one and draws "
                    f"{plate.part} of {plate.size} data, expected a number that divides "
                    f"{plate.size}. Choose such a subsample_size, or run the plate at once. "
                    f"{GIVE_BATCHES}"
                )
        batches = [weighted_batches(plate.size, plate.part) for plate in self.plates.values()]
        found: list[tuple[float, Indices]] = []
        for combined in product(*batches):
            weights, chosen = [w for w, _ in combined], [x for _, x in combined]
            found.append((prod(weights), dict(zip(self.plates, chosen, strict=True))))
        return found

    def first(self) -> Indices:
        """The first data of each plate."""
        return {name: torch.arange(plate.part) for name, plate in self.plates.items()}

    def last(self) -> Indices:
        """The last data of each plate."""
        return {name: torch.arange(x.size - x.part, x.size) for name, x in self.plates.items()}

    def exchanges(self) -> Iterator[tuple[str, list[Indices], list[Indices]]]:
        """For each plate two sub-samples, and the same two with some data exchanged; several times.

        Sums over data are the same for both pairs.
        """
        first, generator = self.first(), torch.Generator().manual_seed(0)
        for name, plate in self.plates.items():
            for _ in range(LOOKS):
                data = torch.randperm(plate.size, generator=generator)
                a, b = data[: plate.part], data[plate.size - plate.part :]
                some = max(min(plate.part, plate.size - plate.part) // 2, 1)  # of those in one alone
                c, d = a.clone(), b.clone()
                c[:some], d[-some:] = b[-some:], a[:some]
                before: list[Indices] = [{**first, name: a}, {**first, name: b}]
                after: list[Indices] = [{**first, name: c}, {**first, name: d}]
                yield name, before, after


def weighted_batches(size: int, part: int) -> list[tuple[float, Tensor]]:
    """Batches of one size, with weights: the weighted sum of their means is the mean of all data.

    Disjoint ones; then what is left, filled up with repeats of one datum, and a batch of that datum
    alone, which takes the repeats away again by its negative weight.

    Args:
        size: the number of data.
        part: the number in a batch.
    """
    data, left = torch.arange(size), size % part
    batches = [(part / size, batch) for batch in data[: size - left].split(part)]
    if left:
        repeated = data[:1].repeat(part)
        batches.append((part / size, torch.cat([data[size - left :], repeated[left:]])))
        batches.append(((left - part) / size, repeated))
    return batches


GIVE_BATCHES = (
    "Or let indices be an argument of the program, and give them to take_snapshot as batches."
)

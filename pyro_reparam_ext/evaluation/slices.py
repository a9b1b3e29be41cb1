"""The guide in one pass: the value of each latent site in every evaluation of the pass."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.discrete_noise import noise_given
from ..distributions.rules.relaxation import RELAXABLE, coordinate, noisy_logits, to_value
from ..distributions.rules.wrappers import coordinates
from ..errors import CannotVectorize, EstimatorError
from ..estimators.base import Alternatives, Draw, Site
from ..estimators.enumeration import Enumeration
from ..numerics.shapes import cat_rows
from .control_flow import ControlFlow
from .recorder import Rerun

if TYPE_CHECKING:
    from .passes import Program


@dataclass(frozen=True, eq=False)
class Group:
    """Alternatives ``start`` to ``stop - 1`` of the site number ``owner``."""

    owner: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class SlicePass(Rerun):
    """Gives each latent site of the guide its values in the evaluations of a pass."""

    def __init__(self, program: Program, groups: tuple[Group, ...], watch: ControlFlow | None) -> None:
        super().__init__(program, program.axes, watch or ControlFlow(), tracking=watch is not None)
        self.watch = watch
        self.groups = groups
        self.index = {site.name: i for i, site in enumerate(program.sites)}
        self.sites = {site.name: site for site in program.sites}
        self.draws: dict[str, Draw] = {}
        self.changed: dict[str, Draw] = {}
        self.owners = [group.owner for group in groups]
        self.starts = [0, *accumulate(len(group) for group in groups)]

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        name = message["name"]
        if message["is_observed"]:
            self.draws[name] = Draw(self.axes.shown_value(message["value"], message["fn"]))
            if name not in self.sites:
                self.sites[name] = self._new_site(message)
            return frozenset()
        if name not in self.index:
            self.sites[name] = site = self._new_site(message)
            self.draws[name] = self.changed[name] = draw = site.estimator.draw(fn)
        else:
            self.draws[name] = draw = self.assemble(self.index[name], fn)
            if draw is not self.program.ordinary.sites[self.index[name]].draw:
                self.changed[name] = draw
        self.give(message, draw.value)
        watched = self.watch is not None and name in self.changed
        return frozenset([name]) if watched else frozenset()

    def _new_site(self, message: dict[str, Any]) -> Site:
        """A site that the ordinary run did not have: only programs run one by one may do this."""
        if self.program.vectorized:
            raise CannotVectorize(
                f"site '{message['name']}': it occurs in some evaluations only, so the program has "
                f"dynamic structure",
                ever=False,
            )
        estimator = self.program.resolve(message)
        return Site(
            name=message["name"],
            fn=message["fn"],
            draw=Draw(torch.zeros(())),
            log_prob=torch.zeros(()),
            estimator=estimator,
            observed=message["is_observed"],
        )

    def assemble(self, number: int, fn: TorchDistribution) -> Draw:
        """The draws of site ``number`` in all evaluations; its ordinary one if they don't differ."""
        program, site = self.program, self.program.sites[number]
        natural = program.ordinary.sites[number]
        depends = not program.vectorized or len(fn.batch_shape) > program.batch_dims
        depends = depends and not isinstance(site.estimator, Enumeration)
        first, last = bisect_left(self.owners, number), bisect_right(self.owners, number)
        if first == last and not (first and depends):
            return natural.draw
        pieces: list[Draw] = []
        if first and depends:
            pieces += self._redrawn(site if program.vectorized else natural, fn, self.starts[first])
        elif first:
            pieces.append(_repeat(site.draw, self.starts[first]))
        for group in self.groups[first:last]:
            pieces.append(Draw(program.alternatives[number].values(group.start, group.stop)))
        if last < len(self.groups):
            pieces.append(_repeat(site.draw, self.starts[-1] - self.starts[last]))
        draw = cat(pieces)
        return draw if program.vectorized else draw.map(lambda x: x[0].reshape(fn.shape()))

    def _redrawn(self, site: Site, fn: TorchDistribution, stop: int) -> Iterator[Draw]:
        """The draws of a site in the first ``stop`` evaluations, which belong to sites before it."""
        hard: Draw | None = None
        for run in self.runs:
            if run.start >= stop:
                return
            rows = slice(run.start, min(run.stop, stop)) if self.program.vectorized else None
            if run.temperature is None or site.estimator.differentiable:
                hard = hard or site.estimator.redraw(site, fn)
                draw = hard if rows is None else _rows(hard, rows)
            else:
                draw = _relaxed_redraw(site, fn, run, rows)
            yield one(draw) if rows is None else draw

    @cached_property
    def runs(self) -> list[_Run]:
        """The evaluations of the pass; those of relaxed values, and those of none, in one."""
        runs: list[_Run] = []
        alternatives = self.program.alternatives
        for relaxed, numbers in groupby(
            range(len(self.groups)), lambda i: alternatives[self.owners[i]].relaxed
        ):
            groups = [self.groups[i] for i in numbers]
            start = runs[-1].stop if runs else 0
            stop = start + sum(map(len, groups))
            temperature = _temperatures(groups, alternatives) if relaxed else None
            runs.append(_Run(start, stop, self.program.sites[groups[0].owner], temperature))
        return runs


@dataclass(frozen=True, eq=False)
class _Run:
    """Evaluations ``start`` to ``stop - 1``, from alternatives of the site ``owner`` and the next ones.

    ``temperature``: one for all of them or one for each, where their values are relaxed.
    """

    start: int
    stop: int
    owner: Site
    temperature: Tensor | float | None


def _temperatures(
    groups: list[Group], alternatives: Mapping[int, Alternatives]
) -> Tensor | float | None:
    if len(groups) == 1:
        return alternatives[groups[0].owner].temperature
    parts = []
    for group in groups:
        tensor, temperature = alternatives[group.owner].tensor, alternatives[group.owner].temperature
        assert tensor is not None and temperature is not None
        one_each = torch.as_tensor(temperature, dtype=tensor.dtype, device=tensor.device)
        parts.append(one_each.expand(len(group)))
    return torch.cat(parts)


def _relaxed_redraw(site: Site, fn: TorchDistribution, run: _Run, rows: slice | None) -> Draw:
    """A discrete site downstream of relaxed values, relaxed as well: its path stays differentiable."""
    base = coordinates(fn)
    if not isinstance(base, RELAXABLE):
        raise EstimatorError(
            f"site '{site.name}': it is sampled after site '{run.owner.name}', whose estimator "
            f"evaluates relaxed values; {type(base).__name__} can't be relaxed, and "
            f"{type(site.estimator).__name__} does not sample it pathwise; expected Bernoulli, "
            f"OneHotCategorical or Pathwise. "
            + (f"Use Pathwise for site '{site.name}'. Or, for " if fn.has_rsample else "For ")
            + f"site '{run.owner.name}': {run.owner.estimator.advice(run.owner.fn)}"
        )
    assert run.temperature is not None
    z, temperature = noisy_logits(base, noise_given(site.base, site.value)), run.temperature
    z = z if rows is None else z[rows]
    if isinstance(temperature, Tensor) and temperature.dim():  # one for each row
        temperature = temperature[: len(z)].reshape((-1,) + (1,) * (len(base.batch_shape) - 1))
    return Draw(to_value(base, coordinate(base, z, temperature)))


def _repeat(draw: Draw, count: int) -> Draw:
    return draw.map(lambda x: x.expand((count, *x.shape)))


def _rows(draw: Draw, rows: slice) -> Draw:
    return draw.map(lambda x: x[rows])


def one(draw: Draw) -> Draw:
    return draw.map(lambda x: x[None])


def cat(draws: list[Draw]) -> Draw:
    if len(draws) == 1:
        return draws[0]
    coordinates_ = [draw.coordinate for draw in draws if draw.coordinate is not None]
    value = cat_rows([draw.value for draw in draws])
    return Draw(value, cat_rows(coordinates_) if len(coordinates_) == len(draws) else None)

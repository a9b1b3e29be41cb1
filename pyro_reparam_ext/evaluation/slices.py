"""The guide in one pass: the value of each latent site in every evaluation of the pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.util import site_is_subsample

from ..errors import EstimatorError
from ..estimators.base import Alternatives, Draw, Site
from ..estimators.enumeration import Enumeration
from ..estimators.relaxation import RELAXABLE, coordinate, noisy_logits, to_value
from .control_flow import ControlFlow
from .noise import noise_given
from .ordinary import without_provenance
from .unwrap import cat_rows, coordinates

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


class SlicePass(TraceMessenger):
    """Gives each latent site of the guide its values in the evaluations of a pass."""

    def __init__(self, program: Program, groups: tuple[Group, ...], watch: ControlFlow | None) -> None:
        super().__init__()
        self.watch = watch
        self.program = program
        self.groups = groups
        self.index = {site.name: i for i, site in enumerate(program.sites)}
        self.sites = {site.name: site for site in program.sites}
        self.draws: dict[str, Draw] = {}
        self.changed: dict[str, Draw] = {}

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        name, fn = message["name"], message["fn"]
        if site_is_subsample(message):
            message["value"] = self.program.ordinary.trace.nodes[name]["value"]
            message["done"] = True
            return
        if not isinstance(fn, TorchDistributionMixin):
            return
        if self.watch is not None:
            fn, _ = without_provenance(fn)
        if message["is_observed"]:
            self.draws[name] = Draw(message["value"])
            if name not in self.sites:
                self.sites[name] = self._new_site(message)
            return
        if name not in self.index:
            self.sites[name] = site = self._new_site(message)
            self.draws[name] = self.changed[name] = draw = site.estimator.draw(fn)
        else:
            self.draws[name] = draw = self.assemble(self.index[name], fn)
            if draw is not self.program.ordinary.sites[self.index[name]].draw:
                self.changed[name] = draw
        message["value"], message["done"] = draw.value, True
        if self.watch is not None and name in self.changed:
            message["value"] = self.watch.track(draw.value, frozenset([name]))

    def _new_site(self, message: dict[str, Any]) -> Site:
        """A site that the ordinary run did not have: only programs run one by one may do this."""
        if self.program.vectorized:
            raise EstimatorError(
                f"site '{message['name']}': it occurs in some evaluations only, so the program has "
                f"dynamic structure. Pass vectorize_particles=False to the ELBO."
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
        redrawn: Draw | None = None
        pieces: list[Draw] = []
        changed, position = False, 0
        for group in self.groups:
            rows = slice(position, position + len(group))
            position += len(group)
            if group.owner == number:
                values = program.alternatives[number].values(group.start, group.stop)
                pieces.append(Draw(values))
                changed = True
            elif group.owner > number or not depends or isinstance(site.estimator, Enumeration):
                pieces.append(_repeat(site.draw, len(group)))
            else:
                changed = True
                old = site if program.vectorized else natural
                alternatives = program.alternatives[group.owner]
                if alternatives.relaxed and not site.estimator.differentiable:
                    draw = _relaxed_redraw(old, fn, alternatives, program.sites[group.owner])
                else:
                    redrawn = draw = redrawn or site.estimator.redraw(old, fn)
                pieces.append(_rows(draw, rows) if program.vectorized else one(draw))
        if not changed:
            return natural.draw
        draw = cat(pieces)
        return draw if program.vectorized else draw.map(lambda x: x[0].reshape(fn.shape()))


def _relaxed_redraw(site: Site, fn: TorchDistribution, alternatives: Alternatives, owner: Site) -> Draw:
    """A discrete site downstream of a relaxed value, relaxed as well: its path stays differentiable."""
    base = coordinates(fn)
    if not isinstance(base, RELAXABLE):
        raise EstimatorError(
            f"site '{site.name}': it is sampled after site '{owner.name}', whose estimator evaluates "
            f"relaxed values; {type(base).__name__} can't be relaxed, and "
            f"{type(site.estimator).__name__} does not sample it pathwise; expected Bernoulli, "
            f"OneHotCategorical or Pathwise. "
            + (f"Use Pathwise for site '{site.name}'. Or, for " if fn.has_rsample else "For ")
            + f"site '{owner.name}': {owner.estimator.advice(owner.fn)}"
        )
    assert alternatives.temperature is not None
    z = noisy_logits(base, noise_given(site.base, site.value))
    return Draw(to_value(base, coordinate(base, z, alternatives.temperature)))


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

"""The guide in one pass: the value of each latent site in every evaluation of the pass."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor

from ..distributions.rules.copies import rows
from ..distributions.rules.wrappers import innermost
from ..errors import CannotVectorize, EstimatorError
from ..estimators.protocol import COUPLED, Draw, Site
from ..noise import noise_of
from ..numerics.shapes import cat_rows
from .control_flow import ControlFlow
from .program import Program, Span
from .rerun import Rerun


class AlternativesPass(Rerun):
    """Gives each latent site of the guide its values in the evaluations of a pass.

    ``changed`` has the draws that are not the ordinary ones, ``joined`` those of ``joining`` that take
    their alternatives in the evaluation of the pass.

    Args:
        program: whose guide it is.
        spans: the alternatives of the pass.
        watch: where values report to that the program makes numbers of.
        joining: joint alternatives of other sites, for a pass of one that is joint.
    """

    def __init__(
        self,
        program: Program,
        spans: tuple[Span, ...],
        watch: ControlFlow | None,
        joining: Sequence[Span] = (),
    ) -> None:
        super().__init__(program, program.axes, watch or ControlFlow(), tracking=watch is not None)
        self.watch = watch
        self.spans = spans
        self.index = {site.name: i for i, site in enumerate(program.sites)}
        self.sites = {site.name: site for site in program.sites}
        self.draws: dict[str, Draw] = {}
        self.changed: dict[str, Draw] = {}
        self.joining = {span.owner: span for span in joining}
        self.joined: list[Span] = []
        self.owners = [span.owner for span in spans]
        self.starts = [0, *accumulate(len(span) for span in spans)]

    def sample(self, message: dict[str, Any], fn: TorchDistribution) -> frozenset[str]:
        name = message["name"]
        if message["is_observed"]:
            self.draws[name] = Draw(self.axes.shown_value(message["value"], message["fn"]))
            if name not in self.sites:
                self.sites[name] = self._new_site(message)
            return frozenset()
        if name not in self.index:
            self.sites[name] = site = self._new_site(message)
            source = self.program.ordinary.source
            with noise_of("site", name):
                draw = site.estimator.draw(fn, source)
            self.draws[name] = self.changed[name] = draw
        else:
            draw = self.assemble(self.index[name], fn)
            if draw is not self.program.ordinary.sites[self.index[name]].draw:
                if isinstance(innermost(fn), Delta):
                    draw = self._of_one_particle(draw, fn)
                self.changed[name] = draw
            self.draws[name] = draw
        self.give(message, draw.value)
        watched = self.watch is not None and name in self.changed
        return frozenset([name]) if watched else frozenset()

    def _of_one_particle(self, draw: Draw, fn: TorchDistribution) -> Draw:
        """A function of sites that are the same in all particles, which plates have only expanded."""
        dim = self.program.particle_dim
        if dim is None:
            return draw
        dim -= len(fn.event_shape)
        return draw.map(lambda x: x.narrow(dim, 0, 1) if x.stride(dim) == 0 else x)

    def _new_site(self, message: dict[str, Any]) -> Site:
        """A site that the ordinary run did not have: only programs run one by one may do this."""
        if self.program.vectorized:
            raise CannotVectorize(
                f"site '{message['name']}': it occurs in some evaluations only, so the program has "
                f"dynamic structure",
                ever=False,
            )
        return Site(
            name=message["name"],
            fn=message["fn"],
            draw=Draw(torch.zeros(())),
            log_prob=torch.zeros(()),
            estimator=self.program.resolve(message),
            observed=message["is_observed"],
        )

    def assemble(self, number: int, fn: TorchDistribution) -> Draw:
        """The draws of site ``number`` in all evaluations; its ordinary one if they don't differ."""
        with noise_of("site", self.program.sites[number].name):
            return self._assembled(number, fn)

    def _assembled(self, number: int, fn: TorchDistribution) -> Draw:
        program, site = self.program, self.program.sites[number]
        natural = program.ordinary.sites[number]
        depends = not program.vectorized or len(fn.batch_shape) > program.batch_dims
        depends = depends and not site.estimator.enumerated
        first, last = bisect_left(self.owners, number), bisect_right(self.owners, number)
        if first == last and not (first and depends):
            return self._taken_along(number) or natural.draw
        pieces: list[Draw] = []
        if first and depends:
            pieces += self._redrawn(site if program.vectorized else natural, fn, first)
        elif first:
            pieces.append(_repeat(site.draw, self.starts[first]))
        for span in self.spans[first:last]:
            pieces.append(Draw(_handed_over(site, span, program.values(span))))
        if last < len(self.spans):
            pieces.append(_repeat(site.draw, self.starts[-1] - self.starts[last]))
        draw = cat(pieces)  # shape: (evaluations, *fn.shape()), or 1 for dims
        return draw if program.vectorized else draw.map(lambda x: x[0].reshape(fn.shape()))

    def _taken_along(self, number: int) -> Draw | None:
        """The joint alternative of a site that does not depend on the owner of the pass."""
        span = self.joining.get(number)
        if span is None:
            return None
        self.joined.append(span)
        return Draw(_handed_over(self.program.sites[number], span, self.program.values(span)))

    def _redrawn(self, site: Site, fn: TorchDistribution, spans: int) -> Iterator[Draw]:
        """The draws of a site in the evaluations of the first spans, which sites before it own."""
        owned = self.spans[:spans]
        if not self.program.vectorized:
            yield one(self.program.branch(owned[0]).downstream(site, fn))
            return
        coupled: Draw | None = None
        start = 0
        for kind, alike in groupby(owned, lambda span: type(self.program.branch(span).downstream)):
            parts = [(self.program.branch(span).downstream, len(span)) for span in alike]
            joined = kind.joined(parts)
            if joined is not None:
                parts = [(joined, sum(count for _, count in parts))]
            for downstream, count in parts:
                stop = start + count
                if downstream is COUPLED:
                    coupled = coupled or downstream(site, fn)
                    yield _rows(coupled, start, stop)
                elif count == self.starts[-1]:
                    yield downstream(site, fn)
                else:
                    yield downstream(site, rows(fn, start, stop))
                start = stop


def _handed_over(site: Site, span: Span, values: Any) -> Tensor:
    """Alternative values that an estimator made.

    Raises:
        EstimatorError: they are not what the program can be given.
    """
    expected = (len(span), *site.value.shape)
    who = f"site '{site.name}': {type(site.estimator).__name__} made alternative values"
    if not isinstance(values, Tensor):
        raise EstimatorError(f"{who} of type {type(values).__name__}, expected a tensor.")
    if not _fits(values.shape, expected):
        raise EstimatorError(
            f"{who} {span.start} to {span.stop - 1} of shape {tuple(values.shape)}, expected "
            f"{expected}: one for each evaluation on a new leftmost dim, then the shape of the site's "
            f"value. Stack them on dim 0 (a single one: value[None])."
        )
    if values.dtype != site.value.dtype:
        raise EstimatorError(
            f"{who} of dtype {values.dtype}, expected that of the site's value, {site.value.dtype}. "
            f"Convert them by .to(site.value.dtype)."
        )
    return values


def _fits(shape: torch.Size, expected: tuple[int, ...]) -> bool:
    """Whether a shape is the expected one, but for dims of size 1 in place of others."""
    rest = zip(shape[1:], expected[1:], strict=False)
    same = len(shape) == len(expected) and shape[0] == expected[0]
    return same and all(size == good or 1 in (size, good) for size, good in rest)


def _repeat(draw: Draw, count: int) -> Draw:
    return draw.map(lambda x: x.expand((count, *x.shape)))


def _rows(draw: Draw, start: int, stop: int) -> Draw:
    return draw.map(lambda x: x[start:stop])


def one(draw: Draw) -> Draw:
    """A draw as the only row of a new leftmost dim."""
    return draw.map(lambda x: x[None])


def cat(draws: list[Draw]) -> Draw:
    """Draws one below the other, along the leftmost dim."""
    if len(draws) == 1:
        return draws[0]
    coordinates = [draw.coordinate for draw in draws if draw.coordinate is not None]
    value = cat_rows([draw.value for draw in draws])
    return Draw(value, cat_rows(coordinates) if len(coordinates) == len(draws) else None)

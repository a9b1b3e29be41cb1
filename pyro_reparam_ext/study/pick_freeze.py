r"""Pick-freeze: gradients that share the noise of one source, or of all but one.

With :math:`u_i` the noise of source :math:`i`, :math:`u_{-i}` all other noise, and :math:`u, u'` two
independent draws of everything, the four gradients

.. math::
    a = g(u_i, u_{-i}),\quad b = g(u'_i, u'_{-i}),\quad
    c = g(u'_i, u_{-i}),\quad d = g(u_i, u'_{-i})

have :math:`E[(c - a)(b - d)] = 2 \operatorname{Var}(E[g \mid u_i])`, since :math:`b, c` share
:math:`u_i'`, :math:`a, d` share :math:`u_i`, and :math:`a, b` and :math:`c, d` share nothing. No mean
has to be known: the product is exactly 0 for a source without influence, and
:math:`\lVert h(u_i') - h(u_i) \rVert^2` for one that merely adds :math:`h(u_i)`. In the same way
:math:`E[(a - b)^2] = E[(c - d)^2] = 2 \operatorname{Var}(g)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .draws import Draws
from .sampler import Gradients
from .streams import ELSEWHERE, SeedOf, SourceStreams, seeds

PROBES = 16
"""Gradients by which the sources of a program are found that is run in a loop: its sites may vary."""
KINDS = ["site", "plate", ELSEWHERE]
"""The order of sources."""
ADDITIVE = 4
"""Sources up to which the variance is estimated so that noises that merely add do so exactly.

It is a mean of the squared differences of ``a, b`` and of ``c, d`` of every source, so weighted that
products of the noises of two sources cancel.
"""

Rows = dict[str, np.ndarray]
"""Per parameter, a row for every pair: the variance, the part of each source, and the squared norm."""


class PickFreeze:
    """Draws of a gradient of which the noise of single sources is shared.

    ``sources``: of noise, as the first gradients have met them. A pair takes :attr:`gradients`.
    """

    def __init__(self, draws: Draws, seed: int) -> None:
        self.draws, self.seed = draws, seed
        self.streams = SourceStreams()
        self._made = 0
        self.size = draws.size if draws.batched else 1  # single draws each begin their streams
        for number in range(1 if draws.batched else PROBES):
            self._gradients(2 if draws.batched else 1, seeds(seed, "probe", number))
        self.sources = sorted(self.streams.met, key=lambda source: KINDS.index(source.split(":")[0]))

    @property
    def gradients(self) -> int:
        """Gradients that one pair takes."""
        return 2 + 2 * len(self.sources) if len(self.sources) > 2 else 2 * len(self.sources)

    @property
    def late(self) -> list[str]:
        """Sources that were met too late to be told apart."""
        return [source for source in self.streams.met if source not in self.sources]

    def rows(self, num_pairs: int) -> Iterator[Rows]:
        """So many pairs, chunk by chunk."""
        for chunk, start in enumerate(range(0, num_pairs, self.size)):
            yield self._chunk(chunk, min(self.size, num_pairs - start))

    def _chunk(self, chunk: int, count: int) -> Rows:
        none, everything = frozenset[str](), frozenset(self.sources)
        kept: dict[frozenset[str], Gradients] = {}

        def at(of_second: frozenset[str]) -> Gradients:
            """The gradients with the second draw of some sources, and the first of others."""
            if of_second not in kept:
                kept[of_second] = self._shared(chunk, count, of_second)
            return kept[of_second]

        a, b = at(none), at(everything)
        one = 1 / max(len(self.sources), ADDITIVE)
        variance = {n: (1 - one * len(self.sources)) * _half(a[n] - b[n], a[n] - b[n]) for n in a}
        shares: dict[str, list[Tensor]] = {name: [] for name in a}
        for source in self.sources:
            c, d = at(frozenset([source])), at(everything - {source})
            for name in a:
                shares[name].append(_half(c[name] - a[name], b[name] - d[name]))
                variance[name] += one * _half(c[name] - d[name], c[name] - d[name])
            if len(self.sources) > 2:
                kept = {none: a, everything: b}
        return {
            n: torch.stack([variance[n], *shares[n], 2 * _half(a[n], a[n])], 1).cpu().numpy() for n in a
        }

    def _shared(self, chunk: int, count: int, of_second: frozenset[str]) -> Gradients:
        first, second = (seeds(self.seed, chunk, which) for which in ("first", "second"))
        self._made += 1
        fresh = seeds(self.seed, "fresh", self._made)

        def seed_of(source: str) -> int:
            if source not in self.sources:  # met late: shared by none
                return fresh(source)
            return (second if source in of_second else first)(source)

        return self._gradients(count, seed_of)

    def _gradients(self, count: int, seed_of: SeedOf) -> Gradients:
        with self.streams.seeded(seed_of):
            return next(self.draws.chunks(count))


def _half(x: Tensor, y: Tensor) -> Tensor:
    """Half of the inner product, draw by draw."""
    return 0.5 * (x * y).reshape(len(x), -1).sum(1, dtype=torch.float64)

"""Which sites share the evaluation of joint branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..estimators.joint import Joint
from .costs import Costs


def joints(costs: Costs, derivatives: Mapping[int, Sequence[Tensor | None]]) -> dict[int, Joint]:
    """By the number of a site with a joint branch: the evaluation that it shares.

    ``derivatives``: the gradients of its branches, by the number of a site.
    """
    program, found = costs.program, dict[int, Joint]()
    for p in costs.passes:
        spans = [span for span in (*p.spans, *p.joined) if program.branch(span).joint]
        tensors, gradients, ways = {}, {}, {}
        for span in spans:
            site, gradient = program.sites[span.owner], derivatives[span.owner][span.branch]
            tensor, way = program.branch(span).tensor, program.branch(span).way
            assert tensor is not None and gradient is not None, "joint branches are differentiated"
            tensors[site.name], gradients[site.name] = tensor, gradient
            ways[site.name] = (site.value - tensor).detach() if way is None else way
        found |= dict.fromkeys((span.owner for span in spans), Joint(tensors, gradients, ways))
    return found

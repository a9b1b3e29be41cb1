"""Which sites share the evaluation of joint branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..estimators.joint import Joint, Part
from .costs import Costs


def joints(costs: Costs, derivatives: Mapping[int, Sequence[Tensor | None]]) -> dict[int, Joint]:
    """By the number of a site with a joint branch: the evaluation that it shares.

    ``derivatives``: the gradients of its branches, by the number of a site.
    """
    program, found = costs.program, dict[int, Joint]()
    for p in costs.passes:
        spans = [span for span in (*p.spans, *p.joined) if program.branch(span).joint]
        parts = {}
        for span in spans:
            site, gradient = program.sites[span.owner], derivatives[span.owner][span.branch]
            tensor, dim = program.branch(span).tensor, site.particle_dim
            assert tensor is not None and gradient is not None, "joint branches are differentiated"
            dim = None if dim is None else dim - len(site.fn.event_shape)
            way = program.branch(span).way
            parts[site.name] = Part(tensor, gradient, site.value.detach(), dim, way)
        found |= dict.fromkeys((span.owner for span in spans), Joint(parts))
    return found

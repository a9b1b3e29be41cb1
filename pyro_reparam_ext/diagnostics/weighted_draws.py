r"""Importance weights of draws of a guide, of the whole program and of the elements of plates.

With :math:`z \sim q` the weights are :math:`w = p(x, z) / q(z)`. Where model and guide factorise over a
plate, the factors of its element :math:`i` are the weights of that element by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pyro.distributions import Delta
from torch import Tensor

from ..distributions.rules.wrappers import innermost
from ..evaluation.axes import PARTICLES
from ..evaluation.costs import Costs
from ..evaluation.program import Program
from ..evaluation.terms import Term
from .guide_draws import GuideDraws, Latent, Way


@dataclass(frozen=True, eq=False)
class WeightedDraws:
    """Draws of a guide: their log weights, those of the elements of plates, and the latent sites.

    ``log_weights``: shape ``(draws,)``. ``local``: by plate, shape ``(draws, size of the plate)``.
    ``way``: how the program was run.
    """

    log_weights: np.ndarray
    local: dict[str, np.ndarray]
    sites: dict[str, Latent]
    way: Way


def weighted_draws(draws: GuideDraws, num_samples: int) -> WeightedDraws:
    """The weights of draws of a guide."""
    log_weights = torch.cat([joint_log_weights(run) for run in draws.runs])[:num_samples]
    local = {}
    for plate in _factorised(draws.runs[0], draws.sites):
        of_elements = torch.cat([_of_elements(run, plate) for run in draws.runs])[:num_samples]
        local[plate] = of_elements.double().cpu().numpy()
    return WeightedDraws(log_weights.double().cpu().numpy(), local, draws.sites, draws.way)


def _signed(term: Term) -> Tensor:
    """A term of the log weight: positive in the model, negative in the guide."""
    log_prob = term.log_prob.detach()
    return log_prob if term.side == "model" else -log_prob


def _kept(x: Tensor, program: Program, dims: list[int | None], sizes: list[int]) -> Tensor:
    """``x`` summed over all batch dims but ``dims`` (None: not there), in these ``sizes``."""
    lead = [d for d in dims if d is not None]
    width = max([x.dim(), *(-d for d in lead)])
    x = x.reshape((1,) * (width - x.dim()) + x.shape)
    others = [d for d in range(-width, 0) if d not in lead]
    x = x.sum(others, keepdim=True) if others else x
    order = [d % width for d in lead]
    x = x.permute([*order, *(d for d in range(width) if d not in order)])
    shape = iter(x.shape[: len(lead)])
    x = x.reshape([1 if d is None else next(shape) for d in dims])
    return x.expand(sizes)


def joint_log_weights(run: Costs) -> Tensor:
    """The log weights of the draws of one run."""
    program = run.program
    parts = [
        _kept(_signed(term), program, [program.particle_dim], [program.num_particles])
        for term in run.passes[0].terms
    ]
    return torch.stack(parts).sum(0)


def _of_elements(run: Costs, plate: str) -> Tensor:
    """The log weights of the elements of a plate, shape ``(draws, size)``."""
    program = run.program
    terms = [term for term in run.passes[0].terms if plate in term.plates]
    size = max(term.size(term.plates[plate]) for term in terms)
    parts = [
        _kept(
            _signed(term),
            program,
            [program.particle_dim, term.plates[plate]],
            [program.num_particles, size],
        )
        for term in terms
    ]
    return torch.stack(parts).sum(0)


def _factorised(run: Costs, sites: Mapping[str, Latent]) -> list[str]:
    """The plates over whose elements guide and model factorise, given the sites outside of them."""
    terms = run.passes[0].terms
    random = {s.name for s in run.program.sites if not isinstance(innermost(s.fn), Delta)}
    plates = {plate for site in sites.values() for plate in site.plates if plate != PARTICLES}
    inside = {p: {t.name for t in terms if p in t.plates} for p in plates}

    def reaches(term: Term, names: set[str]) -> bool:
        return term.upstream is None or bool(term.upstream & names)

    def is_local(plate: str) -> bool:
        own = inside[plate]
        if any(crossing[2] == plate for crossing in run.program.crossed):
            return False
        drawn = {s.name for s in run.program.sites if s.name in own and s.name in random}
        if not drawn:
            return False
        for term in terms:
            if plate not in term.plates:  # data outside of the plate, or sites that depend on its own
                observed = term.side == "model" and term.name not in sites
                if observed and reaches(term, own):
                    return False
                if term.upstream and term.upstream & own:
                    return False
            elif term.side == "guide" and term.name not in random:  # made of draws outside of it
                if term.upstream is None or not term.upstream & drawn:
                    return False
        return True

    return sorted(plate for plate in plates if is_local(plate))

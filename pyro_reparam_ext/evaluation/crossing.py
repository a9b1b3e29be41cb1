"""Costs that cross the elements of a plate.

Costs stay unsummed over the plates of a site: an element of the site is charged with what lies in its
own element of the plate. That is right as long as nothing else depends on it. Where a value leaves the
plate and comes back into it (a site outside that depends on all elements, and on which all depend), or
the program mixes elements (``z - z.mean(-1, keepdim=True)``, batch normalisation), all elements of such
a cost belong to every element of the site: it is summed over the plate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor

from ..distributions.rules.wrappers import coordinates, innermost
from ..estimators.protocol import Draw, Site
from .plain import PlainRun
from .terms import Crossing, Key, Term, agree, ancestors


def crossings(
    site: Site, plain: PlainRun, again: Callable[[Mapping[str, Draw]], PlainRun]
) -> set[Crossing]:
    """The terms that cross the plates of a site, as far as another value of it was found to tell.

    Args:
        site: a latent site of the guide, in its own shape.
        plain: a run of the program.
        again: runs it at other values.
    """
    found: set[Crossing] = set()
    if ("guide", site.name) in plain.unscored:
        return found
    own, draws = plain.terms["guide", site.name], {s.name: s.draw for s in plain.sites.values()}
    above = ancestors(plain.terms.values())
    random: set[Key] | None = None
    for plate, dim in own.plates.items():
        if own.size(dim) < 2:
            continue
        changed = _changed(site.fn, site.value, dim)
        if changed is None:
            continue
        try:
            other = again({**draws, site.name: Draw(changed)})
        except Exception:  # a value that the program does not take
            continue
        direct = {key for key, term in plain.terms.items() if _moved(term, other.terms.get(key), plate)}
        if direct:
            random = random if random is not None else _random(plain, again(draws))
            direct -= random
        outside = {
            name
            for (side, name), term in plain.terms.items()
            if side == "guide"
            and name != site.name
            and site.name in above[name]
            and (plate not in term.plates or (side, name) in direct)
        }
        for key, term in plain.terms.items():
            upstream = term.upstream or frozenset()
            reached = upstream.union(*(above.get(name, ()) for name in upstream))
            if key in direct or (plate in term.plates and outside & reached and key[1] != site.name):
                found.add((site.name, key, plate))
    return found


def _changed(fn: TorchDistribution, value: Tensor, dim: int) -> Tensor | None:
    """``value`` with another one in the first element along a batch dim; None if none was found."""
    dim -= len(fn.event_shape)
    if value.dim() < -dim:
        return None
    # A function of other sites has no other value of its own but that of another element.
    other = value.flip(dim) if isinstance(innermost(fn), Delta) else _another(fn, value)
    if other is None:
        return None
    changed = value.clone()
    changed.select(dim, 0).copy_(other.select(dim, 0))
    return None if torch.equal(changed, value) else changed


def _another(fn: TorchDistribution, value: Tensor) -> Tensor | None:
    base = coordinates(fn)
    if isinstance(base, torch.distributions.Bernoulli):
        return 1 - value
    if isinstance(base, torch.distributions.Categorical):
        return (value + 1) % base.logits.shape[-1]
    if isinstance(base, torch.distributions.OneHotCategorical):
        return value.roll(1, -1)
    try:
        other = fn.sample()
    except (NotImplementedError, RuntimeError):
        return None
    return other if other.shape == value.shape else None


def _moved(before: Term, after: Term | None, plate: str) -> bool:
    """Whether a term differs in elements of the plate other than the first."""
    dim = before.plates.get(plate)
    if dim is None or after is None or before.size(dim) < 2:
        return False
    if before.log_prob.shape != after.log_prob.shape:
        return True
    rest = (x.log_prob.narrow(dim, 1, before.size(dim) - 1) for x in (before, after))
    return not agree(*rest)


def _random(plain: PlainRun, again: PlainRun) -> set[Key]:
    """Terms that differ between runs at equal values."""
    return {
        key
        for key, term in plain.terms.items()
        if key not in again.terms or not agree(term.log_prob, again.terms[key].log_prob)
    }

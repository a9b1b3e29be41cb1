"""That a program means the same when it is run at many values at once.

A vectorised run is compared, term by term, with plain runs at the same values: those of its ordinary
evaluation, for some particles and enumerated values, those of one alternative of each site that has
any, and random ones (:func:`probe`). What numbers can't show, the shapes of the terms and the
provenance of the plain runs do: a term of too many dims; one that depends on a site without a dim of
evaluations; a site's value that the program reads as a Python number.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..callers import told
from ..errors import CannotVectorize, EstimatorError
from ..estimators.base import Draw, Site
from ..estimators.enumeration import Enumeration
from .costs import Costs, check_inside, is_at_once
from .crossing import crossings
from .invisible import invisible
from .passes import Pass
from .plain import PlainRun, plain_run
from .probe import named, number, probe
from .slices import Group
from .soft import check_gradients, check_reads, is_soft
from .surrogate import has_surrogate
from .terms import Term, agree

Signature: TypeAlias = tuple
"""What has to be the same for a program to be the one that was verified."""


def signature(costs: Costs) -> Signature:
    """Sites, shapes of their terms, and evaluations; and whether there are gradients."""
    return (
        torch.is_grad_enabled(),
        *((len(p.groups), term.key, term.log_prob.shape) for p in costs.passes for term in p.terms),
    )


@dataclass(frozen=True)
class Warned:
    """Notes that a site's lost gradient has been spoken of."""

    site: str


AT_ONCE = 8
"""Sites that are looked at in one call: each takes plain runs of the program."""
PLACES = 16
"""Particles and joint enumerated values that are compared: all of them, if they are so few."""


def verify(costs: Costs, done: set[Hashable]) -> bool:
    """Compares one evaluation of a program with plain runs.

    What is found of costs that cross the elements of a plate is noted in the program.

    Args:
        costs: the evaluation.
        done: what has been looked at in earlier calls; what is now is added to it.

    Returns:
        Whether all has been compared. Sites beyond the first few are left to later calls.

    Raises:
        CannotVectorize: the vectorised run means something else; names the term.
        EstimatorError: the program makes a number of a relaxed or straight-through value.
    """
    program = costs.program
    if program.vectorized:
        _check_dims(costs)
    with invisible(program.model, program.guide):
        owners = [n for n in program.alternatives if n not in done][:AT_ONCE]
        for row in _rows(costs, owners):
            _compare(costs, row, done)
        if program.vectorized and not program.axes.hides:
            for name in (None, *(program.sites[owner].name for owner in owners)):
                probe(program, name)
        done.update(owners)
        complete = _look_for_crossings(costs, done)
    return complete and done.issuperset(program.alternatives)


@dataclass(frozen=True, eq=False)
class _Row:
    """One evaluation: number ``number`` of a pass; ``inner``: the place along each dim between
    evaluations and plates, from the right (particles, then enumerated sites).

    ``group``: whose alternative it is, if it is not the ordinary one.
    """

    run: Pass
    number: int
    inner: tuple[int, ...]
    group: Group | None = None


# -- which evaluations are compared -----------------------------------------------------------------


def _rows(costs: Costs, owners: list[int]) -> Iterator[_Row]:
    """The evaluations to compare: ordinary ones, and one alternative of each of the ``owners``."""
    program, ordinary, sizes = costs.program, costs.passes[0], _inner_sizes(costs)
    last = tuple(size - 1 for size in sizes)
    if any(last):
        yield from (_Row(ordinary, 0, place) for place in _some_places(sizes) if place != last)
    if any(last) or program.alternatives or any(map(is_soft, program.sites)):
        yield _Row(ordinary, 0, last)
    for owner in owners:
        # In a loop, only what relaxes needs to be looked at.
        if program.vectorized or program.alternatives[owner].relaxed:
            row = _row_of_alternative(costs, owner, sizes)
            if row is not None:  # else its values are those of the ordinary evaluation
                yield row


def _some_places(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    size = torch.Size(sizes).numel()
    for index in torch.randperm(size)[: PLACES if size <= PLACES else PLACES // 2].tolist():
        yield tuple(int(i) for i in torch.unravel_index(torch.tensor(index), sizes))


def _row_of_alternative(costs: Costs, owner: int, sizes: tuple[int, ...]) -> _Row | None:
    """An alternative of a site that differs from its ordinary value, and a particle where it does."""
    program = costs.program
    site, particles = program.sites[owner], sizes[0] if _has_particles(costs) else 1
    last = [size - 1 for size in sizes]
    for place, run in reversed(list(enumerate(costs.passes))):
        for group in run.groups:
            if group.owner != owner:
                continue
            values = program.alternatives[owner].values(group.start, group.stop)
            changed = values != site.value
            events = values.dim() - 1 - program.batch_dims
            changed = changed.reshape(*changed.shape[: changed.dim() - events], -1).any(-1)
            if particles > 1:
                dims = [d for d in range(1, changed.dim()) if d != changed.dim() - _plates(costs) - 1]
                changed = changed.any(dims) if dims else changed
                changed = changed.expand(len(values), particles)
            else:
                changed = (
                    changed.flatten(1).any(1, keepdim=True) if changed.dim() > 1 else changed[:, None]
                )
            places = changed.nonzero()
            if len(places):
                row, particle = places[-1].tolist()
                inner = (particle, *last[1:]) if particles > 1 else tuple(last)
                return _Row(run, costs.start(place, owner) + row, inner, group)
    return None


def _has_particles(costs: Costs) -> bool:
    return costs.program.vectorized and costs.program.num_particles > 1


def _plates(costs: Costs) -> int:
    """The number of dims of plates, without particles and enumerated sites."""
    return costs.program.plate_dims


def _inner_sizes(costs: Costs) -> tuple[int, ...]:
    """Particles, then the support of each enumerated site: the dims left of the plates."""
    program = costs.program
    if not program.vectorized:
        return ()
    particles = (program.num_particles,) if _has_particles(costs) else ()
    return particles + tuple(program.ordinary.support_sizes.values())


# -- comparing --------------------------------------------------------------------------------------


def _check_dims(costs: Costs) -> None:
    """Every term has the dims that its sites say: none left of the evaluations, none of other sizes."""
    sizes, plates = _inner_sizes(costs), _plates(costs)
    for run in costs.passes:
        rows = run.ordinary + sum(map(len, run.groups))
        expected = [*(rows if run.groups else 1,), *reversed(sizes)]
        for term in run.terms:
            lead = list(term.log_prob.shape)[: max(term.log_prob.dim() - plates, 0)]
            fits = zip(reversed(lead), reversed(expected), strict=False)
            if len(lead) > len(expected) or any(size not in (1, good) for size, good in fits):
                raise CannotVectorize(
                    f"{named(term.key)} has shape {tuple(term.log_prob.shape)}, where {plates} dims of "
                    f"plates and, left of them, {expected} were expected"
                )


def _compare(costs: Costs, row: _Row, done: set[Hashable]) -> None:
    program = costs.program
    draws, values = _values_at(costs, row)
    relaxed = row.group is not None and program.alternatives[row.group.owner].relaxed
    try:
        plain = plain_run(program, draws, values, relaxed)
    except EstimatorError:
        raise
    except Exception as error:
        if not program.vectorized:
            return
        raise CannotVectorize(
            f"model or guide, run plainly at the values of one evaluation, failed: {told(error)}"
        ) from error
    soft = _soft_values(costs, row)
    for site, _ in soft:
        check_reads(site, plain)
    if program.vectorized:
        _compare_terms(costs, row, plain, lambda: plain_run(program, draws, values, relaxed))
    for site, value in soft:
        if Warned(site.name) not in done and check_gradients(site, value, row.run, plain):
            done.add(Warned(site.name))


def _compare_terms(costs: Costs, row: _Row, plain: PlainRun, repeated: Callable[[], PlainRun]) -> None:
    """Each term of an evaluation with that of a plain run; ``repeated`` runs it plainly once more."""
    program = costs.program
    _check_reads(costs, plain)
    _check_enumerated(plain)
    again: PlainRun | None = None
    for term, log_prob in _terms_at(costs, row):
        if term.key in plain.unscored:
            continue
        if term.key not in plain.terms:
            raise CannotVectorize(f"{named(term.key)} occurs in some evaluations only", ever=False)
        if agree(log_prob, plain.terms[term.key].log_prob):
            _check_dependence(costs, row, term, plain)
            continue
        if plain.control.noisy:
            continue
        again = again or repeated()
        once, twice = plain.terms[term.key].log_prob, again.terms[term.key].log_prob
        if once.shape == twice.shape and not agree(once, twice):
            if program.axes.hides:
                continue  # each evaluation is a run of the program
            raise CannotVectorize(
                f"{named(term.key)} depends on random numbers that the program draws by itself, so "
                f"that the vectorised run can't be compared with a plain one"
            )
        raise CannotVectorize(
            f"{named(term.key)} is {number(log_prob)} in the vectorised run, but {number(once)} when "
            f"the program is run plainly at the same values"
        )


def _terms_at(costs: Costs, row: _Row) -> Iterator[tuple[Term, Tensor]]:
    """Each term as it is used for an evaluation, without dims of particles and evaluations."""
    ordinary = {term.key: term for term in costs.passes[0].terms}
    plates = _plates(costs)
    for term in row.run.terms:
        number = row.number
        if not term.sliced and row.run is not costs.passes[0]:
            term, number = ordinary[term.key], 0  # what no alternative changes cancels
        yield term, _at(term.log_prob.detach(), 0, plates, number, row.inner)


def _soft_values(costs: Costs, row: _Row) -> list[tuple[Site, Tensor]]:
    """The relaxed and straight-through values, or alternatives, that train by their gradient."""
    program = costs.program
    if row.group is None:
        return [(site, site.value) for site in program.ordinary.sites if is_soft(site)]
    relaxed = program.alternatives[row.group.owner].tensor
    if not program.alternatives[row.group.owner].relaxed or relaxed is None:
        return []
    return [(program.sites[row.group.owner], relaxed)]


def _check_reads(costs: Costs, plain: PlainRun) -> None:
    """A number that the program made of a value is the same for all evaluations."""
    program = costs.program
    owners = {program.sites[number].name for number in program.alternatives}
    for name in (*owners, *program.ordinary.support_sizes):
        if name in plain.control.lines:
            raise CannotVectorize(
                f"site '{name}': its value, or what was computed from it, is read as a Python number "
                f"(a branch, .item(), an index of a list) at {plain.control.lines[name]}",
                ever=False,
            )


def _check_enumerated(plain: PlainRun) -> None:
    """All elements of a plate have one value at a time, which is not to be told by a sum over it."""
    for site in plain.sites.values():
        if isinstance(site.estimator, Enumeration):
            for term in plain.terms.values():
                if site.name in (term.upstream or ()):
                    check_inside(site, term)


def _check_dependence(costs: Costs, row: _Row, term: Term, plain: PlainRun) -> None:
    if row.group is None:
        return
    owner = costs.program.sites[row.group.owner].name
    upstream = plain.terms[term.key].upstream or frozenset()
    if owner in upstream and not any(t.sliced for t in row.run.terms if t.key == term.key):
        raise CannotVectorize(
            f"{named(term.key)} depends on site '{owner}', but has no dim for its alternative values: "
            f"it sums over that dim, or reads the value as a number"
        )


def _look_for_crossings(costs: Costs, done: set[Hashable]) -> bool:
    """Notes what crosses the plates of sites whose costs stay unsummed over these; True if all has."""
    program = costs.program
    sites = [site for site in program.ordinary.sites if _is_charged(site) and site.name not in done]
    if not sites:
        return True
    row = _Row(costs.passes[0], 0, tuple(size - 1 for size in _inner_sizes(costs)))
    draws, values = _values_at(costs, row)
    try:
        plain = plain_run(program, draws, values)
    except Exception:  # not to be scored at a given value: nothing can be told
        return True

    def again(draws: Mapping[str, Draw]) -> PlainRun:
        return plain_run(program, draws, values)

    for site in sites[:AT_ONCE]:
        found = crossings(plain.sites[site.name], plain, again)
        if found and is_at_once(site.estimator):
            _, (side, name), plate = min(found)
            raise EstimatorError(
                f"site '{site.name}': {type(site.estimator).__name__} changes all elements of plate "
                f"'{plate}' at once, but {side} site '{name}' depends in one element of it on the "
                f"others. {site.estimator.advice(site.fn, is_at_once)}"
            )
        program.crossed.update(found)
        done.add(site.name)
    return len(sites) <= AT_ONCE


def _is_charged(site: Site) -> bool:
    """Whether costs are charged to the elements of a site one by one."""
    enumerated = isinstance(site.estimator, Enumeration)
    scored = has_surrogate(site.estimator, site.fn) and site.log_prob.requires_grad
    return bool(site.frames) and not site.observed and (enumerated or scored)


def _values_at(costs: Costs, row: _Row) -> tuple[dict[str, Draw], dict[str, dict[str, Any]]]:
    """The plain values of one evaluation: of the guide's latent sites, and of what the model drew."""
    program = costs.program
    draws = {
        site.name: _draw_at(costs, row, row.run.draws.get(site.name, site.draw), site.fn)
        for site in program.ordinary.sites
        if not site.observed
    }
    values = {
        name: {**node, "value": _model_value(costs, row, node)}
        for name, node in program.model_nodes.items()
    }
    return draws, values


def _draw_at(costs: Costs, row: _Row, draw: Draw, fn: Any) -> Draw:
    events, plates = len(fn.event_shape), _plates(costs)
    whole = Draw(draw.value, draw.coordinate)
    return whole.map(lambda x: _at(x.detach(), events, plates, row.number, row.inner))


def _model_value(costs: Costs, row: _Row, node: Mapping[str, Any]) -> Any:
    """What the model drew by itself; the indices of a plate are the same for all evaluations."""
    fn, value = node["fn"], node["value"]
    if not hasattr(fn, "event_shape"):
        return value
    return _at(value, len(fn.event_shape), _plates(costs), row.number, row.inner)


def _at(x: Tensor, events: int, plates: int, number: int, inner: tuple[int, ...]) -> Tensor:
    """``x`` at one place along its dims left of the plates."""
    places = (*inner, number)
    for dim in reversed(range(max(x.dim() - events - plates, 0))):
        x = x[places[dim] if x.shape[0] > 1 else 0]
    return x

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
from ..estimators.protocol import Draw, Site
from .at_once import check_crossings, check_inside
from .branches import check_count, is_asked
from .costs import Costs
from .crossing import crossings
from .invisible import invisible
from .notes import Crossed, Probed, Warned
from .passes import Pass
from .place import Place, check_dims, some_indices
from .plain import PlainRun, plain_run
from .probe import mismatch, named, probe
from .program import Span
from .soft import check_gradients, check_reads, is_soft
from .terms import Term, agree

Signature: TypeAlias = tuple
"""A key that has to be the same for a program to be the one that was verified."""


def signature(costs: Costs) -> Signature:
    """Sites, shapes of their terms, and evaluations; and whether there are gradients."""
    terms = [
        (len(p.spans), term.side, term.name, term.log_prob.shape)
        for p in costs.passes
        for term in p.terms
    ]
    return torch.is_grad_enabled(), *terms


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
        EstimatorError: the program makes a number of a relaxed or straight-through value; an estimator
            asks for other evaluations than it says.
    """
    program = costs.program
    if torch.is_grad_enabled():
        for number, site in enumerate(program.sites):
            if is_asked(site):
                check_count(site, program.branches.get(number, ()))
    if program.vectorized:
        _check_terms(costs)
    with invisible(program.model, program.guide):
        owners = [n for n in program.branches if n not in done][:AT_ONCE]
        for row in _rows(costs, owners):
            _compare(costs, row, done)
        if program.vectorized and not program.axes.hides:
            moved = [n for n in owners if any(branch.count for branch in program.branches[n])]
            for name in (None, *(program.sites[owner].name for owner in moved)):
                if (probed := Probed(name, program.inner_shape)) not in done:
                    probe(program, name)
                    done.add(probed)
        done.update(owners)
        complete = _look_for_crossings(costs, done)
    return complete and done.issuperset(program.branches)


@dataclass(frozen=True, eq=False)
class _Row:
    """Evaluation ``number`` of a pass, at ``inner`` along the dims between evaluations and plates.

    ``span``: whose alternative it is, if it is not the ordinary one.
    """

    run: Pass
    number: int
    inner: tuple[int, ...]
    span: Span | None = None


# -- which evaluations are compared -----------------------------------------------------------------


def _rows(costs: Costs, owners: list[int]) -> Iterator[_Row]:
    """The evaluations to compare: ordinary ones, and one alternative of each of the ``owners``."""
    program, ordinary = costs.program, costs.passes[0]
    shape, last = program.inner_shape, _last(costs)
    if any(last):
        few = PLACES if torch.Size(shape).numel() <= PLACES else PLACES // 2
        yield from (_Row(ordinary, 0, place) for place in some_indices(shape, few) if place != last)
    looked_at = (is_soft(site) or site.estimator.analytic for site in program.sites)
    if any(last) or program.branches or any(looked_at):
        yield _Row(ordinary, 0, last)
    for owner in owners:
        # In a loop, only what relaxes needs to be looked at.
        if program.vectorized or any(branch.order for branch in program.branches[owner]):
            row = _row_of_alternative(costs, owner)
            if row is not None:  # else its values are those of the ordinary evaluation
                yield row


def _last(costs: Costs) -> tuple[int, ...]:
    return tuple(size - 1 for size in costs.program.inner_shape)


def _row_of_alternative(costs: Costs, owner: int) -> _Row | None:
    """An alternative of a site that differs from its ordinary value, and a particle where it does."""
    program, site, last = costs.program, costs.program.sites[owner], _last(costs)
    for place, run in reversed(list(enumerate(costs.passes))):
        for span in run.spans:
            if span.owner != owner:
                continue
            values = program.values(span)
            changed = values != site.value
            events = values.dim() - 1 - program.batch_dims
            changed = changed.reshape(*changed.shape[: changed.dim() - events], -1).any(-1)
            if program.particle_dim is not None:
                changed = changed.movedim(changed.dim() + program.particle_dim, 1)
                changed = changed.reshape(*changed.shape[:2], -1).any(2)
                changed = changed.expand(-1, program.num_particles)
            else:
                changed = changed.reshape(len(values), -1).any(1, keepdim=True)
            found = changed.nonzero()
            if len(found):
                number, particle = found[-1].tolist()
                inner = (*last[:-1], particle) if program.particles else last
                return _Row(run, costs.start(place, span) + number, inner, span)
    return None


def _check_terms(costs: Costs) -> None:
    """Every term has the dims that its sites say: none left of the evaluations, none of other sizes."""
    for run in costs.passes:
        for term in run.terms:
            shape = (_evaluations(run), *costs.program.inner_shape)
            check_dims(term.log_prob, 0, costs.program.plate_dims, shape, named(term.key))


def _evaluations(run: Pass) -> int:
    return run.ordinary + sum(map(len, run.spans)) if run.spans else 1


def _place(costs: Costs, run: Pass, number: int, inner: tuple[int, ...]) -> Place:
    """One evaluation of a pass, as a place along the dims of what differs between evaluations."""
    shape = (_evaluations(run), *costs.program.inner_shape)
    return Place(shape, (number, *inner), costs.program.plate_dims)


def _compare(costs: Costs, row: _Row, done: set[Hashable]) -> None:
    program = costs.program
    draws, values = _values_at(costs, row)
    relaxed = row.span is not None and program.branch(row.span).order > 0
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
        raise mismatch(term.key, log_prob, once)


def _terms_at(costs: Costs, row: _Row) -> Iterator[tuple[Term, Tensor]]:
    """Each term as it is used for an evaluation, without dims of particles and evaluations."""
    ordinary = {term.key: term for term in costs.passes[0].terms}
    own = _place(costs, row.run, row.number, row.inner)
    first = _place(costs, costs.passes[0], 0, row.inner)
    for term in row.run.terms:
        place = own
        if not term.sliced and row.run is not costs.passes[0]:
            term, place = ordinary[term.key], first  # what no alternative changes cancels
        yield term, place.of(term.log_prob.detach(), 0, named(term.key))


def _soft_values(costs: Costs, row: _Row) -> list[tuple[Site, Tensor]]:
    """The relaxed and straight-through values, or alternatives, whose gradient has to be the costs'."""
    program = costs.program
    if row.span is None:
        return [(site, site.value) for site in program.ordinary.sites if is_soft(site)]
    site, tensor = program.sites[row.span.owner], program.branch(row.span).tensor
    relaxed = not site.estimator.differentiable and bool(site.estimator.conditional.condition)
    return [(site, tensor)] if relaxed and tensor is not None else []


def _check_reads(costs: Costs, plain: PlainRun) -> None:
    """A number that the program made of a value is the same for all evaluations."""
    program = costs.program
    owners = {program.sites[number].name for number in program.branches}
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
        if site.estimator.enumerated:
            for term in plain.terms.values():
                if site.name in (term.upstream or ()):
                    check_inside(site, term)


def _check_dependence(costs: Costs, row: _Row, term: Term, plain: PlainRun) -> None:
    if row.span is None:
        return
    owner = costs.program.sites[row.span.owner].name
    upstream = plain.terms[term.key].upstream or frozenset()
    if owner in upstream and not any(t.sliced for t in row.run.terms if t.key == term.key):
        raise CannotVectorize(
            f"{named(term.key)} depends on site '{owner}', but has no dim for its alternative values: "
            f"it sums over that dim, or reads the value as a number"
        )


def _look_for_crossings(costs: Costs, done: set[Hashable]) -> bool:
    """Notes what crosses the plates of sites whose costs stay unsummed over these; True if all has."""
    program = costs.program
    sites = []
    apart = not costs.objective.is_mean  # by which all sites are weighed element by element
    for site in program.ordinary.sites:
        if not (_is_charged(site) or (apart and site.plates and not site.observed)):
            continue
        if Crossed(site.name) not in done:
            sites.append(site)
        else:
            check_crossings(site, {x for x in program.crossed if x[0] == site.name})
    if not sites:
        return True
    draws, values = ordinary_values(costs)
    try:
        plain = plain_run(program, draws, values)
    except Exception:  # not to be scored at a given value: nothing can be told
        return True

    def again(draws: Mapping[str, Draw]) -> PlainRun:
        return plain_run(program, draws, values)

    looked_at = sites if apart else sites[:AT_ONCE]
    for site in looked_at:
        found = crossings(plain.sites[site.name], plain, again)
        check_crossings(site, found)
        program.crossed.update(found)
        done.add(Crossed(site.name))
    return len(sites) == len(looked_at)


def _is_charged(site: Site) -> bool:
    """Whether costs are charged to the elements of a site one by one."""
    charged = site.estimator.contributes(site.fn) and site.log_prob.requires_grad
    charged = charged or site.estimator.enumerated
    return bool(site.plates) and not site.observed and charged


def ordinary_values(costs: Costs) -> tuple[dict[str, Draw], dict[str, dict[str, Any]]]:
    """The plain values of one particle of the ordinary evaluation, of guide and model."""
    return _values_at(costs, _Row(costs.passes[0], 0, _last(costs)))


def _values_at(costs: Costs, row: _Row) -> tuple[dict[str, Draw], dict[str, dict[str, Any]]]:
    """The plain values of one evaluation: of the guide's latent sites, and of what the model drew."""
    program, place = costs.program, _place(costs, row.run, row.number, row.inner)

    def draw_of(site: Site) -> Draw:
        draw, events = row.run.draws.get(site.name, site.draw), len(site.fn.event_shape)
        whole = Draw(draw.value, draw.coordinate)
        return whole.map(lambda x: place.of(x.detach(), events, f"site '{site.name}'"))

    draws = {site.name: draw_of(site) for site in program.ordinary.sites if not site.observed}
    values = {
        name: {**node, "value": _value_of_model(place, name, node)}
        for name, node in program.model_nodes.items()
    }
    return draws, values


def _value_of_model(place: Place, name: str, node: Mapping[str, Any]) -> Any:
    """A value that the model drew by itself; all evaluations have the same indices of a plate."""
    fn, value = node["fn"], node["value"]
    known = hasattr(fn, "event_shape")
    return place.of(value, len(fn.event_shape), f"site '{name}'") if known else value

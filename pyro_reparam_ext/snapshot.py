"""Taking a snapshot of the costs of all data, for joint control variates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions import Delta
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from tqdm.auto import tqdm

from .distributions.rules.wrappers import innermost
from .elbo import TraceEstimator_ELBO
from .errors import EstimatorError
from .estimators.joint_control_variate import JointControlVariate
from .estimators.snapshot import Notes, Snapshot
from .evaluation.costs import Costs
from .evaluation.invisible import unchanged_on_error
from .sub_samples import ChosenIndices, Indices


def take_snapshot(
    elbo: TraceEstimator_ELBO,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    batches: Iterable[tuple[Any, ...]] | None = None,
    **kwargs: Any,
) -> None:
    r"""Finds the gradient and the curvature of the costs of all data, at the means of the guide.

    Sites with :class:`JointControlVariate` take the noise of their sub-samples away by them. At the
    means :math:`z_0` that the sites have now it finds the gradient and the Hessian of

    .. math::
        \bar f(z) = \sum_k w_k f_k(z), \qquad \sum_k w_k = 1,

    where :math:`f_k` are the costs of batch k, scaled as those of a step: the mean of what steps see.
    Where a plate draws b of its N data, batches are disjoint ones of b, by :math:`w = b / N`. If r are
    left, they are one more, filled up by repeats of one datum, which a batch of that datum alone takes
    away by :math:`w = -(b - r) / N`. Several plates take each batch with every one of the others.

    Take one once an epoch, or more rarely, and the first before the first step; a captured graph goes
    on with it. It takes one evaluation of each batch, with as many products with the Hessian as a site
    has numbers, and at first some to look at the costs. All data as one batch of ``batches`` are
    fastest, where the program takes its indices or data as arguments. Parameters and their gradients
    stay what they are; after an error, so does the last snapshot.

    Args:
        elbo: that is trained, with a :class:`JointControlVariate`.
        model: of the same SVI.
        guide: of the same SVI.
        batches: for each batch the arguments of the program: either all that a step may be given, each
            as likely as the others, or whatever has the same mean, as all data in one. None: the
            program has no arguments but ``kwargs``, and its plates draw.
        kwargs: of each call.

    Raises:
        EstimatorError: no site has the estimator; the costs at the snapshot would depend on more than
            on these sites: on other sites, on those of single data, on parameters that are learned, on
            random numbers, or, with given batches, on indices that a plate draws; the costs of a
            sub-sample are no sum over its data; or a plate that is run one by one draws a part that
            does not divide its data, as its sites have names of their own. Also where the distribution
            of a site differs from batch to batch: that the batches of steps leave it as it is can't be
            seen here.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> y = torch.randn(100)
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", 100, subsample_size=10) as index:
        ...         pyro.sample("y", dist.Normal(z, 1.0), obs=y[index])
        >>> guide = pyro.infer.autoguide.AutoDiagonalNormal(model)
        >>> elbo = pre.TraceEstimator_ELBO(pre.JointControlVariate(), max_plate_nesting=1)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), elbo)
        >>> for step in range(30):
        ...     if step % 10 == 0:
        ...         pre.take_snapshot(elbo, model, guide)
        ...     loss = svi.step()
    """
    if not isinstance(elbo, TraceEstimator_ELBO):
        raise EstimatorError(
            f"take_snapshot: elbo is of type {type(elbo).__name__}, expected the TraceEstimator_ELBO "
            f"that is trained. Give the ELBO, not the SVI that has it."
        )
    one = elbo if elbo.num_particles == 1 else elbo.with_others(elbo.estimators, 1)
    one.states = elbo.states  # all particles have the same
    taking, known, done = _Taking(one, model, guide, kwargs), set(elbo.states), False
    try:
        with unchanged_on_error(), taking.indices, torch.enable_grad():
            if batches is None:
                _of_plates(taking)
            else:
                _of_batches(taking, batches)
        done = True
    finally:
        for state in taking.states:
            state.close(keep=done)
        if not done:
            for key in set(elbo.states) - known:
                del elbo.states[key]


@dataclass(eq=False)
class _Taking:
    """A snapshot that is being taken of a program.

    ``indices``: of its plates. ``states``: of its sites, and ``notes`` what they note down.
    """

    elbo: TraceEstimator_ELBO
    model: Callable[..., Any]
    guide: Callable[..., Any]
    kwargs: dict[str, Any]
    indices: ChosenIndices = field(default_factory=ChosenIndices)
    states: list[Snapshot] = field(default_factory=list)
    notes: list[Notes] = field(default_factory=list)

    @property
    def is_first(self) -> bool:
        """Whether there is no snapshot of these sites yet."""
        return not all([bool(state.taken) for state in self.states])

    @torch.no_grad()
    def open(self, args: tuple[Any, ...]) -> None:
        """Runs the program once, which makes what is known of each site, and meets the plates."""
        self.states = _states(self._evaluated(args), set(self.indices.plates))
        self.notes = [state.open() for state in self.states]

    def note(self, args: tuple[Any, ...], weight: float, chosen: Indices | None = None) -> list[Tensor]:
        """Notes down one part of the data; returns gradients and Hessians."""
        self.indices.chosen = chosen
        for notes in self.notes:
            notes.weight = weight
        runs = self._evaluated(args)
        _check_together(runs)
        _check_moved(runs[0])
        self.elbo.surrogate(runs, learn=True)
        return [x for notes in self.notes for x in notes.last]

    def _evaluated(self, args: tuple[Any, ...]) -> list[Costs]:
        return self.elbo.evaluate(self.model, self.guide, args, self.kwargs)


def _of_plates(taking: _Taking) -> None:
    """Notes down the costs of all data of the plates that draw."""
    taking.open(())
    parts = taking.indices.of_all_data()
    if taking.is_first:
        _check_noise(taking, ())
        _check_sums(taking)
    for weight, chosen in tqdm(parts, desc="snapshot", unit="batch", **BAR):
        taking.note((), weight, chosen)


def _of_batches(taking: _Taking, batches: Iterable[tuple[Any, ...]]) -> None:
    """Notes down the costs of the batches that are given."""
    if not isinstance(batches, Iterable):
        raise EstimatorError(
            f"take_snapshot: batches is of type {type(batches).__name__}, expected the arguments of a "
            f"call for each batch: [(x1, y1), (x2, y2), ...]."
        )
    for args in tqdm(batches, desc="snapshot", unit="batch", **BAR):
        _check_batch(args)
        args = tuple(args)
        if not taking.states:
            taking.open(args)
            if taking.is_first:
                _check_noise(taking, args)
            _check_unused(taking, args)
        taking.note(args, 1.0)
    if not taking.states:
        raise EstimatorError("take_snapshot: batches is empty, expected at least one.")


BAR: dict[str, Any] = {"disable": None, "leave": False, "delay": 2.0}
"""Of a bar of progress: on a terminal, if it takes more than two seconds."""


# -- what a snapshot can't be of --------------------------------------------------------------------


def _check_noise(taking: _Taking, args: tuple[Any, ...]) -> None:
    """Raises where costs are random beside the sites."""
    if not _agree(*([taking.note(args, 0.0, taking.indices.first())] for _ in range(2))):
        raise EstimatorError(
            f"take_snapshot was given costs that differ between two evaluations of one batch, expected "
            f"the same at the same values of all sites: the program draws random numbers outside of "
            f"its sites, as dropout does. Leave them out (module.eval()). {_ELSE}"
        )


def _check_sums(taking: _Taking) -> None:
    """Raises where the costs of a sub-sample that a plate draws are no sum over its data."""
    for plate, before, after in taking.indices.exchanges():
        if not _agree(*([taking.note((), 0.0, x) for x in pair] for pair in (before, after))):
            raise EstimatorError(
                f"plate {plate!r}: take_snapshot was given costs of a sub-sample that are no sum over "
                f"its data, as two sub-samples have others once they exchange data; expected sites "
                f"within the plate, where each element depends on its own datum. {_ELSE}"
            )


def _check_unused(taking: _Taking, args: tuple[Any, ...]) -> None:
    """Raises where the costs of a given batch depend on the indices that a plate draws."""
    indices = taking.indices
    if not indices.plates:
        return
    if not _agree(*([taking.note(args, 0.0, x)] for x in (indices.first(), indices.last()))):
        raise EstimatorError(
            f"plate {min(indices.plates)!r}: take_snapshot was given batches whose costs depend on the "
            f"indices that it draws, expected those of the arguments alone. Give no batches where "
            f"plates choose the data, or give them their indices."
        )


def _agree(before: list[list[Tensor]], after: list[list[Tensor]]) -> bool:
    """Whether what was noted in some evaluations is the same in sum, but for rounding."""
    for found in zip(*before, *after, strict=True):
        x = torch.stack(found)
        gap = x[: len(before)].sum(0) - x[len(before) :].sum(0)
        if not gap.abs().max() <= torch.finfo(x.dtype).eps ** 0.5 * x.abs().max():
            return False
    return True


def _check_batch(args: object) -> None:
    if not isinstance(args, (tuple, list)):
        raise EstimatorError(
            f"take_snapshot: a batch is of type {type(args).__name__}, expected the arguments of one "
            f"call, as a tuple. For a single argument give [(x,), ...]."
        )


def _states(runs: list[Costs], plates: set[str]) -> list[Snapshot]:
    """The states of the sites; raises where costs depend on more than on sites with the estimator."""
    costs = runs[0]
    _check_model(costs)
    sites = [x for x in costs.program.sites if not (x.observed or isinstance(innermost(x.fn), Delta))]
    parts = {term.name: {name for name, _ in term.subsampled} for term in costs.program.ordinary.terms}
    states = []
    for site in sites:
        if not isinstance(site.estimator, JointControlVariate):
            raise EstimatorError(
                f"site '{site.name}': take_snapshot was given {type(site.estimator).__name__} there, "
                f"whose values the costs at a snapshot would depend on; expected JointControlVariate "
                f"at all sites of the guide. {_ELSE}"
            )
        local = (site.plates & plates) | parts[site.name]
        if local:
            raise EstimatorError(
                f"site '{site.name}': take_snapshot was given a site in the plate {min(local)!r}, "
                f"which sub-samples; expected sites that all data share. {_ELSE}"
            )
        assert isinstance(site.state, Snapshot)
        states.append(site.state)
    if not states:
        raise EstimatorError(
            "take_snapshot: the guide has no site with JointControlVariate, expected one. Configure it "
            "in the ELBO that is given: TraceEstimator_ELBO(JointControlVariate())."
        )
    return states


def _check_model(costs: Costs) -> None:
    """Raises where the model draws a site by itself."""
    nodes = costs.program.model_values.items()
    drawn = [name for name, x in nodes if x["type"] == "sample" and not site_is_subsample(x)]
    if drawn:
        raise EstimatorError(
            f"site '{drawn[0]}': take_snapshot was given a site that the model draws by itself, whose "
            f"values the costs at a snapshot would depend on; expected a site in the guide for each "
            f"latent site of the model. Add it to the guide. {_ELSE}"
        )


def _check_moved(costs: Costs) -> None:
    """Raises for a site whose value moves with no parameter."""
    for number, site in enumerate(costs.program.sites):
        if isinstance(site.estimator, JointControlVariate) and number not in costs.program.branches:
            raise EstimatorError(
                f"site '{site.name}': take_snapshot was given a distribution without a parameter that "
                f"is learned, expected one that moves its value. Let a parameter of the guide require "
                f"a gradient, and give the model before the guide."
            )


def _check_together(runs: list[Costs]) -> None:
    """Raises where some sites keep ordinary values, which are random, in the evaluation of others."""
    program = runs[0].program
    latent = {x.name for x in program.sites if isinstance(x.estimator, JointControlVariate)}
    for p in runs[0].passes:
        spans = [x for x in (*p.spans, *p.joined) if program.branch(x).joint]
        left = latent - {program.sites[x.owner].name for x in spans}
        if spans and left:
            raise EstimatorError(
                f"site '{program.sites[spans[0].owner].name}': take_snapshot can't evaluate it "
                f"together with '{min(left)}', which keeps a random value: it depends on other sites, "
                f"has no parameters, or the ELBO runs one by one; expected sites with parameters of "
                f"their own, run at once. Use AutoDiagonalNormal or AutoMultivariateNormal, which have "
                f"one site. {_ELSE}"
            )


_ELSE = "Use TaylorControlVariate, which leaves the noise of the sub-sample."

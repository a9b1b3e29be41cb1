"""Taking a snapshot of the costs of all data, for joint control variates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import Delta
from pyro.poutine.subsample_messenger import SubsampleMessenger

from .distributions.rules.wrappers import innermost
from .elbo import TraceEstimator_ELBO
from .errors import EstimatorError
from .estimators.joint_control_variate import JointControlVariate
from .estimators.snapshot import Snapshot
from .evaluation.costs import Costs


def take_snapshot(
    elbo: TraceEstimator_ELBO,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    batches: Iterable[tuple[Any, ...]] | None = None,
    **kwargs: Any,
) -> None:
    r"""Takes note of the costs of all data, for the sites with :class:`JointControlVariate`.

    At the means :math:`z_0` that the sites have now it finds the gradient and the Hessian of

    .. math::
        \bar f(z) = \frac1K \sum_k f_k(z),

    where :math:`f_k` are the costs of batch k: the mean of what steps see. Take one once an epoch, and
    the first before the first step; a captured graph goes on with it. It takes one evaluation of each
    batch, and as many products with the Hessian as a site has numbers. Parameters and their gradients
    stay what they are.

    Args:
        elbo: that is trained, with a :class:`JointControlVariate`.
        model: of the same SVI.
        guide: of the same SVI.
        batches: for each batch the arguments of the program: either all that a step may be given, each
            as likely as the others, or whatever has the same mean, as all data in one. None: the
            program has no arguments, and its plates that sub-sample take all of their data.
        kwargs: of each call.

    Raises:
        EstimatorError: no site has the estimator; or the costs at the snapshot would depend on more
            than on these sites: on other sites, on those of single data, on parameters that are
            learned, or, with given batches, on indices that a plate draws. The last snapshot is still
            there.

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
    one = elbo if elbo.num_particles == 1 else elbo.with_others(elbo.estimators, 1)
    one.states = elbo.states  # all particles have the same
    opened: list[Snapshot] = []
    done = False
    try:
        with subsampling(allowed=batches is not None) as plates, torch.enable_grad():

            def note(args: tuple[Any, ...]) -> None:
                runs = one.evaluate(model, guide, args, kwargs)
                _check_together(runs)
                one.surrogate(runs, learn=True)

            for args in [()] if batches is None else batches:
                _check_batch(args)
                if opened:
                    note(tuple(args))
                    continue
                with torch.no_grad():  # what is known of each site is made by the first run
                    opened = _opened(one.evaluate(model, guide, tuple(args), kwargs), plates)
                note(tuple(args))
                if plates and batches is not None:
                    note(tuple(args))
                    if not all([state.drop_repeated() for state in opened]):
                        raise EstimatorError(
                            f"take_snapshot: the costs of a batch depend on the indices that plate "
                            f"{min(plates)!r} draws; expected those of the arguments alone. Give no "
                            f"batches where plates choose the data, or give them their indices."
                        )
        if not opened:
            raise EstimatorError("take_snapshot: batches is empty, expected at least one.")
        done = True
    finally:
        for state in opened:
            state.close(keep=done)


@contextmanager
def subsampling(*, allowed: bool) -> Iterator[set[str]]:
    """A context that yields the names of plates that draw a sub-sample, or would.

    Where that is not ``allowed``, they take all of their data.
    """
    plain, names = SubsampleMessenger._subsample, set[str]()

    def whole(
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        subsample: Any = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        if size is not None and subsample is None and subsample_size not in (None, size):
            names.add(name)
            subsample_size = subsample_size if allowed else None
        return plain(name, size, subsample_size, subsample, *rest, **options)

    SubsampleMessenger._subsample = staticmethod(whole)
    try:
        yield names
    finally:
        SubsampleMessenger._subsample = staticmethod(plain)


def _check_batch(args: object) -> None:
    if not isinstance(args, (tuple, list)):
        raise EstimatorError(
            f"take_snapshot: a batch is of type {type(args).__name__}, expected the arguments of one "
            f"call, as a tuple. For a single argument give [(x,), ...]."
        )


def _opened(runs: list[Costs], plates: set[str]) -> list[Snapshot]:
    """The states of the sites with the estimator, which note down what comes; others are refused."""
    (costs,) = runs
    sites = [x for x in costs.program.sites if not (x.observed or isinstance(innermost(x.fn), Delta))]
    parts = {term.name: {name for name, _ in term.subsampled} for term in costs.program.ordinary.terms}
    opened = []
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
        opened.append(site.state)
    if not opened:
        raise EstimatorError(
            "take_snapshot: the guide has no site with JointControlVariate, expected one. Configure it "
            "in the ELBO that is given: TraceEstimator_ELBO(JointControlVariate())."
        )
    for state in opened:
        state.open()
    return opened


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

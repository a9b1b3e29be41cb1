"""A guide fitted in one call: estimators chosen, steps compiled, run until converged, and checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pyro.infer import SVI
from pyro.optim import Adam, PyroOptim

from ..callers import outside
from ..compiled.run import Batch, run_svi, with_batch
from ..compiled.svi import CompiledSVI
from ..config import Configuration
from ..convergence.converged import Converged
from ..convergence.result import Losses
from ..convergence.rule import StoppingRule
from ..diagnostics.check import check_guide
from ..diagnostics.guide_check import GuideCheck
from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..evaluation.invisible import invisible
from ..nn.kl_weight import tempered
from ..study.selection import select_estimators
from .posterior_data import posterior_datasets

if TYPE_CHECKING:
    from torch import Tensor
    from xarray import DataTree

LEARNING_RATE = 0.01
"""The default optimiser's."""
EVALUATIONS = 100
"""Losses that the ELBO is the mean of, where the guide can't be checked."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A guide that was fitted by :func:`fit`.

    - ``guide``: trained, its parameters where they always are;
    - ``run``: the result of the run, with its ``losses``, whether it ``converged`` and why;
    - ``estimators`` and ``num_particles``: those that were used;
    - ``elbo`` in nats, with ``elbo_error``;
    - ``check``: the :class:`GuideCheck`; None where it could not be made, and ``unchecked`` says why;
    - ``svi``: to go on with;
    - ``objective``: one sentence where it is tempered, by ``nn.kl_weight``, else empty.
    """

    guide: Callable[..., Any]
    run: Losses
    estimators: Configuration
    num_particles: int
    elbo: float
    elbo_error: float
    check: GuideCheck | None
    unchecked: str
    svi: SVI
    program: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None
    objective: str = ""

    @property
    def losses(self) -> Tensor:
        """One of each step."""
        return self.run.losses

    @property
    def ok(self) -> bool:
        """Whether the run converged, and the guide passed its check."""
        return bool(self.run.converged) and self.check is not None and self.check.ok

    def to_datatree(self, num_samples: int = 500) -> DataTree:
        """The groups of :func:`posterior_datasets`, and ``training`` with the losses.

        Args:
            num_samples: draws of the guide.

        Raises:
            EstimatorError: it was fitted by batches: which data are meant is not known.
        """
        import xarray as xr

        if self.program is None:
            raise EstimatorError(
                "to_datatree: the guide was fitted by batches, of which none is the data; expected all "
                "data at once. Call pre.to_datatree(model, guide, data)."
            )
        model, args, kwargs = self.program
        groups = posterior_datasets(model, self.guide, *args, num_samples=num_samples, **kwargs)
        losses = xr.Dataset({"loss": ("step", self.losses.numpy())})
        losses.attrs = {"elbo": self.elbo, "elbo_error": self.elbo_error}
        return xr.DataTree.from_dict({**groups, "training": losses})

    def __repr__(self) -> str:
        chosen = self.estimators
        lines = [
            f"Fit: {'ok' if self.ok else 'not ok'} after {len(self.losses):,} steps",
            self.run.reason,
            f"ELBO {self.elbo:.2f} ± {self.elbo_error:.2f}",
            self.objective if self.check is None else "",  # else the check says it
            f"estimators {chosen!r}, num_particles={self.num_particles}",
            repr(self.check) if self.check is not None else f"not checked: {self.unchecked}",
        ]
        return "\n".join(line for line in lines if line)


def fit(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    estimators: Configuration = None,
    num_particles: int | None = None,
    optim: PyroOptim | None = None,
    num_steps: int = 50_000,
    until: StoppingRule | None = None,
    batches: Iterable[Batch] | None = None,
    compiled: bool = True,
    max_plate_nesting: float = float("inf"),
    seed: int = 0,
    progress: bool = True,
    **kwargs: Any,
) -> Fit:
    """Fits a guide and says whether it worked: every choice is made by measurement, or given.

    1. Estimators and particles are chosen by :func:`select_estimators`, where the parameters start.
    2. Steps are compiled (:class:`CompiledSVI`); a program that can't be runs as ``SVI`` does.
    3. They are run until they have :class:`Converged`, and the parameters are averaged.
    4. The guide is checked by :func:`check_guide`, whose advice is a part of what is printed.

    Args:
        model: a Pyro model.
        guide: its guide.
        *args: arguments of model and guide.
        estimators: as of ``TraceEstimator_ELBO``, in place of a selection.
        num_particles: in place of those that the selection finds.
        optim: an optimiser of Pyro. None: Adam at a learning rate of .01.
        num_steps: at most so many.
        until: a stopping rule. None: ``Converged()``.
        batches: batches of data, as of :func:`run_svi`. Selection sees the first of them; the guide is
            not checked, since its weights are those given all data.
        compiled: whether to compile the steps.
        max_plate_nesting: as of ``TraceEstimator_ELBO``.
        seed: of selection and check; training goes on from the random state as it is.
        progress: whether to show bars; never if stderr is no terminal.
        **kwargs: keyword arguments of model and guide.

    Raises:
        EstimatorError: an argument is not what it should be, or a loss is not finite.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> pyro.set_rng_seed(0)
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> fit = pre.fit(model, guide, compiled=False)
        >>> fit.ok, abs(fit.elbo - -2.2655) < 0.01  # the log evidence, since the guide is exact
        (True, True)
    """
    first, named = args, kwargs
    if batches is not None:
        first, named = _first(batches, args, kwargs)
    if estimators is None:
        selection = select_estimators(
            model,
            guide,
            *first,
            max_plate_nesting=max_plate_nesting,
            seed=seed,
            progress=progress,
            **named,
        )
        estimators = dict(selection)
        num_particles = num_particles or selection.num_particles
    num_particles = num_particles or 1
    elbo = TraceEstimator_ELBO(
        estimators, num_particles=num_particles, max_plate_nesting=max_plate_nesting
    )
    optim = optim or Adam({"lr": LEARNING_RATE})
    svi: SVI
    if compiled:
        svi = CompiledSVI(model, guide, optim, elbo, fallback="eager")
    else:
        svi = SVI(model, guide, optim, elbo)
    run = run_svi(
        svi,
        num_steps,
        *args,
        batches=batches,
        until=until or Converged(),
        progress=progress,
        **kwargs,
    )
    check, unchecked = None, ""
    if batches is not None:
        unchecked = "it was trained by batches, and weights are those given all data"
    else:
        try:
            check = check_guide(
                model,
                guide,
                *args,
                max_plate_nesting=max_plate_nesting,
                seed=seed,
                progress=progress,
                **kwargs,
            )
        except EstimatorError as error:
            unchecked = str(error)
            warnings.warn(f"fit: the guide is not checked: {unchecked}", stacklevel=outside())
    value, error_of_value = _elbo(check, svi, (args, kwargs), batches)
    program = None if batches is not None else (model, args, kwargs)
    return Fit(
        guide,
        run,
        elbo.estimators,
        num_particles,
        value,
        error_of_value,
        check,
        unchecked,
        svi,
        program,
        tempered(),
    )


def _first(
    batches: Iterable[Batch], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the first step."""
    if iter(batches) is batches:
        raise EstimatorError(
            "batches: was given an iterator, which can be gone through only once; expected a "
            "DataLoader or a list."
        )
    return with_batch(next(iter(batches)), args, kwargs)


def _elbo(
    check: GuideCheck | None,
    svi: SVI,
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    batches: Iterable[Batch] | None,
) -> tuple[float, float]:
    """The ELBO and its standard error: over draws, and over batches where there are any."""
    if check is not None:
        return check.elbo, check.elbo_error
    losses: list[float] = []
    with invisible(svi.model, svi.guide):
        while len(losses) < EVALUATIONS:
            for batch in [None] if batches is None else batches:
                args, kwargs = arguments if batch is None else with_batch(batch, *arguments)
                losses.append(svi.evaluate_loss(*args, **kwargs))
    values = -torch.tensor(losses, dtype=torch.float64)
    return float(values.mean()), float(values.std()) / len(losses) ** 0.5

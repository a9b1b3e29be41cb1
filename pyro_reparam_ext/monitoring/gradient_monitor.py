"""Variance and signal-to-noise ratio of the gradient, followed along training."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from pyro.infer import SVI
from pyro.infer.elbo import ELBOModule
from torch import Tensor

from ..errors import EstimatorError
from ..schedule import measuring
from ..study.draws import Draws
from ..study.driver import restored
from ..study.elbo_call import ElboCall
from ..study.moments import Moments
from ..study.sampler import Sampler
from .collapse import warn_where_noise_has_grown
from .running import running_ratios

if TYPE_CHECKING:
    from pandas import DataFrame
    from xarray import Dataset, DataTree

FIRST = 10
"""The step that is measured first, to learn what a measurement takes."""


class GradientMonitor:
    r"""Follows how noisy the gradient is while a guide is trained: is it the noise, or is it done?

    Called once after each step of training. At some steps it draws a number of gradients at the
    parameters as they are and the step's arguments, and records for each parameter the squared norm of
    their mean, their variance, and the signal-to-noise ratio,

    .. math::
        \mathrm{SNR} = \|E[g]\|^2 \big/ \textstyle\sum_i \mathrm{Var}[g_i],

    of which the sampling error of the mean is taken off. These steps are so far apart that what they
    cost is at most ``overhead`` of the time of training. In between the ratio is read off the moments
    that Adam-like optimisers keep, which costs nothing: there it is that of the gradients of the last
    steps, data and all. A warning names the parameter, and the sites that it moves, whose noise has
    grown until it hides the gradient.

    Parameters, their gradients, what estimators learn, and the random state are left as they are.

    Args:
        trained: an ``SVI`` or ``CompiledSVI``; or for a loop of one's own ``elbo(model, guide)``.
        num_draws: gradients at each of the steps.
        overhead: the share of the time of training that may be spent, at most.
        every: take each so many steps, instead of those that ``overhead`` allows.
        optimizer: of a loop of one's own, an optimiser of torch, to read the moments of.

    Raises:
        EstimatorError: what is given is trained in no way that is known.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pre.TraceEstimator_ELBO())
        >>> monitor = pre.GradientMonitor(svi, every=25)
        >>> for _ in range(100):
        ...     loss = svi.step()
        ...     monitor.step()
        >>> monitor.summary().groupby("parameter").size().to_dict()
        {'AutoNormal.locs.z': 4, 'AutoNormal.scales.z': 4}
    """

    def __init__(
        self,
        trained: SVI | ELBOModule,
        *,
        num_draws: int = 50,
        overhead: float = 0.05,
        every: int | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        if isinstance(trained, SVI):
            loss = getattr(trained, "elbo", trained.loss)
            loss = getattr(loss, "__self__", loss)  # SVI keeps a method of the ELBO
            self._program = loss, trained.model, trained.guide
        elif isinstance(trained, ELBOModule):
            self._program = trained.elbo, trained.model, trained.guide
        else:
            raise EstimatorError(
                f"GradientMonitor: was given {type(trained).__name__}; expected an SVI, a CompiledSVI, "
                f"or the module elbo(model, guide)."
            )
        if num_draws < 2 or not overhead > 0 or (every is not None and every < 1):
            raise EstimatorError(
                f"GradientMonitor: expected num_draws >= 2, overhead > 0 and every >= 1, was given "
                f"num_draws={num_draws}, overhead={overhead}, every={every}."
            )
        self.num_draws, self.overhead, self.every = num_draws, overhead, every
        self.steps = 0
        self._svi = trained if isinstance(trained, SVI) else None
        self._optimizer = optimizer
        self._rows: list[dict[str, Any]] = []
        self._draws: Draws | None = None
        self._measurements, self._spent, self._since = 0, 0.0, time.perf_counter()

    # -- along training ---------------------------------------------------------------------------

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Notes that a step was taken, with these arguments of model and guide."""
        self.steps += 1
        if self._is_due():
            start = time.perf_counter()
            self.measure(*args, **kwargs)
            self._spent += time.perf_counter() - start
            self._measurements += 1

    def measure(self, *args: Any, **kwargs: Any) -> None:
        """Draws gradients now, whether it is due or not."""
        elbo, model, guide = self._program
        with restored(model, guide), measuring():
            call = ElboCall(elbo, model, guide, args, kwargs)
            if self._draws is None:
                sampler = Sampler(call)
                self._draws = Draws(sampler, list(sampler.parameters))
            else:
                self._draws.sampler.call = call
            moments = Moments()
            for chunk in self._draws.chunks(self.num_draws):
                moments.add(chunk)
        running = running_ratios(self._draws.leaves, self._states())
        for name in self._draws.leaves:
            variance = float(moments.flat_variance([name]).sum())
            mean = moments.flat_mean([name])
            signal = max(float(mean @ mean) - variance / moments.count, 0.0)
            ratio = signal / variance if variance else float("inf") if signal else float("nan")
            row = {"step": self.steps, "parameter": name, "squared_norm": signal}
            row |= {"variance": variance, "snr": ratio, "running_snr": running.get(name, float("nan"))}
            self._rows.append(row)
        warn_where_noise_has_grown(self._rows, self._draws.sampler)

    def _is_due(self) -> bool:
        if self.every is not None:
            return self.steps % self.every == 0
        elapsed = time.perf_counter() - self._since
        each = self._spent / max(self._measurements, 1)
        return self.steps >= FIRST and self._spent + each <= self.overhead * elapsed

    def _states(self) -> Callable[[Tensor], dict[str, Any]]:
        """A function of a parameter: all that its optimiser keeps for it, with its ``betas``."""

        def of(parameter: Tensor) -> dict[str, Any]:
            kept = self._optimizer
            if self._svi is not None:
                kept = getattr(self._svi.optim, "optim_objs", {}).get(parameter)
                kept = getattr(kept, "optimizer", kept)  # of a scheduler
            if kept is None:
                return {}
            groups = kept.param_groups
            group = next((g for g in groups if any(p is parameter for p in g["params"])), {})
            return {**kept.state.get(parameter, {}), "betas": group.get("betas")}

        return of

    # -- results ----------------------------------------------------------------------------------

    def summary(self) -> DataFrame:
        """A row for each parameter at each step that was measured.

        ``squared_norm`` of the mean gradient, the ``variance`` summed over coordinates, their ratio
        ``snr``, and ``running_snr``, read off the optimiser; NaN where it keeps no moments.
        """
        import pandas as pd

        return pd.DataFrame(self._rows)

    def to_dataset(self) -> Dataset:
        """The same as an ``xarray.Dataset`` of dims ``(step, parameter)``."""
        if not self._rows:
            raise EstimatorError(
                "GradientMonitor: nothing was measured yet; expected one measurement. Take more steps, "
                "or call measure()."
            )
        return self.summary().set_index(["step", "parameter"]).to_xarray()

    def to_datatree(self) -> DataTree:
        """The same as the group ``monitor`` of an ``xarray.DataTree``, to keep beside other groups."""
        from xarray import DataTree

        return DataTree.from_dict({"monitor": self.to_dataset()})

    def to_tensorboard(self, writer: Any) -> None:
        """Writes each value as a scalar, ``gradient/<value>/<parameter>``.

        Args:
            writer: a ``torch.utils.tensorboard.SummaryWriter``.
        """
        for row in self._rows:
            for value in ("squared_norm", "variance", "snr", "running_snr"):
                writer.add_scalar(f"gradient/{value}/{row['parameter']}", row[value], row["step"])

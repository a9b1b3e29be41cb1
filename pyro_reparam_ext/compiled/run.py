"""Many steps of SVI in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from pyro.infer import ELBO, SVI
from torch import Tensor
from tqdm.auto import tqdm

from ..convergence.result import Losses
from ..convergence.rule import LOOK, SPACING, StoppingRule
from ..errors import EstimatorError
from .watch import Watch

Batch: TypeAlias = Any
"""What a step gets beside the fixed arguments: a tensor, a sequence of arguments, or a mapping."""


def run_svi(
    svi: SVI,
    num_steps: int,
    *args: Any,
    batches: Iterable[Batch] | None = None,
    progress: bool = True,
    until: StoppingRule | None = None,
    **kwargs: Any,
) -> Losses:
    """Takes many steps of SVI, with a progress bar, and returns their losses.

    With a stopping rule it takes as many as it needs: see :class:`~pyro_reparam_ext.Converged`.

    A :class:`~pyro_reparam_ext.CompiledSVI` does not wait for one step before it begins the next: its
    losses are looked at every 100 steps and at the end, and what is not finite raises then, with
    parameters and state from before the step that failed.

    Args:
        svi: an ``SVI``, or a ``CompiledSVI``.
        num_steps: how many steps.
        args: arguments of every step.
        batches: batches of data, such as a ``DataLoader``, gone through as often as it takes. A tensor
            is one more argument, a list or tuple are several, a mapping is keyword arguments.
        progress: whether to show a bar, with the mean of the last hundred losses (as the ELBO, where it
            is one), their standard deviation, how far it is from the rule, and the speed; never if
            stderr is no terminal.
        until: a stopping rule, such as ``pre.Converged()``, ``pre.LossConverged()``, or one of your own
            (:class:`~pyro_reparam_ext.StoppingRule`). ``num_steps`` are then taken at most; if they are
            not enough, a warning says how far it is.
        kwargs: keyword arguments of every step.

    Raises:
        EstimatorError: ``batches`` is empty, or an iterator that ended early; ``until`` is no rule, or
            reduces learning rates that a scheduler sets; or a loss is not finite.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), pre.TraceEstimator_ELBO())
        >>> pre.run_svi(svi, 200, progress=False).losses.shape
        torch.Size([200])
    """
    from .svi import CompiledSVI  # which has this function as a method

    compiled = svi if isinstance(svi, CompiledSVI) else None
    source = _arguments(batches, args, kwargs, num_steps)
    watch = None if until is None else Watch(svi, until)
    parts: list[Tensor] = []
    with tqdm(total=num_steps, desc="SVI", unit="step", disable=None if progress else True) as bar:
        for start in range(0, num_steps, LOOK):
            count = min(LOOK, num_steps - start)
            given, losses = [], []
            if compiled is not None:
                compiled.look_around()
            for number in range(1, count + 1):
                these, named = next(source)
                if compiled is None:
                    losses.append(torch.tensor(svi.step(*these, **named)))
                else:
                    losses.append(compiled.step_without_sync(*these, **named))
                    given.append((these, named))
                if watch is not None and number % SPACING == 0:
                    watch.record()
            parts.append(torch.stack(losses).cpu())
            if compiled is not None:
                bad = (~parts[-1].isfinite()).nonzero()
                if len(bad):
                    first = int(bad[0])
                    compiled.explain(*given[first], step=start + first, missed=count - first)
            stops = watch is not None and watch.look(parts[-1])
            bar.set_postfix_str(_said(svi, parts[-1], watch), refresh=False)
            bar.update(count)
            if stops:
                break
    total = torch.cat([torch.zeros(0), *parts]).to(torch.get_default_dtype())
    return Losses(total) if watch is None else watch.result(total)


def _said(svi: SVI, losses: Tensor, watch: Watch | None) -> str:
    """The mean of the last losses, their standard deviation, and how far from the rule it is."""
    is_bound = isinstance(getattr(svi.loss, "__self__", None), ELBO)
    name, mean = ("ELBO", -losses.mean()) if is_bound else ("loss", losses.mean())
    said = f"{name} {float(mean):.4g}, noise {float(losses.std(correction=0)):.2g}"
    return f"{said}, {watch.progress}" if watch is not None and watch.progress else said


def with_batch(batch: Batch, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a step with a batch of data added."""
    if isinstance(batch, Mapping):
        return args, {**kwargs, **batch}
    return (*args, *(batch if isinstance(batch, (list, tuple)) else (batch,))), kwargs


def _arguments(
    batches: Iterable[Batch] | None, args: tuple, kwargs: dict[str, Any], num_steps: int
) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """The arguments of each step."""
    if batches is None:
        while True:
            yield args, kwargs
    taken = 0
    while True:
        before = taken
        for batch in batches:
            taken += 1
            yield with_batch(batch, args, kwargs)
        if taken == before:
            raise EstimatorError(
                f"batches: ended after {taken} of {num_steps} steps. Give something that can be gone "
                f"through again, such as a DataLoader or a list, in place of an iterator."
                if taken
                else "batches: there are none, expected at least one."
            )

"""The protocol of stopping rules: what they see of a run, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

SPACING = 10
"""Steps from one row of the iterates to the next."""
LOOK = 100
"""Steps between two looks, at least: losses are brought to the CPU so often, and no more."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """The answer of a stopping rule, which is more than a yes or no.

    Args:
        stop: whether the run ends.
        reason: in words, why it ends, or how far it is.
        averaged: the rows of the iterates, counted from the last, whose mean the parameters become;
            None leaves them as they are.
        errors: standard errors of that mean, of shape ``(coordinates,)``.
        coordinate: the coordinate that the reason speaks of.
        rate: a factor for all learning rates, if the run goes on with others: losses and iterates begin
            anew.
        then: the rule from then on.
        progress: the same as the reason in a few signs, for a progress bar.
    """

    stop: bool
    reason: str = ""
    averaged: int | None = None
    errors: Tensor | None = None
    coordinate: int | None = None
    rate: float | None = None
    then: StoppingRule | None = None
    progress: str = ""

    def __bool__(self) -> bool:
        return self.stop


@runtime_checkable
class StoppingRule(Protocol):
    """The protocol of ``until=``: any object with these two methods is a stopping rule.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> class LowEnough:
        ...     def next_look(self, step):
        ...         return step + 200
        ...     def observe(self, losses, iterates):
        ...         return bool(losses[-100:].mean() < 2.0)
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), pre.TraceEstimator_ELBO())
        >>> result = pre.run_svi(svi, 1000, until=LowEnough(), progress=False)
        >>> result.converged, len(result.losses)
        (True, 200)
    """

    def next_look(self, step: int) -> int:
        """The step at which the rule wants to look next, after one at ``step``.

        Looks are made after every 100th step: others are made at the next one of these.
        """
        ...

    def observe(self, losses: Tensor, iterates: Tensor) -> bool | Verdict:
        """Whether to stop.

        Args:
            losses: all losses so far, of shape ``(steps,)``, on the CPU.
            iterates: unconstrained parameters after every tenth step, of shape
                ``(steps // 10, coordinates)``, on the CPU: all of them, or a hundred spread over them.
                Both are views of memory that is written on: copy what you keep.
        """
        ...

"""A run under a stopping rule: what the rule sees of it, and what is done with its verdicts."""

from __future__ import annotations

import warnings

import torch
from pyro.infer import SVI
from torch import Tensor

from ..callers import outside
from ..convergence.growing import Growing
from ..convergence.result import Losses
from ..convergence.rule import SPACING, StoppingRule, Verdict
from ..convergence.windows import BlockMeans
from ..errors import EstimatorError
from .trained import Trained, check_rates, reduce_rates


class Watch:
    """The parameters of a run, recorded after every tenth step, and looked at by a stopping rule.

    Between two looks nothing waits for the device. The run is one phase for each learning rate: a rule
    sees the losses and iterates of its own.

    Args:
        svi: what takes the steps.
        rule: the stopping rule.

    Raises:
        EstimatorError: it is none, the optimiser has no parameters of its own, or the rule reduces
            learning rates that a scheduler sets.
    """

    def __init__(self, svi: SVI, rule: StoppingRule) -> None:
        if not isinstance(rule, StoppingRule):
            raise EstimatorError(
                f"until: expected a stopping rule, such as pre.Converged(), or an object with methods "
                f"observe(losses, iterates) and next_look(step); was given {rule!r}."
            )
        if not hasattr(svi.optim, "optim_objs"):
            raise EstimatorError(
                f"until: expected an SVI with an optimiser of pyro.optim, such as pyro.optim.Adam, was "
                f"given {type(svi.optim).__name__}."
            )
        if getattr(rule, "reduce", None) is not None:
            check_rates(svi)
        self._svi, self._given = svi, rule
        self._step = 0
        self._restart()

    def record(self) -> None:
        """Notes the parameters as they are, after every tenth step."""
        if self._trained is None:
            if not self._svi.optim.optim_objs:
                return  # nothing is trained
            self._trained = Trained(self._svi)
        vector = self._trained.vector()
        if self._trained.watched is None:
            self._new.append(vector)
            return
        self._new.append(vector[self._trained.watched])
        self._sum = vector if self._sum is None else self._sum.add_(vector)

    def look(self, losses: Tensor) -> bool:
        """Takes the losses since the last look; whether to stop, if it is time to ask."""
        self._step += len(losses)
        if self._trained is not None and not self._trained.is_current(self._svi):
            self._restart()
            return False
        self._losses.extend(losses)
        if self._new:
            rows = torch.stack(self._new)
            self._iterates.extend(rows.cpu())
            mean = rows.mean(0) if self._sum is None else self._sum / len(rows)
            self._means.add(mean, len(rows))
            self._new, self._sum = [], None
        if len(self._losses.rows) < self._next:
            return False
        self._ask()
        if self._verdict.rate is not None and self._verdict.then is not None:
            reduce_rates(self._svi, self._verdict.rate)
            self._reductions.append(self._step)
            self._before.append(self._iterates.rows)
            self._begin(self._verdict.then)
        return self._verdict.stop

    @property
    def progress(self) -> str:
        """How far the run is from the rule, as it was last looked at, in a few signs."""
        return self._verdict.progress

    def result(self, losses: Tensor) -> Losses:
        """The result of the run; with a warning if the rule was not met."""
        if not self._verdict.stop and len(self._losses.rows) > self._asked:
            self._ask()
        if not self._verdict.stop:
            warnings.warn(
                f"{self._given} was not met in {self._step:,} steps: {self._said()}. Take more steps, "
                f"lower the learning rate, or lower the variance of the gradient, by particles or by "
                f"another estimator: pre.gradient_study compares them.",
                stacklevel=outside(),
            )
        iterates = torch.cat([*self._before, self._iterates.rows])
        last = self._step - self._step % SPACING
        return Losses(
            losses,
            converged=self._verdict.stop,
            reason=self._said(),
            averaged=self._averaged,
            errors=self._errors,
            reductions=tuple(self._reductions),
            iterates=iterates,
            steps=last - SPACING * torch.arange(len(iterates)).flip(0),
            names=() if self._trained is None else self._trained.names,
        )

    # -- parts ------------------------------------------------------------------------------------

    _trained: Trained | None
    _before: list[Tensor]
    _reductions: list[int]
    _averaged: tuple[int, int] | None
    _errors: dict[str, float]
    _rule: StoppingRule
    _next: int
    _asked: int
    _losses: Growing
    _iterates: Growing
    _means: BlockMeans
    _new: list[Tensor]
    _sum: Tensor | None
    _verdict: Verdict

    def _restart(self) -> None:
        """Begins with parameters that are new: none of what was seen is of them."""
        self._trained, self._before, self._reductions = None, [], []
        self._averaged, self._errors = None, {}
        self._begin(self._given)

    def _begin(self, rule: StoppingRule) -> None:
        """Begins a phase: losses and iterates that the rule has not seen."""
        self._rule, self._next, self._asked = rule, rule.next_look(0), 0
        self._verdict = Verdict(False, "the rule was yet to look")
        self._losses, self._iterates, self._means = Growing(), Growing(), BlockMeans()
        self._new, self._sum = [], None

    def _ask(self) -> None:
        """Asks the rule, and averages if it says so."""
        self._asked = len(self._losses.rows)
        self._next = self._rule.next_look(self._asked)
        answer = self._rule.observe(self._losses.rows, self._iterates.rows)
        self._verdict = answer if isinstance(answer, Verdict) else Verdict(bool(answer))
        rows = self._verdict.averaged
        if rows is None or self._trained is None:
            return
        mean, rows = self._means.last(rows)
        self._trained.write(mean)
        last = self._step - self._step % SPACING
        self._averaged = (last - SPACING * rows, last)
        if self._verdict.errors is not None:
            self._errors = dict(zip(self._trained.names, self._verdict.errors.tolist(), strict=True))

    def _said(self) -> str:
        """The reason, with the parameter that it speaks of."""
        reason, place = self._verdict.reason or "the rule gave no reason", self._verdict.coordinate
        if place is not None and self._trained is not None:
            reason += f", for {self._trained.names[place]}"
        return (
            reason if self._verdict.rate is None else f"{reason}; learning rates were yet to be reduced"
        )

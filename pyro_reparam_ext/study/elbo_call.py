"""The call of an ELBO whose gradient is studied: with model, guide and arguments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO

from ..elbo import TraceEstimator_ELBO
from ..evaluation.costs import Costs
from ..evaluation.program import Dependencies


@dataclass(frozen=True, eq=False)
class ElboCall:
    """An ELBO with the model, the guide and the arguments that it is called with.

    ``context`` makes the context manager that is entered around every call.
    """

    elbo: ELBO
    model: Callable[..., Any]
    guide: Callable[..., Any]
    args: tuple
    kwargs: dict
    context: Callable[[], AbstractContextManager] = nullcontext

    def evaluate(self, dependencies: Dependencies | None = None) -> list[Costs]:
        """All evaluations for one gradient, where the ELBO is one of this package."""
        assert isinstance(self.elbo, TraceEstimator_ELBO)
        return self.elbo.evaluate(self.model, self.guide, self.args, self.kwargs, dependencies)

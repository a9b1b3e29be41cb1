"""Tails in logarithms, as methods of a distribution."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..rules.log_tails import log_tails
from ..rules.on_support import floating


class LogTailed:
    """A univariate distribution with its CDF and survival function in logarithms."""

    def log_cdf(self, value: Tensor) -> Tensor:
        r"""The logarithm of the mass up to a value, :math:`\log P(X \le x)`.

        With a gradient in the value and in the parameters. It is computed in float64, from the nearer
        tail, so that neither of them rounds to 0; minus infinity where the mass itself is below what a
        float64 holds.

        Raises:
            NotImplementedError: the CDF is not known.
            ValueError: the value is off the support, with validation on.
        """
        value = floating(value)
        return self._log_tails(value).log_cdf(self, value)

    def log_survival_function(self, value: Tensor) -> Tensor:
        r"""The logarithm of the mass above a value, :math:`\log P(X > x)`, as :meth:`log_cdf`."""
        value = floating(value)
        return self._log_tails(value).log_survival(self, value)

    def _log_tails(self: Any, value: Tensor) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        if self.event_shape:
            raise NotImplementedError(f"{type(self).__name__}: only a real variable has a CDF.")
        return log_tails(self)

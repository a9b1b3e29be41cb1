"""Quantiles by a search, as a method of a distribution."""

from __future__ import annotations

from torch import Tensor

from ..rules.inverse_cdf import inverse_cdf
from ..rules.on_support import floating
from .log_tailed import LogTailed


class SearchedQuantile(LogTailed):
    """A real variable whose CDF has no inverse in closed form."""

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile, by a search on the CDF, with a gradient in the parameters and in the share."""
        return inverse_cdf(self, floating(value))

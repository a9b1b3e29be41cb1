"""Mean-field normal weights with scales of low rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide import init_to_feasible
from torch import Tensor

from ...errors import EstimatorError
from .auto_weights import AutoWeights


class AutoKTiedNormal(AutoWeights):
    r"""A mean-field normal guide in which the scales of a weight matrix are tied.

    .. math::
        W_{ij} \sim \mathrm{Normal}\Big(\mu_{ij}, \sigma_{ij}\Big), \qquad
        \sigma_{ij} = \sum_{c=1}^k U_{ic} V_{jc}, \qquad U, V > 0

    A matrix of m by n has :math:`k (m + n)` parameters of scale instead of :math:`m n`. Of a site with
    more than two event dims (a convolution) the first are the rows, all others the columns. Sites with
    fewer (biases) are mean-field with a scale for each element.

    See also:
        :class:`pyro.infer.autoguide.AutoNormal`, whose sites have the same names and laws;
        :class:`AutoMatrixNormal`, whose weights are correlated.

    References:
        Swiatkowski, Roth, Veeling, Tran, Dillon, Snoek, Mandt, Salimans, Jenatton, Nowozin, *The k-tied
        Normal Distribution: A Compact Parameterization of Gaussian Mean Field Posteriors in Bayesian
        Neural Networks*, 2020, https://arxiv.org/abs/2002.02655.

    Args:
        model: a Pyro model of continuous sites.
        rank: k, at least 1. No more than min(m, n) are used, by which any scales can be
            approached.
        init_loc_fn: where the locations start, as of any autoguide.
        init_scale: the scales, all of them, at the start.
        create_plates: makes plates that sub-sample otherwise than the model's.

    Raises:
        EstimatorError: ``rank`` is not a positive integer.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     pyro.sample("weight", dist.Normal(torch.zeros(50, 30), 1.0).to_event(2))
        >>> guide = pre.nn.AutoKTiedNormal(model)
        >>> guide()["weight"].shape
        torch.Size([50, 30])
        >>> sorted((name, tuple(x.shape)) for name, x in guide.named_pyro_params())
        [('column_factors.weight', (30, 2)), ('locs.weight', (50, 30)), ('row_factors.weight', (50, 2))]
    """

    def __init__(
        self,
        model: Callable,
        *,
        rank: int = 2,
        init_loc_fn: Callable = init_to_feasible,
        init_scale: float = 0.1,
        create_plates: Callable | None = None,
    ) -> None:
        if not isinstance(rank, int) or rank < 1:
            raise EstimatorError(
                f"AutoKTiedNormal: rank was given {rank!r}; expected an integer of at least 1 "
                f"(2 serves most networks)."
            )
        self.rank = rank
        options: dict[str, Any] = {"init_scale": init_scale, "create_plates": create_plates}
        super().__init__(model, init_loc_fn=init_loc_fn, **options)

    def _setup_matrix(self, name: str, shape: torch.Size, loc: Tensor) -> None:
        *batch, rows, columns = shape
        rank = min(self.rank, rows, columns)
        # Each scale starts as init_scale exactly. Equal columns would have equal gradients for ever.
        share = torch.rand_like(loc.new_empty(*batch, rows, rank)).softmax(-1)
        root = self._init_scale**0.5
        for side, start in (
            ("row", root * share),
            ("column", loc.new_full((*batch, columns, rank), root)),
        ):
            self._set(f"{side}_factors.{name}", start, self.scale_constraint, 2)

    def _get_loc_and_scale(self, name: str) -> tuple[Tensor, Tensor]:
        if not self._is_matrix(name):
            return super()._get_loc_and_scale(name)
        rows, columns = self._parameter("row_factors", name), self._parameter("column_factors", name)
        loc = self._parameter("locs", name)
        return loc, (rows @ columns.mT).reshape(loc.shape)

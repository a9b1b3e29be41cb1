"""The matrix normal distribution."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ..numerics.shapes import broadcast_shapes
from .mixins.parametric import Parametric
from .rules.half_precision import drawn_in_single
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import log_prob_on_support
from .supports.finite import finite_matrix


class MatrixNormal(Parametric):
    r"""A normal matrix whose covariance is that of its rows times that of its columns.

    .. math::
        X = M + A E B^\top, \quad E_{ij} \sim \mathrm{Normal}(0, 1), \qquad
        \mathrm{Cov}(X_{ij}, X_{kl}) = (A A^\top)_{ik} (B B^\top)_{jl}

    .. math::
        \log p(X) = -\tfrac12 \big\| A^{-1} (X - M) B^{-\top} \big\|^2
        - n \log |A| - m \log |B| - \tfrac{m n}{2} \log 2 \pi

    See also:
        ``scipy.stats.matrix_normal(mean, rowcov, colcov)``.

    References:
        Dawid, *Some Matrix-Variate Distribution Theory: Notational Considerations and a Bayesian
        Application*, 1981, https://doi.org/10.1093/biomet/68.1.265.

    Args:
        loc: the mean M, m by n.
        row_tril: A, lower triangular with a positive diagonal, m by m.
        column_tril: B, likewise, n by n.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a parameter is invalid, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> law = pre.distributions.MatrixNormal(torch.zeros(2, 3), torch.eye(2), 2 * torch.eye(3))
        >>> law.rsample((5,)).shape
        torch.Size([5, 2, 3])
        >>> law.entropy()  # of six normals with a scale of 2
        tensor(12.6725)
    """

    arg_constraints = {
        "loc": constraints.independent(constraints.real, 2),
        "row_tril": constraints.lower_cholesky,
        "column_tril": constraints.lower_cholesky,
    }
    support = constraints.independent(constraints.real, 2)
    has_rsample = True
    _scored = finite_matrix

    def __init__(
        self,
        loc: Tensor,
        row_tril: Tensor,
        column_tril: Tensor,
        *,
        validate_args: bool | None = None,
    ) -> None:
        rows, columns = loc.shape[-2:]
        if row_tril.shape[-2:] != (rows, rows) or column_tril.shape[-2:] != (columns, columns):
            raise ValueError(
                f"MatrixNormal: loc is {rows} by {columns}, but row_tril has the shape "
                f"{tuple(row_tril.shape)} and column_tril {tuple(column_tril.shape)}; expected "
                f"(..., {rows}, {rows}) and (..., {columns}, {columns})."
            )
        parameters: dict[str, Tensor | float] = {
            "loc": loc,
            "row_tril": row_tril,
            "column_tril": column_tril,
        }
        super().__init__(parameters, loc.shape[-2:], validate_args)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(Size(sample_shape))
        return self._of(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def _at(self, value: Tensor) -> Tensor:
        return self._of(self._noise(value).detach())

    def _of(self, noise: Tensor) -> Tensor:
        return self.loc + self.row_tril.tril() @ noise @ self.column_tril.tril().mT

    def _noise(self, value: Tensor) -> Tensor:
        return _solve(self.column_tril, _solve(self.row_tril, value - self.loc).mT).mT

    @property
    def _interior(self) -> Tensor:
        return self.loc

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_normaliser() - 0.5 * self._noise(value).square().sum((-2, -1))

    def entropy(self) -> Tensor:
        return 0.5 * self.event_shape.numel() - self._log_normaliser()

    def _log_normaliser(self) -> Tensor:
        rows, columns = self.event_shape
        log_det = columns * _log_det(self.row_tril) + rows * _log_det(self.column_tril)
        return -log_det - 0.5 * rows * columns * math.log(2 * math.pi)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.mean

    @property
    def variance(self) -> Tensor:
        rows, columns = self.row_tril.square().sum(-1), self.column_tril.square().sum(-1)
        return rows[..., None] * columns[..., None, :]


def _solve(tril: Tensor, value: Tensor) -> Tensor:
    batch = broadcast_shapes(tril.shape[:-2], value.shape[:-2])
    tril, value = (x.expand(batch + x.shape[-2:]) for x in (tril, value))
    return torch.linalg.solve_triangular(tril, value, upper=False)


def _log_det(tril: Tensor) -> Tensor:
    return tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


register_noise_map(MatrixNormal)(
    NoiseMap(
        lambda fn: normals(fn.loc).to_event(2),
        lambda fn, noise: fn._of(noise),
        lambda fn, value: fn._noise(value),
    )
)

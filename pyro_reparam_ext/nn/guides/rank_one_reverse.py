"""The reverse model of multiplicative noise of rank one: its law given the weight."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from ...distributions.bartlett import cholesky_of

STEPS = 2
"""Of Gauss-Newton: the second removes what the curvature of r s leaves, a third hardly anything."""

FLOOR = 1e-12
"""Added to a precision, relative to what it is the difference of."""


def log_reverse(
    rows: Tensor,
    columns: Tensor,
    weight: Tensor,
    loc: Tensor,
    scale: Tensor,
    row_scale: Tensor,
    column_scale: Tensor,
) -> Tensor:
    r"""A normalised log density of the noise r, s given W that approximates the conditional law under

    .. math::
        r_i \sim \mathrm{Normal}(1, \rho_i), \quad s_j \sim \mathrm{Normal}(1, \tau_j), \quad
        W_{ij} \sim \mathrm{Normal}(M_{ij} r_i s_j, \sigma_{ij}).

    Of the side with more elements, given the other one, that law is an independent normal, and exact
    here. The other side gets the normal law with the mean and the precision of the last Gauss-Newton
    step from r = s = 1 to the mode of both: its full covariance, since a factor common to all of r is
    easily taken for one common to all of s. The data say nothing of that factor: its precision is that
    of the priors, a small difference of numbers of the size :math:`M^2 / \sigma^2`, hence all is
    computed in float64.

    Args:
        rows: r, of shape (..., m).
        columns: s, of shape (..., n).
        weight: W, of shape (..., m, n).
        loc: M, likewise.
        scale: :math:`\sigma`, likewise.
        row_scale: :math:`\rho`, of shape (..., m).
        column_scale: :math:`\tau`, of shape (..., n).
    """
    if loc.shape[-2] < loc.shape[-1]:
        return log_reverse(columns, rows, weight.mT, loc.mT, scale.mT, column_scale, row_scale)
    dtype = weight.dtype
    rows, columns, weight, loc, scale = (x.double() for x in (rows, columns, weight, loc, scale))
    row_scale, column_scale = row_scale.double(), column_scale.double()
    gain = loc / scale
    power, response = gain.square(), gain * (weight / scale)
    row_prior, column_prior = row_scale.square().reciprocal(), column_scale.square().reciprocal()
    r, s = torch.ones_like(rows), torch.ones_like(columns)
    for _ in range(STEPS):
        # The blocks of the precision of (r, s), linearised, and of the slope of the log density.
        row_precision = row_prior + _times(power, s.square())
        column_precision = column_prior + _times(power.mT, r.square())
        cross = power * r[..., None] * s[..., None, :]
        row_slope = row_prior + _times(response, s) - row_precision * r
        column_slope = column_prior + _times(response.mT, r) - column_precision * s
        ratio = cross / row_precision[..., None]
        diagonal = torch.diag_embed((1 + FLOOR) * column_precision)
        factor = cholesky_of(diagonal - cross.mT @ ratio)
        slope = column_slope - _times(ratio.mT, row_slope)
        step = torch.cholesky_solve(slope[..., None], factor)[..., 0]
        r = r + (row_slope - _times(cross, step)) / row_precision
        s = s + step
    noise = _times(factor.mT, columns - s)
    log_columns = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * (
        noise.square().sum(-1) + columns.shape[-1] * math.log(2 * math.pi)
    )
    precision = row_prior + _times(power, columns.square())
    mean = (row_prior + _times(response, columns)) / precision
    log_rows = dist.Normal(mean, precision.rsqrt()).log_prob(rows).sum(-1)
    return (log_rows + log_columns).to(dtype)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]

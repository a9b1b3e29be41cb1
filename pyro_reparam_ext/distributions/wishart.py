"""The Wishart distribution."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.kl import register_kl

from ..numerics.multigamma import log_multigamma, multigamma_divergence, multigamma_entropy
from ..numerics.shapes import broadcast_shapes
from .bartlett import bartlett, cholesky_of, gram, log_det, only_given, square_norm_of_solution
from .rules.half_precision import drawn_in_single
from .rules.on_support import log_prob_on_support
from .supports.nearby import near_positive_definite


class Wishart(dist.Wishart):
    r"""The scatter matrix of normal vectors; Pyro's, with a sampler of one pass and its gradient.

    .. math::
        f(X; \nu, \Sigma) = \frac{|X|^{(\nu - p - 1) / 2} \exp(-\frac12 \mathrm{tr}\, \Sigma^{-1} X)}
            {2^{\nu p / 2}\, |\Sigma|^{\nu / 2}\, \Gamma_p(\nu / 2)}

    Sampled by Bartlett's decomposition, :math:`X = L A A^\top L^\top`: pathwise in the factor :math:`L`
    of the scale, and in :math:`\nu` through the chi-squared variables on the diagonal of :math:`A`.
    Where :math:`\nu` is so near :math:`p - 1` that a draw is singular in the dtype, its
    diagonal grows by some units of rounding, so that it has a Cholesky factor.

    See also:
        :class:`InverseWishart`; ``scipy.stats.wishart(df, covariance_matrix)``.

    References:
        Bartlett, *On the Theory of Statistical Regression*, 1933. Anderson, *An Introduction to
        Multivariate Statistical Analysis*, 3rd edition, 2003, chapter 7. Smith, Hocking, *Algorithm AS
        53: Wishart Variate Generator*, 1972, https://doi.org/10.2307/2346290.

    Args:
        df: :math:`\nu > p - 1`, shape (batch,).
        covariance_matrix: :math:`\Sigma`, the mean over :math:`\nu`, shape (batch, p, p).
        precision_matrix: its inverse.
        scale_tril: its Cholesky factor, the cheapest.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: not exactly one of the three matrices is given, or it has less than two dims; a
            parameter is out of its domain, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> df = torch.tensor(4.0, requires_grad=True)
        >>> x = pre.distributions.Wishart(df, scale_tril=torch.eye(2)).rsample((20_000,))
        >>> x.mean(0)[0, 0].backward()  # d E[x] / d df = I
        >>> print(f"{df.grad.item():.1f}")
        1.0
    """

    def __init__(
        self,
        df: Tensor | float,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = {
            "covariance_matrix": covariance_matrix,
            "precision_matrix": precision_matrix,
            "scale_tril": scale_tril,
        }
        name, matrix = only_given(given)
        df = torch.as_tensor(df, dtype=matrix.dtype, device=matrix.device)
        batch_shape = broadcast_shapes(matrix.shape[:-2], df.shape)
        event_shape = matrix.shape[-2:]
        self.df = df.expand(batch_shape)
        setattr(self, name, matrix.expand(batch_shape + event_shape))
        # Past torch's own constructor, which asks for values.
        Distribution.__init__(self, batch_shape, event_shape, validate_args=validate_args)
        # Without the batch dims of df.
        self._given, self._matrix = name, matrix

    @property
    def _unbroadcasted_scale_tril(self) -> Tensor:
        if self._given == "scale_tril":
            return self._matrix.tril()
        if self._given == "covariance_matrix":
            return cholesky_of(self._matrix)
        return _inverse_factor(self._matrix)

    @property
    def _scale(self) -> Tensor:
        if self._given == "covariance_matrix":
            return self._matrix
        factor = self._unbroadcasted_scale_tril
        return factor @ factor.mT

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Wishart, _instance)
        batch_shape = torch.Size(batch_shape)
        new.df = self.df.expand(batch_shape)
        new._given, new._matrix = self._given, self._matrix
        setattr(new, self._given, self._matrix.expand(batch_shape + self.event_shape))
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @drawn_in_single
    def rsample(
        self, sample_shape: Size | tuple[int, ...] = (), max_try_correction: int | None = None
    ) -> Tensor:
        logs, noise = bartlett(self.df, self.event_shape[-1], torch.Size(sample_shape))
        return gram(self._unbroadcasted_scale_tril @ (noise + torch.diag_embed(logs.exp())))

    _scored = near_positive_definite

    @property
    def _interior(self) -> Tensor:
        return torch.eye(self.event_shape[-1], dtype=self.df.dtype, device=self.df.device)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        factor, dim = self._unbroadcasted_scale_tril, self.event_shape[-1]
        root = cholesky_of(value)
        return (
            0.5 * (self.df - dim - 1) * log_det(root)
            - 0.5 * square_norm_of_solution(factor, root)
            - 0.5 * self.df * (dim * math.log(2) + log_det(factor))
            - log_multigamma(0.5 * self.df, dim)
        )

    def entropy(self) -> Tensor:
        dim, half = self.event_shape[-1], 0.5 * self.df
        return 0.5 * (dim + 1) * (
            dim * math.log(2) + log_det(self._unbroadcasted_scale_tril)
        ) + multigamma_entropy(half, -0.5 * (dim + 1), dim)

    @property
    def mean(self) -> Tensor:
        return self.df[..., None, None] * self._scale

    @property
    def mode(self) -> Tensor:
        factor = self.df - self.event_shape[-1] - 1
        factor = torch.where(factor > 0, factor, torch.nan)
        return factor[..., None, None] * self._scale

    @property
    def variance(self) -> Tensor:
        scale = self._scale
        diagonal = scale.diagonal(dim1=-2, dim2=-1)
        products = diagonal[..., None] * diagonal[..., None, :]
        return self.df[..., None, None] * (scale.square() + products)


def _inverse_factor(precision: Tensor) -> Tensor:
    """The Cholesky factor of the inverse, from that of the matrix with its rows reversed."""
    root = cholesky_of(precision.flip(-2, -1)).flip(-2, -1).mT
    identity = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device).expand(root.shape)
    return torch.linalg.solve_triangular(root, identity, upper=False)


def wishart_kl(df: Tensor, other: Tensor, dim: int, log_ratio: Tensor, trace: Tensor) -> Tensor:
    r"""Between Wisharts; ``log_ratio`` and ``trace`` of :math:`\Sigma_q^{-1} \Sigma_p`. In float64."""
    of_matrices = 0.5 * (df * (trace - dim - log_ratio) + (df - other) * log_ratio)
    return of_matrices + multigamma_divergence(0.5 * df, 0.5 * other, dim)


@register_kl(Wishart, Wishart)
@register_kl(Wishart, torch.distributions.Wishart)
@register_kl(torch.distributions.Wishart, Wishart)
def _kl(p: torch.distributions.Wishart, q: torch.distributions.Wishart) -> Tensor:
    ours, theirs = (x._unbroadcasted_scale_tril.double() for x in (p, q))
    kl = wishart_kl(
        p.df.double(),
        q.df.double(),
        p.event_shape[-1],
        log_det(ours) - log_det(theirs),
        square_norm_of_solution(theirs, ours),
    )
    return kl.to(torch.promote_types(p.df.dtype, q.df.dtype))

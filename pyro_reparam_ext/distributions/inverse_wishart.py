"""The inverse Wishart distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions.kl import register_kl
from torch.distributions.utils import lazy_property

from ..numerics.multigamma import log_multigamma, multigamma_entropy
from .bartlett import bartlett, cholesky_of, gram, log_det, only_given, square_norm_of_solution
from .mixins.parametric import Parametric
from .rules.half_precision import drawn_in_single
from .rules.on_support import log_prob_on_support
from .supports.nearby import near_positive_definite
from .wishart import wishart_kl


class InverseWishart(Parametric):
    r"""The inverse of a Wishart matrix, conjugate to the covariance of a normal.

    .. math::
        f(X; \nu, \Psi) = \frac{|\Psi|^{\nu / 2} \exp(-\frac12 \mathrm{tr}\, \Psi X^{-1})}
            {2^{\nu p / 2}\, |X|^{(\nu + p + 1) / 2}\, \Gamma_p(\nu / 2)}, \qquad
        X^{-1} \sim W_p(\nu, \Psi^{-1})

    Sampled as :math:`X = M M^\top`, where :math:`M T = L` is solved for the factor :math:`L` of
    :math:`\Psi` and a triangular :math:`T` with :math:`T^\top T \sim W_p(\nu, I)`: no inverse, and
    :math:`M` is the Cholesky factor of the draw. Pathwise in both parameters. Near :math:`\nu = p - 1`
    draws are as large as the dtype allows, and as singular.

    See also:
        :class:`Wishart`; ``scipy.stats.invwishart(df, scale_matrix)``.

    References:
        Bartlett, *On the Theory of Statistical Regression*, 1933. Mardia, Kent, Bibby, *Multivariate
        Analysis*, 1979, section 3.8. von Rosen, *Moments for the Inverted Wishart Distribution*, 1988,
        https://www.jstor.org/stable/4616090.

    Args:
        df: :math:`\nu > p - 1`, shape (batch,).
        scale_matrix: :math:`\Psi`, shape (batch, p, p); the mean is :math:`\Psi / (\nu - p - 1)`.
        scale_tril: its Cholesky factor, cheaper.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: not exactly one of the two matrices is given, or it has less than two dims; a
            parameter is out of its domain, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> scale = torch.eye(2).requires_grad_()
        >>> x = pre.distributions.InverseWishart(9.0, scale_tril=scale).rsample((20_000,))
        >>> x.mean(0)[0, 0].backward()  # E[x] = L L' / 6
        >>> print(f"{scale.grad[0, 0].item():.2f}")
        0.33
    """

    arg_constraints: dict[str, Any] = {
        "df": constraints.positive,
        "scale_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.positive_definite
    has_rsample = True

    def __init__(
        self,
        df: Tensor | float,
        scale_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self._given, matrix = only_given({"scale_matrix": scale_matrix, "scale_tril": scale_tril})
        self._dim = matrix.shape[-1]
        df = torch.as_tensor(df, dtype=matrix.dtype, device=matrix.device)
        self.arg_constraints = self._constraints()
        super().__init__({"df": df, self._given: matrix}, matrix.shape[-2:], validate_args)
        # Without the batch dims of df.
        self._matrix = matrix

    def _constraints(self) -> dict[str, Any]:
        """Those of the class, with what the shape says, of the parameters that are given."""
        matrix = type(self).arg_constraints[self._given]
        return {"df": constraints.greater_than(self._dim - 1), self._given: matrix}

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        new._given, new._dim, new._matrix = self._given, self._dim, self._matrix
        new.arg_constraints = self.arg_constraints
        super()._expand_into(new, batch_shape)

    @property
    def _factor(self) -> Tensor:
        return self._matrix.tril() if self._given == "scale_tril" else cholesky_of(self._matrix)

    @property
    def _scale(self) -> Tensor:
        return self._matrix if self._given == "scale_matrix" else self._factor @ self._factor.mT

    @lazy_property
    def scale_tril(self) -> Tensor:
        return self._factor.expand(self.batch_shape + self.event_shape)

    @lazy_property
    def scale_matrix(self) -> Tensor:
        return self._scale.expand(self.batch_shape + self.event_shape)

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        logs, noise = bartlett(self.df, self._dim, torch.Size(sample_shape), ascending=True)
        # Rows over the diagonal, which may be tiny in the first row alone: that one has no others.
        unit, inverse = noise * (-logs).exp()[..., None], (-logs).exp()
        factor = self._factor.expand(noise.shape)
        solution = torch.linalg.solve_triangular(
            unit + torch.diag_embed(torch.ones_like(logs)), factor, upper=False, left=False
        )
        return gram(solution * inverse[..., None, :])

    _scored = near_positive_definite

    @property
    def _interior(self) -> Tensor:
        return torch.eye(self.event_shape[-1], dtype=self.df.dtype, device=self.df.device)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        root = cholesky_of(value)
        return (
            0.5 * self.df * (log_det(self._factor) - self._dim * math.log(2))
            - log_multigamma(0.5 * self.df, self._dim)
            - 0.5 * (self.df + self._dim + 1) * log_det(root)
            - 0.5 * square_norm_of_solution(root, self._factor)
        )

    def entropy(self) -> Tensor:
        dim, half = self._dim, 0.5 * self.df
        return 0.5 * (dim + 1) * (log_det(self._factor) - dim * math.log(2)) + multigamma_entropy(
            half, 0.5 * (dim + 1), dim
        )

    @property
    def mean(self) -> Tensor:
        """NaN for df of at most p + 1."""
        excess = self.df - self._dim - 1
        return self._scale / torch.where(excess > 0, excess, torch.nan)[..., None, None]

    @property
    def mode(self) -> Tensor:
        return self._scale / (self.df + self._dim + 1)[..., None, None]

    @property
    def variance(self) -> Tensor:
        """NaN for df of at most p + 3."""
        excess = (self.df - self._dim - 3)[..., None, None]
        excess = torch.where(excess > 0, excess, torch.nan)
        diagonal = self._scale.diagonal(dim1=-2, dim2=-1)
        products = diagonal[..., None] * diagonal[..., None, :]
        top = (excess + 4) * self._scale.square() + (excess + 2) * products
        return top / ((excess + 3) * (excess + 2).square() * excess)


@register_kl(InverseWishart, InverseWishart)
def _kl(p: InverseWishart, q: InverseWishart) -> Tensor:
    """That of the inverses."""
    ours, theirs = p._factor.double(), q._factor.double()
    kl = wishart_kl(
        p.df.double(),
        q.df.double(),
        p._dim,
        log_det(theirs) - log_det(ours),
        square_norm_of_solution(ours, theirs),
    )
    return kl.to(torch.promote_types(p.df.dtype, q.df.dtype))

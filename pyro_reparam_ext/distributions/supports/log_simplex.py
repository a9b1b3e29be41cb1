"""Logarithms of points of a simplex."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Transform, biject_to, constraints, transform_to
from torch.nn.functional import logsigmoid

from .nearby import tolerance


class _LogSimplex(constraints.Constraint):
    """Vectors whose exponentials sum to 1."""

    event_dim = 1

    def check(self, value: Any) -> Any:
        total = value.exp().sum(-1)
        return value.isfinite().all(-1) & ((total - 1).abs() <= tolerance(value, value.shape[-1]))


log_simplex = _LogSimplex()


class LogStickBreaking(Transform):
    r"""From :math:`\mathbb R^{K-1}` to the log-simplex, breaking a stick in log space.

    .. math::
        y_k = \log\sigma(t_k) + \sum_{j<k} \log\sigma(-t_j), \qquad
        y_K = \sum_{j<K} \log\sigma(-t_j), \qquad t_k = x_k - \log(K - k),

    whose Jacobian determinant with respect to :math:`(y_1, \ldots, y_{K-1})` is :math:`e^{y_K}`. The
    origin is mapped to the uniform vector.

    See also:
        :class:`torch.distributions.transforms.StickBreakingTransform`, which it is the logarithm of.

    Example:
        >>> import torch
        >>> from pyro_reparam_ext.distributions.supports.log_simplex import LogStickBreaking
        >>> y = LogStickBreaking()(torch.tensor([0.0, -2000.0]))
        >>> print([round(x, 2) for x in y.tolist()])
        [-1.1, -2000.41, -0.41]
    """

    domain = constraints.real_vector
    codomain = log_simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogStickBreaking)

    def _call(self, x: Tensor) -> Tensor:
        t = x - _log_pieces_left(x)
        left = logsigmoid(-t).cumsum(-1)
        before = torch.cat([torch.zeros_like(left[..., :1]), left], -1)
        return before + torch.cat([logsigmoid(t), torch.zeros_like(left[..., :1])], -1)

    def _inverse(self, y: Tensor) -> Tensor:
        rest = y[..., 1:].flip(-1).logcumsumexp(-1).flip(-1)
        return y[..., :-1] - rest + _log_pieces_left(rest)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return y[..., -1]

    def forward_shape(self, shape: Size) -> Size:
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Size) -> Size:
        return torch.Size((*shape[:-1], shape[-1] - 1))


@biject_to.register(_LogSimplex)
@transform_to.register(_LogSimplex)
def _transform(constraint: constraints.Constraint) -> Transform:
    return LogStickBreaking()


def _log_pieces_left(x: Tensor) -> Tensor:
    """log(K - k) for k = 1, ..., K - 1, as there are in the last dim."""
    return torch.arange(x.shape[-1], 0, -1, dtype=x.dtype, device=x.device).log()

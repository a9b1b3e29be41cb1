"""Kernels of torch that ``vmap`` can't batch by itself, and Gauss-Legendre nodes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


class _Kernel(torch.autograd.Function):
    """An elementwise kernel without a derivative of its own; under ``vmap`` all dims are alike."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise RuntimeError("The gradient of this sampler can't be differentiated a second time.")

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        pairs = list(zip(inputs, in_dims, strict=True))
        logical = max(x.dim() - (dim is not None) for x, dim in pairs)
        return cls.apply(*(_leftmost(x, dim, logical) for x, dim in pairs)), 0


def _leftmost(x: Tensor, dim: int | None, logical: int) -> Tensor:
    """The batch dim, if there is one, at the left of ``logical`` others."""
    if dim is None:
        return x
    x = x.movedim(dim, 0)
    return x.reshape(x.shape[:1] + (1,) * (logical + 1 - x.dim()) + x.shape[1:])


def _aligned(*inputs: Tensor) -> list[Tensor]:
    return [x.contiguous() for x in torch.broadcast_tensors(*inputs)]


class _StandardGammaGrad(_Kernel):
    @staticmethod
    def forward(value: Tensor, concentration: Tensor) -> Tensor:
        return torch._standard_gamma_grad(*_aligned(concentration, value))


class _DirichletGrad(_Kernel):
    @staticmethod
    def forward(value: Tensor, concentration: Tensor, total: Tensor) -> Tensor:
        return torch._dirichlet_grad(*_aligned(value, concentration, total))


def standard_gamma_grad(value: Tensor, concentration: Tensor) -> Tensor:
    r"""The velocity :math:`dx/da` of a draw of Gamma(a, 1)."""
    return _StandardGammaGrad.apply(value, concentration)


def dirichlet_grad(value: Tensor, concentration: Tensor, total: Tensor) -> Tensor:
    r"""The velocity :math:`dx/da` of a draw of Beta(a, total - a), over :math:`1 - x`."""
    return _DirichletGrad.apply(value, concentration, total)


@cache
def gauss_legendre(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights on (0, 1), as numbers."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return tuple(0.5 * (nodes + 1)), tuple(0.5 * weights)

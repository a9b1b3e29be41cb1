"""The LKJ distribution of the Cholesky factor of a correlation matrix."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.kl import register_kl
from torch.nn.functional import logsigmoid, pad

from ..numerics.beta_velocity import logit_beta_velocity
from ..numerics.implicit import implicit_joint
from .log_gamma import standard_gamma
from .rules.half_precision import drawn_in_single
from .rules.on_support import log_prob_on_support
from .rules.pathwise import register_pathwise
from .supports.nearby import near_corr_cholesky


class LKJCholesky(dist.LKJCholesky):
    r"""A correlation matrix, by its Cholesky factor; Pyro's, with a pathwise gradient.

    .. math::
        f(L; \eta) \propto \prod_{i=2}^d L_{ii}^{d - i + 2 \eta - 2}, \qquad
        f(L L^\top; \eta) \propto |L L^\top|^{\eta - 1}

    Sampled row by row (the onion): :math:`L_{ii}^2` by
    :math:`\mathrm{Beta}(\eta + (d - i) / 2, (i - 1) / 2)`, the rest of the row in a
    uniform direction. The gradient keeps the direction and moves :math:`L_{ii}^2` by the implicit
    gradient of its Beta distribution.

    See also:
        ``pyro.distributions.LKJCholesky``, which this class derives from.

    References:
        Lewandowski, Kurowicka, Joe, *Generating Random Correlation Matrices Based on Vines and Extended
        Onion Method*, 2009, https://doi.org/10.1016/j.jmva.2009.04.008. Figurnov, Mohamed, Mnih,
        *Implicit Reparameterization Gradients*, 2018, https://arxiv.org/abs/1805.08498.

    Args:
        dim: the number :math:`d \ge 2` of variables.
        concentration: :math:`\eta > 0`, shape (batch,); 1 is uniform over correlation matrices.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: ``dim`` is less than 2; the concentration is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> eta = torch.tensor(2.0, requires_grad=True)
        >>> factor = pre.distributions.LKJCholesky(3, eta).rsample((50_000,))
        >>> factor[..., 1, 0].square().mean().backward()  # E[r^2] = 1 / (2 eta + d - 1)
        >>> print(f"{eta.grad.item():.2f}")  # -1 / 18
        -0.06
    """

    has_rsample = True

    def __init__(
        self, dim: int, concentration: Tensor | float = 1.0, validate_args: bool | None = None
    ) -> None:
        if dim < 2:
            raise ValueError(f"LKJCholesky needs dim of at least 2, not {dim}.")
        self.dim = dim
        if not isinstance(concentration, Tensor):
            concentration = torch.tensor(concentration, dtype=torch.get_default_dtype())
        self.concentration = concentration
        # Past torch's own constructor, whose Beta asks for values.
        Distribution.__init__(
            self, concentration.shape, torch.Size((dim, dim)), validate_args=validate_args
        )

    def expand(self, batch_shape: Size, _instance: Any = None) -> Any:
        new = self._get_checked_instance(LKJCholesky, _instance)
        batch_shape = torch.Size(batch_shape)
        new.dim, new.concentration = self.dim, self.concentration.expand(batch_shape)
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        return _at(self, self.sample(sample_shape))

    @drawn_in_single
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self._draw(torch.Size(sample_shape) + self.batch_shape)

    def _draw(self, shape: Size) -> Tensor:
        first, _ = _shapes(self.concentration, self.dim)
        normal = torch.randn(
            shape + (self.dim - 1, self.dim - 1), dtype=first.dtype, device=first.device
        ).tril()
        square = normal.square().sum(-1)
        # The Beta variable as a quotient of gammas, in log space.
        gamma, log_scale = standard_gamma(first, square.shape)
        logit = math.log(2) + gamma.log() + log_scale - square.log()

        floor = 0.5 * math.log(torch.finfo(first.dtype).tiny)
        diagonal = (0.5 * logsigmoid(logit)).clamp(min=floor).exp()
        length = (0.5 * logsigmoid(-logit) - 0.5 * square.log()).exp()
        others = (normal * length[..., None]).clamp(-1.0, 1.0)  # rounding may pass 1
        rows = pad(others, (0, 1)) + torch.diag_embed(diagonal, offset=1)[..., :-1, :]
        top = torch.zeros_like(rows[..., :1, :])
        return torch.cat([top + pad(torch.ones_like(top[..., :1]), (0, self.dim - 1)), rows], -2)

    _scored = near_corr_cholesky

    @property
    def _interior(self) -> Tensor:
        return torch.eye(self.dim, dtype=self.concentration.dtype, device=self.concentration.device)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        steps = torch.arange(2, self.dim + 1, dtype=value.dtype, device=value.device)
        order = 2 * (self.concentration - 1)[..., None] + self.dim - steps
        logs = value.diagonal(dim1=-2, dim2=-1)[..., 1:].log()
        return (order * logs).sum(-1) - self._log_normaliser()

    def _log_normaliser(self) -> Tensor:
        first, second = _shapes(self.concentration, self.dim)
        ratio = torch.lgamma(first) - torch.lgamma(first + second)
        return (ratio + second * math.log(math.pi)).sum(-1)

    def _mean_log(self) -> Tensor:
        """The mean log of the diagonal's elements, from the second on."""
        first, second = _shapes(self.concentration, self.dim)
        return 0.5 * (torch.digamma(first) - torch.digamma(first + second))

    def entropy(self) -> Tensor:
        steps = torch.arange(2, self.dim + 1, device=self.concentration.device)
        order = 2 * (self.concentration - 1)[..., None] + self.dim - steps
        return self._log_normaliser() - (order * self._mean_log()).sum(-1)

    @property
    def mean(self) -> Tensor:
        first, second = _shapes(self.concentration, self.dim)
        half = torch.lgamma(first + 0.5) - torch.lgamma(first)
        half = half - torch.lgamma(first + second + 0.5) + torch.lgamma(first + second)
        return torch.diag_embed(pad(half.exp(), (1, 0), value=1.0))

    @property
    def variance(self) -> Tensor:
        first, second = _shapes(self.concentration, self.dim)
        below = 0.5 / (first + second)
        square = torch.diag_embed(pad(first / (first + second), (1, 0), value=1.0))
        row = pad(below, (1, 0))[..., None].expand(square.shape).tril(-1)
        return square + row - self.mean.square()


def _shapes(concentration: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The parameters of the Beta distribution of the squared diagonal, from the second row on."""
    steps = torch.arange(1, dim, dtype=concentration.dtype, device=concentration.device)
    return concentration[..., None] + 0.5 * (dim - 1 - steps), 0.5 * steps


@register_pathwise(LKJCholesky)
def _at(fn: LKJCholesky, value: Tensor) -> Tensor:
    return implicit_joint(value.detach(), _pull_back, fn.concentration)


def _pull_back(gradient: Tensor, value: Tensor, concentration: Tensor) -> tuple[Tensor]:
    first, second = _shapes(concentration, value.shape[-1])
    rows, moved = value[..., 1:, :], (gradient * value)[..., 1:, :]
    last = rows.diagonal(offset=1, dim1=-2, dim2=-1)
    others = rows.tril().square().sum(-1)
    log_others = others.clamp(min=torch.finfo(value.dtype).tiny).log()
    velocity = logit_beta_velocity(2 * last.log(), log_others, first, second)
    grows = others * moved.diagonal(offset=1, dim1=-2, dim2=-1)
    shrinks = last.square() * moved.tril().sum(-1)
    return ((0.5 * (grows - shrinks) * velocity).sum(-1),)


@register_kl(LKJCholesky, LKJCholesky)
@register_kl(LKJCholesky, torch.distributions.LKJCholesky)
@register_kl(torch.distributions.LKJCholesky, LKJCholesky)
def _kl(p: torch.distributions.LKJCholesky, q: torch.distributions.LKJCholesky) -> Tensor:
    if p.dim != q.dim:
        raise ValueError(f"The dims differ: {p.dim} and {q.dim}.")
    ours, theirs = (LKJCholesky(x.dim, x.concentration, validate_args=False) for x in (p, q))
    tilt = 2 * (p.concentration - q.concentration)
    return tilt * ours._mean_log().sum(-1) + theirs._log_normaliser() - ours._log_normaliser()

"""The logarithms of a Dirichlet vector."""

from __future__ import annotations

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import Dirichlet, kl_divergence, register_kl

from .base import Parametric
from .implicit import implicit_joint
from .log_gamma import standard_gamma
from .log_simplex import log_rest, log_simplex, normalized
from .numerics.beta_velocity import logit_beta_velocity
from .numerics.stirling import stirling_rest


class LogDirichlet(Parametric):
    r"""The law of :math:`(\log x_1, \ldots, \log x_K)` for :math:`x \sim \mathrm{Dirichlet}(\alpha)`.

    .. math::
        f(y; \alpha) = \frac{\Gamma(\sum_k \alpha_k)}{\prod_k \Gamma(\alpha_k)}
            \exp\Big(\sum_{k<K} \alpha_k y_k + (\alpha_K - 1)\, y_K\Big), \qquad \sum_k e^{y_k} = 1,

    a density with respect to the Lebesgue measure of :math:`(y_1, \ldots, y_{K-1})`.

    Components that underflow in :math:`x` keep their logarithm, and a component close to 1 its
    distance. It moves as follows: with :math:`\alpha_i` the logit of :math:`x_i` moves as that of a
    variable :class:`Beta` of :math:`\alpha_i` and :math:`\sum_k \alpha_k - \alpha_i`, and the other
    components keep their proportions.

    See also:
        :class:`Dirichlet`, :class:`LogBeta`.

    References:
        Jankowiak, Obermeyer, *Pathwise Derivatives Beyond the Reparameterization Trick*, 2018,
        https://arxiv.org/abs/1806.01851.

    Args:
        concentration: :math:`\alpha > 0`, of shape (..., K) with K > 1, without unit.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a concentration is not positive, with validation on; there are less than two.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> alpha = torch.full((3,), 0.01, requires_grad=True)
        >>> y = pre.distributions.LogDirichlet(alpha).rsample((100_000,))
        >>> y[:, 0].mean().backward()  # trigamma(.01) - trigamma(.03), and twice -trigamma(.03)
        >>> print((alpha.grad / 1e3).round().tolist())
        [9.0, -1.0, -1.0]
    """

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = log_simplex
    has_rsample = True

    def __init__(self, concentration: Tensor, *, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1 or concentration.shape[-1] < 2:
            raise ValueError("`concentration` has to hold two or more numbers in its last dim.")
        super().__init__(
            {"concentration": concentration}, concentration.shape[-1:], validate_args=validate_args
        )

    def _draw(self, shape: Size) -> Tensor:
        return draw_log_dirichlet(self.concentration, shape)

    def _at(self, value: Tensor) -> Tensor:
        return implicit_joint(value, log_pull_back, self.concentration)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        alpha = self.concentration
        total = alpha.sum(-1, keepdim=True)
        rest, _ = stirling_rest(alpha)
        rest_of_total, _ = stirling_rest(total)
        # About the mean, where the terms of large concentrations cancel.
        terms = alpha * (value - (alpha / total).log()) - rest
        return terms.sum(-1) + rest_of_total.squeeze(-1) - value[..., -1]

    @property
    def mean(self) -> Tensor:
        alpha = self.concentration
        return torch.digamma(alpha) - torch.digamma(alpha.sum(-1, keepdim=True))

    @property
    def variance(self) -> Tensor:
        alpha = self.concentration
        return torch.polygamma(1, alpha) - torch.polygamma(1, alpha.sum(-1, keepdim=True))

    def entropy(self) -> Tensor:
        return _dirichlet(self).entropy() - self.mean[..., :-1].sum(-1)


def draw_log_dirichlet(concentration: Tensor, shape: Size) -> Tensor:
    """Without a gradient; ``shape`` includes the event dim."""
    standard, log_scale = standard_gamma(concentration, shape)
    return normalized(_events_first(standard.log() + log_scale)).movedim(0, -1).contiguous()


def log_pull_back(gradient: Tensor, log_x: Tensor, concentration: Tensor) -> tuple[Tensor]:
    # The components apart, so that what is along the inner dims has one parameter.
    between = (1,) * (log_x.dim() - concentration.dim())
    alpha = concentration.movedim(-1, 0)
    alpha = alpha.reshape(alpha.shape[:1] + between + alpha.shape[1:])
    others = (alpha.sum(0) - alpha).clamp(min=torch.finfo(log_x.dtype).tiny)
    log_x, gradient = _events_first(log_x), _events_first(gradient)
    velocity = logit_beta_velocity(log_x, log_rest(log_x), alpha, others)
    pulled = velocity * (gradient - log_x.exp() * gradient.sum(0))
    return (pulled.movedim(0, -1),)


def _events_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 0).contiguous()


def _dirichlet(fn: LogDirichlet) -> Dirichlet:
    return Dirichlet(fn.concentration, validate_args=False)


@register_kl(LogDirichlet, LogDirichlet)
def _kl(p: LogDirichlet, q: LogDirichlet) -> Tensor:
    return kl_divergence(_dirichlet(p), _dirichlet(q))

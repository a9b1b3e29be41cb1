"""The logarithms of a Dirichlet vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.beta_velocity import velocity_by_terms, velocity_terms
from ..numerics.chunked import Tensors, chunked
from ..numerics.chunked_sums import chunked_sums
from ..numerics.gamma_divergence import dirichlet_divergence
from ..numerics.implicit import implicit_joint
from ..numerics.log_simplex import log_rest_of, normalized
from ..numerics.stirling import stirling_rest
from .log_gamma import draw_raised, raised
from .mixins.parametric import Parametric
from .rules.gamma_noise import log_parts, parts_noise
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import log_prob_on_support
from .supports.log_simplex import log_simplex


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
        ValueError: a concentration is not positive, with validation on; not two or more of them.

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
        if not isinstance(concentration, Tensor):
            kind = type(concentration).__name__
            raise ValueError(f"`concentration` has to be a tensor, not a {kind}.")
        if concentration.dim() < 1 or concentration.shape[-1] < 2:
            raise ValueError("`concentration` has to hold two or more numbers in its last dim.")
        super().__init__(
            {"concentration": concentration}, concentration.shape[-1:], validate_args=validate_args
        )

    def _draw(self, shape: Size) -> Tensor:
        return chunked_vectors(draw_normalized, *raised(self.concentration, shape))

    def _at(self, value: Tensor) -> Tensor:
        return implicit_joint(value, log_pull_back, self.concentration)

    @property
    def _interior(self) -> float:
        return -math.log(self.event_shape[0])

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
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
        alpha = self.concentration
        total = alpha.sum(-1, keepdim=True)
        rest, slope = stirling_rest(alpha)
        rest_of_total, slope_of_total = (x.squeeze(-1) for x in stirling_rest(total))
        last = alpha[..., -1]
        mean_last = slope[..., -1] - slope_of_total + (last / total.squeeze(-1)).log()
        terms = rest - alpha * slope
        return terms.sum(-1) - rest_of_total + total.squeeze(-1) * slope_of_total + mean_last


def draw_normalized(concentration: Tensor, power: Tensor) -> Tensor:
    """A draw from what :func:`raised` returns, without a gradient."""
    both = torch.broadcast_tensors(concentration, power)
    standard, log_scale = draw_raised(*(x.movedim(-1, 0) for x in both))
    return normalized(standard.log() + log_scale).movedim(0, -1).contiguous()


def chunked_vectors(function: Callable[..., Tensors], value: Tensor, *others: Tensor) -> Tensors:
    """:func:`chunked`, none of which cuts through a vector."""
    if value.dim() == 1:
        return function(value, *others)
    return chunked(function, value, *others)


def log_pull_back(gradient: Tensor, log_x: Tensor, concentration: Tensor) -> tuple[Tensor]:
    if 1 < concentration.dim() == log_x.dim() and len(concentration) > 1:
        return (chunked_vectors(_by_parameters, log_x, gradient, concentration),)
    return (_by_parameters(log_x, gradient, concentration),)


def _by_parameters(log_x: Tensor, gradient: Tensor, concentration: Tensor) -> Tensor:
    # The components apart, so that what is along the inner dims has one parameter.
    alpha = concentration.movedim(-1, 0)
    alpha = alpha.reshape(alpha.shape[:1] + (1,) * (log_x.dim() - alpha.dim()) + alpha.shape[1:])
    others = (alpha.sum(0) - alpha).clamp(min=torch.finfo(log_x.dtype).tiny)
    terms = velocity_terms(alpha, others)
    if concentration.dim() == log_x.dim():
        return chunked_vectors(partial(_pulled, terms=terms), log_x, gradient)
    summed = partial(_summed, terms=terms)
    return chunked_sums(summed, concentration.shape, log_x, gradient)[0]


def _pulled(log_x: Tensor, gradient: Tensor, terms: tuple[Tensor, ...]) -> Tensor:
    """The gradient in the concentrations of each vector."""
    return _events_last(_components_pulled(log_x, gradient, terms))


def _summed(log_x: Tensor, gradient: Tensor, terms: tuple[Tensor, ...]) -> tuple[Tensor]:
    """Its sum over the first dim, which the concentrations don't have."""
    return (_events_last(_components_pulled(log_x, gradient, terms).sum(1)),)


def _components_pulled(log_x: Tensor, gradient: Tensor, terms: tuple[Tensor, ...]) -> Tensor:
    log_x, gradient = _events_first(log_x), _events_first(gradient)
    x = log_x.exp()
    velocity = velocity_by_terms(log_x, x, log_rest_of(log_x, x), *terms)
    return velocity * (gradient - x * gradient.sum(0))


def _events_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 0).contiguous()


def _events_last(x: Tensor) -> Tensor:
    return x.movedim(0, -1).contiguous()


def dirichlet_density(log_x: Tensor, concentration: Tensor) -> Tensor:
    """The log-density of x ~ Dirichlet(concentration)."""
    total = concentration.sum(-1, keepdim=True)
    rest, _ = stirling_rest(concentration)
    rest_of_total, _ = stirling_rest(total)
    # About the mean, where the terms of large concentrations cancel.
    log_mean = (concentration / total).log()
    terms = (concentration - 1) * (log_x - log_mean) - log_mean - rest
    return terms.sum(-1) + rest_of_total.squeeze(-1)


def dirichlet_mode(concentration: Tensor) -> Tensor:
    """The mode of x ~ Dirichlet(concentration): a corner where no concentration is above 1."""
    above = (concentration - 1).clamp(min=0.0)
    total = above.sum(-1, keepdim=True)
    # Towards the corner of the largest one most of the others fall, or grow without bound.
    components = torch.arange(above.shape[-1], device=above.device)
    corner = components == concentration.argmax(-1, keepdim=True)
    inside = total > 0
    return torch.where(inside, above / torch.where(inside, total, 1.0), corner.to(above.dtype))


def dirichlet_entropy(concentration: Tensor) -> Tensor:
    """The entropy of x ~ Dirichlet(concentration), by what Stirling's formula leaves."""
    total, count = concentration.sum(-1, keepdim=True), concentration.shape[-1]
    rest, slope = stirling_rest(concentration)
    rest_of_total, slope_of_total = (x.squeeze(-1) for x in stirling_rest(total))
    terms = rest - (concentration - 1) * slope + (concentration / total).log()
    return terms.sum(-1) - rest_of_total + (total.squeeze(-1) - count) * slope_of_total


@register_kl(LogDirichlet, LogDirichlet)
def _kl(p: LogDirichlet, q: LogDirichlet) -> Tensor:
    return dirichlet_divergence(p.concentration, q.concentration)


def _inverse(fn: LogDirichlet, value: Tensor) -> Tensor:
    alpha = fn.concentration.detach()
    return parts_noise(value.detach(), alpha, alpha.sum(-1).expand(value.shape[:-1]))


register_noise_map(LogDirichlet)(
    NoiseMap(
        lambda fn: normals(fn.concentration).to_event(1),
        lambda fn, noise: fn._at(log_parts(noise, fn.concentration.detach())),
        _inverse,
    )
)

r"""The noise behind counts: the normal whose quantile the count is.

A count k is the least one with :math:`F(k) \ge \Phi(\epsilon)`. Given k, :math:`\Phi(\epsilon)` is
uniform between :math:`F(k - 1)` and :math:`F(k)`, and is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch import distributions as td
from torch.nn.functional import softplus
from torch.special import ndtr, ndtri

from ...noise import standard_uniform
from ...numerics.beta_cdf import beta_tails
from ...numerics.gamma_quantile import gamma_noise, log_gamma_quantile
from ...numerics.incomplete_gamma import gammaincc
from .gamma_noise import concentrations_of, log_beta_parts, parts_noise
from .logits import exact_logits
from .noise_map import NoiseMap, normals, register_noise_map

WINDOW = 64
"""Counts that are looked at about the approximate one. Its error is below half of that."""


class Counts(NamedTuple):
    """A law of counts, by functions of them, or of noise, and of parameters."""

    below: Callable[..., Tensor]
    """P(X < k)."""
    log_probability: Callable[..., Tensor]
    approximate: Callable[..., Tensor]
    """A number near the count at the noise."""

    @torch.no_grad()
    def at(self, noise: Tensor, *parameters: Tensor) -> Tensor:
        """The counts at this noise, in its dtype."""
        e, *given = torch.broadcast_tensors(noise.double(), *(x.double() for x in parameters))
        start = (self.approximate(e, *given).floor() - WINDOW / 2).clamp(min=0)
        window = torch.arange(WINDOW, dtype=start.dtype, device=start.device)
        counts = start.unsqueeze(-1) + window
        probability = self.log_probability(counts, *(x.unsqueeze(-1) for x in given)).exp()
        cdf = self.below(start, *given).unsqueeze(-1) + probability.cumsum(-1)
        return (start + (cdf < ndtr(e).unsqueeze(-1)).sum(-1)).to(noise.dtype)

    @torch.no_grad()
    def noise(self, count: Tensor, *parameters: Tensor) -> Tensor:
        """Noise that leads to the counts, in the dtype of the first parameter."""
        k, *given = torch.broadcast_tensors(count.double(), *(x.double() for x in parameters))
        share = standard_uniform(k.shape, k)
        u = self.below(k, *given) + self.log_probability(k, *given).exp() * share
        info = torch.finfo(k.dtype)
        return ndtri(u.clamp(info.tiny, 1 - info.eps / 2)).to(parameters[0].dtype)


def _cornish_fisher(e: Tensor, mean: Tensor, variance: Tensor, asymmetry: Tensor | float) -> Tensor:
    """``asymmetry``: the skewness times the standard deviation."""
    return mean + variance.sqrt() * e + asymmetry * (e.square() - 1) / 6


POISSON = Counts(
    lambda k, rate: torch.where(k > 0, gammaincc(k.clamp(min=1), rate), 0.0),
    lambda k, rate: torch.xlogy(k, rate) - rate - torch.lgamma(k + 1),
    lambda e, rate: _cornish_fisher(e, rate, rate, 1.0),
)


def _binomial_below(k: Tensor, total: Tensor, probs: Tensor, rest: Tensor) -> Tensor:
    # As many draws as a Beta variable needs to lie above ``probs``.
    inner = k.clamp(min=1).minimum(total.clamp(min=1))
    _, above = beta_tails(probs, inner, (total - inner + 1).clamp(min=1), rest)
    return torch.where(k > total, 1.0, torch.where((k > 0) & (total > 0), above, 0.0))


def _binomial_log_probability(k: Tensor, total: Tensor, probs: Tensor, rest: Tensor) -> Tensor:
    others = (total - k).clamp(min=0)
    choices = torch.lgamma(total + 1) - torch.lgamma(k + 1) - torch.lgamma(others + 1)
    log_probability = choices + torch.xlogy(k, probs) + torch.xlogy(others, rest)
    return torch.where(k > total, -math.inf, log_probability)


def _binomial_approximate(e: Tensor, total: Tensor, probs: Tensor, rest: Tensor) -> Tensor:
    return _cornish_fisher(e, total * probs, total * probs * rest, rest - probs)


BINOMIAL = Counts(_binomial_below, _binomial_log_probability, _binomial_approximate)


register_noise_map(td.Poisson)(
    NoiseMap(
        lambda fn: normals(fn.rate),
        lambda fn, noise: POISSON.at(noise, fn.rate),
        lambda fn, value: POISSON.noise(value, fn.rate),
    )
)


def _of_binomial(fn: Any) -> tuple[Tensor, ...]:
    logits = exact_logits(fn)
    return logits.sigmoid(), (-logits).sigmoid()


def _binomial_forward(fn: Any, noise: Tensor) -> Tensor:
    return BINOMIAL.at(noise, fn.total_count, *_of_binomial(fn))


def _binomial_inverse(fn: Any, value: Tensor) -> Tensor:
    probs, rest = _of_binomial(fn)
    return BINOMIAL.noise(value, fn.total_count.to(probs.dtype), probs, rest)


register_noise_map(td.Binomial)(
    NoiseMap(lambda fn: normals(fn.logits), _binomial_forward, _binomial_inverse)
)


def _of_mixed(fn: Any) -> tuple[Tensor, Tensor]:
    """The concentration and the log rate of the Gamma law that the Poisson rate has."""
    if isinstance(fn, dist.GammaPoisson):
        return fn.concentration.detach(), fn.rate.detach().log()
    concentration = fn.total_count.detach().clamp(min=torch.finfo(fn.logits.dtype).tiny)
    return concentration.to(fn.logits.dtype), -fn.logits.detach()


def _mixed_forward(fn: Any, noise: Tensor) -> Tensor:
    mixing, own = noise.unbind(-1)
    concentration, log_rate = _of_mixed(fn)
    return POISSON.at(own, (log_gamma_quantile(mixing, concentration) - log_rate).exp())


def _mixed_inverse(fn: Any, value: Tensor) -> Tensor:
    concentration, log_rate = _of_mixed(fn)
    fresh = torch.randn(value.shape, dtype=log_rate.dtype, device=value.device)
    # Given the count, the rate is a Gamma variable too.
    log_standard = log_gamma_quantile(fresh, concentration + value)
    log_mean = log_standard - softplus(log_rate)
    own = POISSON.noise(value, log_mean.exp())
    return torch.stack([gamma_noise(log_mean + log_rate, concentration), own], -1)


register_noise_map(td.NegativeBinomial, dist.GammaPoisson)(
    NoiseMap(lambda fn: normals(_of_mixed(fn)[1], 2), _mixed_forward, _mixed_inverse)
)


def _beta_binomial_forward(fn: Any, noise: Tensor) -> Tensor:
    probs, rest = log_beta_parts(fn, noise[..., :2]).exp().unbind(-1)
    return BINOMIAL.at(noise[..., 2], fn.total_count, probs, rest)


def _beta_binomial_inverse(fn: Any, value: Tensor) -> Tensor:
    prior, total = concentrations_of(fn), fn.total_count
    given = prior + torch.stack(torch.broadcast_tensors(value, total - value), -1)
    log_parts = log_gamma_quantile(torch.randn_like(given), given).log_softmax(-1)
    own = BINOMIAL.noise(value, total.to(prior.dtype), *log_parts.exp().unbind(-1))
    parts = parts_noise(log_parts, prior, prior.sum(-1).expand(log_parts.shape[:-1]))
    return torch.cat([parts, own.to(parts.dtype).unsqueeze(-1)], -1)


register_noise_map(dist.BetaBinomial)(
    NoiseMap(lambda fn: normals(fn.concentration1, 3), _beta_binomial_forward, _beta_binomial_inverse)
)


def _geometric_rate(fn: Any) -> Tensor:
    return softplus(exact_logits(fn))


def _geometric_forward(fn: Any, noise: Tensor) -> Tensor:
    return (noise / _geometric_rate(fn)).floor()


def _geometric_inverse(fn: Any, value: Tensor) -> Tensor:
    rate = _geometric_rate(fn)
    share = standard_uniform(torch.broadcast_shapes(rate.shape, value.shape), rate)
    return torch.where(value > 0, value * rate, 0.0) - torch.log1p(share * torch.expm1(-rate))


register_noise_map(td.Geometric)(
    NoiseMap(
        lambda fn: dist.Exponential(torch.ones_like(fn.logits)), _geometric_forward, _geometric_inverse
    )
)

r"""The noise behind Gamma variables and what is made from them: standard normals.

A Gamma variable is the quantile of a normal: :math:`P(a, x) = \Phi(\epsilon)`. Beta and Dirichlet
values are proportions of Gamma variables, whose sum is independent of them, so that it is drawn; the
mixing variable of Student's t is a Gamma variable given the value.
"""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch import distributions as td

from ...noise import uniform_like
from ...numerics.gamma_quantile import gamma_noise, log_gamma_quantile
from ...numerics.positive_log import positive_log
from .noise_map import ELLIPTICAL, NoiseMap, normals, register_noise_map
from .pathwise import pathwise_at


def _gamma_forward(fn: Any, noise: Tensor) -> Tensor:
    info = torch.finfo(fn.rate.dtype)
    log_value = log_gamma_quantile(noise, fn.concentration) - fn.rate.detach().log()
    return pathwise_at(fn, log_value.exp().clamp(info.tiny, info.max))


def _gamma_inverse(fn: Any, value: Tensor) -> Tensor:
    log_value = positive_log(value.detach()) + fn.rate.detach().log()
    # torch holds it off 0 before it is scaled, this package after that.
    end = 2 * torch.finfo(value.dtype).tiny
    censored = (value <= end) | (value * fn.rate <= end)
    return gamma_noise(log_value, fn.concentration, share(censored, log_value))


def share(censored: Tensor, like: Tensor) -> Tensor:
    """The share of the mass below a value: uniform where it stands for all that is below, else 1."""
    return torch.where(censored, uniform_like(like), 1.0)


register_noise_map(td.Gamma)(
    NoiseMap(lambda fn: normals(fn.concentration), _gamma_forward, _gamma_inverse)
)


def parts_noise(
    log_x: Tensor, concentration: Tensor, total: Tensor, censored: Tensor | None = None
) -> Tensor:
    """The noise of Gamma variables with proportions x along the last dim; ``total``: the sum of all."""
    log_sum = log_gamma_quantile(torch.randn_like(total), total)
    below = None if censored is None else share(censored, log_x)
    return gamma_noise(log_x + log_sum.unsqueeze(-1), concentration, below)


def log_parts(noise: Tensor, concentration: Tensor) -> Tensor:
    """The logarithms of the proportions."""
    return log_gamma_quantile(noise, concentration).log_softmax(-1)


def concentrations_of(fn: Any) -> Tensor:
    """Both concentrations of a Beta variable, side by side."""
    return torch.stack([fn.concentration1, fn.concentration0], -1).detach()


def beta_noise(fn: Any, log_x: Tensor, log_rest: Tensor, *censored: Tensor) -> Tensor:
    """The noise of a Beta variable by both logarithms; ``censored``: where x is, and where 1 - x is."""
    both = concentrations_of(fn)
    total = both.sum(-1).expand(log_x.shape)
    ends = torch.stack(censored, -1) if censored else None
    return parts_noise(torch.stack([log_x, log_rest], -1).detach(), both, total, ends)


def log_beta_parts(fn: Any, noise: Tensor) -> Tensor:
    """The logarithms of x and 1 - x, side by side."""
    return log_parts(noise, concentrations_of(fn))


def _beta_forward(fn: Any, noise: Tensor) -> Tensor:
    info = torch.finfo(noise.dtype)
    log_x, log_rest = log_beta_parts(fn, noise).unbind(-1)
    logit = (log_x - log_rest).clamp(math.log(info.tiny) + 1, -math.log(info.eps))
    return pathwise_at(fn, logit.sigmoid())


def _beta_inverse(fn: Any, value: Tensor) -> Tensor:
    info = torch.finfo(value.dtype)
    value = value.clamp(info.tiny, 1 - info.eps / 2)
    ends = value <= 4 * info.tiny, value >= 1 - info.eps
    return beta_noise(fn, value.log(), (-value).log1p(), *ends)


register_noise_map(td.Beta)(
    NoiseMap(lambda fn: normals(fn.concentration1, 2), _beta_forward, _beta_inverse)
)


def _dirichlet_forward(fn: Any, noise: Tensor) -> Tensor:
    value = log_parts(noise, fn.concentration.detach()).exp()
    return pathwise_at(fn, value.clamp(min=torch.finfo(value.dtype).tiny))


def _dirichlet_inverse(fn: Any, value: Tensor) -> Tensor:
    alpha = fn.concentration.detach()
    total = alpha.sum(-1).expand(value.shape[:-1])
    censored = value <= torch.finfo(value.dtype).tiny
    return parts_noise(positive_log(value.detach()), alpha, total, censored)


register_noise_map(td.Dirichlet)(
    NoiseMap(lambda fn: normals(fn.concentration).to_event(1), _dirichlet_forward, _dirichlet_inverse)
)


def _precision(df: Tensor, noise: Tensor) -> Tensor:
    """The Gamma variable of mean 1 by whose root a normal vector is divided."""
    return (log_gamma_quantile(noise, 0.5 * df) - (0.5 * df).detach().log()).exp()


def _mixing_noise(df: Tensor, square: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """A precision given the squared distance of the value, and its noise."""
    df, square = torch.broadcast_tensors(df.detach(), square.detach())
    log_standard = log_gamma_quantile(torch.randn_like(square), 0.5 * (df + dims))
    log_precision = log_standard - torch.logaddexp((0.5 * df).log(), (0.5 * square).log())
    return log_precision.exp(), gamma_noise(log_precision + (0.5 * df).log(), 0.5 * df)


def _student_forward(fn: Any, noise: Tensor) -> Tensor:
    normal, mixing = noise.unbind(-1)
    largest = torch.finfo(noise.dtype).max
    standard = (normal * _precision(fn.df, mixing).rsqrt()).clamp(-largest, largest)
    return pathwise_at(fn, (fn.loc + fn.scale * standard).clamp(-largest, largest))


def _student_inverse(fn: Any, value: Tensor) -> Tensor:
    y = (value - fn.loc) / fn.scale
    precision, mixing = _mixing_noise(fn.df, y.square(), 1)
    return torch.stack([y * precision.sqrt(), mixing], -1)


register_noise_map(td.StudentT)(
    NoiseMap(lambda fn: normals(fn.df, 2), _student_forward, _student_inverse)
)


def _vector_forward(fn: Any, noise: Tensor) -> Tensor:
    half = 0.5 * fn.df
    precision = _precision(fn.df, noise[..., -1])
    precision = pathwise_at(dist.Gamma(half, half, validate_args=False), precision)
    return ELLIPTICAL.forward(fn, noise[..., :-1] * precision.rsqrt().unsqueeze(-1))


def _vector_inverse(fn: Any, value: Tensor) -> Tensor:
    white = ELLIPTICAL.inverse(fn, value)
    precision, mixing = _mixing_noise(fn.df, white.square().sum(-1), white.shape[-1])
    return torch.cat([white * precision.sqrt().unsqueeze(-1), mixing.unsqueeze(-1)], -1)


register_noise_map(dist.MultivariateStudentT)(
    NoiseMap(lambda fn: normals(fn.df, fn.event_shape[0] + 1), _vector_forward, _vector_inverse)
)

"""Distributions that can be decentered, each with what should come of it in plain torch."""

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.special import ndtr, ndtri

import pyro_reparam_ext as pre

DTYPE = torch.float64


@dataclass(frozen=True)
class Case:
    """A family with parameters on the last dim of a tensor.

    - ``fn(theta)``: its distribution; ``p`` and ``q`` are parameters for the model and for a guide;
    - ``value(theta, noise)`` and ``noise_log_prob(theta, noise)``: what the reparameteriser should
      make of it, by other means;
    - ``noise_fn(phi)``: a distribution on the support of the noise, ``phi`` its parameters.
    """

    name: str
    reparam: type[pre.reparam.NoncenteredReparam]
    fn: Callable[[Tensor], dist.TorchDistribution]
    p: tuple[float, ...]
    q: tuple[float, ...]
    value: Callable[[Tensor, Tensor], Tensor]
    noise_log_prob: Callable[[Tensor, Tensor], Tensor]
    noise_fn: Callable[[Tensor], dist.TorchDistribution]
    phi: tuple[float, ...]

    def __repr__(self) -> str:
        return self.name

    @property
    def noise_name(self) -> str:
        return f"x_{self.reparam.suffix}"

    def reparameterised(self, program: Callable, guide: bool) -> Callable:
        return poutine.reparam(program, config={"x": self.reparam(guide=guide)})


def _normal(theta):
    return dist.Normal(theta[..., 0], theta[..., 1].exp())


def _gamma(theta):
    return dist.Gamma(theta[..., 0].exp(), theta[..., 1].exp())


def _exponential(theta):
    return dist.Exponential(theta[..., 0].exp())


def _truncated(theta):
    loc, scale = theta[..., 0], theta[..., 1].exp()
    return pre.distributions.TruncatedNormal(loc, scale, -torch.ones_like(loc), 2.0)


def _truncated_value(theta, u):
    loc, scale = theta[..., 0], theta[..., 1].exp()
    below, above = ndtr((-1 - loc) / scale), ndtr((2 - loc) / scale)
    return loc + scale * ndtri(below + u * (above - below))


def _tril(theta):
    zero = torch.zeros_like(theta[..., 0])
    first = torch.stack([theta[..., 2].exp(), zero], -1)
    return torch.stack([first, torch.stack([theta[..., 3], theta[..., 4].exp()], -1)], -2)


def _vector(theta):
    return dist.MultivariateNormal(theta[..., :2], scale_tril=_tril(theta))


def _vector_value(theta, noise):
    return theta[..., :2] + torch.einsum("...ij,...j->...i", _tril(theta), noise)


def _white(theta, noise):
    return dist.Normal(0.0, 1.0).log_prob(noise).sum(-1)


def _flat(theta, noise):
    return torch.zeros_like(noise)


def _standard_gamma(theta, noise):
    return dist.Gamma(theta[..., 0].exp(), 1.0).log_prob(noise)


def _beta(phi):
    return dist.Beta(phi[..., 0].exp(), phi[..., 1].exp())


CASES = [
    Case(
        name="normal-standardize",
        reparam=pre.reparam.StandardizeReparam,
        fn=_normal,
        p=(0.3, -0.4),
        q=(-0.5, 0.2),
        value=lambda theta, noise: theta[..., 0] + theta[..., 1].exp() * noise,
        noise_log_prob=lambda theta, noise: dist.Normal(0.0, 1.0).log_prob(noise),
        noise_fn=_normal,
        phi=(0.4, -0.3),
    ),
    Case(
        name="gamma-standardize",
        reparam=pre.reparam.StandardizeReparam,
        fn=_gamma,
        p=(0.5, 0.3),
        q=(0.9, -0.2),
        value=lambda theta, noise: noise / theta[..., 1].exp(),
        noise_log_prob=_standard_gamma,
        noise_fn=_gamma,
        phi=(0.7, 0.2),
    ),
    Case(
        name="exponential-inverse-cdf",
        reparam=pre.reparam.InverseCDFReparam,
        fn=_exponential,
        p=(0.3,),
        q=(-0.2,),
        value=lambda theta, u: -(1 - u).log() / theta[..., 0].exp(),
        noise_log_prob=_flat,
        noise_fn=_beta,
        phi=(0.6, 0.9),
    ),
    Case(
        name="truncated-normal-inverse-cdf",
        reparam=pre.reparam.InverseCDFReparam,
        fn=_truncated,
        p=(0.3, -0.2),
        q=(0.9, 0.1),
        value=_truncated_value,
        noise_log_prob=_flat,
        noise_fn=_beta,
        phi=(0.6, 0.9),
    ),
    Case(
        name="vector-cholesky",
        reparam=pre.reparam.CholeskyReparam,
        fn=_vector,
        p=(0.3, -0.2, -0.1, 0.5, 0.2),
        q=(-0.4, 0.1, 0.2, -0.3, -0.2),
        value=_vector_value,
        noise_log_prob=_white,
        noise_fn=_vector,
        phi=(0.1, 0.2, -0.2, 0.4, -0.3),
    ),
]

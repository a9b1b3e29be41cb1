"""A scalar Bernoulli with a nonlinear cost, and expectations over logistic noise by quadrature."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LOGIT, PRIOR, WEIGHT, Y = 0.4, -0.5, 1.3, 0.9


def _tensor(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def loc(z: Tensor, weight: Tensor) -> Tensor:
    return (2 * z * weight).sin() + weight * z**3


def model() -> None:
    weight = pyro.param("weight", _tensor(WEIGHT))
    z = pyro.sample("z", dist.Bernoulli(logits=_tensor(PRIOR)))
    pyro.sample("y", dist.Normal(loc(z, weight), 0.7), obs=_tensor(Y))


def guide() -> None:
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", _tensor(LOGIT))))


NAMES = ("logit", "weight")


def discrete_log_prob(z: Tensor, logit: Tensor) -> Tensor:
    return z * logsigmoid(logit) + (1 - z) * logsigmoid(-logit)


def log_likelihood(z: Tensor, weight: Tensor) -> Tensor:
    scale = _tensor(0.7)
    return (
        -0.5 * ((_tensor(Y) - loc(z, weight)) / scale) ** 2
        - scale.log()
        - _tensor(0.5) * (2 * _tensor(torch.pi)).log()
    )


def cost(z: Tensor, logit: Tensor, weight: Tensor) -> Tensor:
    """The discrete cost, extended linearly."""
    prior = discrete_log_prob(z, _tensor(PRIOR))
    return discrete_log_prob(z, logit) - prior - log_likelihood(z, weight)


def parameters() -> tuple[Tensor, Tensor]:
    return _tensor(LOGIT).requires_grad_(), _tensor(WEIGHT).requires_grad_()


def logistic_quadrature() -> tuple[Tensor, Tensor]:
    """Nodes and weights: the trapezoidal rule in the noise."""
    noise = torch.linspace(-45, 45, 200_001, dtype=torch.float64)
    weight = noise.sigmoid() * (-noise).sigmoid()
    return noise, weight / weight.sum()


def mean_and_gradient(loss: Tensor, logit: Tensor, weight: Tensor) -> Tensor:
    gradient = torch.autograd.grad(loss, (logit, weight))
    return torch.stack([loss.detach(), *gradient])


def exact() -> Tensor:
    """The gradient of the discrete problem."""
    logit, weight = parameters()
    z = _tensor([0.0, 1.0])
    probs = discrete_log_prob(z, logit).exp()
    return mean_and_gradient((probs * cost(z, logit, weight)).sum(), logit, weight)

"""Small programs whose exact gradient is known, and the digits VAE."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

LOGITS = torch.tensor([0.4, -0.7, 0.2])
WEIGHTS = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.8, -1.0]])
DATA = torch.tensor([[0.5, -0.2], [1.0, 0.3], [-0.4, 0.9]])


def model(data: torch.Tensor = DATA) -> None:
    bias = pyro.param("bias", lambda: torch.tensor(0.1))
    with pyro.plate("data", len(data)):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6, 0.5])).to_event(1))
        loc = (z @ WEIGHTS.T).tanh() * 2 + bias
        pyro.sample("x", dist.Normal(loc, 0.7).to_event(1), obs=data)


def guide(data: torch.Tensor = DATA) -> None:
    logits = pyro.param("logits", lambda: LOGITS.clone())
    with pyro.plate("data", len(data)):
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


def exact_gradient() -> dict[str, torch.Tensor]:
    """By enumeration, in double precision, of the negative ELBO."""
    logits = LOGITS.double().requires_grad_()
    bias = torch.tensor(0.1, dtype=torch.float64).requires_grad_()
    values = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    log_q = torch.distributions.Bernoulli(logits=logits).log_prob(values).sum(-1)
    prior = torch.distributions.Bernoulli(torch.tensor([0.3, 0.6, 0.5], dtype=torch.float64))
    loc = (values @ WEIGHTS.double().T).tanh() * 2 + bias
    likelihood = torch.distributions.Normal(loc[:, None], 0.7).log_prob(DATA.double()).sum((-1, -2))
    log_joint = likelihood + len(DATA) * prior.log_prob(values).sum(-1)
    loss = (log_q.exp() * (len(DATA) * log_q - log_joint)).sum()
    gradients = torch.autograd.grad(loss, [logits, bias])
    return dict(zip(["logits", "bias"], gradients, strict=True))


class DigitsVAE(nn.Module):
    """Binary 8x8 images - 64 hidden units - 32 Bernoulli latents, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.3), nn.Linear(64, 32))
        self.decoder = nn.Sequential(nn.Linear(32, 64), nn.LeakyReLU(0.3), nn.Linear(64, 64))
        self.prior = nn.Parameter(torch.zeros(32))

    def model(self, x: torch.Tensor) -> None:
        pyro.module("decoder", self.decoder)
        prior = pyro.param("prior", self.prior)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=prior).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.encoder(x)).to_event(1))


class TwoLayers(nn.Module):
    """Binary 8x8 images - 32 Bernoulli latents - 16 Bernoulli latents, linear, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([nn.Linear(64, 32), nn.Linear(32, 16)])
        self.decoder = nn.ModuleList([nn.Linear(16, 32), nn.Linear(32, 64)])

    def model(self, x: torch.Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Bernoulli(0.5 * torch.ones(16)).to_event(1))
            z1 = pyro.sample("z1", dist.Bernoulli(logits=self.decoder[0](z2)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder[1](z1)).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Bernoulli(logits=self.encoder[0](x)).to_event(1))
            pyro.sample("z2", dist.Bernoulli(logits=self.encoder[1](z1)).to_event(1))

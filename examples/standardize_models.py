"""A model reparameterised by a handler, beside the noncentred program written by hand."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.reparam.reparam import Reparam
from torch import Tensor

import pyro_reparam_ext as pre

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
"""Effects of coaching in eight schools, and their standard errors (Rubin, 1981)."""
ONES = torch.ones(8)
SAME = 0.5 * torch.eye(8) + 0.5
"""Correlations of schools that resemble one another."""

Effects = Callable[[Tensor, Tensor], Tensor]


def schools(effects: Effects) -> Callable[[], None]:
    """The model of eight schools, whose effects have location ``mu`` and scale ``tau``."""

    def model() -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.LogNormal(1.0, 1.0))
        pyro.sample(
            "y",
            dist.Normal(effects(mu.unsqueeze(-1), tau.unsqueeze(-1)), ERRORS).to_event(1),
            obs=EFFECTS,
        )

    return model


def normal(mu: Tensor, tau: Tensor) -> Tensor:
    return pyro.sample("x", dist.Normal(mu * ONES, tau).to_event(1))


def standardised(mu: Tensor, tau: Tensor) -> Tensor:
    return mu + tau * pyro.sample("x_standard", dist.Normal(0 * ONES, 1.0).to_event(1))


def correlated(mu: Tensor, tau: Tensor) -> Tensor:
    return pyro.sample("x", dist.MultivariateNormal(mu * ONES, tau.unsqueeze(-1) ** 2 * SAME))


def whitened(mu: Tensor, tau: Tensor) -> Tensor:
    noise = pyro.sample("x_white", dist.Normal(0 * ONES, 1.0).to_event(1))
    return mu + tau * (noise @ torch.linalg.cholesky(SAME).T)


def skewed(mu: Tensor, tau: Tensor) -> Tensor:
    return pyro.sample("x", dist.Gumbel(mu * ONES, tau).to_event(1))


def quantile(mu: Tensor, tau: Tensor) -> Tensor:
    u = pyro.sample("x_uniform", dist.Uniform(0 * ONES, ONES).to_event(1))
    return mu - tau * (-u.log()).log()


PROGRAMS: dict[str, tuple[Reparam, Effects, Effects]] = {
    "Normal": (pre.reparam.StandardizeReparam(), normal, standardised),
    "MultivariateNormal": (pre.reparam.CholeskyReparam(), correlated, whitened),
    "Gumbel": (pre.reparam.InverseCDFReparam(), skewed, quantile),
}


def loss_and_gradient(model: Callable[[], None], guide: AutoNormal, seed: int) -> tuple[Tensor, Tensor]:
    """The negative ELBO by one sample, and its gradient in all parameters of the guide."""
    torch.manual_seed(seed)
    loss = Trace_ELBO().differentiable_loss(model, guide)
    gradients = torch.autograd.grad(loss, list(guide.parameters()))
    return loss.detach(), torch.cat([g.flatten() for g in gradients])


def trained(model: Callable[[], None], steps: int, seed: int, svi: type[SVI] = SVI) -> float:
    """The ELBO of a mean-field normal guide after training."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    guide = AutoNormal(model)
    elbo = Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=0)
    optim = pyro.optim.ClippedAdam({"lr": 0.02, "lrd": 0.1 ** (1 / steps)})
    pre.run_svi(svi(model, guide, optim, elbo), steps)
    final = Trace_ELBO(num_particles=20_000, vectorize_particles=True, max_plate_nesting=0)
    return -final.loss(model, guide)


def by_hand(steps: int, seed: int, svi: type[SVI] = SVI) -> pd.DataFrame:
    """Same loss and gradient as the noncentred program's; and what is gained over the centred one."""
    rows = []
    for family, (reparam, centred, noncentred) in PROGRAMS.items():
        handled = pyro.poutine.reparam(schools(centred), config={"x": reparam})
        written = schools(noncentred)
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        guide = AutoNormal(written)
        guide()
        loss, gradient = loss_and_gradient(handled, guide, seed)
        loss_by_hand, by_hand = loss_and_gradient(written, guide, seed)
        rows.append(
            {
                "effects": family,
                "reparameteriser": type(reparam).__name__,
                "loss": loss.item(),
                "by hand": loss_by_hand.item(),
                "largest difference of gradients": (gradient - by_hand).abs().max().item(),
                "norm of gradient": gradient.norm().item(),
                "trained ELBO, centred": trained(schools(centred), steps, seed, svi),
                "noncentred": trained(handled, steps, seed, svi),
            }
        )
    return pd.DataFrame(rows)

"""One gradient of a Bernoulli VAE against the same arithmetic in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import pyro_reparam_ext as pre

from .programs import BernoulliVAE, binary_images
from .timing import Row, compare


def run(quick: bool = False) -> list[Row]:
    rows = []
    for network, hidden in {"784-200-784": None, "784-200-200-784": 200}.items():
        for name, (elbo, plain) in _cases().items():
            for validation in (False, True):
                with pyro.validation_enabled(validation):
                    vae, x = BernoulliVAE(784, 200, hidden), binary_images(50, 784)
                    rows.append(
                        compare(
                            f"{name} / plain torch, {network}, batch 50",
                            f"validation {'on' if validation else 'off'}",
                            _ours(elbo(), vae, x),
                            _theirs(plain, vae, x),
                            repetitions=4 if quick else 40,
                            at_most=None if validation else 1.3,
                        )
                    )
    return rows


def _cases() -> dict[str, tuple[Callable, Callable]]:
    elbo = pre.TraceEstimator_ELBO
    return {
        "LeaveOneOut, 2 particles": (
            lambda: elbo(pre.LeaveOneOut(), num_particles=2, max_plate_nesting=1),
            leave_one_out,
        ),
        "DisARM": (lambda: elbo(pre.DisARM(), max_plate_nesting=1), disarm),
    }


def _ours(elbo: pre.TraceEstimator_ELBO, vae: BernoulliVAE, x: Tensor) -> Callable[[], float]:
    def gradient() -> float:
        vae.zero_grad()
        return elbo.loss_and_grads(vae.model, vae.guide, x)

    return gradient


def _theirs(plain: Callable, vae: BernoulliVAE, x: Tensor) -> Callable[[], float]:
    def gradient() -> float:
        vae.zero_grad()
        loss, surrogate = plain(vae, x)
        surrogate.backward()
        return loss.item()

    return gradient


def bernoulli_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    logits, value = torch.broadcast_tensors(logits, value)
    return -binary_cross_entropy_with_logits(logits, value, reduction="none").sum(-1)


def costs(vae: BernoulliVAE, x: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
    log_joint = bernoulli_log_prob(vae.prior, z) + bernoulli_log_prob(vae.decoder(z), x)
    return log_q.detach() - log_joint


def leave_one_out(vae: BernoulliVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    logits = vae.encoder(x)
    with torch.no_grad():
        z = torch.bernoulli(logits.sigmoid().expand(2, -1, -1))
    log_q = bernoulli_log_prob(logits, z)
    cost = costs(vae, x, z, log_q)
    difference = cost.detach() - cost.detach().flip(0)
    surrogate = (cost + log_q * difference).mean(0).sum()
    return cost.detach().mean(0).sum(), surrogate


def disarm(vae: BernoulliVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    logits = vae.encoder(x)
    with torch.no_grad():
        probs, u = logits.sigmoid(), torch.rand_like(logits)
        z = torch.stack([u < probs, 1 - u < probs]).to(x.dtype)
        weight = (z[0] - z[1]) * logits.abs().sigmoid()
        log_q = bernoulli_log_prob(logits, z)
    cost = costs(vae, x, z, log_q)
    difference = 0.5 * (cost[0] - cost[1]).detach()
    surrogate = (cost.mean(0) + difference * (weight * logits).sum(-1)).sum()
    return cost[0].detach().sum(), surrogate

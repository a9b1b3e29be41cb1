"""Gradients of the expectations of an entry's features: sampled two ways, and exactly."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from .entry import Entry, tensors
from .oracle import Joint


def leaves_of(parameters: dict[str, Any], draws: int) -> dict[str, Tensor]:
    """A copy of the parameters for each draw, so that the gradients of draws stay apart."""
    return {
        name: x.expand((draws,) + x.shape).clone().requires_grad_()
        for name, x in tensors(parameters).items()
    }


def features_of(entry: Entry, parameters: dict[str, Any]) -> Any:
    oracle = entry.oracle
    return oracle.features if isinstance(oracle, Joint) else oracle.features(parameters)


def exact(entry: Entry, parameters: dict[str, Any]) -> dict[str, Tensor]:
    """For each parameter the Jacobian of the expected features, shape (features, coordinates)."""
    oracle = entry.oracle
    if isinstance(oracle, Joint):
        _, jacobians = oracle.expected_with_gradients(parameters)
    else:
        features = oracle.features(parameters)
        jacobians = {name: oracle.expected_gradient(parameters, name, features) for name in parameters}
    return {name: x.reshape(x.shape[0], -1) for name, x in jacobians.items()}


def pathwise(entry: Entry, parameters: dict[str, Any], draws: int) -> dict[str, Tensor]:
    """For each parameter one gradient a draw, shape (draws, features, coordinates)."""
    leaves = leaves_of(parameters, draws)
    outputs = features_of(entry, parameters)(entry.make(**leaves).rsample())
    rows = [
        torch.autograd.grad(outputs[:, j].sum(), list(leaves.values()), retain_graph=True)
        for j in range(outputs.shape[-1])
    ]
    return {
        name: torch.stack([row[i].reshape(draws, -1) for row in rows], 1)
        for i, name in enumerate(leaves)
    }


def score_function(entry: Entry, parameters: dict[str, Any], draws: int) -> dict[str, Tensor]:
    """The same by the score function, without a baseline."""
    leaves = leaves_of(parameters, draws)
    fn = entry.make(**leaves)
    value = fn.sample()
    outputs = features_of(entry, parameters)(value)
    scores = torch.autograd.grad(fn.log_prob(value).sum(), list(leaves.values()))
    return {
        name: outputs[:, :, None] * _along(fn, name, score).reshape(draws, 1, -1)
        for name, score in zip(leaves, scores, strict=True)
    }


def _along(fn: TorchDistribution, name: str, score: Tensor) -> Tensor:
    """On the sphere the density means nothing off it: what is left is the gradient along it."""
    if fn.arg_constraints.get(name) is not constraints.sphere:
        return score
    direction = getattr(fn, name).detach()
    return score - (score * direction).sum(-1, keepdim=True) * direction

"""Class probabilities of a Bayesian network, and how much of their uncertainty is about its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer import Predictive
from torch import Tensor
from torch.special import entr
from tqdm.auto import tqdm

from ..errors import EstimatorError
from .bayesian import BayesianModule


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    r"""Predictions of a classifier with random weights, averaged over draws of these.

    - ``probabilities``: :math:`\bar p = \tfrac1S \sum_s p(y \mid x, w_s)`, shape
      ``(examples, classes)``;
    - ``entropy``: of :math:`\bar p` in nats, shape ``(examples,)``: all uncertainty about the class;
    - ``mutual_information``: of class and weights in nats, :math:`H[\bar p] - \tfrac1S \sum_s
      H[p(y \mid x, w_s)]`: the part of it that more data would take away (Houlsby et al.);
    - ``logits``: of each draw, shape ``(draws, examples, classes)``.
    """

    probabilities: Tensor
    entropy: Tensor
    mutual_information: Tensor
    logits: Tensor

    def __repr__(self) -> str:
        draws, examples, classes = self.logits.shape
        return (
            f"Prediction({examples:,} examples, {classes} classes, {draws:,} draws: mean entropy "
            f"{self.entropy.mean():.3g}, mean mutual information {self.mutual_information.mean():.3g})"
        )


def predict(
    network: BayesianModule,
    guide: Callable[..., Any],
    x: Tensor,
    num_samples: int = 100,
    *,
    batch_size: int = 1000,
    progress: bool = True,
) -> Prediction:
    r"""Class probabilities of a Bayesian network under a guide, with two measures of uncertainty.

    The network's outputs are taken as logits of classes, or, where there is one, of the second of two.
    The weights are drawn ``num_samples`` times by the guide, and all examples are predicted by the same
    draws, with the network in evaluation mode (and back in the mode that it was in afterwards).
    Nothing is drawn from the likelihood: :math:`\tfrac1S \sum_s p(y \mid x, w_s)` has less noise than
    shares of classes that were drawn.

    Args:
        network: made by :func:`to_bayesian`.
        guide: of the model that the network is in. It is called with ``x`` alone.
        x: inputs, examples on the leftmost dim.
        num_samples: draws of the weights.
        batch_size: how many examples are predicted at once.
        progress: whether to show a bar over batches; never if stderr is no terminal.

    Raises:
        EstimatorError: the guide draws none, or not all, of the network's weights; or the outputs are
            not of shape ``(examples, classes)``.

    References:
        Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011,
        https://arxiv.org/abs/1112.5745

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> from pyro.infer.autoguide import AutoNormal
        >>> bnn = pre.nn.to_bayesian(torch.nn.Linear(3, 4), dist.Normal(0.0, 1.0))
        >>> def model(x, y=None):
        ...     logits = bnn(x)
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("y", dist.Categorical(logits=logits), obs=y)
        >>> guide = AutoNormal(model)
        >>> x = torch.randn(50, 3)
        >>> loss = pyro.infer.Trace_ELBO().loss(model, guide, x, torch.zeros(50, dtype=torch.long))
        >>> prediction = pre.nn.predict(bnn, guide, x, num_samples=200)
        >>> prediction.probabilities.shape, prediction.mutual_information.shape
        (torch.Size([50, 4]), torch.Size([50]))
    """
    if not isinstance(network, BayesianModule):
        raise EstimatorError(
            f"predict: was given {type(network).__name__} for a network; expected one made by "
            f"pre.nn.to_bayesian."
        )
    if num_samples < 1 or batch_size < 1:
        raise EstimatorError(
            f"predict: expected num_samples >= 1 and batch_size >= 1, was given {num_samples} and "
            f"{batch_size}."
        )
    batches = x.split(batch_size)
    with torch.no_grad(), _evaluating(network):
        draws = _weights(network, guide, batches[0], num_samples)
        outputs = Predictive(network, draws, return_sites=("_RETURN",), parallel=True)
        with tqdm(batches, desc="predict", unit="batch", disable=None if progress else True) as bar:
            logits = torch.cat([_logits(outputs(batch)["_RETURN"], batch) for batch in bar], 1)
        each = logits.softmax(-1)
        probabilities = each.mean(0)
        entropy = entr(probabilities).sum(-1)
        information = (entropy - entr(each).sum(-1).mean(0)).clamp(min=0)
    return Prediction(probabilities, entropy, information, logits)


def _weights(
    network: BayesianModule, guide: Callable[..., Any], x: Tensor, num_samples: int
) -> dict[str, Tensor]:
    """Draws of the network's sites, on the leftmost dim."""
    drawn = Predictive(guide, num_samples=num_samples, parallel=True)(x)
    missing = [name for name in network.sites if name not in drawn]
    if missing:
        raise EstimatorError(
            f"predict: the guide does not draw site '{missing[0]}' of the network; expected all of "
            f"{', '.join(network.sites)}. Give the guide that the network was trained with."
        )
    return {name: drawn[name] for name in network.sites}


def _logits(output: Tensor, x: Tensor) -> Tensor:
    """Logits of classes, shape ``(draws, examples, classes)``."""
    if output.dim() != 3 or output.shape[1] != len(x):
        raise EstimatorError(
            f"predict: the network's output has shape {tuple(output.shape[1:])}, expected "
            f"({len(x)}, classes): logits of each example's classes."
        )
    return torch.cat([torch.zeros_like(output), output], -1) if output.shape[-1] == 1 else output


@contextmanager
def _evaluating(network: BayesianModule) -> Iterator[None]:
    """The network in evaluation mode; its parts are afterwards in the modes that they were in."""
    before = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with poutine.block():
            yield
    finally:
        for module, training in before.items():
            module.training = training

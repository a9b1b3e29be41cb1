"""One draw of the weights, with random signs for every example."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..noise import signs_like
from .layers.linear_map import LinearMap
from .layers.weight_noise_context import WeightNoiseContext


class flipout(WeightNoiseContext):
    r"""A context in which layers change the signs of one draw of their weights, example by example.

    With :math:`W = \mu + \Delta` drawn once, and :math:`r_n, s_n` vectors of random signs, example
    :math:`n` is given the weight :math:`\mu + \Delta \circ r_n s_n^T`:

    .. math:: a_n = \mu x_n + r_n \circ \big( \Delta (s_n \circ x_n) \big).

    Since the normals of :math:`\Delta` are independent and symmetric, each example sees weights of the
    right law, while the examples' noise is uncorrelated. The signs of an example are the same at all
    its positions (pixels, steps of a sequence) and in all calls with the same weight, so that
    convolutions, attention, recurrent networks and shared layers are served without bias: the
    expected loss and gradient are those of the plain ELBO wherever the loss is a sum over examples.

    What is served, and where the context may stand, is said at :class:`local_reparameterization`, whose
    variance is the lower one; recurrent layers are served here only.

    See also:
        :class:`local_reparameterization`, :func:`to_bayesian`.

    References:
        Y. Wen, P. Vicol, J. Ba, D. Tran, R. Grosse, "Flipout: Efficient Pseudo-Independent Weight
        Perturbations on Mini-Batches", 2018, https://arxiv.org/abs/1803.04386

    Args:
        batch_dim: the dim of a layer's inputs along which the examples lie, where the layer itself
            doesn't say so (linear, bilinear, embedding, layer norm, ``@``, ``*``, ``+``): 0, or 1 for
            sequences of shape (length, examples, features). Negative dims count from the features: -1
            where inputs have further dims on their left, such as those of the evaluations of a discrete
            site before the network. Convolutions, attention and recurrent layers know theirs.
        strict: raise where a layer can't be served. Otherwise it is computed as without the context,
            and one warning at the end names all such layers.

    Raises:
        EstimatorError: a weight enters a layer that isn't linear in it, or its law under the guide
            isn't that of independent normals.

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> pyro.set_rng_seed(0)
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
        ... )
        >>> bnn = pre.nn.to_bayesian(network, dist.Normal(0.0, 1.0))
        >>> def model(images, labels):
        ...     logits = bnn(images)
        ...     with pyro.plate("data", len(images)):
        ...         pyro.sample("label", dist.Categorical(logits=logits), obs=labels)
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
        >>> images, labels = torch.randn(20, 1, 8, 8), torch.arange(20) % 10
        >>> with pre.nn.flipout():
        ...     losses = [svi.step(images, labels) for _ in range(10)]
    """

    draws_weights = True

    def estimate(self, call: LinearMap, memory: dict[Any, Any]) -> Tensor:
        mean = call.mean()
        *rows_in, rows_out = call.rows
        signed = [
            x * _signs(memory, (call.key, i), x, rows) if rows else x
            for i, (x, rows) in enumerate(zip(call.inputs, rows_in, strict=True))
        ]
        deviation = call.apply(*signed, *call.deviations())
        return torch.addcmul(mean, deviation, _signs(memory, (call.key, "output"), mean, rows_out))


def _signs(memory: dict[Any, Any], key: tuple, x: Tensor, rows: tuple[int, ...]) -> Tensor:
    """Random signs along some dims of ``x``, the same for later calls with the same weight."""
    kept = {dim % x.dim() for dim in rows}
    shape = tuple(size if dim in kept else 1 for dim, size in enumerate(x.shape))
    key = (*key, shape)
    if key not in memory:
        memory[key] = signs_like(x, shape)
    return memory[key]

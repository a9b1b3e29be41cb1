"""Noise on what a layer puts out, in place of noise on its weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .layers.linear_map import LinearMap, UnsupportedLayer
from .layers.weight_noise_context import WeightNoiseContext


class _Use(NamedTuple):
    """A call made before with the weight: its row of the Cholesky factor of the calls' covariance.

    ``row``: left of the diagonal. ``scale``: the diagonal's element.
    """

    call: LinearMap
    row: list[Tensor]
    scale: Tensor
    noise: Tensor


class local_reparameterization(WeightNoiseContext):
    r"""A context in which layers draw their outputs, in place of one draw of their weights for all.

    Where a guide gives a weight independent normals, :math:`W_{oi} \sim N(\mu_{oi}, \sigma_{oi}^2)`,
    the output of a layer that is linear in it is normal as well, and is drawn for each example
    :math:`n`,

    .. math::
        a_{no} = \sum_i x_{ni} \mu_{oi} + \epsilon_{no} \sqrt{\sum_i x_{ni}^2 \sigma_{oi}^2},
        \qquad \epsilon_{no} \sim N(0, 1).

    The noise of the examples is then independent, so that the variance of the gradient falls with their
    number, which it doesn't where they share one draw of the weights. The expected loss and gradient
    are the same: exactly so where the loss is a sum over examples, each of which passes a layer in one
    place. A second call with the same weight (a shared layer, a cell that is called step by step) is
    drawn conditionally on the first, at a cost that grows with the square of the number of calls;
    inputs of another shape are taken for other examples.
    Convolutions, and layers that see all positions of a sequence at once, draw their positions
    independently, as is usual: an approximation, which :class:`flipout` doesn't need, and which a study
    shows as biased. So are derivatives of the network in its inputs: as part of a loss, take
    :class:`flipout`.

    A loss whose examples see one another (batch normalisation in training mode), and a bound that takes
    the logarithm of a mean over weights (``RenyiELBO``, importance-weighted bounds), are no such sums:
    with noise of the examples' own they have another value, in both contexts.

    Served are linear, bilinear and convolutional layers and their transposes, embeddings, attention,
    the weight and bias of normalisations, and products, sums and ``@`` of a weight and inputs with
    further dims on their left. Weights are the model's sample sites that have event dims and lie
    outside of plates; the guide is a mean-field one (``AutoNormal``, ``AutoDiagonalNormal``, or one
    written by hand), the network any that samples its weights (:func:`to_bayesian`, ``PyroSample``,
    by hand). The context may be entered around any ELBO or ``SVI.step``, or decorate the model.

    See also:
        :class:`flipout`, :func:`to_bayesian`.

    References:
        D. P. Kingma, T. Salimans, M. Welling, "Variational Dropout and the Local Reparameterization
        Trick", 2015, https://arxiv.org/abs/1506.02557

    Args:
        batch_dim: the dim of a layer's inputs along which the examples lie, where the layer itself
            doesn't say so; see :class:`flipout`. Here it tells examples from positions.
        strict: raise where a layer can't be served. Otherwise it is computed as without the context,
            and one warning at the end names all such layers.

    Raises:
        EstimatorError: a weight enters a layer that isn't linear in it, or its law under the guide
            isn't that of independent normals.

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> pyro.set_rng_seed(0)
        >>> bnn = pre.nn.to_bayesian(torch.nn.Linear(3, 1), dist.Normal(0.0, 1.0))
        >>> def model(x, y):
        ...     loc = bnn(x).squeeze(-1)
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("y", dist.Normal(loc, 1.0), obs=y)
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
        >>> x = torch.randn(100, 3)
        >>> with pre.nn.local_reparameterization():
        ...     losses = [svi.step(x, x.sum(-1)) for _ in range(10)]
    """

    draws_weights = False

    def estimate(self, call: LinearMap, memory: dict[Any, Any]) -> Tensor:
        weight_variance, bias_variance = call.variances()
        output = call.mean()
        if output.dtype is torch.float16:
            raise UnsupportedLayer("float16 has no room for variances; expected bfloat16 or more")
        variance = call.apply(*(x.square() for x in call.inputs), weight_variance, bias_variance)
        if call.has_positions(output):  # they are drawn independently
            self.unbiased = False
        rest = variance
        uses = memory.setdefault((call.key, output.shape), [])
        row: list[Tensor] = []
        for use in uses:
            shared = bias_variance if use.call.bias_key == call.bias_key else None
            covariance = call.apply(*call.joint_inputs(use.call), weight_variance, shared)
            for mine, other in zip(row, use.row, strict=True):
                covariance = covariance - mine * other
            row.append(covariance / _divisor(use.scale))
            output = torch.addcmul(output, row[-1], use.noise)
            rest = rest - row[-1].square()
        if uses:
            scale = _root(rest, variance)
        else:  # with a finite derivative for a zero input
            scale = (variance + torch.finfo(variance.dtype).tiny).sqrt()
        noise = torch.randn_like(scale)
        uses.append(_Use(call, row, scale, noise))
        return torch.addcmul(output, scale, noise)


def _root(rest: Tensor, variance: Tensor) -> Tensor:
    """The square root of what is left of the variance; zero where that is rounding."""
    positive = rest > 16 * torch.finfo(rest.dtype).eps * variance
    return torch.where(positive, torch.where(positive, rest, 1.0).sqrt(), 0.0)


def _divisor(scale: Tensor) -> Tensor:
    """The scale, infinity where it is zero."""
    return torch.where(scale > 2 * torch.finfo(scale.dtype).tiny ** 0.5, scale, torch.inf)

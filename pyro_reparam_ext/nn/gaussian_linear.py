"""A linear layer that puts out a normal distribution, and a sample of it."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..errors import EstimatorError


class GaussianLinear(nn.Module):
    r"""A linear layer that puts out a location and a scale, and samples between them, reparameterised.

    .. math::
        (\mu, \rho) = W x + b, \qquad \sigma = \log(1 + e^\rho) + \sigma_{\min}, \qquad
        y = \mu + \sigma \odot \varepsilon, \quad \varepsilon \sim N(0, I)

    Calling the layer draws :math:`y`, anew for each row and each call, in ``train`` and in ``eval``
    mode: the noise is what the layer says of its output, nothing that regularises. :meth:`distribution`
    is the law of :math:`y`: for a sample site, to score data, and, by its ``mean``, the output without
    noise.

    What :math:`\sigma` comes to mean is up to the loss. A log likelihood of data under the distribution
    is best where :math:`\sigma` is the deviation of the data. A loss of the sample, such as its squared
    error, :math:`E (y - t)^2 = (\mu - t)^2 + \sigma^2`, is best without noise, and drives
    :math:`\sigma` to :math:`\sigma_{\min}`.

    See also:
        :class:`NoisyLinear`, with noise on the weights, that is held over calls.

    References:
        Nix, Weigend, *Estimating the Mean and Variance of the Target Probability Distribution*, 1994,
        https://doi.org/10.1109/ICNN.1994.374138.

        Kingma, Welling, *Auto-Encoding Variational Bayes*, 2014, https://arxiv.org/abs/1312.6114.

    Args:
        in_features: the number of inputs, the size of the rightmost dim of x.
        out_features: the number of outputs, the size of the rightmost dim of y.
        bias: whether there is a b.
        min_scale: :math:`\sigma_{\min} > 0`, in units of the output. It bounds the log density, which
            a point that is hit exactly would else take to infinity.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        EstimatorError: a number of features is not positive, or ``min_scale`` is not positive or not
            finite.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> layer = pre.nn.GaussianLinear(4, 2)
        >>> x = torch.ones(3, 4)
        >>> layer(x).shape
        torch.Size([3, 2])
        >>> fn = layer.distribution(x)
        >>> fn.batch_shape, fn.event_shape
        (torch.Size([3]), torch.Size([2]))
        >>> loss = -fn.log_prob(torch.zeros(3, 2)).mean()
        >>> layer
        GaussianLinear(
          in_features=4, out_features=2, min_scale=0.0001
          (linear): Linear(in_features=4, out_features=4, bias=True)
        )
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        min_scale: float = 1e-4,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if size < 1:
                raise EstimatorError(
                    f"GaussianLinear: expected {name} of at least 1, was given {size}."
                )
        if not 0 < min_scale < math.inf:
            raise EstimatorError(
                f"GaussianLinear: expected a finite min_scale above 0, was given {min_scale}. Give the "
                f"smallest deviation of the outputs that means anything."
            )
        super().__init__()
        self.in_features, self.out_features, self.min_scale = in_features, out_features, min_scale
        self.linear = nn.Linear(in_features, 2 * out_features, bias, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """A sample (..., out_features) at the inputs (..., in_features)."""
        loc, scale = self._loc_scale(x)
        return loc + scale * torch.randn_like(loc)

    def distribution(self, x: Tensor) -> dist.Independent:
        """The law of the outputs, of batch shape (...) and event shape (out_features)."""
        loc, scale = self._loc_scale(x)
        return dist.Normal(loc, scale).to_event(1)

    def _loc_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = self.linear(x).chunk(2, -1)
        return loc, softplus(raw) + self.min_scale

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"min_scale={self.min_scale}"
        )

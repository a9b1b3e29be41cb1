"""A linear layer whose weights carry noise of learned size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..errors import EstimatorError


class NoisyLinear(nn.Module):
    r"""A linear layer whose weights and biases carry Gaussian noise of learned size, to explore with.

    .. math::
        y = (\mu^w + \sigma^w \odot \varepsilon^w)\, x + \mu^b + \sigma^b \odot \varepsilon^b

    The noise is independent, each :math:`\varepsilon` a standard normal variable, or factorised, of one
    variable per input and one per output:

    .. math::
        \varepsilon^w_{ji} = f(e_j)\, f(e'_i), \quad \varepsilon^b_j = f(e_j), \quad
        f(e) = \operatorname{sgn}(e) \sqrt{|e|}, \quad e, e' \sim N(0, 1)

    One draw of it is held, for all rows of all inputs, until :meth:`reset_noise` makes the next: so one
    draw acts throughout an episode, or an update. It is a buffer, but no part of the ``state_dict``.
    Over draws an output has the mean :math:`\mu^w x + \mu^b` and the variance

    .. math::
        \operatorname{Var}(y_j) = \kappa^2 \sum_i (\sigma^w_{ji} x_i)^2 + \kappa\, (\sigma^b_j)^2,
        \qquad \kappa = \sqrt{2 / \pi} \text{ if factorised, else } 1

    The outputs are uncorrelated; the factorised ones are not independent, as they share :math:`e'`, and
    have heavier tails than a normal variable.

    In ``eval`` mode there is no noise, and the weights are :math:`\mu`. That is the mean of the layer,
    not of a network with something nonlinear after it. To act at random there too, as while training,
    leave this layer in ``train`` mode.

    See also:
        :class:`GaussianLinear`, with noise on the outputs, drawn anew for each row and each call.

    References:
        Fortunato, Azar, Piot et al., *Noisy Networks for Exploration*, 2018,
        https://arxiv.org/abs/1706.10295.

    Args:
        in_features: the number p of inputs, the size of the rightmost dim of x.
        out_features: the number of outputs, the size of the rightmost dim of y.
        bias: whether there is a :math:`\mu^b` and a :math:`\sigma^b`.
        factorised: whether the noise is factorised.
        initial_scale: the paper's :math:`\sigma_0 \ge 0`. At first each :math:`\sigma` is
            :math:`\sigma_0 / \sqrt p` if factorised, else :math:`\sigma_0`; by default that of the
            paper, .5 or .017. Each :math:`\mu` is uniform, up to :math:`\pm 1 / \sqrt p` if
            factorised, else :math:`\pm \sqrt{3 / p}`.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        EstimatorError: a number of features is not positive, or ``initial_scale`` is negative or not
            finite.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> layer = pre.nn.NoisyLinear(4, 2)
        >>> x = torch.ones(3, 4)
        >>> before = layer(x)
        >>> bool((layer(x) == before).all())
        True
        >>> layer.reset_noise()
        >>> bool((layer(x) == before).any())
        False
        >>> layer
        NoisyLinear(in_features=4, out_features=2, bias=True, factorised=True, initial_scale=0.5)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        factorised: bool = True,
        initial_scale: float | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if size < 1:
                raise EstimatorError(f"NoisyLinear: expected {name} of at least 1, was given {size}.")
        if initial_scale is None:
            initial_scale = 0.5 if factorised else 0.017
        if not 0 <= initial_scale < math.inf:
            raise EstimatorError(
                f"NoisyLinear: expected a finite initial_scale of at least 0, was given "
                f"{initial_scale}. Leave it out for the paper's."
            )
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.factorised, self.initial_scale = factorised, initial_scale

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, device=device, dtype=dtype)

        self.weight_mu = nn.Parameter(empty(out_features, in_features))
        self.weight_sigma = nn.Parameter(empty(out_features, in_features))
        self.bias_mu: nn.Parameter | None
        self.bias_sigma: nn.Parameter | None
        for name in ("bias_mu", "bias_sigma"):
            self.register_parameter(name, nn.Parameter(empty(out_features)) if bias else None)
        shape = (in_features + out_features,) if factorised else (out_features, in_features + bias)
        self.noise: Tensor
        self.register_buffer("noise", empty(*shape), persistent=False)
        self.reset_parameters()
        self.reset_noise()

    def reset_parameters(self) -> None:
        """Draws the means and sets the scales, as for a new layer."""
        root = math.sqrt(self.in_features)
        bound = (1 if self.factorised else math.sqrt(3)) / root
        scale = self.initial_scale / root if self.factorised else self.initial_scale
        for mu, sigma in ((self.weight_mu, self.weight_sigma), (self.bias_mu, self.bias_sigma)):
            if mu is not None and sigma is not None:
                nn.init.uniform_(mu, -bound, bound)
                nn.init.constant_(sigma, scale)

    def reset_noise(self) -> None:
        """Draws new noise, which is held until the next call."""
        # In place: a buffer that vmap replaced would outlive it.
        self.noise.normal_()

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (..., out_features) at the inputs (..., in_features)."""
        if not self.training:
            return linear(x, self.weight_mu, self.bias_mu)
        weight_noise, bias_noise = self._held_noise()
        weight = self.weight_mu + self.weight_sigma * weight_noise
        mu, sigma = self.bias_mu, self.bias_sigma
        bias = None if mu is None or sigma is None else mu + sigma * bias_noise
        return linear(x, weight, bias)

    def _held_noise(self) -> tuple[Tensor, Tensor]:
        """The noise of weights and biases that is held.

        A copy, so that new noise may be drawn before the backward pass.
        """
        if not self.factorised:
            noise = self.noise.clone()
            return noise[:, : self.in_features], noise[:, -1]
        noise = self.noise.sign() * self.noise.abs().sqrt()
        of_inputs, of_outputs = noise.split((self.in_features, self.out_features))
        return torch.outer(of_outputs, of_inputs), of_outputs

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NoisyLinear:
        was_meta = self.noise.is_meta
        super()._apply(fn, recurse)
        # No state_dict brings noise to a layer that left the meta device.
        if was_meta and not self.noise.is_meta:
            self.reset_noise()
        return self

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias_mu is not None}, factorised={self.factorised}, "
            f"initial_scale={self.initial_scale}"
        )

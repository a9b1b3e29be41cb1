"""Mixtures of normal vectors with diagonal covariances."""

from __future__ import annotations

import math
from typing import Any

from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import Categorical

from ..numerics import normal_mixture
from .mixins.parametric import Parametric
from .rules.known_defects import register_differentiable_once
from .rules.mixture_parts import mixture_of_diag_normals, register_mixture_parts
from .rules.on_support import log_prob_on_support
from .supports.finite import finite_vector


class MixtureOfDiagNormals(Parametric):
    r"""A mixture of K normal vectors, each with its mean and its diagonal covariance.

    .. math::
        f(x) = \sum_k w_k \prod_d \mathcal{N}(x_d; \mu_{kd}, \sigma_{kd}^2), \qquad
        w = \mathrm{softmax}(\mathrm{logits})

    A draw is that of one component; it moves with the parameters of all of them so that the conditional
    CDF of each coordinate given those before it stays as it is (the distributional transform). This is
    unbiased in every parameter. Sampling and gradient take time and memory in proportion to draws
    times K times D; the gradient has 2 D sequential steps. It can be differentiated no second time,
    and raises if it is.

    See also:
        :class:`MixtureSameFamily` for components of other families;
        ``pyro.distributions.MixtureOfDiagNormals``, with the same arguments.

    References:
        Graves, *Stochastic Backpropagation through Mixture Density Distributions*, 2016,
        https://arxiv.org/abs/1607.05690. Jankowiak, Karaletsos, *Pathwise Derivatives for Multivariate
        Distributions*, 2019, https://arxiv.org/abs/1806.01856.

    Args:
        locs: the means :math:`\mu`, shape (..., K, D).
        coord_scale: the standard deviations :math:`\sigma > 0`, shape (..., K, D).
        component_logits: the unnormalised log weights, shape (..., K).
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: K or D do not match; a scale is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> locs = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> fn = pre.distributions.MixtureOfDiagNormals(locs, torch.ones(2, 2), logits)
        >>> x = fn.rsample((100_000,))
        >>> x.sum(-1).mean().backward()  # w_k (E_k - E) of the sum
        >>> print(x.shape, [round(g, 1) for g in logits.grad.tolist()])
        torch.Size([100000, 2]) [-0.5, 0.5]
    """

    arg_constraints: dict[str, Any] = {
        "locs": constraints.independent(constraints.real, 2),
        "coord_scale": constraints.independent(constraints.positive, 2),
        "component_logits": constraints.real_vector,
    }
    support = constraints.real_vector
    has_rsample = True
    _scored = finite_vector

    def __init__(
        self,
        locs: Tensor,
        coord_scale: Tensor,
        component_logits: Tensor,
        *,
        validate_args: bool | None = None,
    ) -> None:
        components, dim = locs.shape[-2:]
        event_dim = self.arg_constraints["coord_scale"].event_dim
        needed = {"coord_scale": (components, dim)[2 - event_dim :], "component_logits": (components,)}
        given = {"coord_scale": coord_scale, "component_logits": component_logits}
        for name, shape in needed.items():
            if given[name].shape[-len(shape) :] != shape:
                raise ValueError(
                    f"{name} has the shape {tuple(given[name].shape)}, and has to end in {shape}, as"
                    f" locs has the shape {tuple(locs.shape)}."
                )
        super().__init__({"locs": locs, **given}, (dim,), validate_args=validate_args)

    @property
    def dim(self) -> int:
        return self.event_shape[0]

    @property
    def categorical(self) -> Categorical:
        """The distribution of the component."""
        return Categorical(logits=self.component_logits, validate_args=False)

    @property
    def probs(self) -> Tensor:
        return self.component_logits.softmax(-1)

    @property
    def _scale(self) -> Tensor:
        """The scales, of a shape that broadcasts with ``locs``."""
        return self.coord_scale

    @property
    def _log_weights(self) -> Tensor:
        return self.component_logits.log_softmax(-1)

    def _draw(self, shape: Size) -> Tensor:
        return normal_mixture.draw(shape, self._log_weights, self.locs, self._scale)

    def _at(self, value: Tensor) -> Tensor:
        return normal_mixture.at(value, self._log_weights, self.locs, self._scale)

    @property
    def _interior(self) -> Tensor:
        return self.locs[..., 0, :]

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        z = (value.unsqueeze(-2) - self.locs) / self._scale
        exponent = -0.5 * z.square().sum(-1) - self._scale.log().sum(-1)
        constant = 0.5 * math.log(2 * math.pi) * self.dim
        return (exponent + self._log_weights).logsumexp(-1) - constant

    @property
    def mean(self) -> Tensor:
        return (self.probs.unsqueeze(-1) * self.locs).sum(-2)

    @property
    def variance(self) -> Tensor:
        apart = self.locs - self.mean.unsqueeze(-2)
        return (self.probs.unsqueeze(-1) * (self._scale.square() + apart.square())).sum(-2)


register_differentiable_once(MixtureOfDiagNormals)(False)
register_mixture_parts(MixtureOfDiagNormals)(mixture_of_diag_normals)

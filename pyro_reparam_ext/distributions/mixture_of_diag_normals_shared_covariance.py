"""Mixtures of normal vectors with one diagonal covariance."""

from __future__ import annotations

from typing import Any

from pyro.distributions import constraints
from torch import Tensor

from .mixture_of_diag_normals import MixtureOfDiagNormals
from .rules.mixture_parts import mixture_of_diag_normals_shared_covariance, register_mixture_parts


class MixtureOfDiagNormalsSharedCovariance(MixtureOfDiagNormals):
    r"""A mixture of K normal vectors that have a diagonal covariance in common.

    .. math::
        f(x) = \sum_k w_k \prod_d \mathcal{N}(x_d; \mu_{kd}, \sigma_d^2), \qquad
        w = \mathrm{softmax}(\mathrm{logits})

    Sampled, and differentiated, as :class:`MixtureOfDiagNormals` is.

    See also:
        ``pyro.distributions.MixtureOfDiagNormalsSharedCovariance``, with the same arguments.

    References:
        Graves, *Stochastic Backpropagation through Mixture Density Distributions*, 2016,
        https://arxiv.org/abs/1607.05690. Jankowiak, Karaletsos, *Pathwise Derivatives for Multivariate
        Distributions*, 2019, https://arxiv.org/abs/1806.01856.

    Args:
        locs: the means :math:`\mu`, shape (..., K, D).
        coord_scale: the standard deviations :math:`\sigma > 0`, shape (..., D).
        component_logits: the unnormalised log weights, shape (..., K).
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: K or D do not match; a scale is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> scale = torch.ones(2, requires_grad=True)
        >>> locs = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
        >>> fn = pre.distributions.MixtureOfDiagNormalsSharedCovariance(locs, scale, torch.zeros(2))
        >>> fn.rsample((100_000,)).square().sum(-1).mean().backward()  # 2 sigma
        >>> print([round(g, 1) for g in scale.grad.tolist()])
        [2.0, 2.0]
    """

    arg_constraints: dict[str, Any] = {
        **MixtureOfDiagNormals.arg_constraints,
        "coord_scale": constraints.independent(constraints.positive, 1),
    }

    @property
    def _scale(self) -> Tensor:
        return self.coord_scale.unsqueeze(-2)


register_mixture_parts(MixtureOfDiagNormalsSharedCovariance)(mixture_of_diag_normals_shared_covariance)

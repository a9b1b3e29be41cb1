"""Elliptical vectors as functions of white noise."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch import distributions as td

from ..errors import EstimatorError
from .noncentered import NoncenteredReparam


class CholeskyReparam(NoncenteredReparam):
    r"""A latent vector as mean plus Cholesky factor times white noise.

    .. math::
        x = \mu + L \epsilon, \qquad L L^\top = \Sigma, \qquad
        \log \left| \det \frac{dx}{d\epsilon} \right| = \sum_i \log L_{ii}

    MultivariateNormal, by whichever matrix it is given, has standard normal noise;
    LowRankMultivariateNormal too, at the cost of a full Cholesky factor, cubic in the dimension;
    MultivariateStudentT has standard multivariate t noise with its ``df``.

    See also:
        :class:`StandardizeReparam` for single coordinates.

    References:
        Papaspiliopoulos, Roberts, Skoeld, *A General Framework for the Parametrization of Hierarchical
        Models*, 2007, https://arxiv.org/abs/0708.3797. Kingma, Welling, *Auto-Encoding Variational
        Bayes*, 2013, https://arxiv.org/abs/1312.6114.

    Args:
        guide: whether the site is one of a guide: there it stays latent, and its noise is auxiliary.

    Raises:
        EstimatorError: the site is observed, or its distribution isn't served.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> tril = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
        >>> def model():
        ...     return pyro.sample("x", dist.MultivariateNormal(torch.ones(2), scale_tril=tril))
        >>> whitened = pyro.poutine.reparam(model, config={"x": pre.reparam.CholeskyReparam()})
        >>> trace = pyro.poutine.trace(whitened).get_trace()
        >>> noise, x = (trace.nodes[name]["value"] for name in ("x_white", "x"))
        >>> torch.allclose(x, 1 + tril @ noise)
        True
    """

    suffix: ClassVar[str] = "white"

    def check(self, name: str, fn: TorchDistribution) -> None:
        if not isinstance(fn, _SERVED):
            raise EstimatorError(
                f"site '{name}': CholeskyReparam was given {type(fn).__name__}; expected "
                f"{', '.join(cls.__name__ for cls in _SERVED)}. For single coordinates use "
                f"StandardizeReparam."
            )

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        zeros = torch.zeros_like(fn.loc).expand(fn.shape())
        if isinstance(fn, dist.MultivariateStudentT):
            eye = torch.eye(zeros.shape[-1], dtype=zeros.dtype, device=zeros.device)
            noise = dist.MultivariateStudentT(fn.df, zeros, eye, validate_args=False)
            noise._validate_args = fn._validate_args
            return noise
        return dist.Normal(zeros, 1.0, validate_args=fn._validate_args).to_event(1)

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return fn.loc + (_tril(fn) @ noise.unsqueeze(-1)).squeeze(-1)

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        centred = (value - fn.loc).unsqueeze(-1)
        return torch.linalg.solve_triangular(_tril(fn), centred, upper=False).squeeze(-1)

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        diagonal = _tril(fn).diagonal(dim1=-2, dim2=-1)
        return diagonal.log().sum(-1).expand(fn.batch_shape)


_SERVED = (td.MultivariateNormal, td.LowRankMultivariateNormal, dist.MultivariateStudentT)


def _tril(fn: Any) -> Tensor:
    """The factor, without the batch dims that it doesn't need."""
    return (
        fn.scale_tril if isinstance(fn, td.LowRankMultivariateNormal) else fn._unbroadcasted_scale_tril
    )

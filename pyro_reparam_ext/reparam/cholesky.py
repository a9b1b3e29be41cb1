"""Elliptical vectors as functions of white noise."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch import distributions as td

from ..distributions.rules.copies import unchecked
from ..distributions.rules.noise_map import ELLIPTICAL, tril_of
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
        if isinstance(fn, dist.MultivariateStudentT):
            zeros = torch.zeros_like(fn.loc).expand(fn.shape())
            eye = torch.eye(zeros.shape[-1], dtype=zeros.dtype, device=zeros.device)
            return unchecked(fn, type(fn), df=fn.df, loc=zeros, scale_tril=eye)
        return ELLIPTICAL.law(fn)

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return ELLIPTICAL.forward(fn, noise)

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        return ELLIPTICAL.inverse(fn, value)

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        diagonal = tril_of(fn).diagonal(dim1=-2, dim2=-1)
        return diagonal.log().sum(-1).expand(fn.batch_shape)


_SERVED = (td.MultivariateNormal, td.LowRankMultivariateNormal, dist.MultivariateStudentT)

"""Location-scale families as functions of standard noise."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch import distributions as td

from ..distributions.rules.noise_map import STANDARD
from ..distributions.rules.standard import FAMILIES, family_of, standard
from ..errors import EstimatorError
from .noncentered import NoncenteredReparam


class StandardizeReparam(NoncenteredReparam):
    r"""A latent site as shift plus scale times standard noise.

    .. math::
        x = m + s\,\epsilon, \qquad \epsilon \sim p_0, \qquad
        p(x) = \frac{1}{s}\, p_0\!\left(\frac{x - m}{s}\right)

    Thus N(10, 5) becomes N(0, 1) * 5 + 10. Served are

    - families with ``loc``, ``scale`` and real support: Normal, Laplace, Cauchy, Gumbel, Logistic,
      StudentT, AsymmetricLaplace, SkewNormal and others; noise is the same family at location 0 and
      scale 1, with its other parameters (df, asymmetry, skewness) as they are. A family of your own
      with these two parameters is taken to be one, too;
    - Uniform (noise uniform on (0, 1)), Exponential (of rate 1), HalfNormal, HalfCauchy and Weibull (of
      scale 1), Gamma (of rate 1) and GeneralizedPareto (from 0, of scale 1).

    On a model the posterior then no longer has a funnel where the scale is a latent variable and the
    data say little. On a guide nothing changes but that the noise is a site of its own.

    See also:
        :class:`CholeskyReparam` for vectors, :class:`InverseCDFReparam` for other families;
        :class:`pyro.infer.reparam.LocScaleReparam`, which can learn how far to go.

    References:
        Papaspiliopoulos, Roberts, Skoeld, *A General Framework for the Parametrization of Hierarchical
        Models*, 2007, https://arxiv.org/abs/0708.3797. Gorinova, Moore, Hoffman, *Automatic
        Reparameterisation of Probabilistic Programs*, 2019, https://arxiv.org/abs/1906.03028.

    Args:
        guide: whether the site is one of a guide: there it stays latent, and its noise is auxiliary.

    Raises:
        EstimatorError: the site is observed, or its distribution isn't served.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     return pyro.sample("x", dist.Normal(10.0, 5.0))
        >>> standardized = pyro.poutine.reparam(model, config={"x": pre.reparam.StandardizeReparam()})
        >>> trace = pyro.poutine.trace(standardized).get_trace()
        >>> noise, x = (trace.nodes[name]["value"] for name in ("x_standard", "x"))
        >>> bool(x == noise * 5 + 10)
        True
    """

    suffix: ClassVar[str] = "standard"

    def check(self, name: str, fn: TorchDistribution) -> None:
        if family_of(fn) is None:
            others = ", ".join(sorted({cls.__name__ for cls in FAMILIES.rules}))
            raise EstimatorError(
                f"site '{name}': StandardizeReparam was given {type(fn).__name__}; expected a family "
                f"with loc, scale and real support, or one of {others}. {_remedy(fn)}"
            )

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        return STANDARD.law(fn)

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return STANDARD.forward(fn, noise)

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        return STANDARD.inverse(fn, value)

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return standard(fn).scale.log()


def _remedy(fn: TorchDistribution) -> str:
    if fn.event_shape:
        return "For normal and Student's t vectors use CholeskyReparam."
    if isinstance(fn, dist.Stable):
        return "Use pyro.infer.reparam.LatentStableReparam."
    if isinstance(fn, td.TransformedDistribution):
        return "Use pyro.infer.reparam.TransformReparam first, and this on the site that it makes."
    return "Where the family has an icdf, use InverseCDFReparam."

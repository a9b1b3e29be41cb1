"""Location-scale families as functions of standard noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch import distributions as td

from ..distributions import ExponentiallyModifiedGaussian, Gamma, GeneralizedPareto
from ..distributions.rules.copies import unchecked
from ..distributions.rules.dispatch import Rules
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
        if _family(fn) is None:
            others = ", ".join(sorted({cls.__name__ for cls in _FAMILIES.rules}))
            raise EstimatorError(
                f"site '{name}': StandardizeReparam was given {type(fn).__name__}; expected a family "
                f"with loc, scale and real support, or one of {others}. {_remedy(fn)}"
            )

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        return _standard(fn).noise

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        standard = _standard(fn)
        return standard.shift + standard.scale * noise

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        standard = _standard(fn)
        return (value - standard.shift) / standard.scale

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return _standard(fn).scale.log()


class _Standard(NamedTuple):
    """The law of ``shift + scale * noise``."""

    shift: Tensor | float
    scale: Tensor
    noise: TorchDistribution


Family = Callable[[Any], _Standard]
_FAMILIES: Rules[Family] = Rules()


def _standard(fn: TorchDistribution) -> _Standard:
    family = _family(fn)
    assert family is not None
    return family(fn)


def _family(fn: TorchDistribution) -> Family | None:
    family = _FAMILIES.of(type(fn))
    if family is not None:
        return family
    if isinstance(fn, dist.Stable):  # its loc depends on its coordinates
        return None
    named = {"loc", "scale"} <= set(fn.arg_constraints)
    return _location_scale if named and fn.support is constraints.real else None


def _location_scale(fn: Any) -> _Standard:
    kept = {name: getattr(fn, name) for name in fn.arg_constraints}
    kept["loc"], kept["scale"] = torch.zeros_like(fn.loc), torch.ones_like(fn.scale)
    return _Standard(fn.loc, fn.scale, unchecked(fn, type(fn), **kept))


@_FAMILIES.register(ExponentiallyModifiedGaussian)
def _exponentially_modified(fn: ExponentiallyModifiedGaussian) -> _Standard:
    # The rate is one over a length, too.
    zero, one = torch.zeros_like(fn.loc), torch.ones_like(fn.scale)
    noise = unchecked(fn, type(fn), loc=zero, scale=one, rate=fn.rate * fn.scale)
    return _Standard(fn.loc, fn.scale, noise)


@_FAMILIES.register(td.Uniform)
def _uniform(fn: td.Uniform) -> _Standard:
    zero, one = torch.zeros_like(fn.low), torch.ones_like(fn.high)
    return _Standard(fn.low, fn.high - fn.low, unchecked(fn, dist.Uniform, low=zero, high=one))


@_FAMILIES.register(td.Exponential)
def _exponential(fn: td.Exponential) -> _Standard:
    noise = unchecked(fn, dist.Exponential, rate=torch.ones_like(fn.rate))
    return _Standard(0.0, 1 / fn.rate, noise)


@_FAMILIES.register(td.Gamma)
def _gamma(fn: td.Gamma) -> _Standard:
    one = torch.ones_like(fn.rate)
    noise = unchecked(fn, Gamma, concentration=fn.concentration, rate=one)
    return _Standard(0.0, 1 / fn.rate, noise)


def _half(cls: type) -> Family:
    def family(fn: Any) -> _Standard:
        return _Standard(0.0, fn.scale, unchecked(fn, cls, scale=torch.ones_like(fn.scale)))

    return family


_FAMILIES.register(td.HalfNormal)(_half(dist.HalfNormal))
_FAMILIES.register(td.HalfCauchy)(_half(dist.HalfCauchy))


@_FAMILIES.register(td.Weibull)
def _weibull(fn: td.Weibull) -> _Standard:
    one = torch.ones_like(fn.scale)
    noise = unchecked(fn, dist.Weibull, scale=one, concentration=fn.concentration)
    return _Standard(0.0, fn.scale, noise)


@_FAMILIES.register(td.GeneralizedPareto, GeneralizedPareto)
def _generalized_pareto(fn: Any) -> _Standard:
    kept = {"loc": torch.zeros_like(fn.loc), "scale": torch.ones_like(fn.scale)}
    noise = unchecked(fn, GeneralizedPareto, **kept, concentration=fn.concentration)
    return _Standard(fn.loc, fn.scale, noise)


def _remedy(fn: TorchDistribution) -> str:
    if fn.event_shape:
        return "For normal and Student's t vectors use CholeskyReparam."
    if isinstance(fn, dist.Stable):
        return "Use pyro.infer.reparam.LatentStableReparam."
    if isinstance(fn, td.TransformedDistribution):
        return "Use pyro.infer.reparam.TransformReparam first, and this on the site that it makes."
    return "Where the family has an icdf, use InverseCDFReparam."

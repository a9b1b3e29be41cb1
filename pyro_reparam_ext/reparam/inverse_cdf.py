"""Univariate sites as quantiles of uniform noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch import distributions as td

from ..distributions import ImplicitUnivariate, Truncated, TruncatedNormal
from ..distributions.rules.dispatch import Rules
from ..distributions.rules.pathwise import pathwise_at
from ..distributions.truncated import has_method, tensor_like
from ..errors import EstimatorError
from ..numerics.implicit import implicit_joint, once
from .noncentered import NoncenteredReparam
from .pathwise import pathwise_twin


class InverseCDFReparam(NoncenteredReparam):
    r"""A latent real variable as a quantile.

    .. math::
        x = F_\theta^{-1}(u), \quad u \sim \mathrm{Uniform}(0, 1), \qquad
        \frac{dx}{du} = \frac{1}{f_\theta(x)}, \qquad
        \frac{dx}{d\theta} = -\frac{\partial_\theta F_\theta(x)}{f_\theta(x)}

    For any continuous univariate distribution with ``icdf`` and ``cdf``: Normal, Laplace, Cauchy,
    Logistic, Exponential, Uniform, HalfNormal, HalfCauchy, LogNormal, Weibull, Gumbel, Pareto and other
    transforms; of this package Truncated, TruncatedNormal, Triangular, Kumaraswamy,
    ContinuousBernoulli, GeneralizedPareto and ImplicitUnivariate. The gradient of a quantile of
    Truncated, TruncatedNormal and ImplicitUnivariate can be differentiated no second time, and raises
    if it is.

    ``u`` is held between eps / 4 and 1 - eps / 2, which cuts off 1e-7 of the mass in float32.
    Near 1 the distance to 1 has few digits: float32 knows a quantile beyond 1 - 1e-4 to 1e-3 of that
    distance. Where the far upper tail matters use float64 or, if it serves, StandardizeReparam.

    See also:
        :class:`StandardizeReparam`, which loses no precision in the tails.

    References:
        Devroye, *Non-Uniform Random Variate Generation*, 1986, chapter II.2,
        http://luc.devroye.org/rnbookindex.html. Figurnov, Mohamed, Mnih, *Implicit Reparameterization
        Gradients*, 2018, https://arxiv.org/abs/1805.08498.

    Args:
        guide: whether the site is one of a guide: there it stays latent, and its noise is auxiliary.

    Raises:
        EstimatorError: the site is observed, or its distribution isn't served.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     return pyro.sample("x", dist.Exponential(2.0))
        >>> uniform = pyro.poutine.reparam(model, config={"x": pre.reparam.InverseCDFReparam()})
        >>> trace = pyro.poutine.trace(uniform).get_trace()
        >>> u, x = (trace.nodes[name]["value"] for name in ("x_uniform", "x"))
        >>> torch.allclose(x, -(1 - u).log() / 2)
        True
    """

    suffix: ClassVar[str] = "uniform"

    def check(self, name: str, fn: TorchDistribution) -> None:
        if (
            fn.event_shape
            or fn.support.is_discrete
            or not (has_method(fn, "icdf") and has_method(fn, "cdf"))
        ):
            raise EstimatorError(
                f"site '{name}': InverseCDFReparam was given {type(fn).__name__}; expected a "
                f"continuous univariate distribution with icdf and cdf, as Normal, Laplace, Cauchy, "
                f"Logistic, Exponential, HalfNormal, Weibull, Truncated, TruncatedNormal, Triangular, "
                f"Kumaraswamy or GeneralizedPareto. Any univariate density has them as an "
                f"ImplicitUnivariate."
            )

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        zero = tensor_like(fn, 0.0).expand(fn.batch_shape)
        return dist.Uniform(zero, torch.ones_like(zero))

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return _quantile(_stable(fn), _inside(noise))

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        return _inside(_stable(fn).cdf(value))

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return -_stable(fn).log_prob(self.forward(fn, noise))


def _inside(u: Tensor) -> Tensor:
    """Off the ends, where quantiles are infinite."""
    eps = torch.finfo(u.dtype).eps
    return u.clamp(eps / 4, 1 - eps / 2)


def _stable(fn: Any) -> Any:
    """The class of this package where torch's icdf has a wrong gradient."""
    return pathwise_twin(fn) if isinstance(fn, _UNSTABLE) else fn


_UNSTABLE = (td.ContinuousBernoulli, td.GeneralizedPareto, td.Kumaraswamy)


def _quantile(fn: Any, u: Tensor) -> Tensor:
    """The quantile, differentiable in ``u`` and in the parameters."""
    rule = _QUANTILES.of(type(fn))
    return fn.icdf(u) if rule is None else rule(fn, u)


_QUANTILES: Rules[Callable[[Any, Tensor], Tensor]] = Rules()


@_QUANTILES.register(Truncated, TruncatedNormal, ImplicitUnivariate)
def _implicit(fn: Any, u: Tensor) -> Tensor:
    with torch.no_grad():
        x = fn.icdf(u)
        density = fn.log_prob(x).exp()
    return implicit_joint(x, _pull_back, pathwise_at(fn, x), u, density)


def _pull_back(
    gradient: Tensor, value: Tensor, drawn: Tensor, u: Tensor, density: Tensor
) -> tuple[Tensor | None, ...]:
    return gradient, once(gradient / density, u), None


@_QUANTILES.register(td.TransformedDistribution)
def _transformed(fn: td.TransformedDistribution, u: Tensor) -> Tensor:
    if type(fn).icdf is not td.TransformedDistribution.icdf:
        return fn.icdf(u)
    x = _quantile(_stable(fn.base_dist), fn._monotonize_cdf(u))
    for transform in fn.transforms:
        x = transform(x)
    return x

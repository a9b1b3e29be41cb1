"""Univariate sites as quantiles of uniform noise."""

from __future__ import annotations

from typing import Any, ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch import distributions as td

from ..distributions.rules.quantile import QUANTILE, has_quantile
from ..errors import EstimatorError
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
        if not has_quantile(fn):
            raise EstimatorError(
                f"site '{name}': InverseCDFReparam was given {type(fn).__name__}; expected a "
                f"continuous univariate distribution with icdf and cdf, as Normal, Laplace, Cauchy, "
                f"Logistic, Exponential, HalfNormal, Weibull, Truncated, TruncatedNormal, Triangular, "
                f"Kumaraswamy or GeneralizedPareto. Any univariate density has them as an "
                f"ImplicitUnivariate."
            )

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        return QUANTILE.law(fn)

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return QUANTILE.forward(_stable(fn), noise)

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        return QUANTILE.inverse(_stable(fn), value)

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return -_stable(fn).log_prob(self.forward(fn, noise))


def _stable(fn: Any) -> Any:
    """The class of this package where torch's icdf has a wrong gradient."""
    return pathwise_twin(fn) if isinstance(fn, _UNSTABLE) else fn


_UNSTABLE = (td.ContinuousBernoulli, td.GeneralizedPareto, td.Kumaraswamy)

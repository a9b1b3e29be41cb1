"""The distribution of this package in place of Pyro's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.infer.reparam.reparam import Reparam
from torch import distributions as td

from .. import distributions as ours
from ..distributions.rules.copies import unchecked
from ..distributions.rules.dispatch import Rules
from ..distributions.rules.logits import parameter_of
from ..distributions.rules.temperatures import batch_temperature
from ..distributions.rules.wrappers import WRAPPERS, innermost
from ..errors import EstimatorError
from .plates import has_value_of_one, in_plates

Rule = Callable[[Any], Any]


class PathwiseReparam(Reparam):
    r"""A site's distribution replaced by that of this package, whose pathwise gradient is right.

    .. math::
        x \sim p_\theta \quad \text{with} \quad
        \frac{dx}{d\theta} = -\frac{\partial_\theta F_\theta(x)}{f_\theta(x)}

    Name, law, parameters and value stay, and so do ``to_event``, ``expand`` and ``mask``: only the
    sampler and its gradient are new. It may be put on model and guide, on latent and observed sites.
    Served are torch's and Pyro's Gamma, Chi2, Beta, Dirichlet, StudentT, Kumaraswamy,
    ContinuousBernoulli, GeneralizedPareto, Wishart, VonMises, LKJCholesky, LKJ, MixtureSameFamily,
    MixtureOfDiagNormals, MixtureOfDiagNormalsSharedCovariance, RelaxedBernoulli and
    RelaxedOneHotCategorical, and what is a transform of one of these, as InverseGamma is. Pyro's
    MixtureOfDiagNormals is sampled by components; its gradient in the logits is biased. VonMises has no
    gradient in Pyro; here it has one for functions that are periodic.

    One law does change: Pyro's RelaxedBernoulliStraightThrough and
    RelaxedOneHotCategoricalStraightThrough have hard values and a relaxed density. What replaces them,
    :class:`~pyro_reparam_ext.distributions.StraightThroughBernoulli` and
    :class:`~pyro_reparam_ext.distributions.StraightThroughOneHotCategorical`, is discrete, so that the
    ELBO is one. Put it on guide and model alike.

    See also:
        :class:`AutoPathwise`, which finds the sites by itself.

    References:
        Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018,
        https://arxiv.org/abs/1805.08498. Jankowiak, Obermeyer, *Pathwise Derivatives Beyond the
        Reparameterization Trick*, 2018, https://arxiv.org/abs/1806.01851.

    Raises:
        EstimatorError: this package has no distribution for that of the site.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> angle = torch.tensor(0.5, requires_grad=True)
        >>> @pyro.poutine.reparam(config={"x": pre.reparam.PathwiseReparam()})
        ... def guide():
        ...     return pyro.sample("x", dist.VonMises(angle, 3.0))  # no rsample in Pyro
        >>> guide().backward()
        >>> angle.grad
        tensor(1.)
    """

    def apply(self, msg: dict[str, Any]) -> dict[str, Any]:
        name, fn = msg["name"], msg["fn"]
        try:
            twin = pathwise_twin(fn)
        except (NotImplementedError, ValueError) as error:
            raise EstimatorError(f"site '{name}': PathwiseReparam can't serve it. {error}") from error
        if twin is None:
            given, served = type(innermost(fn)).__name__, sorted(cls.__name__ for cls in _LEAVES)
            raise EstimatorError(
                f"site '{name}': PathwiseReparam was given {given}; expected one of "
                f"{', '.join(served)}, or a transform of one. Leave '{name}' out of the configuration, "
                f"or use AutoPathwise, which does."
            )
        value = msg["value"]
        if value is not None and not msg["is_observed"]:
            if has_value_of_one(value, in_plates(name, twin)):
                value = None  # further out there is an initial value for all elements of the plates
        return {"fn": twin, "value": value, "is_observed": msg["is_observed"]}


def pathwise_twin(fn: TorchDistribution) -> TorchDistribution | None:
    """The same law by a distribution of this package; None if there is none.

    Raises:
        NotImplementedError, ValueError: a mixture has components that can't be served.
    """
    rule = _RULES.of(type(fn))
    return None if rule is None else rule(fn)


def _handed_over(target: type, *names: str) -> Rule:
    """The class ``target`` with the parameters of these names."""
    return lambda fn: unchecked(fn, target, **{name: getattr(fn, name) for name in names})


def _relaxed(target: type) -> Rule:
    return lambda fn: unchecked(
        fn, target, temperature=batch_temperature(fn), **parameter_of(fn.base_dist)
    )


def _continuous_bernoulli(fn: td.ContinuousBernoulli) -> TorchDistribution:
    return unchecked(fn, ours.ContinuousBernoulli, **parameter_of(fn))


def _mixture(fn: td.MixtureSameFamily) -> TorchDistribution:
    given = {name: getattr(fn, name) for name in ("mixture_distribution", "component_distribution")}
    twin = unchecked(fn, ours.MixtureSameFamily, **given)
    twin._refuse_without_gradient()
    return twin


def _wishart(fn: td.Wishart) -> TorchDistribution:
    return unchecked(fn, ours.Wishart, df=fn.df, scale_tril=fn._unbroadcasted_scale_tril)


def _lkj(fn: dist.LKJ) -> TorchDistribution:
    # Not a copy: Pyro's class can't be expanded.
    base = pathwise_twin(fn.base_dist)
    return unchecked(fn, dist.TransformedDistribution, base_distribution=base, transforms=fn.transforms)


def _wrapper(fn: Any) -> Any:
    """The same wrapper or transform around another base."""
    base = pathwise_twin(fn.base_dist)
    if base is None or base is fn.base_dist:
        return None if base is None else fn
    new = copy.copy(fn)
    new.base_dist = base
    return new


def _itself(fn: Any) -> Any:
    return fn


_LEAVES: dict[type, Rule] = {
    td.Gamma: _handed_over(ours.Gamma, "concentration", "rate"),
    td.Beta: _handed_over(ours.Beta, "concentration1", "concentration0"),
    td.Dirichlet: _handed_over(ours.Dirichlet, "concentration"),
    td.StudentT: _handed_over(ours.StudentT, "df", "loc", "scale"),
    td.Kumaraswamy: _handed_over(ours.Kumaraswamy, "concentration1", "concentration0"),
    td.ContinuousBernoulli: _continuous_bernoulli,
    td.GeneralizedPareto: _handed_over(ours.GeneralizedPareto, "loc", "scale", "concentration"),
    td.Wishart: _wishart,
    td.VonMises: _handed_over(ours.VonMises, "loc", "concentration"),
    td.LKJCholesky: _handed_over(ours.LKJCholesky, "dim", "concentration"),
    dist.LKJ: _lkj,
    td.MixtureSameFamily: _mixture,
    dist.MixtureOfDiagNormals: _handed_over(
        ours.MixtureOfDiagNormals, "locs", "coord_scale", "component_logits"
    ),
    dist.MixtureOfDiagNormalsSharedCovariance: _handed_over(
        ours.MixtureOfDiagNormalsSharedCovariance, "locs", "coord_scale", "component_logits"
    ),
    td.RelaxedBernoulli: _relaxed(ours.RelaxedBernoulli),
    td.RelaxedOneHotCategorical: _relaxed(ours.RelaxedOneHotCategorical),
    dist.RelaxedBernoulliStraightThrough: _relaxed(ours.StraightThroughBernoulli),
    dist.RelaxedOneHotCategoricalStraightThrough: _relaxed(ours.StraightThroughOneHotCategorical),
}

_OURS = [getattr(ours, name) for name in ours.__all__ if isinstance(getattr(ours, name), type)]
_RULES: Rules[Rule] = Rules()
_RULES.register(*WRAPPERS, torch.distributions.TransformedDistribution)(_wrapper)
for _cls, _rule in _LEAVES.items():
    _RULES.register(_cls)(_rule)
_RULES.register(*_OURS)(_itself)

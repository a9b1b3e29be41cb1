"""Mixtures with a value of every component: the choice of a component is summed over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.coupling import couple
from ..distributions.rules.discrete_noise import hard_sample
from ..distributions.rules.known_defects import is_biased_sampler
from ..distributions.rules.mixture_parts import is_mixture, mixture_parts
from ..distributions.rules.pathwise import has_pathwise, pathwise_at
from ..distributions.rules.wrappers import innermost, num_coordinates
from ..noise import NoiseSource
from ..numerics.mixture_transform import spread
from ..numerics.straight_through import straight_through
from .base import Estimator
from .one_coordinate import is_coordinate, to_rows
from .protocol import Branch, Draw, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False, kw_only=True)
class _Strata(Branch):
    """A value of each component at each coordinate; their probabilities, shape ``(K D, *batch)``."""

    probs: Tensor


@dataclass(frozen=True, eq=False)
class Stratified(Estimator):
    r"""A draw of every component of a mixture, weighted by its probability.

    With :math:`q_\phi(z) = \sum_k w_k q_k(z)` and :math:`z_k = g_k(\epsilon_k)` a reparameterised draw
    of component :math:`k`,

    .. math::
        \nabla_\phi E_{q_\phi}[f(z)] = E\Big[\sum_k f(z_k)\, \nabla_\phi w_k
        + w_k\, \nabla_\phi f(z_k)\Big]

    The component is never drawn, so that nothing of its noise is left: the weights learn by
    differences of costs between components, the components pathwise. (:class:`Pathwise` moves a
    draw from one component towards the others in place of that, and has a large variance where they
    are apart.) Serves mixtures of K reparameterised components, with D coordinates under ``to_event``
    one after the other, the others as they were drawn: 1 + K D evaluations, from which the model
    learns too.

    Raises:
        EstimatorError: the distribution is no mixture, or its components have no right ``rsample``; a
            cost that depends on the site lies outside one of the site's plates.

    References:
        Roeder, Wu, Duvenaud, 2017, Sticking the Landing: Simple, Lower-Variance Gradient Estimators
        for Variational Inference, https://arxiv.org/abs/1703.09194 (section 4, on mixtures);
        Morningstar, Vikram, Ham, Gallagher, Dillon, 2021, Automatic Differentiation Variational
        Inference with Mixtures, https://arxiv.org/abs/2003.01687

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def guide():
        ...     logits, loc = pyro.param("logits", torch.zeros(3)), pyro.param("loc", torch.arange(3.0))
        ...     q = dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, 1.0))
        ...     pyro.sample("z", q, infer={"estimator": pre.Stratified()})
    """

    unbiased = True
    condition = "the cost is continuous in the value"
    paper = Paper(
        "Morningstar, Vikram, Ham, Gallagher, Dillon",
        "Automatic Differentiation Variational Inference with Mixtures",
        2021,
        "2003.01687",
    )
    supported = (torch.distributions.MixtureSameFamily,)
    differentiable = True
    coordinatewise = True
    uses_cost = True  # probabilities weigh what depends on the site, and nothing else

    def supports(self, fn: TorchDistribution) -> bool:
        base = innermost(fn)
        component = getattr(base, "component_distribution", None)
        if component is None:  # of normal components, or no mixture
            return is_mixture(base)
        right = component.has_rsample and not is_biased_sampler(component)
        return is_mixture(base) and right and has_pathwise(component)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 1 + num_coordinates(fn) * mixture_parts(innermost(fn)).log_weights.shape[-1]

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        return Draw(_moving(fn, hard_sample(fn, source).detach()))

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        with torch.no_grad():
            value = couple(site.fn, site.value, fn)
        return Draw(_moving(fn, value))

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        log_weights, component = mixture_parts(site.base)
        count, size = log_weights.shape[-1], num_coordinates(site.fn)
        event_dim = len(site.base.event_shape)
        strata = component.rsample().movedim(-1 - event_dim, 0)  # shape: (K, *batch, *coordinates, ...)
        number = torch.arange(count * size, device=site.value.device)  # coordinate, then component
        here = is_coordinate(site, number // count)
        here = here.reshape(here.shape + (1,) * event_dim)
        values = torch.where(here, strata[number % count], site.value)
        probs = to_rows(site, log_weights.exp().movedim(-1, 0)).flatten(0, 1)  # shape: (D K, *batch)
        return (
            _Strata(
                count=count * size,
                values=lambda start, stop: values[start:stop],
                weights=probs.detach() / size,
                probs=probs,
            ),
        )

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        (strata,) = evaluations.branches
        assert isinstance(strata, _Strata)
        return (strata.probs * evaluations.costs[1:]).sum(0)


def _moving(fn: TorchDistribution, value: Tensor) -> Tensor:
    """A value that moves with the components that it may have come from, each by its probability.

    It does not move with the weights.
    """
    if not torch.is_grad_enabled():
        return value
    base = innermost(fn)
    log_weights, component = mixture_parts(base)
    event_dim = len(base.event_shape)
    drawn = spread(value, log_weights.shape[-1], event_dim)
    with torch.no_grad():
        share = (log_weights + component.log_prob(drawn)).softmax(-1)
        share = share.reshape(share.shape + (1,) * event_dim)
    moved = torch.where(share > 0, share * pathwise_at(component, drawn), 0.0)
    return straight_through(value, moved.sum(-1 - event_dim))

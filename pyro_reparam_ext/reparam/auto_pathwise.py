"""PathwiseReparam wherever it serves."""

from __future__ import annotations

from typing import Any

from pyro.infer.reparam.reparam import Reparam

from ..distributions.rules.known_defects import is_hard_but_relaxed
from .pathwise import PathwiseReparam, pathwise_twin
from .strategy import PerRunStrategy


class AutoPathwise(PerRunStrategy):
    r"""Gives each site the right pathwise sampler of this package, where Pyro's is wrong or missing.

    .. math::
        x \sim p_\theta \quad \text{with} \quad
        \frac{dx}{d\theta} = -\frac{\partial_\theta F_\theta(x)}{f_\theta(x)}

    That is :class:`PathwiseReparam` for every site, latent or observed, that it serves, and nothing for
    the others: not for Pyro's straight-through distributions either, as their law would change. For
    models and guides: ``poutine.reparam(guide, config=AutoPathwise())``, or as a decorator. Then Pyro's
    own ELBOs use these samplers, too.

    See also:
        :class:`PathwiseReparam` for the distributions and for what to know about VonMises.

    References:
        Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018,
        https://arxiv.org/abs/1805.08498. Gorinova, Moore, Hoffman, *Automatic Reparameterisation of
        Probabilistic Programs*, 2019, https://arxiv.org/abs/1906.03028.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> @pre.reparam.AutoPathwise()
        ... def guide():
        ...     pyro.sample("x", dist.VonMises(0.0, 1.0))
        ...     pyro.sample("y", dist.Normal(0.0, 1.0))
        >>> trace = pyro.poutine.trace(guide).get_trace()
        >>> [trace.nodes[name]["fn"].has_rsample for name in "xy"]
        [True, True]
    """

    def configure(self, msg: dict[str, Any]) -> Reparam | None:
        if is_hard_but_relaxed(msg["fn"]):  # the replacement has another law
            return None
        try:
            twin = pathwise_twin(msg["fn"])
        except (NotImplementedError, ValueError):  # components that no sampler of this package serves
            return None
        return None if twin is None or twin is msg["fn"] else PathwiseReparam()

"""A weight of the divergence between the guide's and the prior's law of a network's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..schedule import measuring
from .bayesian import BayesianModule

PARTS = ("", "_unconstrained", "_jacobian", "_rows", "_columns", "_reverse")
"""What autoguides add to the name of a site where they draw it, and correct its density."""


class kl_weight(Messenger):  # noqa: N801  (as local_reparameterization is)
    r"""A context in which the divergence of a network's weights from their prior counts less, or more.

    .. math::
        E_q\big[\log p(y \mid x, w)\big] - \beta\, KL\big(q(w)\,\|\,p(w)\big)

    In it the densities of the network's sites, in model and guide alike, are scaled by the weight
    :math:`\beta`, and the loss is that of this objective: the ELBO where the weight is 1. A weight that
    grows to 1 while a network is trained (:class:`~pyro_reparam_ext.LinearWarmup`) keeps units that
    would else be pruned before they have learned anything. One that stays below 1 makes a posterior
    that is colder than Bayes' (Wenzel et al.).

    It is entered around the steps, with any ELBO, guides that draw each site by itself
    (``AutoNormal``, those of ``pre.nn``, one written by hand), and other contexts of this package.

    Args:
        network: made by :func:`to_bayesian`. Its weights' sites and those of their priors are scaled.
        weight: a positive number, a scalar tensor, or a schedule, which is asked at every run.

    Raises:
        EstimatorError: the weight is not positive; or the guide draws the weights jointly with others.

    References:
        Wenzel et al., How Good is the Bayes Posterior in Deep Neural Networks Really?, 2020,
        https://arxiv.org/abs/2002.02405

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> from pyro.infer.autoguide import AutoNormal
        >>> bnn = pre.nn.to_bayesian(torch.nn.Linear(3, 1), dist.Normal(0.0, 1.0))
        >>> def model(x, y):
        ...     loc = bnn(x).squeeze(-1)
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("y", dist.Normal(loc, 0.1), obs=y)
        >>> elbo = pre.TraceEstimator_ELBO()
        >>> svi = pyro.infer.SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), elbo)
        >>> with pre.nn.kl_weight(bnn, pre.LinearWarmup(num_steps=100)):
        ...     losses = [svi.step(torch.ones(5, 3), torch.ones(5)) for _ in range(3)]
    """

    def __init__(self, network: BayesianModule, weight: float | Tensor | Callable[[], Tensor]) -> None:
        super().__init__()
        if not isinstance(network, BayesianModule):
            raise EstimatorError(
                f"kl_weight: was given {type(network).__name__} for a network; expected one made by "
                f"pre.nn.to_bayesian, whose sites are known."
            )
        if not callable(weight) and not bool(torch.as_tensor(weight) > 0):
            raise EstimatorError(f"kl_weight: weight must be positive, was given {weight!r}.")
        self.network = network
        self.weight = weight
        self._names = {f"{site}{part}": part for part in PARTS for site in network.sites}
        self._joint: str | None = None

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self._names:
            if msg["infer"].get("is_auxiliary"):
                self._joint = name
            return
        if self._names[name]:
            self._joint = None
        elif self._joint is not None and isinstance(innermost(msg["fn"]), Delta):
            raise EstimatorError(
                f"site '{name}': kl_weight scales the density of each site of the network, was given a "
                f"guide that draws it as a part of '{self._joint}'; expected one that draws it by "
                f"itself. Use AutoNormal or a guide of pre.nn."
            )
        weight = self.weight() if callable(self.weight) else self.weight
        msg["scale"] = msg["scale"] * weight

    @property
    def current(self) -> float:
        """The weight as it is now."""
        with measuring():
            return float(self.weight() if callable(self.weight) else self.weight)


def tempered() -> str:
    """A sentence on the weights other than 1 that are in force; empty if there are none."""
    entered = list({id(x): x for x in _PYRO_STACK if isinstance(x, kl_weight)}.values())
    weights = [f"{x.current:.4g}" for x in entered if x.current != 1]
    if not weights:
        return ""
    return (
        f"inside kl_weight: the ELBO is of the tempered objective with weight {' and '.join(weights)}"
    )

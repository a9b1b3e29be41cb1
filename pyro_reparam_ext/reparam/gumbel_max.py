"""Discrete values as functions of Gumbel keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import transform_to, transforms

from ..distributions.gumbel_sinkhorn import GumbelSinkhorn
from ..distributions.plackett_luce import PlackettLuce
from ..distributions.rules.discrete import log_prob
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.wrappers import coordinates, innermost
from ..distributions.supports.permutation_matrices import matrix_of, row_stochastic
from ..errors import EstimatorError
from ..numerics.relaxation import hard_bernoulli, hard_one_hot
from ..numerics.sinkhorn import sinkhorn
from ..replay import is_replayed
from .keys import (
    Gumbel,
    GumbelKeys,
    LogisticKeys,
    gumbel_medians,
    logistic_median,
    most_likely_shift,
    ordered_medians,
)
from .noncentered import NoncenteredReparam, rewrapped
from .plates import in_plates, initial_value


class GumbelMaxReparam(NoncenteredReparam):
    r"""A discrete site as the argmax of Gumbel keys (the Gumbel-max trick).

    .. math::
        z = \arg\max_k x_k, \quad x_k \sim \mathrm{Gumbel}(l_k, 1) \qquad\text{or}\qquad
        z = 1[x > 0], \quad x \sim \mathrm{Logistic}(l, 1)

    Serves Categorical, OneHotCategorical, Bernoulli (logistic keys) and
    :class:`~pyro_reparam_ext.distributions.PlackettLuce` (the order of the keys). The keys are the site
    ``f"{name}_keys"``.

    - On a model, the keys are latent and the value deterministic. HMC and NUTS run over what was
      discrete: start them by ``init_strategy=init_to_sample``, since a discrete site has no other
      default, and fix ``step_size`` (about 0.5, ``adapt_step_size=False``), since the jumps of the
      density shrink an adapted one. To an autoguide hard values give no gradient, in silence: have
      ``TraceEstimator_ELBO(ScoreFunction())`` take the score function, of any autoguide with a density.
      AutoDelta has none: the data don't move it.
    - On a guide, the keys are auxiliary, and the value has the density

      .. math:: \log q(x) + [\log q(z) - \log q(x)] = \log q(z),

      so the loss is the discrete ELBO exactly, whether or not the model is reparameterised. The keys
      declare that they carry no gradient: an ELBO takes their score function, which is unbiased. Its
      variance is more than that of the score function of the site itself.

    The keys of :class:`~pyro_reparam_ext.distributions.GumbelSinkhorn`, :math:`x \sim
    \mathrm{Gumbel}(L / T, 1 / T)` with the value :math:`\mathrm{Sinkhorn}(x)`, carry the pathwise
    gradient. The value has no density: put this on guide and model, and both score the keys. The loss
    is that of the ELBO over keys, a lower bound whose gap vanishes where guide and prior agree. By
    default an autoguide starts where all items are alike, and MCMC at random rows.

    An initial value is given keys at the median of their conditional law, the largest first: they lead
    to it strictly, whereas the most likely ones may have ties. A matrix is given its logarithm, shifted
    to be most likely; it is restored as far as its columns too have sum 1.

    See also:
        :class:`GumbelSoftmaxReparam` for relaxed and straight-through sites.

    References:
        Maddison, Tarlow, Minka, *A\* Sampling*, 2014, https://arxiv.org/abs/1411.0030. Yellott, *The
        Relationship between Luce's Choice Axiom, Thurstone's Theory of Comparative Judgment, and the
        Double Exponential Distribution*, 1977, https://doi.org/10.1016/0022-2496(77)90026-8. Mena,
        Belanger, Linderman, Snoek, *Learning Latent Permutations with Gumbel-Sinkhorn Networks*, 2018,
        https://arxiv.org/abs/1802.08665.

    Args:
        guide: whether the site is one of a guide.

    Raises:
        EstimatorError: the site is observed, its distribution is another one, or its samples are
            relaxed or straight-through.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> @pyro.poutine.reparam(config={"z": pre.reparam.GumbelMaxReparam()})
        ... def model():
        ...     return pyro.sample("z", dist.Categorical(logits=torch.zeros(3)))
        >>> keys = torch.tensor([0.1, 2.0, -1.0])
        >>> pyro.poutine.condition(model, data={"z_keys": keys})()
        tensor(1)
    """

    suffix = "keys"

    def check(self, name: str, fn: TorchDistribution) -> None:
        if _family(fn) is None or (fn.has_rsample and not isinstance(fn, GumbelSinkhorn)):
            raise EstimatorError(
                f"site '{name}': GumbelMaxReparam was given {type(fn).__name__}; expected Categorical, "
                f"OneHotCategorical, Bernoulli, PlackettLuce without a temperature, or GumbelSinkhorn. "
                f"Relaxed and straight-through sites are for GumbelSoftmaxReparam."
            )

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        return _of(fn).keys(fn)

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        return _of(fn).value(fn, noise)

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        return _of(fn).inverse(fn, value)

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        # Held: with the keys fixed its gradient has mean zero, and only adds to the variance.
        with torch.no_grad():
            return self.noise(fn).log_prob(noise) - log_prob(fn, self.forward(fn, noise))

    def apply(self, msg: dict[str, Any]) -> dict[str, Any]:
        if msg["is_observed"] or not isinstance(innermost(msg["fn"]), GumbelSinkhorn):
            return super().apply(msg)
        name = msg["name"]
        wrapped = in_plates(name, msg["fn"])
        value = initial_value(name, msg["value"], wrapped)
        fn = coordinates(wrapped)
        keys = pyro.sample(
            f"{name}_{self.suffix}",
            rewrapped(wrapped, self.noise(fn)),
            obs=None if value is None else self.inverse(fn, value),
            infer={"is_observed": False},
        )
        if value is None:
            value = self.forward(fn, keys)
        # Latent in both, guide and model, or in neither: Pyro compares their sites.
        in_both = self.guide or is_replayed(name)
        site = dist.Delta(value, event_dim=wrapped.event_dim).mask(False)
        return {"fn": site, "value": value, "is_observed": not in_both}


@dataclass(frozen=True)
class _Family:
    """How keys are drawn, what they lead to, and keys of a given value."""

    keys: Callable[[Any], TorchDistribution]
    value: Callable[[Any, Tensor], Tensor]
    inverse: Callable[[Any, Tensor], Tensor]


@transform_to.register(type(row_stochastic))
def _rows(constraint: constraints.Constraint) -> transforms.Transform:
    # No bijection, but initialisers, which come before ``apply``, need no more.
    return transforms.SoftmaxTransform()


def _gumbel_keys(fn: Any) -> TorchDistribution:
    return GumbelKeys(held_logits(fn)).to_event(1)


def held_logits(fn: Any) -> Tensor:
    """Infinite logits as those of the smallest float: no noise leads to an impossible value."""
    logits = exact_logits(fn)
    end = -math.log(torch.finfo(logits.dtype).tiny)
    return torch.where(logits.isinf(), end * logits.sign(), logits)


def _indicator(fn: torch.distributions.Categorical, value: Tensor) -> Tensor:
    return value.unsqueeze(-1) == torch.arange(fn.logits.shape[-1], device=value.device)


def _matching_keys(fn: GumbelSinkhorn) -> TorchDistribution:
    temperature = fn.temperature[..., None, None]
    return Gumbel(fn.logits / temperature, 1 / temperature).to_event(2)


def _matching_keys_of(fn: GumbelSinkhorn, value: Tensor) -> Tensor:
    temperature = fn.temperature[..., None, None]
    x = temperature * value.clamp(min=torch.finfo(value.dtype).tiny).log()
    return (x + most_likely_shift(x - fn.logits, dims=2)) / temperature


def _order_keys_of(fn: PlackettLuce, value: Tensor) -> Tensor:
    ranked = (value * fn.logits.unsqueeze(-2)).sum(-1)
    return (value * ordered_medians(ranked).unsqueeze(-1)).sum(-2)


_FAMILIES: dict[type, _Family] = {
    torch.distributions.Bernoulli: _Family(
        lambda fn: LogisticKeys(held_logits(fn)),
        lambda fn, keys: hard_bernoulli(keys),
        lambda fn, value: logistic_median(held_logits(fn), value),
    ),
    torch.distributions.Categorical: _Family(
        _gumbel_keys,
        lambda fn, keys: keys.argmax(-1),
        lambda fn, value: gumbel_medians(held_logits(fn), _indicator(fn, value)),
    ),
    torch.distributions.OneHotCategorical: _Family(
        _gumbel_keys,
        lambda fn, keys: hard_one_hot(keys),
        lambda fn, value: gumbel_medians(held_logits(fn), value),
    ),
    PlackettLuce: _Family(
        _gumbel_keys,
        lambda fn, keys: matrix_of(keys.argsort(-1, descending=True), keys.dtype),
        _order_keys_of,
    ),
    GumbelSinkhorn: _Family(
        _matching_keys,
        lambda fn, keys: sinkhorn(keys, fn.num_iterations).exp(),
        _matching_keys_of,
    ),
}


def _family(fn: TorchDistribution) -> _Family | None:
    return next((family for cls, family in _FAMILIES.items() if isinstance(fn, cls)), None)


def _of(fn: TorchDistribution) -> _Family:
    family = _family(fn)
    assert family is not None, "apply has checked it"
    return family

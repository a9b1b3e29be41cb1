"""What reparameterisers share that write a site as a function of noise."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import Distribution, TorchDistribution, constraints
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.infer.reparam.reparam import Reparam
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from torch.distributions import register_kl

from ..errors import EstimatorError
from ..evaluation.unwrap import coordinates, innermost, log_prob_by


class Decentering(Reparam):
    r"""A latent site :math:`x \sim p_\theta` as a function of noise, :math:`x = T_\theta(\epsilon)`.

    A subclass gives ``suffix``, :meth:`check`, :meth:`noise`, :meth:`forward`, :meth:`inverse` and
    :meth:`log_abs_det`. They see the distribution without ``to_event``, ``expand`` and ``mask``, at the
    full batch shape; this class takes the wrappers off and puts them on again.

    - On a model: the noise is the latent site ``f"{name}_{suffix}"``, and the site itself becomes
      deterministic. An initial value is inverted. Under a ``poutine.replay`` whose trace has the site
      itself as a latent sample, that is in the ELBO of a guide in the original coordinates, the site
      stays as it is.
    - On a guide: the noise is an auxiliary site, and the site itself stays latent, with the density

      .. math::
          \log q(x) = \log p(\epsilon) - \log \left| \det \frac{dT_\theta}{d\epsilon} \right|.

      Its gradient in the parameters is that of :math:`\log q_\theta(T_\theta(\epsilon))`.

    Args:
        guide: whether the site is one of a guide.

    Raises:
        EstimatorError: the site is observed, its distribution isn't served, or the guide of a
            reparameterised model was reparameterised without ``guide=True``.
    """

    suffix: ClassVar[str]

    def __init__(self, *, guide: bool = False) -> None:
        self.guide = guide

    def check(self, name: str, fn: TorchDistribution) -> None:
        """Raises an ``EstimatorError`` if the distribution of site ``name`` isn't served."""
        raise NotImplementedError

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        """The noise distribution, of the batch shape of ``fn``."""
        raise NotImplementedError

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        """The value at this noise, differentiable in both."""
        raise NotImplementedError

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        """The noise that leads to ``value``."""
        raise NotImplementedError

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        """The log volume by which :meth:`forward` stretches, in batch shape."""
        raise NotImplementedError

    def apply(self, msg: dict[str, Any]) -> dict[str, Any]:
        name, wrapped, value = msg["name"], msg["fn"], msg["value"]
        if msg["is_observed"]:
            raise EstimatorError(
                f"site '{name}': {type(self).__name__} was given an observed site; expected a latent "
                f"one. Leave '{name}' out of the configuration."
            )
        self.check(name, innermost(wrapped))
        if not self.guide:
            if is_replayed(name):
                return msg
            self._check_guide(name)

        fn = coordinates(wrapped)
        noise = pyro.sample(
            f"{name}_{self.suffix}",
            rewrapped(wrapped, self.noise(fn)),
            obs=None if value is None else self.inverse(fn, value),
            infer={"is_observed": False, **({"is_auxiliary": True} if self.guide else {})},
        )
        if value is None:
            value = self.forward(fn, noise)
        if not self.guide:
            site = dist.Delta(value, event_dim=wrapped.event_dim).mask(False)
            return {"fn": site, "value": value, "is_observed": True}
        log_abs_det = self.log_abs_det(fn, noise)  # with the dims of plates further out
        shape = torch.broadcast_shapes(log_abs_det.shape, fn.batch_shape)
        log_density = -log_prob_by(lambda _: log_abs_det.expand(shape), wrapped)
        site = _Image(value, log_density=log_density, event_dim=wrapped.event_dim)
        return {"fn": site, "value": value, "is_observed": False}

    def _check_guide(self, name: str) -> None:
        """Noise of the guide's law must not be read as noise of the model's."""
        node = replayed_node(name)
        if node is not None and isinstance(innermost(node["fn"]), dist.Delta):
            raise EstimatorError(
                f"site '{name}': in the guide it was reparameterised as the site of a model; expected "
                f"a guide's. Give {type(self).__name__}(guide=True) there."
            )


class _Image(dist.Delta):
    """What noise was mapped to."""

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        # Pyro's don't say how many event dims v has.
        real = constraints.independent(constraints.real, self.event_dim)
        return {"v": real, "log_density": constraints.real}

    def log_prob(self, value: Tensor) -> Tensor:
        # Run again in a larger batch, the map may round otherwise.
        tolerance = torch.finfo(self.v.dtype).eps ** 0.5 if self.v.is_floating_point() else 0
        apart = ~torch.isclose(value, self.v, tolerance, tolerance, equal_nan=True)
        if self.event_dim:
            apart = apart.flatten(-self.event_dim).any(-1)
        return torch.where(apart, -torch.inf, self.log_density)


@register_kl(_Image, Distribution)
def _kl(p: _Image, q: TorchDistribution) -> Tensor:
    # Pyro's, for any Delta, leaves out the density, and with it a part of TraceMeanField_ELBO.
    return p.log_density - q.log_prob(p.v)


def is_replayed(name: str) -> bool:
    """Whether the model is run at a guide's value of this site itself."""
    node = replayed_node(name)
    return node is not None and not node["is_observed"]


def replayed_node(name: str) -> dict[str, Any] | None:
    """The sample site of this name in the guide's trace at which a model is run, if any."""
    for handler in _PYRO_STACK:
        if isinstance(handler, ReplayMessenger) and handler.trace is not None:
            node = handler.trace.nodes.get(name)
            if node is not None and node["type"] == "sample":
                return node
    return None


def rewrapped(wrapped: TorchDistribution, fn: TorchDistribution) -> TorchDistribution:
    """``fn``, at the full batch shape, with the event dims and masks of ``wrapped``."""
    if isinstance(wrapped, torch.distributions.Independent):
        return rewrapped(wrapped.base_dist, fn).to_event(wrapped.reinterpreted_batch_ndims)
    if isinstance(wrapped, MaskedDistribution):
        return rewrapped(wrapped.base_dist, fn).mask(wrapped._mask)
    if isinstance(wrapped, ExpandedDistribution):
        return rewrapped(wrapped.base_dist, fn)
    return fn

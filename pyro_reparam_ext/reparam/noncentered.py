"""The base of reparameterisers that write a site as a function of noise."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from pyro.infer.reparam.reparam import Reparam
from torch import Tensor

from ..distributions.rules.known_defects import has_biased_gradient
from ..distributions.rules.wrappers import coordinates, innermost, log_prob_by
from ..errors import EstimatorError
from ..estimators.pathwise import Pathwise
from ..numerics.shapes import broadcast_shapes
from ..replay import is_conditioned, is_replayed, replayed_node
from .image import Image
from .plates import in_plates, initial_value

_NOISE: list[tuple[str, type]] = []
"""The noise sites that are being sampled, and for whom."""
PATHWISE = Pathwise()
"""Made once, and not while a guide runs: there it would be taken for one that the user asked for."""


class NoncenteredReparam(Reparam):
    r"""A latent site :math:`x \sim p_\theta` as a function of noise, :math:`x = T_\theta(\epsilon)`.

    A subclass gives ``suffix``, :meth:`check`, :meth:`noise`, :meth:`forward`, :meth:`inverse` and
    :meth:`log_abs_det`. They see the distribution without ``to_event``, ``expand`` and ``mask``, at the
    full batch shape; this class takes the wrappers off and puts them on again. The handler may be
    entered inside of plates or outside of them: the batch shape has their dims.

    - On a model: the noise is the latent site ``f"{name}_{suffix}"``, and the site itself becomes
      deterministic. An initial value is inverted. Under a ``poutine.replay`` whose trace has the site
      itself as a latent sample, that is in the ELBO of a guide in the original coordinates, the site
      stays as it is.
    - On a guide: the noise is an auxiliary site, and the site itself stays latent, with the density

      .. math::
          \log q(x) = \log p(\epsilon) - \log \left| \det \frac{dT_\theta}{d\epsilon} \right|.

      Its gradient in the parameters is that of :math:`\log q_\theta(T_\theta(\epsilon))`, through the
      value alone. Thus the site takes :class:`~pyro_reparam_ext.Pathwise`, whatever is configured for
      all sites, and so does noise that has it. An objective that holds the values fixed, as
      ReweightedWakeSleep's, has a wrong gradient: leave the site as it is there.

    The noise that a reparameteriser makes it leaves alone itself, so a configuration may go by the
    family of a site. What an outer handler conditions on must not be the site: condition a program
    first, then reparameterise it.

    For a reparameteriser of your own derive from this class.

    See also:
        :class:`StandardizeReparam`, :class:`CholeskyReparam`, :class:`InverseCDFReparam`,
        :class:`GumbelSoftmaxReparam`, :class:`GumbelMaxReparam`.

    References:
        Gorinova, Moore, Hoffman, *Automatic Reparameterisation of Probabilistic Programs*, 2019,
        https://arxiv.org/abs/1906.03028.

    Args:
        guide: whether the site is one of a guide.

    Raises:
        EstimatorError: the site is observed, its distribution isn't served, the guide of a
            reparameterised model was reparameterised without ``guide=True``, or a model with it.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> class LogReparam(pre.reparam.NoncenteredReparam):
        ...     suffix = "log"
        ...     def check(self, name, fn):
        ...         if not isinstance(fn, dist.LogNormal):
        ...             raise pre.EstimatorError(f"site '{name}': expected LogNormal.")
        ...     def noise(self, fn):
        ...         return dist.Normal(fn.loc, fn.scale)
        ...     def forward(self, fn, noise):
        ...         return noise.exp()
        ...     def inverse(self, fn, value):
        ...         return value.log()
        ...     def log_abs_det(self, fn, noise):
        ...         return noise
        >>> @pyro.poutine.reparam(config={"x": LogReparam()})
        ... def model():
        ...     return pyro.sample("x", dist.LogNormal(0.0, torch.ones(2)).to_event(1))
        >>> trace = pyro.poutine.trace(model).get_trace()
        >>> torch.equal(trace.nodes["x"]["value"], trace.nodes["x_log"]["value"].exp())
        True
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
        name = msg["name"]
        if (name, type(self)) in _NOISE:
            return msg
        if msg["is_observed"]:
            raise EstimatorError(
                f"site '{name}': {type(self).__name__} was given an observed site; expected a latent "
                f"one. Leave '{name}' out of the configuration."
            )
        self.check(name, innermost(msg["fn"]))
        if self.guide:
            self._check_is_guide(name)
        elif is_replayed(name):
            return msg
        else:
            self._check_guide(name)

        wrapped = in_plates(name, msg["fn"])
        value = initial_value(name, msg["value"], wrapped)
        fn = coordinates(wrapped)
        noise = self._sample_noise(name, wrapped, None if value is None else self.inverse(fn, value))
        if value is None:
            value = self.forward(fn, noise)
        if not self.guide:
            site = dist.Delta(value, event_dim=wrapped.event_dim).mask(False)
            return {"fn": site, "value": value, "is_observed": True}
        log_abs_det = self.log_abs_det(fn, noise)  # with the dims of what is enumerated
        shape = broadcast_shapes(log_abs_det.shape, fn.batch_shape)
        log_density = -log_prob_by(lambda _: log_abs_det.expand(shape), wrapped)
        biased, reparam = self._is_biased(fn), type(self).__name__
        site = Image(name, reparam, wrapped, value, log_density, biased)
        return {"fn": site, "value": value, "is_observed": False}

    def _is_biased(self, fn: TorchDistribution) -> bool:
        """Whether the value carries a biased gradient."""
        return has_biased_gradient(fn)

    def _sample_noise(self, name: str, wrapped: TorchDistribution, given: Tensor | None) -> Tensor:
        site, fn = f"{name}_{self.suffix}", rewrapped(wrapped, self.noise(coordinates(wrapped)))
        infer: dict[str, Any] = {"is_observed": False}
        if self.guide:
            infer["is_auxiliary"] = True
            if fn.has_rsample:  # the density of the value learns by the noise alone
                infer["estimator"] = PATHWISE
        _NOISE.append((site, type(self)))
        try:
            return pyro.sample(site, fn, obs=given, infer=infer)
        finally:
            _NOISE.pop()

    def _check_guide(self, name: str) -> None:
        """Noise of the guide's law must not be read as noise of the model's."""
        node = replayed_node(name)
        if node is not None and isinstance(innermost(node["fn"]), dist.Delta):
            raise EstimatorError(
                f"site '{name}': in the guide it was reparameterised as the site of a model; expected "
                f"a guide's. Give {type(self).__name__}(guide=True) there."
            )

    def _check_is_guide(self, name: str) -> None:
        """A value from elsewhere is no function of this program's noise."""
        node, reparam = replayed_node(name), type(self).__name__
        foreign = node is not None and not (
            isinstance(innermost(node["fn"]), Image) and replayed_node(f"{name}_{self.suffix}")
        )
        if foreign or is_conditioned(name):
            raise EstimatorError(
                f"site '{name}': {reparam}(guide=True) was put on a program that is run at a value of "
                f"'{name}' from elsewhere, as a model is; expected a guide. On a model give "
                f"{reparam}(), and condition a program before it is reparameterised. Where a guide is "
                f"run at values of the model, as by ReweightedWakeSleep, leave '{name}' out."
            )


def rewrapped(wrapped: TorchDistribution, fn: TorchDistribution) -> TorchDistribution:
    """``fn``, at the full batch shape, with the event dims and masks of ``wrapped``."""
    if isinstance(wrapped, torch.distributions.Independent):
        return rewrapped(wrapped.base_dist, fn).to_event(wrapped.reinterpreted_batch_ndims)
    if isinstance(wrapped, MaskedDistribution):
        return rewrapped(wrapped.base_dist, fn).mask(wrapped._mask)
    if isinstance(wrapped, ExpandedDistribution):
        return rewrapped(wrapped.base_dist, fn)
    return fn

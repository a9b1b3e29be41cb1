"""The base of guides of weight matrices: mean-field sites, and a law of their own for matrices."""

from __future__ import annotations

from contextlib import ExitStack
from operator import attrgetter
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution, constraints
from pyro.distributions.util import sum_rightmost
from pyro.infer.autoguide import AutoGuide, AutoNormal
from pyro.infer.autoguide.utils import deep_setattr, helpful_support_errors
from pyro.nn import PyroModule, PyroParam
from pyro.ops.tensor_utils import periodic_repeat
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint

from ...distributions.supports.real import is_real


class AutoWeights(AutoNormal):
    """A guide of independent sites, normal in unconstrained space, where matrices have their own law.

    A site of event dim 2 or more is a matrix of its first event dim by all others, as the weight of a
    linear layer or a convolution is; a subclass gives it its parameters and its law. What has fewer
    event dims is mean-field, as in :class:`pyro.infer.autoguide.AutoNormal`.

    Each site is drawn as the auxiliary ``f"{name}_unconstrained"``, then as a Delta of its image. What
    corrects the density, as the Jacobian of a constrained site, is a :func:`pyro.factor`:
    ``TraceMeanField_ELBO`` takes the divergence of a Delta without its ``log_density``.
    """

    # Of AutoNormal's private methods these guides override _setup_prototype and _get_loc_and_scale,
    # of which its median and quantiles are made, and call _create_plates.

    def _setup_matrix(self, name: str, shape: torch.Size, loc: Tensor) -> None:
        """Set the parameters of a site, other than its location, by :meth:`_set`.

        ``shape`` is that of a batch of matrices; of ``loc`` they have dtype and device.
        """
        raise NotImplementedError

    def _set(self, path: str, value: Tensor, constraint: Constraint, event_dim: int) -> None:
        deep_setattr(self, path, PyroParam(value, constraint, event_dim))

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        # AutoNormal's would leave a scale for every weight in the parameter store.
        AutoGuide._setup_prototype(self, *args, **kwargs)
        self._event_dims: dict[str, int] = {}
        self.locs = PyroModule()
        self.scales = PyroModule()
        for name, site in self.prototype_trace.iter_stochastic_nodes():
            value = site["value"].detach()
            with helpful_support_errors(site):
                loc = biject_to(site["fn"].support).inv(value).detach()
            event_dim = site["fn"].event_dim + loc.dim() - value.dim()
            for frame in site["cond_indep_stack"]:
                full_size = frame.full_size or frame.size
                if full_size != frame.size:
                    loc = periodic_repeat(loc, full_size, frame.dim - event_dim).contiguous()
            self._event_dims[name] = event_dim
            self._set(f"locs.{name}", loc, constraints.real, event_dim)
            if self._is_matrix(name):
                self._setup_matrix(name, self._as_matrix(name, loc).shape, loc)
            else:
                scale = torch.full_like(loc, self._init_scale)
                self._set(f"scales.{name}", scale, self.scale_constraint, event_dim)

    def _is_matrix(self, name: str) -> bool:
        return self._event_dims[name] >= 2

    def _as_matrix(self, name: str, value: Tensor) -> Tensor:
        return value.flatten(1 - self._event_dims[name])

    def _parameter(self, group: str, name: str) -> Tensor:
        return attrgetter(f"{group}.{name}")(self)

    def _law(self, name: str) -> TorchDistribution:
        """The law of the unconstrained value."""
        loc, scale = self._get_loc_and_scale(name)
        return dist.Normal(loc, scale).to_event(self._event_dims[name])

    def _draw(self, name: str) -> Tensor:
        """Sample the unconstrained value."""
        return pyro.sample(f"{name}_unconstrained", self._law(name), infer={"is_auxiliary": True})

    def _correct(self, name: str, log_density: Tensor) -> None:
        """Add a term, of the batch shape of a draw, to the log density of the guide."""
        # Outside of inference nothing is scored, and Pyro warns of factors.
        if am_i_wrapped() and poutine.get_mask() is not False:
            pyro.factor(name, log_density, has_rsample=True)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        plates = self._create_plates(*args, **kwargs)
        result = {}
        for name, site in self.prototype_trace.iter_stochastic_nodes():
            event_dim = site["fn"].event_dim
            transform = biject_to(site["fn"].support)
            with ExitStack() as stack:
                for frame in site["cond_indep_stack"]:
                    stack.enter_context(plates[frame.name])
                unconstrained = self._draw(name)
                value = transform(unconstrained)
                if not is_real(site["fn"].support):
                    log_det = transform.log_abs_det_jacobian(unconstrained, value)
                    extra = log_det.dim() - (value.dim() - event_dim)
                    self._correct(f"{name}_jacobian", -sum_rightmost(log_det, extra))
                result[name] = pyro.sample(name, dist.Delta(value, event_dim=event_dim))
        return result

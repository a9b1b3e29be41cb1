"""The distribution of a site in a reparameterised guide: the value that noise was mapped to."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import Distribution, TorchDistribution, constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..distributions.rules.known_defects import register_biased
from ..errors import EstimatorError


class Image(dist.Delta):
    """A value with the density that its noise and the map give it.

    ``source`` is the distribution of the site as it was. ``straight_through``: whether the value's
    gradient is biased; ``made_by``: what errors call it.
    """

    def __init__(
        self,
        site: str,
        reparam: str,
        source: TorchDistribution,
        value: Tensor,
        log_density: Tensor,
        straight_through: bool,
    ) -> None:
        self.site, self.reparam, self.source = site, reparam, source
        self.straight_through = straight_through
        super().__init__(value, log_density=log_density, event_dim=source.event_dim)

    @property
    def made_by(self) -> str:
        return f"a site of {self.reparam}(guide=True)"

    @property
    def support(self) -> constraints.Constraint:
        return self.source.support

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        # Pyro's don't say how many event dims v has.
        real = constraints.independent(constraints.real, self.event_dim)
        return {"v": real, "log_density": constraints.real}

    def expand(self, batch_shape: Size | tuple[int, ...], _instance: Any = None) -> Image:
        new = self._get_checked_instance(Image, _instance)
        new.site, new.reparam, new.source = self.site, self.reparam, self.source
        new.straight_through = self.straight_through
        return super().expand(batch_shape, new)

    def log_prob(self, value: Tensor) -> Tensor:
        # Run again in a larger batch, the map may round otherwise.
        tolerance = torch.finfo(self.v.dtype).eps ** 0.5 if self.v.is_floating_point() else 0
        apart = ~torch.isclose(value, self.v, tolerance, tolerance, equal_nan=True)
        if self.event_dim:
            apart = apart.flatten(-self.event_dim).any(-1)
        if self._validate_args and apart.any():
            raise EstimatorError(
                f"site '{self.site}': {self.reparam}(guide=True) makes another value of its noise than "
                f"the one to score; expected a guide, scored at its own values. On a model give "
                f"{self.reparam}() without guide=True; condition a program first, then reparameterise."
            )
        return torch.where(apart, -torch.inf, self.log_density)


@register_kl(Image, Distribution)
def _kl(p: Image, q: TorchDistribution) -> Tensor:
    # Pyro's, for any Delta, leaves out the density, and with it a part of TraceMeanField_ELBO.
    return p.log_density - q.log_prob(p.v)


register_biased(Image)(lambda fn: fn.straight_through)

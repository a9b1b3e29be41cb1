"""The Dirichlet distribution."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.gamma_divergence import dirichlet_divergence
from ..numerics.implicit import as_drawn, implicit_joint
from ..numerics.positive_log import positive_log, power_at_zero
from .log_dirichlet import (
    chunked_vectors,
    dirichlet_density,
    dirichlet_entropy,
    dirichlet_mode,
    draw_normalized,
    log_pull_back,
)
from .log_gamma import raised
from .mixins.parametric import same_event_shape
from .rules.half_precision import drawn_in_single
from .rules.on_support import log_prob_on_support
from .rules.pathwise import register_pathwise
from .supports.relaxed import relaxed_simplex


class Dirichlet(dist.Dirichlet):
    r"""The Dirichlet distribution, with gradients that are right for small concentrations too.

    .. math::
        f(x; \alpha) = \frac{\Gamma(\sum_k \alpha_k)}{\prod_k \Gamma(\alpha_k)}
            \prod_k x_k^{\alpha_k - 1}, \qquad \sum_k x_k = 1

    Drawn in log space, as :class:`LogDirichlet`, and moving as it does: with :math:`\alpha_i` the logit
    of :math:`x_i` moves as that of a variable :class:`Beta`, and the other components keep their
    proportions. A component below the smallest normal float is raised to it; its logarithm has the
    gradient of the draw as it was.

    See also:
        :class:`pyro.distributions.Dirichlet`, from which it derives; :class:`LogDirichlet`.

    References:
        Jankowiak, Obermeyer, *Pathwise Derivatives Beyond the Reparameterization Trick*, 2018,
        https://arxiv.org/abs/1806.01851.

    Args:
        concentration: :math:`\alpha > 0`, of shape (..., K), without unit.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: a concentration is not positive, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> alpha = torch.full((3,), 1e-3, requires_grad=True)
        >>> x = pre.distributions.Dirichlet(alpha).rsample((100_000,))
        >>> x[:, 0].mean().backward()  # (2, -1, -1) / 0.009
        >>> print((alpha.grad * 0.009).round().tolist())
        [2.0, -1.0, -1.0]
    """

    _scored = relaxed_simplex

    @drawn_in_single
    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            value, log_drawn = chunked_vectors(_draw, *raised(self.concentration, shape))
        return implicit_joint(value, _pull_back, self.concentration, log_drawn)

    @property
    def _interior(self) -> float:
        return 1 / self.event_shape[0]

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        alpha = self.concentration
        density = dirichlet_density(positive_log(value), alpha)
        ends = power_at_zero(torch.zeros_like(value), value, alpha - 1).sum(-1)
        return torch.where(ends.isinf(), ends, density)

    def entropy(self) -> Tensor:
        return dirichlet_entropy(self.concentration)

    @property
    def mode(self) -> Tensor:
        """Where the density is largest; of corners, where it may be infinite, one by concentrations."""
        return dirichlet_mode(self.concentration)


@register_kl(Dirichlet, Dirichlet)
@register_kl(Dirichlet, torch.distributions.Dirichlet)
@register_kl(torch.distributions.Dirichlet, Dirichlet)
def _kl(p: torch.distributions.Dirichlet, q: torch.distributions.Dirichlet) -> Tensor:
    same_event_shape(p, q)
    return dirichlet_divergence(p.concentration, q.concentration)


def _draw(concentration: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """The draw, and its logarithm before it is cut."""
    log_drawn = draw_normalized(concentration, power)
    return log_drawn.exp().clamp(min=torch.finfo(log_drawn.dtype).tiny), log_drawn


@register_pathwise(torch.distributions.Dirichlet)
def _at(fn: torch.distributions.Dirichlet, value: Tensor) -> Tensor:
    return implicit_joint(value, _pull_back, fn.concentration, positive_log(value))


def _pull_back(
    gradient: Tensor, value: Tensor, concentration: Tensor, log_drawn: Tensor
) -> tuple[Tensor, None]:
    log_x = as_drawn(log_drawn, positive_log, value)
    return *log_pull_back(gradient * value, log_x, concentration), None

"""The von Mises-Fisher distribution on the unit sphere."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.implicit import implicit_joint
from ..numerics.polar_angle import polar_law, quantile, velocity
from ..numerics.sphere import angle_between, away, direction_at, half_versine, turned_by
from .mixins.directional import Directional
from .rules.on_support import log_prob_on_support


class VonMisesFisher(Directional):
    r"""A random direction in :math:`\mathbb{R}^d`, concentrated about a mean direction.

    .. math::
        f(x; \mu, \kappa) = \frac{\kappa^{d/2 - 1}}{(2 \pi)^{d/2} I_{d/2 - 1}(\kappa)}
            e^{\kappa \mu^T x}, \qquad \|x\| = 1

    The angle :math:`\varphi` from :math:`\mu` is drawn by inversion in a fixed number of steps, the
    direction about :math:`\mu` from normals. The gradient in :math:`\kappa` is the implicit one of the
    angle, by quadrature over the nearer tail of its density :math:`g`; in :math:`\mu`, a sample turns
    as :math:`\mu` does. With :math:`A = I_{d/2}(\kappa) / I_{d/2 - 1}(\kappa)`,

    .. math::
        \frac{d\varphi}{d\kappa} = -\frac{1}{g(\varphi)} \int_0^\varphi (\cos s - A) g(s)\, ds, \qquad
        dx = (\mu^T x)\, d\mu - (x^T d\mu)\, \mu \quad (\mu^T d\mu = 0).

    See also:
        ``scipy.stats.vonmises_fisher``; :class:`PowerSpherical`, which is cheaper to draw.

    References:
        Fisher, *Dispersion on a Sphere*, 1953, https://doi.org/10.1098/rspa.1953.0064. Davidson et al.,
        *Hyperspherical Variational Auto-Encoders*, 2018, https://arxiv.org/abs/1804.00891. Figurnov,
        Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018, https://arxiv.org/abs/1805.08498.

    Args:
        loc: the mean direction :math:`\mu`, of shape (..., d), :math:`d \ge 2`: a unit vector. The
            gradient is that in :math:`\mu / \|\mu\|`: it has no component along :math:`\mu`.
        concentration: :math:`\kappa \ge 0`, of shape (...); at 0 the law is uniform on the sphere.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: ``loc`` is not of unit length, or the concentration is negative, with validation on.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> loc = torch.tensor([1.0, 0.0, 0.0])
        >>> concentration = torch.tensor(2.0, requires_grad=True)
        >>> x = pre.distributions.VonMisesFisher(loc, concentration).rsample((10_000,))
        >>> x[:, 0].mean().backward()  # d E[x] / d concentration = 1 / 4 - 1 / sinh(2)^2
        >>> print(f"{x[:, 0].mean().item():.1f}, {concentration.grad.item():.1f}")
        0.5, 0.2
    """

    def _draw(self, shape: Size) -> Tensor:
        normal = torch.randn(shape[:-1], dtype=self.loc.dtype, device=self.loc.device)
        return direction_at(quantile(normal, self.concentration, self._dim), self.loc)

    def _at(self, value: Tensor) -> Tensor:
        return implicit_joint(value, _pull_back, self.loc, self.concentration)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        return -2 * self.concentration * half_versine(value, self.loc) - self._log_normaliser

    @property
    def mean(self) -> Tensor:
        r"""In :math:`\mathbb{R}^d`: :math:`A \mu`, inside of the sphere."""
        return (1 - self._shortfall).unsqueeze(-1) * self.loc

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate."""
        wider = polar_law(self.concentration, self._dim + 2).log_normaliser
        sine2 = (wider - polar_law(self.concentration, self._dim).log_normaliser).exp()
        along = (self._shortfall * (2 - self._shortfall) - sine2).clamp(min=0)
        across = sine2 / (self._dim - 1)
        square = self.loc.square()
        return along.unsqueeze(-1) * square + across.unsqueeze(-1) * (1 - square)

    def entropy(self) -> Tensor:
        return self._log_normaliser + self.concentration * self._shortfall

    @property
    def _shortfall(self) -> Tensor:
        return polar_law(self.concentration, self._dim).shortfall

    @property
    def _log_normaliser(self) -> Tensor:
        r"""The log of the integral of :math:`e^{\kappa (\mu^T x - 1)}` over the unit sphere.

        Over the angle, and over the sphere about the axis.
        """
        around = log_area(self._dim - 1)
        return polar_law(self.concentration, self._dim).log_normaliser + around


def log_area(dim: int) -> float:
    r"""The log of the area of the unit sphere of :math:`\mathbb{R}^d`."""
    return math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


def _pull_back(
    gradient: Tensor, value: Tensor, loc: Tensor, concentration: Tensor
) -> tuple[Tensor, Tensor]:
    angle = angle_between(value, loc)
    along = (gradient * away(value, loc, angle)).sum(-1)
    speed = velocity(angle, concentration, value.shape[-1])
    return turned_by(gradient, value, loc), along * speed


@register_kl(VonMisesFisher, VonMisesFisher)
def _kl(p: VonMisesFisher, q: VonMisesFisher) -> Tensor:
    return cross_entropy(p._shortfall, p.loc, q) - p.entropy()


def cross_entropy(shortfall: Tensor, loc: Tensor, q: VonMisesFisher) -> Tensor:
    """The cross entropy of ``q`` under a law about ``loc`` whose mean falls short of it by so much."""
    versine = shortfall + 2 * (1 - shortfall) * half_versine(loc, q.loc)
    return q.concentration * versine + q._log_normaliser

"""The power spherical distribution on the unit sphere."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.axial_mean import mean_log_cosine2
from ..numerics.beta_velocity import logit_beta_velocity
from ..numerics.implicit import implicit_joint
from ..numerics.log_gamma_ratio import log_gamma_ratio
from ..numerics.sphere import angle_between, away, direction_at, half_versine, turned_by
from .beta import draw_logit
from .mixins.directional import Directional
from .mixins.parametric import same_event_shape
from .rules.on_support import log_prob_on_support
from .von_mises_fisher import VonMisesFisher, cross_entropy


class PowerSpherical(Directional):
    r"""A random direction in :math:`\mathbb{R}^d`, concentrated about a mean direction.

    .. math::
        f(x; \mu, \kappa) = \frac{\Gamma(2 \beta + \kappa)}{2^{2 \beta + \kappa} \pi^\beta
            \Gamma(\beta + \kappa)} (1 + \mu^T x)^\kappa, \qquad \|x\| = 1,\ \beta = \frac{d - 1}{2}

    Of the angle :math:`\varphi` from :math:`\mu`, :math:`\sin^2(\varphi / 2)` is a Beta variable of
    concentrations :math:`\beta` and :math:`\beta + \kappa`, which carries the gradient in
    :math:`\kappa`; in :math:`\mu`, a sample turns as :math:`\mu` does.

    See also:
        :class:`VonMisesFisher`, of the same shape where it is narrow.

    References:
        De Cao, Aziz, *The Power Spherical Distribution*, 2020, https://arxiv.org/abs/2006.04437.

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
        >>> x = pre.distributions.PowerSpherical(loc, concentration).rsample((10_000,))
        >>> x[:, 0].mean().backward()  # E[x] = concentration / (concentration + 2) loc
        >>> print(f"{x[:, 0].mean().item():.1f}, {concentration.grad.item():.1f}")
        0.5, 0.1
    """

    @property
    def _beta(self) -> Tensor:
        return torch.full_like(self.concentration, 0.5 * (self._dim - 1))

    def _draw(self, shape: Size) -> Tensor:
        logit = draw_logit(self._beta, self._beta + self.concentration, shape[:-1])
        return direction_at(2 * (0.5 * logit).exp().atan(), self.loc)

    def _at(self, value: Tensor) -> Tensor:
        return implicit_joint(value, _pull_back, self.loc, self.concentration)

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        # The support has no antipode, but rounding may hit it.
        cosine2 = 0.25 * (value + self.loc).square().sum(-1)
        near = half_versine(value, self.loc)
        tiny = torch.finfo(value.dtype).tiny
        log_cosine2 = torch.where(
            near < 0.5, torch.where(near < 0.5, -near, 0).log1p(), cosine2.clamp(min=tiny).log()
        )
        return self.concentration * log_cosine2 - self._log_normaliser

    @property
    def mean(self) -> Tensor:
        r"""In :math:`\mathbb{R}^d`: :math:`\kappa / (\kappa + d - 1)\, \mu`, inside of the sphere."""
        return (1 - self._shortfall).unsqueeze(-1) * self.loc

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate."""
        alpha, beta = self._beta + self.concentration, self._beta
        product = 4 * beta / (alpha + beta) * (alpha / (alpha + beta + 1))
        along, across = product / (alpha + beta), product / (2 * beta)
        square = self.loc.square()
        return along.unsqueeze(-1) * square + across.unsqueeze(-1) * (1 - square)

    def entropy(self) -> Tensor:
        rate = _digamma_difference(self._beta + self.concentration, self._beta)
        return self._log_normaliser + self.concentration * rate

    @property
    def _shortfall(self) -> Tensor:
        return 2 * self._beta / (self.concentration + 2 * self._beta)

    @property
    def _log_normaliser(self) -> Tensor:
        r"""The log of the integral of :math:`((1 + \mu^T x) / 2)^\kappa` over the sphere."""
        ratio = log_gamma_ratio(self._beta + self.concentration, self._beta)
        return self._beta * math.log(4 * math.pi) - ratio


def _pull_back(
    gradient: Tensor, value: Tensor, loc: Tensor, concentration: Tensor
) -> tuple[Tensor, Tensor]:
    angle = angle_between(value, loc)
    along = (gradient * away(value, loc, angle)).sum(-1)
    beta = torch.full_like(concentration, 0.5 * (value.shape[-1] - 1))
    log_sine2, log_cosine2 = 2 * (angle / 2).sin().log(), 2 * (angle / 2).cos().log()
    # The logit of the Beta variable is 2 log tan(angle / 2).
    fall = logit_beta_velocity(log_cosine2, log_sine2, beta + concentration, beta)
    return turned_by(gradient, value, loc), -0.5 * along * angle.sin() * fall


def _digamma_difference(x: Tensor, d: Tensor) -> Tensor:
    r""":math:`\psi(x + d) - \psi(x)`, the derivative of the log of the ratio."""
    # With a dim more: products of a 0-dim dual tensor and a number are float64.
    x, d = x.unsqueeze(0), d.unsqueeze(0)
    return torch.func.jvp(lambda x: log_gamma_ratio(x, d), (x,), (torch.ones_like(x),))[1].squeeze(0)


@register_kl(PowerSpherical, VonMisesFisher)
def _kl(p: PowerSpherical, q: VonMisesFisher) -> Tensor:
    return cross_entropy(p._shortfall, p.loc, q) - p.entropy()


@register_kl(PowerSpherical, PowerSpherical)
def _kl_of_two(p: PowerSpherical, q: PowerSpherical) -> Tensor:
    same_event_shape(p, q)
    cosine2 = 1 - half_versine(p.loc, q.loc)
    mean = mean_log_cosine2(p._dim, p._beta + p.concentration, cosine2)
    return q._log_normaliser - q.concentration * mean - p.entropy()

"""The doubly reparameterised gradient of a bound by several particles."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import Delta, TorchDistribution
from torch import Tensor

from ..distributions.rules.wrappers import innermost
from .control_variates import dot
from .pathwise import Pathwise, is_partly_reparameterised
from .protocol import Branch, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class DoublyReparameterized(Pathwise):
    r"""The pathwise gradient whose score term is reparameterised once more.

    .. math::
        \sum_p \big(\alpha v_p + (1 - \alpha) v_p^2\big)\,
        \frac{\partial \log w_p}{\partial z_p} \nabla_\phi z_p

    with the share :math:`v_p` of particle :math:`p` in the bound of order :math:`\alpha`, and the
    parameters of the guide held in :math:`\log w_p`. The pathwise gradient has the share itself and the
    score :math:`-v_p \nabla_\phi \log q_\phi(z_p)` beside it; here that is what is reparameterised, at
    every site upstream too. The site is chosen by
    :class:`~pyro_reparam_ext.ImportanceWeighted_ELBO`.

    Serves distributions whose sampler is reparameterised as a whole.

    References:
        Tucker, Lawson, Gu, Maddison, 2018, Doubly Reparameterized Gradient Estimators for Monte Carlo
        Objectives, https://arxiv.org/abs/1810.04152

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.ImportanceWeighted_ELBO(num_particles=8, gradient="dreg")
    """

    paper = Paper(
        "Tucker, Lawson, Gu, Maddison",
        "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives",
        2018,
        "1810.04152",
    )
    holds_guide_parameters = True
    scored_at_copy = True

    def supports(self, fn: TorchDistribution) -> bool:
        whole = super().supports(fn) and not is_partly_reparameterised(fn)
        return whole and not isinstance(innermost(fn), Delta)

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        return False

    def contributes(self, fn: TorchDistribution) -> bool:
        return True

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        # Without noise there is no copy: the value does not move with any parameter.
        return () if site.draw.noise is None else (Branch.at_ordinary(site.value, order=1),)

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        if not evaluations.branches:
            return None
        site = evaluations.site
        return dot(site, evaluations.gradient().detach(), site.noise)

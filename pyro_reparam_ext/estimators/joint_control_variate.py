"""The pathwise gradient less its noise at a snapshot, where all data are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..distributions.rules.wrappers import log_prob_by, sum_rightmost
from ..numerics.leaf import leaf
from .control_variates import dot
from .gaussian_factor import factor_of
from .gaussian_pathwise import GaussianPathwise
from .protocol import Branch, Draw, Evaluations, Paper, Site
from .snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class JointControlVariate(GaussianPathwise):
    r"""The pathwise gradient less the noise of its sub-sample, and of its draw, near a snapshot.

    For models whose steps see a part of the data. At a snapshot, a value :math:`z_0` of all sites, the
    gradient :math:`\bar g` of the costs of *all* data is known, and the block :math:`\bar H` of their
    Hessian that belongs to the site. A step evaluates the costs of its own sub-sample there too, with
    the gradient g and the Hessian H, and takes away what they say of its noise. For
    :math:`z = \mu + L \epsilon` and costs f without the log density of the guide, whose part of the
    gradient has no noise,

    .. math::
        \nabla_\mu:\; \nabla f(z) - c_1\, (g - \bar g) - c_2\, H L \epsilon, \qquad
        \nabla_L:\; \nabla f(z)\, \epsilon^\top - c_3\, g\, \epsilon^\top
            - c_4\, \big(H L \epsilon\, \epsilon^\top - \bar H L\big)

    Each bracket has a mean of zero, however old the snapshot is: over sub-samples g and H have the
    means :math:`\bar g` and :math:`\bar H`, and :math:`\epsilon` is independent of them, with the mean
    0 and the covariance 1. That takes costs at :math:`z_0` that depend on nothing else, which
    :func:`take_snapshot` makes sure of. The coefficients are fitted at each site to what past steps
    have measured, so that an old snapshot does no harm. Before the first, only the two terms that need
    none are taken away, at the means of the sites.

    Serves ``Normal`` sites, also under ``to_event``, ``expand`` and ``mask``, and
    ``MultivariateNormal`` ones, and with them the autoguides of these. Two evaluations of the program,
    one of them of order 2, and one product with the Hessian. Costs have to have second derivatives.

    Raises:
        EstimatorError: the site has another distribution; or sites share their evaluation in another
            way than when the snapshot was taken.

    References:
        Wang, Geffner, Domke, 2024, Joint control variate for faster black-box variational inference,
        https://arxiv.org/abs/2210.07290

    Example:
        >>> import pyro_reparam_ext as pre
        >>> elbo = pre.TraceEstimator_ELBO(pre.JointControlVariate(), max_plate_nesting=1)

        Then ``pre.take_snapshot(elbo, model, guide)`` once an epoch.
    """

    unbiased = True
    condition = (
        "costs at given values of the sites are the same from one snapshot to the next, sub-samples are"
        " drawn whatever the past was, and the guide's distribution does not depend on them"
    )
    paper = Paper(
        "Wang, Geffner, Domke",
        "Joint control variate for faster black-box variational inference",
        2024,
        "2210.07290",
    )
    noiseless_entropy = True

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        """The log density, with the gradient of its mean, the negative entropy.

        That is its own pathwise gradient, too; but the costs at a snapshot have no part in it.
        """

        def score(base: TorchDistribution) -> Tensor:
            at_mean = base.log_prob(base.loc)  # whose gradient is that of the negative entropy
            return at_mean + (base.log_prob(draw.value) - at_mean).detach()

        return log_prob_by(score, fn)

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        if not site.value.requires_grad:  # it was given, and does not move with any parameter
            return ()
        loc, value = site.base.loc.detach(), site.value
        point = snapshot_of(site).point_or(loc).expand(value.shape)
        tensor, way = leaf(point[None], value), value.detach() - loc
        branch = Branch(1, lambda a, b: tensor[a:b], None, 2, tensor, joint=True, way=way)
        return Branch.at_ordinary(value, order=1), branch

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        site, state = evaluations.site, snapshot_of(evaluations.site)
        if not evaluations.branches or state.is_open:
            return None
        joint, factor = evaluations.joint, factor_of(site.base)
        assert joint is not None
        state.check(site.name, joint)
        held, moved = factor.held, joint.moved[site.name]
        gradient = evaluations.gradient(1)[0].detach()
        noise = held.whitened(joint.parts[site.name].way)
        known, curved = state.slope.expand(gradient.shape), held.curved(state.hessian)
        in_loc = torch.stack([state.if_taken(gradient - known), moved])
        in_factor = torch.stack(
            [held.outer(gradient, noise), state.if_taken(held.outer(moved, noise) - curved)]
        )
        slope = evaluations.gradient(0).detach()
        evaluations.kept["loc"] = in_loc, slope - known
        evaluations.kept["factor"] = in_factor, held.outer(slope, noise) - curved
        term = -dot(site, mixed(state.of_loc(), in_loc), site.base.loc)
        dims = len(site.fn.event_shape) + factor.event_dims
        return term - sum_rightmost(mixed(state.of_factor(), in_factor) * factor.parameter, dims)

    def new_state(self, site: Site) -> nn.Module:
        return Snapshot(site)

    def owns(self, state: nn.Module) -> bool:
        return isinstance(state, Snapshot)

    def update(self, evaluations: Evaluations) -> None:
        state = snapshot_of(evaluations.site)
        if state.is_open:
            state.note(evaluations)
        elif evaluations.branches:
            # What is known of the mean has been taken from the targets, so that noise is left of them.
            for fitted, of in ((state.of_loc, "loc"), (state.of_factor, "factor")):
                variates, target = evaluations.kept[of]
                fitted.note(list(variates), target)


def snapshot_of(site: Site) -> Snapshot:
    """The knowledge of all data at a site."""
    assert isinstance(site.state, Snapshot)
    return site.state


def mixed(coefficients: Tensor, variates: Tensor) -> Tensor:
    """The sum of control variates, stacked on dim 0, by their coefficients."""
    return torch.tensordot(coefficients, variates, 1)

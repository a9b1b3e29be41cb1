"""Gauss-Hermite quadrature over each coordinate, with the others held at their sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..distributions.rules.wrappers import num_coordinates
from ..errors import EstimatorError
from ..numerics.quadrature import gauss_hermite
from .base import Estimator, require_positive
from .one_coordinate import is_coordinate, to_rows
from .protocol import Branch, Evaluations, Paper, Site

LEAST_NODES = 3
"""By which the site's own log density, of degree two, is integrated exactly."""


@dataclass(frozen=True, eq=False)
class GaussHermite(Estimator):
    r"""The expectation over each normal coordinate by quadrature, given a sample of the others.

    With the nodes :math:`x_k` and weights :math:`w_k` of Gauss-Hermite quadrature, K of them,

    .. math::
        \sum_d \sum_k w_k\, f(z_{-d},\, \mu_d + \sigma_d x_k)
        \,\frac{x_k \nabla_\phi \mu_d + (x_k^2 - 1) \nabla_\phi \sigma_d}{\sigma_d}

    It is to a Normal what :class:`LocalExpectation` is to a discrete site. A single scalar has a
    gradient without noise; of several coordinates each has the noise of the others alone. It takes the
    costs only, not their slopes: no autograd graph is built, a jump of the costs is seen as finely as
    the nodes lie, and sites that are sampled after this one may be discrete. ``D`` coordinates cost
    ``1 + K D`` evaluations, so that it is for sites of few coordinates in plates, whose elements are
    all evaluated at once. Serves Normal and LogNormal sites.

    Biased: exact in :math:`\mu` for costs that are polynomials of degree :math:`2K - 2` in the normal
    coordinate, in :math:`\sigma` of degree :math:`2K - 3`, among them the site's own log density. Else
    it differs from the gradient, to leading order, by

    .. math::
        -\frac{K!}{(2K - 1)!} \sigma^{2K - 2} E\big[\partial^{2K - 1} f\big] \text{ in } \mu, \qquad
        -\frac{K!}{(2K - 2)!} \sigma^{2K - 3} E\big[\partial^{2K - 2} f\big] \text{ in } \sigma

    with the derivatives of the costs in the coordinate. In float32 a small scale takes digits: costs of
    size :math:`c` leave an error of about :math:`10^{-7} c / \sigma` in :math:`\mu`.

    Args:
        num_nodes: the number K of nodes, at least 3.
        max_evaluations: how many alternatives are evaluated at once, a bound on memory that does not
            change the result. ``None``: as many as have about 64 million numbers in all their values.

    Raises:
        EstimatorError: the distribution is another one; an option is out of range; or a cost that
            depends on the site lies outside one of the site's plates.

    References:
        Titsias, Lázaro-Gredilla, 2015, Local Expectation Gradients for Black Box Variational
        Inference, https://arxiv.org/abs/1503.01494; Golub, Welsch, 1969, Calculation of Gauss
        Quadrature Rules.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("y", dist.Poisson(z.exp()), obs=torch.tensor(3.0))
        >>> def guide():
        ...     pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.5)), 0.4))
        >>> elbo = pre.TraceEstimator_ELBO(pre.GaussHermite())
        >>> loss = elbo.loss_and_grads(model, guide)
        >>> exact = torch.tensor(0.5 + 0.4**2 / 2).exp() - 3 + 0.5
        >>> bool((pyro.param("loc").grad - exact).abs() < 1e-5)
        True
    """

    num_nodes: int = 8
    max_evaluations: int | None = None

    unbiased = False
    paper = Paper(
        "Titsias, Lázaro-Gredilla",
        "Local Expectation Gradients for Black Box Variational Inference",
        2015,
        "1503.01494",
    )
    supported = (torch.distributions.Normal, torch.distributions.LogNormal)
    coordinatewise = True

    def __post_init__(self) -> None:
        if not (isinstance(self.num_nodes, int) and self.num_nodes >= LEAST_NODES):
            raise EstimatorError(
                f"GaussHermite: num_nodes must be an integer of at least {LEAST_NODES}, was given "
                f"{self.num_nodes!r}."
            )
        require_positive("GaussHermite", max_evaluations=self.max_evaluations)

    def evaluations(self, fn: TorchDistribution) -> int:
        return 1 + self.num_nodes * num_coordinates(fn)

    def alternatives(self, site: Site) -> tuple[Branch, ...]:
        base = site.base
        loc, scale = base.loc.detach(), base.scale.detach()
        nodes, _ = _rule(self.num_nodes, scale)

        def values(start: int, stop: int) -> Tensor:
            """Alternative ``d * num_nodes + k``: coordinate ``d`` at node ``k``."""
            number = torch.arange(start, stop, device=scale.device)  # shape: (rows,)
            x = nodes[number % len(nodes)].reshape((-1,) + (1,) * loc.dim())
            moved = loc + scale * x  # shape: (rows, *batch, *coordinates)
            for transform in getattr(base, "transforms", ()):
                moved = transform(moved)
            return torch.where(is_coordinate(site, number // len(nodes)), moved, site.value)

        count = self.num_nodes * num_coordinates(site.fn)
        return (Branch(count, values, chunk=self.max_evaluations),)

    def surrogate(self, evaluations: Evaluations) -> Tensor:
        site = evaluations.site
        loc, scale = (to_rows(site, x) for x in (site.base.loc, site.base.scale))
        nodes, weights = _rule(self.num_nodes, scale)
        # Less the ordinary costs, whose coefficients sum to zero: the difference keeps more digits.
        costs = (evaluations.costs[1:] - evaluations.cost).unflatten(0, (-1, self.num_nodes))
        costs = costs.movedim(1, -1) / scale.detach().unsqueeze(-1)  # shape: (D, *batch, num_nodes)
        in_loc = (costs * (weights * nodes)).sum(-1)
        in_scale = (costs * (weights * (nodes.square() - 1))).sum(-1)
        return (in_loc * loc + in_scale * scale).sum(0)


def _rule(num_nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the mean of a function of a standard normal variable."""
    nodes, weights = gauss_hermite(num_nodes)
    return like.new_tensor(nodes), like.new_tensor(weights)

"""The pathwise estimator: differentiate through the sampler."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import is_identically_zero
from torch import Tensor

from ..evaluation.coupling import couple
from ..evaluation.unwrap import coordinates, innermost, num_coordinate_dims, sum_rightmost
from .base import Draw, Estimator, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class Pathwise(Estimator):
    r"""The reparameterisation trick: the sample is a differentiable function of noise.

    .. math::
        z = g(\epsilon, \phi),\qquad
        \nabla_\phi E_{q_\phi}[f(z)] = E_\epsilon\big[\nabla_\phi f(g(\epsilon, \phi))\big]

    Serves every distribution with ``has_rsample``. One evaluation of the program. For rejection
    samplers whose sampler is only partly reparameterised it adds the score term of Naesseth et al.
    (arXiv 1610.05683).

    Raises:
        EstimatorError: the distribution has no ``rsample``.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def guide():
        ...     loc = pyro.param("loc", torch.tensor(0.0))
        ...     pyro.sample("z", dist.Normal(loc, 1.0), infer={"estimator": pre.Pathwise()})
    """

    unbiased = True
    paper = Paper("Kingma, Welling", "Auto-Encoding Variational Bayes", 2013, "1312.6114")
    differentiable = True

    def supports(self, fn: TorchDistribution) -> bool:
        return bool(fn.has_rsample)

    def remedy(self, fn: TorchDistribution) -> str:
        return "Pathwise needs a distribution with has_rsample."

    def draw(self, fn: TorchDistribution) -> Draw:
        return Draw(fn.rsample())

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        return Draw(couple(site.fn, site.value, fn))

    def has_score(self, fn: TorchDistribution) -> bool:
        """Whether the sampler leaves a part of the gradient to a score term."""
        return type(innermost(fn)).score_parts is not TorchDistributionMixin.score_parts

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        site = evaluations.site
        if not self.has_score(site.fn):
            return None
        score = coordinates(site.fn).score_parts(site.value).score_function
        if is_identically_zero(score):
            return None
        return sum_rightmost(score, num_coordinate_dims(site.fn)) * evaluations.cost

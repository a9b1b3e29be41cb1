"""The pathwise estimator: differentiate through the sampler."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import is_identically_zero
from torch import Tensor

from ..distributions.rules.coupling import couple
from ..distributions.rules.known_defects import (
    has_biased_gradient,
    is_biased_sampler,
    is_differentiable_once,
)
from ..distributions.rules.wrappers import (
    coordinates,
    innermost,
    log_prob_by,
    num_coordinate_dims,
    overrides_call,
    sum_rightmost,
)
from ..errors import EstimatorError
from ..noise import NoiseSource
from .base import Estimator
from .protocol import Draw, Evaluations, Paper, Site


@dataclass(frozen=True, eq=False)
class Pathwise(Estimator):
    r"""The reparameterisation trick: the sample is a differentiable function of noise.

    .. math::
        z = g(\epsilon, \phi),\qquad
        \nabla_\phi E_{q_\phi}[f(z)] = E_\epsilon\big[\nabla_\phi f(g(\epsilon, \phi))\big]

    Serves every distribution with ``has_rsample``. One evaluation of the program. For rejection
    samplers whose sampler is only partly reparameterised it adds the score term of Naesseth et al.
    (arXiv 1610.05683). The loss has the second derivatives that the sampler has; where these are
    missing or wrong, they raise.

    Unbiased if the cost is continuous in the value: where the program jumps, as by
    ``torch.where(z > 0, ...)``, a branch or ``round``, the derivative misses the jump. Use
    :class:`ScoreFunction` or :class:`LeaveOneOut` there; :func:`gradient_study` finds such sites.

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
    condition = "the cost is continuous in the value"
    paper = Paper("Kingma, Welling", "Auto-Encoding Variational Bayes", 2013, "1312.6114")
    differentiable = True

    def supports(self, fn: TorchDistribution) -> bool:
        return bool(fn.has_rsample)

    def remedy(self, fn: TorchDistribution) -> str:
        return "Pathwise needs a distribution with has_rsample."

    def is_unbiased_at(self, fn: TorchDistribution) -> bool:
        return not has_biased_gradient(fn)

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        return not (
            has_biased_gradient(fn) or is_partly_reparameterised(fn) or is_differentiable_once(fn)
        )

    def check(self, name: str, fn: TorchDistribution, source: NoiseSource) -> None:
        super().check(name, fn, source)
        source.check(name, fn)

    def draw(self, fn: TorchDistribution, source: NoiseSource) -> Draw:
        # As Pyro draws: some distributions have no rsample, only a __call__.
        return Draw(source.sample(fn))

    def redraw(self, site: Site, fn: TorchDistribution) -> Draw:
        # Coupled as the discrete law that it is, a straight-through value would lose its gradient.
        return Draw(fn() if is_biased_sampler(fn) else couple(site.fn, site.value, fn))

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        """By the entropy term of a distribution that has one of its own."""
        if not is_partly_reparameterised(fn):
            log_prob = self.log_prob(fn, draw)
            if log_prob.requires_grad and not draw.value.requires_grad and overrides_call(fn):
                raise EstimatorError(
                    f"Pathwise was given {type(fn).__name__}, whose own __call__ returns a value "
                    f"without a gradient although it declares has_rsample; expected one that moves "
                    f"with the parameters. Let its __call__ return a reparameterised value, or use "
                    f"ScoreFunction."
                )
            return log_prob

        def score(base: TorchDistribution) -> Tensor:
            parts = base.score_parts(draw.value)
            whole = is_identically_zero(parts.score_function)
            return parts.entropy_term if whole else parts.log_prob

        return log_prob_by(score, fn)

    def contributes(self, fn: TorchDistribution) -> bool:
        own = type(self)
        extended = (
            own.surrogate is not Pathwise.surrogate or own.alternatives is not Estimator.alternatives
        )
        return extended or is_partly_reparameterised(fn)

    def surrogate(self, evaluations: Evaluations) -> Tensor | None:
        site = evaluations.site
        if not is_partly_reparameterised(site.fn):
            return None
        score = coordinates(site.fn).score_parts(site.value).score_function
        if is_identically_zero(score):
            return None
        return sum_rightmost(score, num_coordinate_dims(site.fn)) * evaluations.cost


def is_partly_reparameterised(fn: TorchDistribution) -> bool:
    """Whether a sampler leaves a part of the gradient to a score term."""
    return type(innermost(fn)).score_parts is not TorchDistributionMixin.score_parts

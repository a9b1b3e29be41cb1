"""The pathwise estimator with the divergence from the prior in closed form."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import Delta, TorchDistribution
from torch import Tensor

from ..distributions.rules.wrappers import innermost
from .pathwise import Pathwise
from .protocol import Draw, Paper


@dataclass(frozen=True, eq=False)
class AnalyticKL(Pathwise):
    r"""The pathwise estimator, with the log densities of a site in guide and model as their mean.

    .. math::
        \nabla_\phi \mathrm{ELBO} = E_\epsilon\big[\nabla_\phi \log p(x \mid g(\epsilon, \phi))\big]
            - \nabla_\phi\, \mathrm{KL}\big(q_\phi(z) \,\|\, p(z)\big)

    What the prior adds to the noise is not sampled: nearly all of it where the prior says more of a
    value than the data do, as in the idle dims of an autoencoder. Where the guide is close to the
    posterior :class:`StickingTheLanding` has less noise: that of the likelihood and that of the prior
    cancel there.

    Serves a site of the guide that the model has, too, under the same name, whose pair of distributions
    is registered with ``torch.distributions.kl``; the model's may depend on other sites, but on none
    that the guide draws by this value. One evaluation of the program. Scale and mask have to be the
    same on both sides. The loss has the divergence itself.

    Raises:
        EstimatorError: one of these does not hold.

    References:
        Kingma, Welling, 2013, Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114,
        equation 10.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     pyro.sample("z", dist.Normal(0.0, 1.0))
        >>> def guide():
        ...     pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(2.0)), 1.0))
        >>> elbo = pre.TraceEstimator_ELBO({"z": pre.AnalyticKL()})
        >>> elbo.loss_and_grads(model, guide)  # the divergence, without noise
        2.0
        >>> pyro.param("loc").grad
        tensor(2.)
    """

    unbiased = True
    paper = Paper("Kingma, Welling", "Auto-Encoding Variational Bayes", 2013, "1312.6114")
    analytic = True
    needs_mean = True

    def supports(self, fn: TorchDistribution) -> bool:
        return super().supports(fn) and not isinstance(innermost(fn), Delta)

    def guide_log_prob(self, fn: TorchDistribution, draw: Draw) -> Tensor:
        """Zero: the term of the model is that of both."""
        return draw.value.new_zeros(fn.batch_shape)

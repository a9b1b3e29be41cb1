"""Sticking the landing: the pathwise estimator without the score of the guide."""

from __future__ import annotations

from dataclasses import dataclass

from pyro.distributions import TorchDistribution

from .pathwise import Pathwise
from .protocol import Paper


@dataclass(frozen=True, eq=False)
class StickingTheLanding(Pathwise):
    r"""The pathwise estimator less a term of mean zero, without noise where the guide is the posterior.

    The guide's log density moves with the value and, where it is pathwise, with its own parameters.
    The mean of the second part, the score, is zero; it is left out:

    .. math::
        \nabla_\phi \mathrm{ELBO} = E_\epsilon\big[\nabla_z \big(\log p(x, z) - \log q_{\bar\phi}(z)
            \big) \nabla_\phi g(\epsilon, \phi)\big], \qquad \bar\phi = \phi \text{ held}

    At :math:`q = p(z \mid x)` the bracket is constant in z, and the gradient zero at every draw. Far
    from there the score that is left out may have *lowered* the variance: then :class:`Pathwise` is
    better. Held are the parameters of the guide, not those of the site's distribution, which other
    sites upstream move as they should. Where they do, and in flows with modules, the guide is run once
    more for that, at the values that were drawn, and a module that counts its calls, as batch
    normalisation does while it trains, counts two. Parameters that guide and model share are held in
    the guide alone.

    Serves every distribution with ``has_rsample``, also in autoguides and flows; one evaluation of the
    program. The gradient can't be differentiated a second time.

    Raises:
        EstimatorError: the distribution has no ``rsample``; or the guide has to be run again, and draws
            random numbers outside of its sample sites, so that another run of it is another guide.

    References:
        Roeder, Wu, Duvenaud, 2017, Sticking the Landing: Simple, Lower-Variance Gradient Estimators for
        Variational Inference, https://arxiv.org/abs/1703.09194

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     pyro.sample("z", dist.Normal(1.0, 2.0))
        >>> def guide():
        ...     loc = pyro.param("loc", torch.tensor(1.0))
        ...     pyro.sample("z", dist.Normal(loc, 2.0))
        >>> elbo = pre.TraceEstimator_ELBO(pre.StickingTheLanding())
        >>> loss = elbo.loss_and_grads(model, guide)
        >>> print(f"{pyro.param('loc').grad:.4f}")  # the guide is the posterior
        0.0000
    """

    unbiased = True
    paper = Paper(
        "Roeder, Wu, Duvenaud",
        "Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference",
        2017,
        "1703.09194",
    )
    holds_guide_parameters = True
    needs_mean = True

    def has_second_derivative(self, fn: TorchDistribution) -> bool:
        return False

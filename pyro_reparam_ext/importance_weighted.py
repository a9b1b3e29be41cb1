"""The importance-weighted bound and Renyi's, with a gradient for every site of the guide."""

from __future__ import annotations

import math

from .bound_gradients import GradientWord, bound_gradient
from .elbo import TraceEstimator_ELBO
from .errors import EstimatorError
from .evaluation.modes import Vectorize


class ImportanceWeighted_ELBO(TraceEstimator_ELBO):
    r"""The importance-weighted bound of the evidence by :math:`K` particles, and Renyi's by them.

    .. math::
        L_\alpha = E_{z_{1:K} \sim q_\phi}\Big[\frac{1}{1 - \alpha}
        \log \frac1K \sum_k w_k^{1 - \alpha}\Big],\qquad w_k = \frac{p_\theta(x, z_k)}{q_\phi(z_k)}

    The loss is an estimate of the negative bound. With :math:`\alpha = 0` it is the one of
    importance-weighted autoencoders (IWAE), which rises from the ELBO at one particle to the evidence;
    with :math:`\alpha` between 0 and 1 it lies between the two. A ``pyro.infer.ELBO``, used as
    :class:`TraceEstimator_ELBO` is, with which it has all but the choice of estimators in common.

    *Elements of a plate have their own weights* where every site of guide and model lies in the plate,
    and none depends on other elements than its own: the bound is then the sum over elements of one by
    :math:`K` samples each, which is tighter, and by far where there are many; shape of the log weights:
    ``(num_particles, *plates)``. A plate that shows a part of its data multiplies its sum. Otherwise a
    particle has one weight for the whole program, and sub-sampling raises.

    With :math:`v_k = w_k^{1 - \alpha} / \sum_l w_l^{1 - \alpha}`, parameters of the model get
    :math:`\sum_k v_k \nabla_\theta \log p_\theta(x, z_k)`. Those of the guide, by ``gradient``:

    - ``"pathwise"``: through reparameterised values, :math:`\sum_k v_k \nabla_\phi \log w_k`. Its
      signal-to-noise ratio falls with :math:`K`.
    - ``"dreg"``, doubly reparameterised: :math:`\sum_k (\alpha v_k + (1 - \alpha) v_k^2)\,
      \partial_z \log w_k \nabla_\phi z_k`, with the guide's parameters held in :math:`w_k`.
    - ``"score"``: :math:`\sum_k (L - v_k) \nabla_\phi \log q_\phi(z_k)` with the estimate :math:`L` of
      the bound, for any site with a density.
    - ``"vimco"``: the same with :math:`L - L_{-k}`, where :math:`L_{-k}` has in the place of
      :math:`w_k` the geometric mean of the other weights.
    - ``"vimco-star"``: the same with :math:`\alpha` times the mean of the other :math:`w^{1 - \alpha}`
      in the place of :math:`w_k^{1 - \alpha}`, for :math:`\alpha = 0` nothing: what is left of the
      signal, :math:`-\log(1 - v_k) - v_k`, is of order :math:`v_k^2`, so that its signal-to-noise ratio
      grows with :math:`K`. Unbiased, as that place depends on other particles alone.

    ``"dreg"`` and ``"pathwise"`` take the sites whose sampler is reparameterised and right; those that
    are left, as discrete ones, get ``"vimco"``. The other words are for all sites. A site's own
    ``infer["estimator"]`` goes first. A value that the guide computes from plain noise, as that of a
    reparameterised site, has no score: there ``"dreg"`` is ``"pathwise"``. ``poutine.scale`` around
    model and guide scales the bound; around a part of the program it tempers the weights.

    Args:
        num_particles: the samples :math:`K` of the guide in one bound.
        gradient: one of the words above.
        alpha: the order, at least 0 and not 1.
        max_plate_nesting: as of :class:`TraceEstimator_ELBO`.
        vectorize_particles: as of :class:`TraceEstimator_ELBO`.
        retain_graph: passed to ``backward``.

    Raises:
        EstimatorError: an argument is none of these; a site can't be served, such as an enumerated one,
            or, by ``"vimco"`` and ``"vimco-star"``, any site with one particle.

    References:
        Burda, Grosse, Salakhutdinov, 2015, Importance Weighted Autoencoders,
        https://arxiv.org/abs/1509.00519; Li, Turner, 2016, Renyi Divergence Variational Inference,
        https://arxiv.org/abs/1602.02311; Mnih, Rezende, 2016, Variational inference for Monte Carlo
        objectives, https://arxiv.org/abs/1602.06725; Tucker, Lawson, Gu, Maddison, 2018, Doubly
        Reparameterized Gradient Estimators for Monte Carlo Objectives,
        https://arxiv.org/abs/1810.04152; Daudel et al., 2026, Importance Weighted Variational Inference
        without the Reparameterization Trick, https://arxiv.org/abs/2602.01412

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))
        >>> def guide():
        ...     loc = pyro.param("loc", torch.tensor(0.0))
        ...     pyro.sample("z", dist.Normal(loc, 1.0))
        >>> evidence = dist.Normal(0.0, 2.0**0.5).log_prob(torch.tensor(2.0))
        >>> print(f"{evidence:.3f}")
        -2.266
        >>> elbo = pre.ImportanceWeighted_ELBO(num_particles=1000)
        >>> abs(elbo.loss(model, guide) + evidence.item()) < 0.3
        True
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), elbo)
        >>> loss = svi.step()
    """

    def __init__(
        self,
        num_particles: int,
        gradient: GradientWord = "dreg",
        alpha: float = 0.0,
        *,
        max_plate_nesting: float = math.inf,
        vectorize_particles: Vectorize = True,
        retain_graph: bool | None = None,
    ) -> None:
        _check(num_particles, alpha)
        chosen = bound_gradient(gradient)
        super().__init__(
            chosen.at,
            num_particles=num_particles,
            max_plate_nesting=max_plate_nesting,
            vectorize_particles=vectorize_particles,
            retain_graph=retain_graph,
        )
        self.gradient, self.alpha = gradient, float(alpha)
        self.objective = chosen.objective(self.alpha)


def _check(num_particles: object, alpha: object) -> None:
    if not isinstance(num_particles, int) or isinstance(num_particles, bool) or num_particles < 1:
        raise EstimatorError(
            f"num_particles: expected an integer of at least 1, was given {num_particles!r}."
        )
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < math.inf:
        raise EstimatorError(f"alpha: expected a number of at least 0, was given {alpha!r}.")
    if alpha == 1:
        raise EstimatorError(
            f"alpha: at 1 the bound is the ELBO, whose particles have no weights. Use "
            f"TraceEstimator_ELBO(num_particles={num_particles})."
        )

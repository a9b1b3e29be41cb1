"""Programs with a site that can be decentered, and their exact ELBO in plain torch."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch.distributions import biject_to

from .cases import CASES, DTYPE, Case


def log_likelihood(x: Tensor, event_dim: int) -> Tensor:
    terms = torch.sin(1.3 * x) - 0.2 * x
    return terms.sum(-1) if event_dim else terms


def grid(fn: dist.TorchDistribution) -> tuple[Tensor, Tensor]:
    """Points of the support and weights of an integral over it: the trapezoidal rule on the line."""
    if fn.event_dim:
        t = torch.linspace(-9, 9, 151, dtype=DTYPE)
        points = torch.stack(torch.meshgrid(t, t, indexing="ij"), -1).flatten(0, 1)
        return points, (t[1] - t[0]).square().expand(len(points))
    t = torch.linspace(-28, 28, 5601, dtype=DTYPE)
    to = biject_to(fn.support)
    x = to(t)
    return x, (t[1] - t[0]) * to.log_abs_det_jacobian(t, x).exp()


def exact_elbo(case: Case, p: Tensor, q: Tensor, on_noise: bool) -> Tensor:
    """The ELBO of a guide over the site (parameters ``q``) or over its noise."""
    fn = (case.noise_fn if on_noise else case.fn)(q)
    points, weights = grid(fn)
    log_q = fn.log_prob(points)
    if on_noise:
        x, log_p = case.value(p, points), case.noise_log_prob(p, points)
    else:
        x, log_p = points, case.fn(p).log_prob(points)
    return (weights * log_q.exp() * (log_p + log_likelihood(x, fn.event_dim) - log_q)).sum()


def exact(case: Case, on_noise: bool) -> Tensor:
    """The ELBO and its gradient in ``p`` and in the guide's parameters, as one row."""
    p = torch.tensor(case.p, dtype=DTYPE, requires_grad=True)
    q = torch.tensor(case.phi if on_noise else case.q, dtype=DTYPE, requires_grad=True)
    elbo = exact_elbo(case, p, q, on_noise)
    return torch.cat([elbo.detach()[None], *torch.autograd.grad(elbo, [p, q])])


COMBINATIONS = {
    "plain": (False, False, False),
    "model": (True, False, True),
    "model-and-guide-of-x": (True, False, False),
    "guide": (False, True, False),
    "both": (True, True, False),
}
"""Whether the model and the guide are reparameterised, and whether the guide samples the noise."""

ALL = list(product(CASES, COMBINATIONS))


def rows(case: Case, combination: str, draws: int) -> Tensor:
    """For each draw the ELBO and its gradient, parameters replicated over a plate of draws."""
    on_model, on_guide, on_noise = COMBINATIONS[combination]
    p, q = (
        torch.tensor(x, dtype=DTYPE).expand(draws, -1).clone().requires_grad_()
        for x in (case.p, case.phi if on_noise else case.q)
    )

    def model():
        with pyro.plate("draws", draws):
            x = pyro.sample("x", case.fn(p))
            pyro.factor("y", log_likelihood(x, case.fn(p).event_dim))

    def guide():
        with pyro.plate("draws", draws):
            if on_noise:
                pyro.sample(case.noise_name, case.noise_fn(q))
            else:
                pyro.sample("x", case.fn(q))

    if on_model:
        model = case.reparameterised(model, guide=False)
    if on_guide:
        guide = case.reparameterised(guide, guide=True)
    elbo = partial(_elbo, model, guide)
    state = torch.get_rng_state()
    elbos = elbo()
    gradients = torch.autograd.grad(elbos.sum(), [p, q])
    torch.set_rng_state(state)
    loss = Trace_ELBO().differentiable_loss(model, guide)
    torch.testing.assert_close(loss, -elbos.sum())
    return torch.cat([elbos.detach()[:, None], *gradients], -1)


def _elbo(model: Callable, guide: Callable) -> Tensor:
    guide_trace = poutine.trace(guide).get_trace()
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace()
    model_trace.compute_log_prob()
    guide_trace.compute_log_prob()
    terms = [
        sign * node["log_prob"]
        for sign, trace in ((1, model_trace), (-1, guide_trace))
        for node in trace.nodes.values()
        if node["type"] == "sample"
    ]
    return sum(terms, torch.zeros(()))

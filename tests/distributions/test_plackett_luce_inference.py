"""PlackettLuce in programs."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre

PlackettLuce = pre.distributions.PlackettLuce
TASTE = torch.tensor([[0.3, 0.1, 2.0, 0.0], [1.0, 0.2, 0.5, 0.0]])


def model():
    """The factor is the posterior over the prior: the evidence is 1."""
    prior, posterior = PlackettLuce(TASTE[0]), PlackettLuce(TASTE.sum(0))
    order = pyro.sample("order", prior)
    pyro.factor("evidence", posterior.log_prob(order) - prior.log_prob(order))


@pytest.mark.parametrize("elbo", [Trace_ELBO, pre.TraceEstimator_ELBO])
def test_fits_the_posterior(elbo):
    """With the default, the score function; the posterior by enumeration over 24 orders."""

    def guide():
        pyro.sample("order", PlackettLuce(pyro.param("logits", torch.zeros(4))))

    exact = PlackettLuce(TASTE.sum(0))
    loss = elbo(num_particles=50, vectorize_particles=True, max_plate_nesting=0)
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.99}), loss)
    for _ in range(300):
        svi.step()
    found = PlackettLuce(pyro.param("logits").detach())
    assert kl_divergence(found, exact) < 0.02 < 0.5 < kl_divergence(PlackettLuce(torch.zeros(4)), exact)


def test_is_enumerated_by_pyro():
    """The gradient of an enumerated guide is exact: it is that of the KL divergence."""
    logits = torch.tensor([0.2, -0.3, 0.1, 0.0])

    @pyro.infer.config_enumerate(default="parallel")
    def guide():
        pyro.sample("order", PlackettLuce(pyro.param("logits", logits)))

    loss = TraceEnum_ELBO(max_plate_nesting=0).differentiable_loss(model, guide)
    parameter = pyro.param("logits")
    exact = kl_divergence(PlackettLuce(parameter), PlackettLuce(TASTE.sum(0)))
    torch.testing.assert_close(loss, exact)
    ours, expected = (torch.autograd.grad(x, parameter)[0] for x in (loss, exact))
    torch.testing.assert_close(ours, expected)


def test_relaxed_in_guide_and_model():
    """Straight-through: the order that the data say is found by the pathwise gradient."""
    places = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def model():
        fn = PlackettLuce(torch.zeros(4), 0.5, straight_through=True)
        order = pyro.sample("order", fn)
        ranks = (order * places[:, None]).sum(-2)
        pyro.sample("x", dist.Normal(ranks, 0.5).to_event(1), obs=torch.tensor([3.0, 1.0, 4.0, 2.0]))

    def guide():
        logits = pyro.param("logits", torch.zeros(4))
        pyro.sample("order", PlackettLuce(logits, 0.5, straight_through=True))

    loss = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=0)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), loss)
    for _ in range(100):
        svi.step()
    mode = PlackettLuce(pyro.param("logits").detach()).mode
    assert mode.argmax(-1).tolist() == [1, 3, 0, 2]

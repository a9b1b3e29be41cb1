import pyro
import pyro.distributions as dist
import torch
from torch import nn

import pyro_reparam_ext as pre

from .closed_form import Program, assert_same, gradients


def test_same_seed_closed_form():
    program = Program()
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(), max_plate_nesting=1)
    actual = gradients(elbo, program, seed=5)
    torch.manual_seed(5)
    z, (logits, weight) = program.value(), program.parameters()
    cost = program.cost(z, logits.detach(), weight)
    score = (program.log_q(z, logits) * cost.detach()).sum()
    assert_same(
        actual,
        torch.autograd.grad(score, logits)[0],
        torch.autograd.grad(cost.sum(), weight)[0],
    )


def test_moving_average_is_of_past_costs_only():
    program = Program()
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction("ema"), max_plate_nesting=1)
    costs = []
    for seed in (1, 2, 3):
        actual = gradients(elbo, program, seed)
        torch.manual_seed(seed)
        z, (logits, weight) = program.value(), program.parameters()
        cost = program.cost(z, logits.detach(), weight)
        weights = [0.9 ** (len(costs) - 1 - i) for i in range(len(costs))]
        past = sum(w * c for w, c in zip(weights, costs, strict=True)) / sum(weights) if costs else 0.0
        score = (program.log_q(z, logits) * (cost.detach() - past)).sum()
        torch.testing.assert_close(
            actual["logits"], torch.autograd.grad(score, logits)[0], rtol=1e-4, atol=1e-6
        )
        costs.append(cost.detach().mean())


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1, dtype=torch.float64)

    def forward(self, x):
        return self.linear(x)


def _nvil(x, network, upstream):
    def guide():
        scale = pyro.param("scale", torch.ones((), dtype=torch.float64))
        with pyro.plate("data", 3):
            features = x * scale if upstream else x
            infer = {"estimator": pre.ScoreFunction(network), "baseline_input": features}
            logits = pyro.param("logits", torch.zeros(3, dtype=torch.float64))
            pyro.sample("z", dist.Bernoulli(logits=logits), infer=infer)

    def model():
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.3, dtype=torch.float64)))
            pyro.sample("y", dist.Normal(z, 1.0), obs=torch.ones(3, dtype=torch.float64))

    return model, guide


def test_network_learns_by_squared_error_and_nothing_else_does():
    x, network = torch.randn(3, 2, dtype=torch.float64), _Net()
    model, guide = _nvil(x, network, upstream=True)
    elbo = pre.TraceEstimator_ELBO()
    elbo.loss_and_grads(model, guide)
    assert network.linear.weight.grad.abs().sum() > 0
    assert pyro.param("scale").grad is None or pyro.param("scale").grad == 0
    before = network.linear.weight.detach().clone()
    svi = pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), elbo)
    svi.step()
    assert not torch.equal(before, network.linear.weight)


def test_svi_fits_the_network_to_the_cost():
    x, network = torch.eye(3, 2, dtype=torch.float64), _Net()
    model, guide = _nvil(x, network, upstream=False)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), pre.TraceEstimator_ELBO())
    losses = [svi.step() for _ in range(300)]
    mean_cost = sum(losses[-100:]) / 100 / 3
    torch.testing.assert_close(network(x).mean().item(), mean_cost, rtol=0.3, atol=0.1)

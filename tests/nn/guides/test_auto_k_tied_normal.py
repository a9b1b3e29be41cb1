"""Scales of low rank: their form, and the density of independent normals."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import AutoKTiedNormal

ROWS, COLUMNS = 6, 5


def model():
    pyro.sample("weight", dist.Normal(torch.zeros(ROWS, COLUMNS), 1.0).to_event(2))
    pyro.sample("kernel", dist.LogNormal(torch.zeros(4, 3, 2, 2), 1.0).to_event(4))
    pyro.sample("bias", dist.Normal(torch.zeros(ROWS), 1.0).to_event(1))


def perturbed(rank):
    guide = AutoKTiedNormal(model, rank=rank)
    guide()
    with torch.no_grad():
        for x in guide.parameters():
            x.add_(torch.randn_like(x))
    return guide


def scale_of(guide, name):
    with torch.no_grad():
        return guide._get_loc_and_scale(name)[1]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_scales(rank):
    guide = perturbed(rank)
    weight, kernel = scale_of(guide, "weight"), scale_of(guide, "kernel")
    assert weight.gt(0).all() and kernel.gt(0).all()
    assert torch.linalg.matrix_rank(weight.double(), rtol=1e-5) == rank
    assert torch.linalg.matrix_rank(kernel.reshape(4, 12).double(), rtol=1e-5) == rank


@pytest.mark.parametrize("rank", [1, 2, 3, 50])
def test_number_of_parameters(rank):
    """No more of them than what any scales can be had by."""
    guide = AutoKTiedNormal(model, rank=rank)
    guide()
    count = sum(x.numel() for x in guide.parameters())
    locations = ROWS * COLUMNS + 48 + ROWS
    scales = min(rank, 5) * (ROWS + COLUMNS) + min(rank, 4) * (4 + 12) + ROWS
    assert count == locations + scales


def test_start():
    guide = AutoKTiedNormal(model, rank=3, init_scale=0.03)
    guide()
    for name in ("weight", "kernel", "bias"):
        scale = scale_of(guide, name)
        torch.testing.assert_close(scale, torch.full_like(scale, 0.03))


def test_draws_and_densities_are_those_of_independent_normals():
    """The same seed, the same trace as of AutoNormal with these scales."""
    guide, plain = perturbed(2), AutoNormal(model)
    plain()
    for name in ("weight", "kernel", "bias"):
        loc, scale = guide._get_loc_and_scale(name)
        setattr(plain.locs, name, loc)
        setattr(plain.scales, name, scale)
    pyro.clear_param_store()
    traces = []
    for one in (guide, plain):
        torch.manual_seed(2)
        traces.append(poutine.trace(one).get_trace())
        traces[-1].compute_log_prob()
    assert list(traces[0].stochastic_nodes) == list(traces[1].stochastic_nodes)
    for name in traces[0].stochastic_nodes:
        ours, theirs = (trace.nodes[name]["value"] for trace in traces)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    # A Jacobian is a site of its own.
    ours, theirs = (trace.log_prob_sum() for trace in traces)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    quantiles = (one.quantiles([0.2, 0.7]) for one in (guide, plain))
    torch.testing.assert_close(*quantiles, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_posterior_with_scales_of_rank_two(rank):
    """The columns of the factors part: the divergence vanishes at rank 2, and at rank 1 it can't."""
    rows, columns = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.2, 0.9]]), torch.eye(2)
    scales = rows @ (columns + 0.02).repeat(2, 1).mT

    def model():
        pyro.sample("weight", dist.Normal(torch.zeros(4, 4), scales).to_event(2))

    guide = AutoKTiedNormal(model, rank=rank)
    elbo = Trace_ELBO(num_particles=100, vectorize_particles=True, max_plate_nesting=0)
    steps = 200
    optim = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.15}, "gamma": 0.01 ** (1 / steps)}
    schedule = pyro.optim.ExponentialLR(optim)
    svi = SVI(model, guide, schedule, elbo)
    for _ in range(steps):
        svi.step()
        schedule.step()
    loc, scale = guide._get_loc_and_scale("weight")
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(loc, scale), torch.distributions.Normal(torch.zeros(4, 4), scales)
    ).sum()
    assert divergence < 0.02 if rank == 2 else divergence > 0.5


@pytest.mark.parametrize("rank", [0, -1, 1.5, "full"])
def test_rank_that_is_none(rank):
    with pytest.raises(pre.EstimatorError, match="AutoKTiedNormal: rank was given .*; expected an"):
        AutoKTiedNormal(model, rank=rank)

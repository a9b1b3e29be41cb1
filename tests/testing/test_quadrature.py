"""Nodes and weights: of all values, of counts, and of mapped real lines."""

import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.testing.quadrature import evenly, nodes, stretched

DTYPE = torch.float64


def test_lines_integrate():
    for line, log_weight in (evenly(12.0, 321, DTYPE), stretched(1.0, 2.0, DTYPE)):
        total = (torch.distributions.Normal(0.3, 1.1).log_prob(line) + log_weight).exp().sum()
        torch.testing.assert_close(total, torch.ones((), dtype=DTYPE))


def test_a_heavy_tail_is_reached():
    line, log_weight = stretched(0.0, 1.0, DTYPE)
    total = (torch.distributions.StudentT(1.5).log_prob(line) + log_weight).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=DTYPE), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (dist.Bernoulli(torch.zeros(3)).to_event(1), (8, 3)),
        (dist.OneHotCategorical(torch.ones(4)), (4, 4)),
        (dist.Poisson(1.0), (40,)),
        (dist.Gamma(2.0, 1.0), (321,)),
    ],
    ids=["bits", "one-hot", "counts", "positive"],
)
def test_values(fn, shape):
    values, log_volume = nodes(fn, evenly(12.0, 321, DTYPE))
    assert values.shape == shape and log_volume.shape == shape[:1]
    assert fn.support.check(values).all()


def test_what_has_no_nodes():
    with pytest.raises(ValueError, match=r"Dirichlet: .*\(3,\)"):
        nodes(dist.Dirichlet(torch.ones(3)), evenly(12.0, 321, DTYPE))

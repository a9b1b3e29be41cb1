"""Parameters given as numbers and as integer tensors."""

import pytest
import torch

import pyro_reparam_ext as pre


@pytest.mark.parametrize("low", [0, 0.0, torch.tensor(0), torch.tensor(0.0)])
@pytest.mark.parametrize("high", [2, 2.0, torch.tensor(2), torch.tensor(2.0)])
def test_integers_do_not_cut_what_stands_beside_them(low, high):
    fn = pre.distributions.Triangular(low, high, 0.5)
    assert fn.low.dtype == fn.high.dtype == fn.peak.dtype == torch.float32
    assert fn.log_prob(torch.tensor(0.25)).item() == pytest.approx(-0.6931, abs=1e-4)


def test_numbers_take_the_dtype_of_tensors():
    fn = pre.distributions.Triangular(torch.tensor(0.0, dtype=torch.float64), 2, 0.5)
    assert fn.rsample().dtype == fn.peak.dtype == torch.float64


def test_tensors_without_dims_take_the_dtype_of_those_with():
    wide = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    fn = pre.distributions.Triangular(wide, torch.tensor([2.0, 3.0]), 0.5)
    assert fn.low.dtype == fn.high.dtype == fn.peak.dtype == torch.float32
    assert torch.autograd.grad(fn.mean.sum(), wide)[0].dtype == torch.float64

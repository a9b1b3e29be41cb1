"""log sum_j w_j e^{l_j}."""

import math

import pytest
import torch

from pyro_reparam_ext.numerics.log_weighted_sum import log_weighted_sum


def test_takes_items_out():
    """Weights of 0 leave what is far below in float32."""
    logits = torch.tensor([200.0, 1.0, 0.0], requires_grad=True)
    weights = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    value = log_weighted_sum(weights, logits)
    total = 0.5 * math.e + 1
    torch.testing.assert_close(value, torch.tensor(math.log(total)))
    by_weight, by_logit = torch.autograd.grad(value, [weights, logits])
    torch.testing.assert_close(by_weight[1:], torch.tensor([math.e, 1.0]) / total)
    torch.testing.assert_close(by_logit, torch.tensor([0.0, 0.5 * math.e, 1.0]) / total)
    assert by_weight[0].isfinite() and by_weight[0] > 1e8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_of_one_rounding_error(dtype):
    eps = torch.finfo(dtype).eps
    value = log_weighted_sum(
        torch.tensor([eps, 1.0], dtype=dtype), torch.tensor([80.0, 0.0], dtype=dtype)
    )
    torch.testing.assert_close(value, torch.tensor(80 + math.log(eps), dtype=dtype))


def test_gradient():
    weights = torch.tensor([0.2, 0.0, 1.0, 0.7], dtype=torch.float64)
    logits = torch.tensor([0.3, 2.0, -1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(
        log_weighted_sum(weights, logits), (weights * logits.exp()).sum().log(), rtol=1e-14, atol=0
    )
    by_weight = torch.func.grad(log_weighted_sum)(weights, logits)
    torch.testing.assert_close(by_weight, logits.exp() / (weights * logits.exp()).sum())

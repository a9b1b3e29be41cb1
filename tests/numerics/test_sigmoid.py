import pytest
import torch

from pyro_reparam_ext.numerics.sigmoid import sigmoid

LOGITS = [-torch.inf, -80.0, -16.0, -1.0, 0.0, 1.0, 14.0, 16.0, 40.0, 80.0, torch.inf]


def derivatives(logits: torch.Tensor, function=sigmoid) -> list[torch.Tensor]:
    """Value, first and second derivative."""
    x = logits.clone().requires_grad_()
    value = function(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return [value.detach(), first.detach(), second]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_at_both_ends(dtype):
    """Those at a logit are those at its negative; of these torch's sigmoid has all digits."""
    logits = torch.tensor(LOGITS, dtype=dtype)
    value, first, second = derivatives(logits)
    lower = derivatives(-logits.abs(), torch.sigmoid)
    torch.testing.assert_close(value, torch.where(logits > 0, 1 - lower[0], lower[0]))
    torch.testing.assert_close(first, lower[1], rtol=1e-6, atol=0)
    expected = torch.where(logits > 0, -lower[2], lower[2])
    torch.testing.assert_close(second, expected, rtol=1e-6, atol=0)


def test_vmap():
    logits = torch.tensor([-3.0, 20.0])
    found = torch.func.vmap(torch.func.grad(sigmoid))(logits)
    torch.testing.assert_close(found, derivatives(logits)[1], rtol=1e-6, atol=0)

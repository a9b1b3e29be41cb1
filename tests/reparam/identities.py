"""What holds for any univariate noncentered reparameteriser, point by point."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_reparam_ext.distributions.rules.pathwise import has_pathwise, pathwise_at
from pyro_reparam_ext.reparam import NoncenteredReparam

DRAWS = 40


def leaves_of(parameters: tuple[float, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.full((DRAWS,), p, dtype=dtype, requires_grad=True) for p in parameters]


def _same_gradients(one: Tensor, other: Tensor, leaves: list[Tensor]) -> None:
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    given, expected = (torch.autograd.grad(x.sum(), leaves, **options) for x in (one, other))
    torch.testing.assert_close(given, expected)


def check_identities(
    reparam: NoncenteredReparam, make: Callable, parameters: tuple[float, ...]
) -> None:
    leaves = leaves_of(parameters)
    fn = make(*leaves)
    reparam.check("x", fn)
    noise_fn = reparam.noise(fn)
    assert noise_fn.batch_shape == fn.batch_shape and noise_fn.event_dim == fn.event_dim
    noise = noise_fn.sample().requires_grad_()
    x = reparam.forward(fn, noise)
    torch.testing.assert_close(reparam.inverse(fn, x), noise)

    (slope,) = torch.autograd.grad(x.sum(), noise, retain_graph=True)
    log_abs_det = reparam.log_abs_det(fn, noise)
    torch.testing.assert_close(log_abs_det, slope.log())

    log_prob = noise_fn.log_prob(noise) - log_abs_det
    torch.testing.assert_close(log_prob, fn.log_prob(x))
    _same_gradients(log_prob, fn.log_prob(x), leaves)

    if has_pathwise(fn) and has_pathwise(noise_fn):
        moving = reparam.forward(fn, pathwise_at(noise_fn, noise.detach()))
        drawn = pathwise_at(fn, x.detach())
        _same_gradients(moving, drawn, leaves)

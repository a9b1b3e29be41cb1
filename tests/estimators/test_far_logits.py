"""Gradients of Bernoulli sites in float32, far out, against the same numbers in float64."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pyro_reparam_ext as pre

from ..registry import REGISTRY

LOGITS = torch.tensor([-16.0, -14.0, -8.0, 8.0, 14.0, 16.0])
NUM_DRAWS = 100
SERVING = [label for label, entry in REGISTRY.items() if "Bernoulli" in entry.families]


class SameNoise(TorchDispatchMode):
    """In float64 the random numbers of float32."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), func._schema.name
        if name in ("aten::rand", "aten::randn") and kwargs.get("dtype") == torch.float64:
            return func(*args, **kwargs | {"dtype": torch.float32}).double()
        if name in ("aten::rand_like", "aten::randn_like") and args[0].dtype == torch.float64:
            return func(args[0].float(), *args[1:], **kwargs).double()
        if name in ("aten::uniform_", "aten::normal_") and args[0].dtype == torch.float64:
            return args[0].copy_(func(args[0].float(), *args[1:], **kwargs))
        return func(*args, **kwargs)


def gradient(label, dtype):
    """In each logit, for each draw."""

    def guide():
        logits = pyro.param("logits", LOGITS.to(dtype)[:, None].repeat(1, NUM_DRAWS))
        with pyro.plate("points", len(LOGITS), dim=-2), pyro.plate("draws", NUM_DRAWS, dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=logits))

    def model():
        with pyro.plate("points", len(LOGITS), dim=-2), pyro.plate("draws", NUM_DRAWS, dim=-1):
            z = pyro.sample("z", dist.Bernoulli(logits=torch.zeros((), dtype=dtype)))
            pyro.factor("cost", -((z - 0.3) ** 2) - 0.4 * z)

    pyro.clear_param_store()
    torch.manual_seed(0)
    estimator = REGISTRY[label].make()
    if isinstance(getattr(estimator, "baseline", None), torch.nn.Module):
        estimator.baseline.to(dtype)
    elbo = pre.TraceEstimator_ELBO(
        estimator, num_particles=REGISTRY[label].num_particles, max_plate_nesting=2
    )
    with SameNoise():
        elbo.loss_and_grads(model, guide)
    return pyro.param("logits").grad.double()


@pytest.mark.parametrize("label", SERVING)
def test_precision(label):
    found, exact = gradient(label, torch.float32), gradient(label, torch.float64)
    slope = (LOGITS.double().sigmoid() * (-LOGITS.double()).sigmoid())[:, None]
    # Costs themselves are rounded, where all that is left of them is a difference.
    error = (found - exact).abs() / (exact.abs() + slope)
    assert error.median(-1).values.max() < 1e-5

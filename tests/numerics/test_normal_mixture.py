"""The closed form for normal components."""

import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.distributions import MixtureSameFamily, pathwise_at


@pytest.mark.parametrize("events", [0, 1])
def test_the_closed_form_for_normals_is_that_of_the_general_rule(events, monkeypatch):
    shape = (4, 3) + (2,) * events
    leaves = [torch.randn(4, 3), torch.randn(shape), torch.rand(shape) + 0.5]
    leaves = [x.double().requires_grad_() for x in leaves]
    components = dist.Normal(*leaves[1:]).to_event(events)
    fn = MixtureSameFamily(dist.Categorical(logits=leaves[0]), components)
    value = fn.sample((6,))

    def gradients():
        return torch.autograd.grad(pathwise_at(fn, value).square().sum(), leaves, retain_graph=True)

    closed = gradients()
    monkeypatch.setattr(MixtureSameFamily, "_normal", None)
    torch.testing.assert_close(closed, gradients(), rtol=1e-9, atol=1e-9)

"""Products, sums and rows of weights; their laws are in the contract of all layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.overrides import resolve_name

from pyro_reparam_ext.nn import flipout
from pyro_reparam_ext.nn.layers.arithmetic import MINUS, PLUS, TIMES

from ..cases import Written
from ..programs import CONTEXTS, Network, assert_equals_torch


@pytest.mark.parametrize("function", sorted(TIMES | PLUS | MINUS, key=resolve_name), ids=resolve_name)
def test_arithmetic_by_any_name(function):
    x = torch.randn(4, 3)
    x[1] = x[0]
    network = Network(Written(lambda x, w: function(x, w), w=(3,)), x)
    for context in CONTEXTS:
        assert_equals_torch(network, context())
        output = network.once(context())
        assert (output[0] - output[1]).abs().max() > 0


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_batch_of_one_is_no_weight(context):
    """A product of an input and a weight of the same shape may go into a further layer."""
    module = Written(lambda x, v, w, b: (x * v + b).relu() @ w, v=(3,), w=(3, 2), b=(1, 3))
    assert_equals_torch(Network(module, torch.randn(1, 3)), context())
    assert_equals_torch(Network(Written(lambda x, w: x * w, w=(3,)), torch.randn(1, 3)), context())


@pytest.mark.parametrize("context", CONTEXTS)
def test_constants_scale_and_shift_a_weight(context):
    """A mask, say; the product is still a weight, with noise of its own for every example."""
    mask = torch.tensor([[2.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    network = Network(Written(lambda x, w: x @ (w * mask + 1), w=(3, 2)), torch.eye(3).repeat(20, 1))
    assert_equals_torch(network, context())
    noise = network.once(context()) - network.at(network.loc)
    assert noise.ne(0).tolist() == mask.ne(0).repeat(20, 1).tolist()
    assert len(noise[::3, 0].unique()) > 1


def test_masks_index_views():
    module = Written(lambda x, w: x @ w[torch.tensor([True, False, True])].T, w=(3, 2))
    assert_equals_torch(Network(module, torch.ones(4, 2)), flipout())


def test_padding_has_no_gradient():
    for context in CONTEXTS:
        network = Network(nn.Embedding(4, 2, padding_idx=1), torch.tensor([[0, 1], [1, 3]]))
        loc = network.loc["weight"].clone().requires_grad_()
        output = network.run(context(), {"weight": loc}, network.scale)
        (gradient,) = torch.autograd.grad(output.square().sum(), loc)
        assert gradient.ne(0).any(1).tolist() == [True, False, False, True]

import torch
from torch import nn

from pyro_reparam_ext.numerics.substitution import Substitution


def test_parameters_are_replaced_wherever_they_are_kept():
    layer, kept = nn.Linear(2, 2), torch.ones(2)
    lstm = nn.LSTM(2, 2)
    new = {id(p): torch.zeros_like(p) for p in [*layer.parameters(), *lstm.parameters()]}
    with Substitution({**new, id(kept): torch.full((2,), 3.0)}):
        assert torch.equal(layer(torch.ones(2)), torch.zeros(2))
        assert torch.equal(torch.stack([kept, kept]), torch.full((2, 2), 3.0))
        assert torch.equal(kept * 2, torch.full((2,), 6.0))
        assert torch.equal(lstm(torch.ones(1, 2))[0], torch.zeros(1, 2))
    assert not torch.equal(layer(torch.ones(2)), torch.zeros(2))


def test_what_is_a_parameter_stays_one():
    weight = nn.Parameter(torch.ones(2))
    with Substitution({id(weight): torch.zeros(2)}):
        assert weight.requires_grad and not (weight * 1).requires_grad

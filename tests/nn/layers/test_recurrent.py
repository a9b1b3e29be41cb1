"""Recurrent networks with random weights: torch's in every option, and the law of their outputs."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from pyro_reparam_ext import EstimatorError
from pyro_reparam_ext.nn import flipout, local_reparameterization

from ..programs import CONTEXTS, Network, assert_equals_torch, assert_law_of_plain

STEPS, EXAMPLES, IN, HIDDEN = 3, 2, 3, 2
NETWORKS = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN_TANH": nn.RNN,
    "RNN_RELU": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
CELLS = {
    "LSTMCell": nn.LSTMCell,
    "GRUCell": nn.GRUCell,
    "RNNCell_tanh": nn.RNNCell,
    "RNNCell_relu": lambda *sizes, **options: nn.RNNCell(*sizes, nonlinearity="relu", **options),
}


def sequence(batched: bool = True) -> Tensor:
    return torch.randn(STEPS, EXAMPLES, IN) if batched else torch.randn(STEPS, IN)


class FromState(nn.Module):
    """A network that starts from a given state."""

    def __init__(self, network: nn.RNNBase) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *state: Tensor):
        return self.network(x, state if len(state) > 1 else state[0])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_equals_torch(name, bidirectional, layers):
    shape = {"num_layers": layers, "bidirectional": bidirectional}
    for bias, batch_first, batched in product((True, False), (False, True), (True, False)):
        module = NETWORKS[name](IN, HIDDEN, bias=bias, batch_first=batch_first, **shape)
        assert_equals_torch(Network(module, sequence(batched)), flipout())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_given_state(name):
    state = (torch.randn(4, EXAMPLES, HIDDEN),) * (2 if name == "LSTM" else 1)
    module = FromState(NETWORKS[name](IN, HIDDEN, num_layers=2, bidirectional=True))
    assert_equals_torch(Network(module, sequence(), *state), flipout())


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projections():
    for bias, layers, bidirectional in product((True, False), (1, 2), (False, True)):
        module = nn.LSTM(IN, 3, layers, bias=bias, bidirectional=bidirectional, proj_size=2)
        assert_equals_torch(Network(module, sequence()), flipout())


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_between_layers(name):
    """Nothing random but dropout's own choices: each output is that of one of them."""
    module = NETWORKS[name](IN, 1, num_layers=2, dropout=0.5)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.5)
    network = Network(module, torch.ones(1, 1, IN))
    certain = {name: torch.full_like(x, 1e-30) for name, x in network.loc.items()}
    given = torch.stack([network.run(flipout(), network.loc, certain)[0] for _ in range(50)])
    expected = torch.stack([network.at(network.loc)[0] for _ in range(50)])
    assert len(given.unique()) == len(expected.unique()) == 2
    torch.testing.assert_close(given.unique(), expected.unique())
    assert_equals_torch(Network(module.eval(), sequence()), flipout())


@pytest.mark.parametrize("name", NETWORKS)
def test_flipout_keeps_the_law_of_each_example(name):
    """The steps of an example see one draw of the weights."""
    network = Network(NETWORKS[name](IN, HIDDEN), sequence())
    assert_law_of_plain(network, flipout(), draws=10_000, examples=1)


def test_flipout_keeps_the_law_in_both_directions_and_all_layers():
    module = nn.GRU(IN, 1, num_layers=2, bidirectional=True, batch_first=True)
    network = Network(FirstOutput(module), sequence().transpose(0, 1))
    assert_law_of_plain(network, flipout(), draws=10_000)


class FirstOutput(nn.Module):
    def __init__(self, network: nn.RNNBase) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_examples_differ(name):
    module = FirstOutput(NETWORKS[name](IN, HIDDEN, num_layers=2))
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.5)
    first, second = Network(module, torch.ones(STEPS, EXAMPLES, IN)).once(flipout()).unbind(1)
    assert (first - second).abs().min() > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_local_reparameterization_refuses_sequences(name):
    network = Network(NETWORKS[name](IN, HIDDEN), sequence())
    with pytest.raises(EstimatorError, match=r"'weight_ih_l0'.*pre\.nn\.flipout"):
        network.once(local_reparameterization())


@pytest.mark.parametrize("name", NETWORKS)
def test_packed_sequences_are_refused(name):
    class Packed(FirstOutput):
        def forward(self, *examples: Tensor) -> PackedSequence:
            return self.network(pack_sequence(examples))[0]

    network = Network(Packed(NETWORKS[name](IN, HIDDEN)), torch.randn(3, IN), torch.randn(2, IN))
    with pytest.raises(EstimatorError, match="'network.weight_ih_l0'.*packed sequence.*padded"):
        network.once(flipout())


class Unrolled(nn.Module):
    """A cell that is called step by step."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, states = None, []
        for step in x:
            state = self.cell(step, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(states)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CELLS)
def test_cells_equal_torch(context, name):
    for bias, batched in product((True, False), (True, False)):
        module = Unrolled(CELLS[name](IN, HIDDEN, bias=bias))
        assert_equals_torch(Network(module, sequence(batched)), context())


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", CELLS)
def test_cells_keep_the_law_of_each_example(context, name):
    """Local reparameterisation conditions the noise of each step on that of the steps before."""
    network = Network(Unrolled(CELLS[name](IN, HIDDEN)), sequence())
    assert_law_of_plain(network, context(), draws=10_000, examples=1)


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_cell_has_many_steps_with_the_same_input(context):
    """What the first steps say of the input's noise leaves none for the later ones."""
    x = torch.zeros(10, EXAMPLES, IN)
    network = Network(Unrolled(nn.GRUCell(IN, HIDDEN)), x, dtype=torch.float32)
    loc = {name: x.clone().requires_grad_() for name, x in network.loc.items()}
    output = network.run(context(), loc, network.scale)
    assert output.abs().max() <= 1
    for gradient in torch.autograd.grad(
        output.square().sum(), list(loc.values()), materialize_grads=True
    ):
        assert gradient.abs().max() < 1e3

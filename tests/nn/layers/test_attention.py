"""Attention with random weights: torch's function in every option, and the law of its outputs."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pyro_reparam_ext import EstimatorError
from pyro_reparam_ext.nn import flipout, local_reparameterization

from ..programs import CONTEXTS, Network, assert_equals_torch, assert_law_of_plain, tensors

EMBEDDING, HEADS, QUERIES, KEYS, EXAMPLES = 4, 2, 3, 5, 2


class Attention(nn.Module):
    """Attention with some options of its call."""

    def __init__(self, options: dict, **call) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(EMBEDDING, HEADS, **options)
        for parameter in self.parameters():
            nn.init.normal_(parameter)
        self.call = call

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        output, attention = self.attention(*inputs, **self.call)
        return output if attention is None else (output, attention)


def inputs(which: str, batched: bool = True, kdim: int = EMBEDDING, vdim: int = EMBEDDING):
    batch = (EXAMPLES,) if batched else ()
    query = torch.randn(QUERIES, *batch, EMBEDDING)
    key, value = torch.randn(KEYS, *batch, kdim), torch.randn(KEYS, *batch, vdim)
    if which == "self":
        return query, query, query
    return (query, key, key) if which == "memory" else (query, key, value)


OPTIONS = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 3, "vdim": 2, "add_bias_kv": True},
    {"kdim": 3, "vdim": 2, "bias": False},
]
CALLS = [{}, {"average_attn_weights": False}, {"need_weights": False}]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "default")
def test_equals_torch(context, options):
    dims = {name: options[name] for name in ("kdim", "vdim") if name in options}
    for call, which, batched in product(CALLS, ("self", "memory", "three"), (True, False)):
        if dims and which != "three":
            continue
        network = Network(Attention(options, **call), *inputs(which, batched, **dims))
        assert_equals_torch(network, context())


def masks(keys: int, floats: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of attention, for all examples and for each of them and each head; and of padding."""
    flat = torch.ones(QUERIES, keys, dtype=torch.bool).triu(1)
    each = torch.rand(EXAMPLES * HEADS, QUERIES, keys) < 0.3
    padding = torch.arange(keys).expand(EXAMPLES, keys) >= torch.tensor([[keys], [keys - 1]])
    # no query without a key
    each[..., 0] = False
    if not floats:
        return flat, each, padding
    return tuple(
        torch.randn(mask.shape, dtype=torch.float64).masked_fill(mask, -torch.inf)
        for mask in (flat, each, padding)
    )


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("options", OPTIONS[2:5], ids=lambda options: "-".join(options))
def test_masks_equal_torch(options, floats):
    flat, each, padding = masks(KEYS, floats)
    for call, mask, padded in product(CALLS, (None, flat, each), (None, padding)):
        module = Attention(options, attn_mask=mask, key_padding_mask=padded, **call)
        assert_equals_torch(Network(module, *inputs("three")), flipout())


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: "-".join(call) or "default")
def test_a_causal_mask_equals_torch(call, padded):
    flat, _, padding = masks(QUERIES, floats=False)
    padding = padding if padded else None
    module = Attention({}, attn_mask=flat, is_causal=True, key_padding_mask=padding, **call)
    assert_equals_torch(Network(module, *inputs("self")), flipout())


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_equals_torch(need_weights):
    """From the same random numbers: dropout is drawn after the noise of the projections."""
    network = Network(Attention({"dropout": 0.5}, need_weights=need_weights), *inputs("self"))
    states = []

    class Recorded(flipout):
        def estimate(self, call, memory):
            output = super().estimate(call, memory)
            states.append(torch.get_rng_state())
            return output

    certain = {name: torch.full_like(x, 1e-30) for name, x in network.loc.items()}
    given = tensors(network.run(Recorded(), network.loc, certain))
    torch.set_rng_state(states[0])
    for x, y in zip(given, tensors(network.at(network.loc)), strict=True):
        torch.testing.assert_close(x, y)
    network.module.eval()
    assert not torch.allclose(given[0], tensors(network.at(network.loc))[0])


@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 2, "add_bias_kv": True}])
def test_flipout_keeps_the_law_of_each_example(options):
    dims = {name: options[name] for name in ("kdim", "vdim") if name in options}
    which = "three" if dims else "self"
    module = Attention({**options, "batch_first": True}, need_weights=False)
    network = Network(module, *(x.transpose(0, 1) for x in inputs(which, **dims)))
    with sdpa_kernel(SDPBackend.MATH):
        assert_law_of_plain(network, flipout(), draws=10_000)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformers(context, batch_first):
    """Its other layers are told where the examples lie."""
    estimator = context(batch_dim=0 if batch_first else 1)
    x = torch.randn(QUERIES, EXAMPLES, EMBEDDING).expand(QUERIES, EXAMPLES, EMBEDDING).clone()
    x[:, 1] = x[:, 0]
    x = x.transpose(0, 1) if batch_first else x
    layer = nn.TransformerEncoderLayer(EMBEDDING, HEADS, 8, dropout=0.0, batch_first=batch_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    network = Network(encoder.train(), x)
    assert_equals_torch(network, estimator)
    output = network.once(estimator)
    first, second = output.unbind(0 if batch_first else 1)
    assert (first - second).abs().min() > 0
    decoder = nn.TransformerDecoderLayer(EMBEDDING, HEADS, 8, dropout=0.0, batch_first=batch_first)
    assert_equals_torch(Network(decoder, x, torch.randn_like(x)), estimator)


@pytest.mark.parametrize("context", CONTEXTS)
def test_evaluation_takes_no_shortcut(context):
    """Torch's fast path, taken without gradients, would not see the random weights."""
    x = torch.randn(1, QUERIES, EMBEDDING).expand(EXAMPLES, QUERIES, EMBEDDING)
    layer = nn.TransformerEncoderLayer(EMBEDDING, HEADS, 8, batch_first=True).eval()
    with torch.no_grad():
        first, second = Network(layer, x).once(context())
    assert (first - second).abs().min() > 0


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = (nn.Parameter(torch.randn(EMBEDDING, EMBEDDING)) for _ in range(2))
        self.v = nn.Linear(EMBEDDING, EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        q, k = F.linear(x, self.q), x @ self.k.T
        return F.scaled_dot_product_attention(q, k, self.v(x))


def test_projections_by_hand():
    network = Network(Functional(), torch.randn(EXAMPLES, QUERIES, EMBEDDING))
    for context in CONTEXTS:
        assert_equals_torch(network, context())
    with sdpa_kernel(SDPBackend.MATH):
        assert_law_of_plain(network, flipout(), draws=10_000)


class LearnedKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(KEYS, EMBEDDING))

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, self.keys, self.keys)


@pytest.mark.parametrize("context", CONTEXTS)
def test_weights_as_keys_are_refused(context):
    network = Network(LearnedKeys(), torch.randn(QUERIES, EMBEDDING))
    with pytest.raises(EstimatorError, match="'keys'.*scaled_dot_product_attention"):
        network.once(context())


@pytest.mark.parametrize("name", ["static_k", "static_v"])
def test_static_keys_and_values_are_refused(name):
    class Static(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3 * EMBEDDING, EMBEDDING))

        def forward(self, x: Tensor) -> Tensor:
            static = x.new_zeros(EXAMPLES * HEADS, KEYS, EMBEDDING // HEADS)
            output = torch.eye(EMBEDDING).to(x)
            projections = self.weight, None, None, None, False, 0.0, output, None
            inputs = x, x, x, EMBEDDING, HEADS
            return F.multi_head_attention_forward(*inputs, *projections, **{name: static})[0]

    network = Network(Static(), inputs("self")[0])
    with pytest.raises(EstimatorError, match="'weight'.*static_k and static_v"):
        network.once(flipout())


def test_some_parameters_without_a_prior():
    """Weights without one beside biases with one, and the other way round."""
    names = [name for name, _ in Attention({}).named_parameters()]
    for part in ("weight", "bias"):
        certain = tuple(name for name in names if name.endswith(part))
        network = Network(Attention({}), *inputs("self"), certain=certain)
        assert_equals_torch(network, flipout())
        assert_equals_torch(network, local_reparameterization())
        equal = (torch.ones(QUERIES, 2, EMBEDDING),) * 3
        network = Network(Attention({}, need_weights=False), *equal, certain=certain)
        first, second = network.once(flipout()).unbind(1)
        assert (first - second).abs().min() > 0

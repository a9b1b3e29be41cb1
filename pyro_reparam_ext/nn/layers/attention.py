"""Attention whose projections have random weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .affine import add
from .inputs import data
from .linear import linear
from .linear_map import UnsupportedLayer

if TYPE_CHECKING:
    from .run import Run

EXAMPLES = (1,)
"""Where torch's function has examples: it takes (positions, examples, features)."""


def multi_head_attention_forward(
    run: Run,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention between projections, each of which is a linear layer.

    The positions of an example share Flipout's draw. Local reparameterisation takes independent noise
    at each of them, so that the covariance between positions is lost.
    """
    if static_k is not None or static_v is not None:
        raise UnsupportedLayer("static_k and static_v take the place of projections")
    if is_causal and attn_mask is None:
        raise UnsupportedLayer("is_causal says of attn_mask that it is causal, and there is none")
    # where nothing else is masked, the mask itself is not looked at
    is_causal = is_causal and key_padding_mask is None and not need_weights
    unbatched = query.dim() == 2
    weights: tuple[Any, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
    projections = weights if use_separate_proj_weight else in_proj_weight
    inputs = _as_batches(run, unbatched, query, key, value)
    q, k, v = _projected(run, inputs, projections, in_proj_bias)
    length, batch, embedding = q.shape

    mask = _mask(None if is_causal else attn_mask, key_padding_mask, num_heads, q)
    extra = int(bias_k is not None) + int(add_zero_attn)
    if bias_k is not None and bias_v is not None:
        k, v = (
            torch.cat([x, add(run, x.new_zeros(1, batch, embedding), bias, (*EXAMPLES, -1))])
            for x, bias in ((k, bias_k), (v, bias_v))
        )
    q, k, v = (_heads(x, num_heads) for x in (q, k, v))
    if add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    if mask is not None:
        mask = F.pad(mask, (0, extra))

    dropout_p = dropout_p if training else 0.0
    attention: Tensor | None = None
    if need_weights:
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        attention = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout_p)
        mixed = attention @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
    mixed = mixed.permute(2, 0, 1, 3).reshape(length, batch, embedding)
    output = linear(run, mixed, out_proj_weight, out_proj_bias, rows=EXAMPLES)
    if attention is not None and average_attn_weights:
        attention = attention.mean(1)
    if unbatched:
        output = output.squeeze(1)
        attention = None if attention is None else attention.squeeze(0)
    return output, attention


def _as_batches(run: Run, unbatched: bool, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """The inputs with a dim of examples; equal ones stay the same object."""
    made = {id(x): data(run, x, 1) for x in (query, key, value)}
    if unbatched:
        made = {name: x.unsqueeze(1) for name, x in made.items()}
    return [made[id(x)] for x in (query, key, value)]


def _projected(run: Run, inputs: list[Tensor], weights: Any, bias: Any) -> list[Tensor]:
    """Queries, keys and values; by one product where they are projections of the same input.

    ``weights``: three weights, or one in which they lie one below the other.
    """
    query, key, value = inputs
    if isinstance(weights, tuple):
        biases = (None,) * 3 if bias is None else bias.chunk(3)
    elif query is key and key is value:
        return list(linear(run, query, weights, bias, rows=EXAMPLES).chunk(3, -1))
    elif key is value:
        sizes = [query.shape[-1], 2 * query.shape[-1]]
        q, kv = weights.split(sizes)
        b_q, b_kv = (None, None) if bias is None else bias.split(sizes)
        both = linear(run, key, kv, b_kv, rows=EXAMPLES).chunk(2, -1)
        return [linear(run, query, q, b_q, rows=EXAMPLES), *both]
    else:
        weights = weights.chunk(3)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
    return [
        linear(run, x, weight, b, rows=EXAMPLES)
        for x, weight, b in zip(inputs, weights, biases, strict=True)
    ]


def _heads(x: Tensor, heads: int) -> Tensor:
    """(positions, examples, features) as (examples, heads, positions, features of a head)."""
    length, batch, embedding = x.shape
    return x.reshape(length, batch, heads, embedding // heads).permute(1, 2, 0, 3)


def _mask(attention: Tensor | None, padding: Tensor | None, heads: int, q: Tensor) -> Tensor | None:
    """The term that masks add to the scores; it broadcasts to (examples, heads, queries, keys)."""
    masks = []
    if attention is not None:
        attention = _added(attention, q)
        if attention.dim() == 3:
            attention = attention.unflatten(0, (-1, heads))
        masks.append(attention)
    if padding is not None:
        padding = _added(padding, q)
        masks.append(padding.reshape(-1, 1, 1, padding.shape[-1]))
    return sum(masks[1:], masks[0]) if masks else None


def _added(mask: Tensor, q: Tensor) -> Tensor:
    """Minus infinity where a mask of booleans is true; a mask of numbers as it is."""
    if mask.dtype != torch.bool:
        return mask.to(q.dtype)
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask, -math.inf)


def scaled_dot_product_attention(run: Run, *args: Any, **options: Any) -> Tensor:
    raise UnsupportedLayer("its queries, keys and values are no weights but what layers put out")


LAYERS: dict[Any, Callable[..., Any]] = {
    F.multi_head_attention_forward: multi_head_attention_forward,
    F.scaled_dot_product_attention: scaled_dot_product_attention,
}

"""Layers that no context serves: name -> the module, its input, and what the error says of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from .cases import Written
from .programs import Network

MODULES: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "EmbeddingBag": (
        lambda: nn.EmbeddingBag(4, 3),
        torch.ones(5, 2).long(),
        "embedding_bag.*F.embedding",
    ),
    "max_norm": (lambda: nn.Embedding(4, 3, max_norm=1.0), torch.ones(5).long(), "max_norm"),
    "PReLU": (lambda: nn.PReLU(), torch.ones(5, 3), "prelu.*many outputs"),
    "PReLU-channels": (lambda: nn.PReLU(100), torch.ones(2, 100, 1), "prelu"),
    "weight_norm": (lambda: weight_norm(nn.Linear(3, 3)), torch.ones(5, 3), "linear"),
    "spectral_norm": (lambda: spectral_norm(nn.Linear(3, 3)), torch.ones(5, 3), "linear"),
}

WRITTEN: dict[str, tuple[Callable[..., Tensor], dict[str, tuple[int, ...]], str]] = {
    "einsum": (lambda x, w: torch.einsum("ni,oi->no", x, w), {"w": (3, 3)}, "einsum.*F.linear"),
    "bmm": (lambda x, w: torch.bmm(x[None], w[None]), {"w": (3, 3)}, "bmm"),
    "baddbmm": (lambda x, w: torch.baddbmm(x[None], x[None], w[None]), {"w": (3, 3)}, "baddbmm"),
    "addmv": (lambda x, w: torch.addmv(x[:, 0], x, w), {"w": (3,)}, "addmv"),
    "tensordot": (lambda x, w: torch.tensordot(x, w, 1), {"w": (3, 3)}, "tensordot"),
    "inner": (lambda x, w: torch.inner(x, w), {"w": (3, 3)}, "inner"),
    "kron": (lambda x, w: torch.kron(x, w), {"w": (3, 3)}, "kron"),
    "three dims": (lambda x, w: x @ w, {"w": (2, 3, 3)}, "matmul.*2 dims"),
    "exp": (lambda x, w: F.linear(x, w.exp()), {"w": (3, 3)}, "linear.*exp"),
    "square": (lambda x, w: F.linear(x, w * w), {"w": (3, 3)}, "linear"),
    "stack": (
        lambda x, w, v: F.linear(x, torch.cat([w, v])),
        {"w": (1, 3), "v": (1, 3)},
        "linear.*cat",
    ),
    "tied": (lambda x, w: F.linear(F.linear(x, w), w.T), {"w": (2, 3)}, "two different views"),
    "product": (lambda x, w, v: x @ (w @ v), {"w": (3, 2), "v": (2, 3)}, "made of weights"),
    "weight as input": (
        lambda x, w, v: x @ F.linear(w, v),
        {"w": (3, 2), "v": (3, 2)},
        "made of weights",
    ),
    "cat": (lambda x, w: torch.cat([x, w]), {"w": (3, 3)}, "cat"),
    "x / w": (lambda x, w: x / w, {"w": (3,)}, "div"),
    "in place": (lambda x, w: x.clone().mul_(w), {"w": (3,)}, "mul_"),
    "alpha": (lambda x, w: torch.add(x, w, alpha=2), {"w": (3,)}, "add.*alpha"),
    "beta": (lambda x, w, b: torch.addmm(b, x, w, beta=2), {"w": (3, 3), "b": (3,)}, "addmm.*beta"),
    "not over examples": (lambda x, w: x * w, {"w": (5, 1)}, "mul.*batch_dim=0"),
    "layer_norm": (lambda x, w: torch.layer_norm(x, (3,), w), {"w": (3,)}, "layer_norm"),
}


def _of_module(make: Callable[[], nn.Module], x: Tensor) -> Callable[[], Network]:
    return lambda: Network(make(), x)


def _of_function(function: Callable, shapes: dict) -> Callable[[], Network]:
    return lambda: Network(Written(function, **shapes), torch.ones(5, 3))


REFUSED: dict[str, tuple[Callable[[], Network], str]] = {
    **{name: (_of_module(make, x), match) for name, (make, x, match) in MODULES.items()},
    **{
        name: (_of_function(function, shapes), match)
        for name, (function, shapes, match) in WRITTEN.items()
    },
}

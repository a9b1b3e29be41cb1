"""Every layer that is linear in its weights, with inputs of which two examples are equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .programs import Network


@dataclass(frozen=True)
class Case:
    """``batch_dim``: of the inputs and the outputs, None where there are no examples.

    ``positions``: whether a weight enters several outputs of an example, whose covariance is what local
    reparameterisation leaves out.
    """

    module: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    batch_dim: int | None = 0
    positions: bool = False
    certain: tuple[str, ...] = ()

    def network(
        self, dtype: torch.dtype = torch.float64, zeros: bool = False, twice: bool = False
    ) -> Network:
        """From fixed random numbers, with examples 0 and 1 equal."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module, inputs = self.module(), list(self.inputs())
            for parameter in module.parameters():
                nn.init.normal_(parameter)
            if self.batch_dim is not None:
                for x in inputs:
                    x.select(self.batch_dim, 1).copy_(x.select(self.batch_dim, 0))
            if zeros:
                inputs = [torch.zeros_like(x) for x in inputs]
            certain = self.certain
            if twice:
                module, inputs = Twice(module), [*inputs, *self.inputs()]
                certain = tuple(f"layer.{name}" for name in certain)
            return Network(module, *inputs, certain=certain, dtype=dtype)


class Twice(nn.Module):
    """Calls a layer with the first half of the inputs, and with the second half."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Tensor) -> Tensor:
        half = len(inputs) // 2
        return torch.stack([self.layer(*inputs[:half]), self.layer(*inputs[half:])], -1)


class Written(nn.Module):
    """A layer that is written out, with parameters of some shapes."""

    def __init__(self, function: Callable[..., Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **dict(self.named_parameters()), **dict(self.named_buffers()))


def of(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(shape),)


def indices(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randint(4, shape),)


def written(function: Callable[..., Tensor], **shapes: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: Written(function, **shapes)


CONVOLUTIONS = {
    "Conv1d": Case(lambda: nn.Conv1d(2, 2, 3, padding=1), of(3, 2, 4), positions=True),
    "Conv1d-same": Case(lambda: nn.Conv1d(2, 2, 3, padding="same"), of(3, 2, 4), positions=True),
    "Conv1d-unbatched": Case(lambda: nn.Conv1d(2, 2, 3), of(2, 4), None, positions=True),
    "Conv1d-one-position": Case(lambda: nn.Conv1d(2, 2, 4), of(3, 2, 4)),
    "Conv2d": Case(lambda: nn.Conv2d(2, 2, (2, 3), stride=(2, 1)), of(3, 2, 4, 4), positions=True),
    "Conv2d-groups": Case(
        lambda: nn.Conv2d(4, 2, 2, groups=2, dilation=2, bias=False), of(3, 4, 4, 4), positions=True
    ),
    "Conv2d-circular": Case(
        lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), of(3, 1, 3, 3), positions=True
    ),
    "Conv2d-certain-weight": Case(
        lambda: nn.Conv2d(2, 2, 2), of(3, 2, 3, 3), positions=True, certain=("weight",)
    ),
    "Conv2d-certain-bias": Case(
        lambda: nn.Conv2d(2, 2, 2), of(3, 2, 3, 3), positions=True, certain=("bias",)
    ),
    "Conv3d": Case(lambda: nn.Conv3d(2, 2, 2), of(3, 2, 2, 3, 2), positions=True),
    "ConvTranspose1d": Case(
        lambda: nn.ConvTranspose1d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
        of(3, 2, 2),
        positions=True,
    ),
    "ConvTranspose2d": Case(
        lambda: nn.ConvTranspose2d(2, 1, 2, dilation=2), of(3, 2, 1, 2), positions=True
    ),
    "ConvTranspose3d": Case(lambda: nn.ConvTranspose3d(1, 1, 2), of(3, 1, 1, 2, 1), positions=True),
}

NORMALISATIONS = {
    "LayerNorm": Case(lambda: nn.LayerNorm(3), of(3, 3)),
    "LayerNorm-two-dims": Case(lambda: nn.LayerNorm((2, 3)), of(3, 2, 3)),
    "LayerNorm-positions": Case(lambda: nn.LayerNorm(3), of(2, 3, 3), 1, positions=True),
    "LayerNorm-unbatched": Case(lambda: nn.LayerNorm(3), of(3), None),
    "RMSNorm": Case(lambda: nn.RMSNorm(3), of(3, 3)),
    "GroupNorm": Case(lambda: nn.GroupNorm(2, 4), of(3, 4, 2), positions=True),
    "BatchNorm1d": Case(lambda: nn.BatchNorm1d(3, track_running_stats=False), of(3, 3)),
    "BatchNorm1d-eval": Case(lambda: nn.BatchNorm1d(3).eval(), of(3, 3, 2), positions=True),
    "BatchNorm2d-certain-weight": Case(
        lambda: nn.BatchNorm2d(2, track_running_stats=False),
        of(3, 2, 2, 2),
        positions=True,
        certain=("weight",),
    ),
    "InstanceNorm1d": Case(lambda: nn.InstanceNorm1d(2, affine=True), of(3, 2, 3), positions=True),
}

PRODUCTS = {
    "x @ W.T": Case(written(lambda x, w: x @ w.T, w=(2, 3)), of(3, 3)),
    "x @ W + b": Case(written(lambda x, w, b: x.matmul(w) + b, w=(3, 2), b=(2,)), of(3, 3)),
    "x @ w": Case(written(lambda x, w: x @ w, w=(3,)), of(3, 3)),
    "W @ x": Case(written(lambda x, w: (w @ x.T).T, w=(2, 3)), of(3, 3)),
    "W @ X": Case(written(lambda x, w: w @ x, w=(2, 3)), of(3, 3, 2), positions=True),
    "w @ x": Case(written(lambda x, w: w @ x.T, w=(3,)), of(3, 3)),
    "W @ vector": Case(written(lambda x, w: w @ x, w=(2, 3)), of(3), None),
    "__rmatmul__": Case(written(lambda x, w: w.__rmatmul__(x), w=(3, 2)), of(3, 3)),
    "mv": Case(written(lambda x, w: x.mv(w), w=(3,)), of(3, 3)),
    "addmm": Case(written(lambda x, w, b: torch.addmm(b, x, w), w=(3, 2), b=(2,)), of(3, 3)),
    "W[indices]": Case(written(lambda i, w: w[i], w=(4, 2)), indices(3)),
    "index_select": Case(written(lambda i, w: torch.index_select(w, 0, i), w=(4, 2)), indices(3)),
    "b[indices]": Case(written(lambda i, b: b[i], b=(4,)), indices(6)),
    "x * w + b": Case(written(lambda x, w, b: x * w + b, w=(3,), b=(3,)), of(3, 3)),
    "w * x - b": Case(written(lambda x, w, b: w * x - b, w=(3,), b=(3,)), of(3, 3)),
    "b - x": Case(written(lambda x, b: 2 * b - x, b=(3,)), of(3, 3)),
    "x * w[:, None]": Case(written(lambda x, w: x * w[:, None], w=(3,)), of(3, 3, 2), positions=True),
    "x + positions": Case(written(lambda x, b: x + b, b=(1, 2, 3)), of(3, 2, 3)),
    "x + positions-sequence": Case(written(lambda x, b: x + b, b=(2, 1, 3)), of(2, 3, 3), 1),
    "-W / 2": Case(written(lambda x, w: F.linear(x, -w / 2), w=(2, 3)), of(3, 3)),
    "parts": Case(
        written(lambda x, w: F.linear(x, w.chunk(2)[0]) + F.linear(x, w.chunk(2)[1]), w=(4, 3)),
        of(3, 3),
    ),
}

CASES = {
    "Linear": Case(lambda: nn.Linear(3, 2), of(3, 3)),
    "Linear-certain-weight": Case(lambda: nn.Linear(3, 2), of(3, 3), certain=("weight",)),
    "Linear-certain-bias": Case(lambda: nn.Linear(3, 2), of(3, 3), certain=("bias",)),
    "Linear-positions": Case(lambda: nn.Linear(3, 2), of(3, 2, 3), positions=True),
    "Linear-sequence": Case(lambda: nn.Linear(3, 2), of(2, 3, 3), 1, positions=True),
    "Linear-unbatched": Case(lambda: nn.Linear(3, 2, bias=False), of(3), None),
    "Bilinear": Case(lambda: nn.Bilinear(2, 3, 2), lambda: (torch.randn(3, 2), torch.randn(3, 3))),
    "Embedding": Case(lambda: nn.Embedding(4, 2), indices(3)),
    "Embedding-positions": Case(lambda: nn.Embedding(4, 2), indices(3, 3), positions=True),
    **CONVOLUTIONS,
    **NORMALISATIONS,
    **PRODUCTS,
}

"""A layer as a function that is linear in its weight."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor

from .mean_field_normal import MeanFieldNormal
from .weight import RandomWeight


class UnsupportedLayer(Exception):
    """A layer that a context can't compute; the message says why, and what would do."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """One call of a layer, in which every output is a sum of products of inputs and a weight.

    ``apply(*inputs, weight, bias)`` is the layer. No weight occurs twice in one output, so that, for
    independent weights, ``apply(*inputs**2, variance of weight, variance of bias)`` is the variance of
    the outputs.

    ``rows``: for each input, and last for the output, the dims along which the layer's examples and
    features lie (those of positions, which share a draw, are left out). Features of an input are absent
    where each weight serves one output only.
    ``bias_dims``: how many dims of the output lie to the right of that of the bias.
    ``indices``: which row of the weight each output takes, where it takes one.
    ``kind``: equal for two calls of the same function with the same options.
    """

    apply: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    weight: Tensor | None
    bias: Tensor | None
    rows: tuple[tuple[int, ...], ...]
    kind: Hashable
    bias_dims: int = 0
    indices: Tensor | None = None

    @property
    def law(self) -> MeanFieldNormal:
        """The law of the weight."""
        assert isinstance(self.weight, RandomWeight) and isinstance(self.weight.law, MeanFieldNormal)
        return self.weight.law

    @property
    def key(self) -> tuple[str, ...]:
        assert isinstance(self.weight, RandomWeight)
        return self.weight.key

    @property
    def bias_law(self) -> MeanFieldNormal | None:
        """The law of the bias, None where it isn't random or absent."""
        if not isinstance(self.bias, RandomWeight):
            return None
        assert isinstance(self.bias.law, MeanFieldNormal)
        return self.bias.law

    @property
    def bias_key(self) -> tuple[str, ...] | None:
        return self.bias.key if isinstance(self.bias, RandomWeight) else None

    def mean(self) -> Tensor:
        """The output at the means of weight and bias."""
        bias = self.bias if self.bias_law is None else self.bias_law.loc
        return self.apply(*self.inputs, self.law.loc, bias)

    def variances(self) -> tuple[Tensor, Tensor | None]:
        """Those of weight and bias."""
        bias = None if self.bias_law is None else self.bias_law.scale.square()
        return self.law.scale.square(), bias

    def deviations(self) -> tuple[Tensor, Tensor | None]:
        """The deviations of the draws of weight and bias from their means."""
        assert isinstance(self.weight, RandomWeight)
        weight = self.weight.draw - self.law.loc
        if self.bias_law is None:
            return weight, None
        assert isinstance(self.bias, RandomWeight)
        return weight, self.bias.draw - self.bias_law.loc

    def outline(self, positions: bool) -> tuple:
        """Equal for calls of one kind at inputs of one form; other examples have the same.

        ``positions``: whether the sizes of the dims beside the examples' count, or their number only.
        """
        examples = self.rows[-1][0] if self.rows[-1] else None
        shapes = [list(x.shape) for x in self.inputs]
        for shape in shapes:
            if examples is not None and examples >= 0:
                shape[examples] = -1
        return self.kind, *(tuple(shape) if positions else len(shape) for shape in shapes)

    def has_positions(self, output: Tensor) -> bool:
        """Whether an example's output has several places that the weight is used for."""
        rows = {dim % output.dim() for dim in self.rows[-1]}
        return any(size > 1 and dim not in rows for dim, size in enumerate(output.shape))

    def joint_inputs(self, other: LinearMap) -> tuple[Tensor, ...]:
        """The inputs from which ``apply`` makes the covariance of the outputs of two calls."""
        if self.indices is not None and other.indices is not None:
            return (self.indices.eq(other.indices).unsqueeze(-1).to(self.inputs[0].dtype),)
        return tuple(x * y for x, y in zip(self.inputs, other.inputs, strict=True))

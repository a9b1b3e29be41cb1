"""The inputs of a layer: which of their dims hold examples, and what is no input at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .linear_map import UnsupportedLayer
from .weight import RandomWeight

if TYPE_CHECKING:
    from .run import Run


def examples(run: Run, leading: int) -> tuple[int, ...]:
    """The one of so many leading dims along which examples lie, if any."""
    dim = run.context.batch_dim
    if leading == 0:
        return ()
    if not -leading <= dim < leading:
        raise UnsupportedLayer(
            f"its input has {leading} dims before the features, none of them is batch_dim={dim}"
        )
    return (dim % leading,)


def data(run: Run, input: Tensor, dim: int | None = None) -> Tensor:
    """The input of a layer, which is no weight; what is made of one may stand for a single example."""
    if isinstance(input, nn.Parameter) or hasattr(input, "unconstrained"):
        raise UnsupportedLayer("its input is a parameter, whose rows are no examples")
    if not isinstance(input, RandomWeight):
        return input
    dim = run.context.batch_dim if dim is None else dim
    if input.dim() <= dim or input.shape[dim] != 1:
        raise UnsupportedLayer("its input is made of weights as well")
    run.give_away(input, "the input of a layer")
    return input.draw


def check_unbatched(name: str, weight: Tensor | None, dims: int) -> None:
    if weight is not None and weight.dim() != dims:
        raise UnsupportedLayer(
            f"{name} takes a weight of {dims} dims, and this one has shape {tuple(weight.shape)}; a "
            f"module made by pre.nn.to_bayesian runs its particles side by side, or take "
            f"vectorize_particles=False"
        )

"""A network at many values of its weights at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..errors import EstimatorError
from ..numerics.shapes import broadcast_shapes
from .at_weights import call_at
from .layers.mean_field_normal import MeanFieldNormal
from .layers.run import Run
from .layers.weight import RandomWeight, random_weight
from .particle_dims import with_particle_dims


def side_by_side(
    module: nn.Module,
    weights: dict[str, Tensor],
    batch: torch.Size,
    input_dims: int | None,
    event_dim: int | None,
    args: tuple,
    kwargs: dict,
) -> Any:
    """The outputs of the module at weights that have the dims ``batch`` on their left.

    Those end with dims of size one, of plates that the weights are not in. They are where the rows of
    an output go, all but its last ``event_dim`` dims. Inputs of more than ``input_dims`` dims have
    those of particles as well.
    """
    inputs, form = tree_flatten((args, kwargs))
    plates = len(batch)
    while plates and batch[plates - 1] == 1:
        plates -= 1
    ones = len(batch) - plates
    _check_inputs(inputs, batch, plates, input_dims)
    own = [
        x.dim() - min(input_dims, x.dim()) if isinstance(x, Tensor) and input_dims is not None else 0
        for x in inputs
    ]
    shapes = [x.shape[:dims] for x, dims in zip(inputs, own, strict=True) if dims]
    outer = broadcast_shapes(batch[:plates], *shapes)
    pieces = {name: _pieces(weight) for name, weight in weights.items()}
    flat = {
        name: [_flat(x, x.dim() - module.get_buffer(name).dim(), ones, outer) for x in of_one]
        for name, of_one in pieces.items()
    }
    flat_inputs = [
        _flat(x, dims, 0, outer) if dims else (x, None) for x, dims in zip(inputs, own, strict=True)
    ]
    mapped = (
        {name: [x for x, _ in of_one] for name, of_one in flat.items()},
        [x for x, _ in flat_inputs],
    )
    dims = (
        {name: [d for _, d in of_one] for name, of_one in flat.items()},
        [d for _, d in flat_inputs],
    )
    random = [weight for weight in weights.values() if isinstance(weight, RandomWeight)]
    for run in {weight.run for weight in random}:
        run.check_one_call({weight.key[0] for weight in random})
    leaves: list[Any] = []
    structure: Any = None

    def at_one(parts: dict[str, list[Tensor]], inputs: list[Any]) -> list[Tensor]:
        nonlocal leaves, structure
        runs: dict[Run, Run] = {}
        inner = {name: _assembled(weights[name], parts[name], runs) for name in weights}
        args, kwargs = tree_unflatten(inputs, form)
        leaves, structure = tree_flatten(call_at(module, inner, args, kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    if all(dim is None for dim in tree_flatten(dims)[0]):  # weights and inputs are certain
        at_one(*mapped)
        return tree_unflatten(leaves, structure)
    try:
        with sdpa_kernel(SDPBackend.MATH):  # the one that vmap maps without a warning
            outputs = torch.vmap(at_one, in_dims=dims, randomness="different")(*mapped)
    except RuntimeError:  # LSTM, and running statistics that are updated in place
        singles = [at_one(*_single(mapped, dims, i)) for i in range(outer.numel())]
        outputs = [torch.stack(outputs) for outputs in zip(*singles, strict=True)]
    of_one = [x if d is None else x[0] for x, d in flat_inputs]
    made = iter(with_particle_dims(list(outputs), outer, ones, of_one, event_dim))
    return tree_unflatten(
        [next(made) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
    )


def _check_inputs(inputs: list[Any], batch: torch.Size, plates: int, input_dims: int | None) -> None:
    """An input with a dim of the particles' size where they lie may have their dims."""
    if input_dims is not None:
        return
    for x in inputs:
        if not isinstance(x, Tensor):
            continue
        # With a dim of features, or as it was drawn.
        for features in (1, 0) if x.requires_grad else (1,):
            start = x.dim() - features - len(batch)
            if start >= 0 and x.shape[start : start + plates] == batch[:plates]:
                raise EstimatorError(
                    f"to_bayesian: an input of shape {tuple(x.shape)} meets {tuple(batch)} particles, "
                    f"and can't be told from one that has particles as well. Give "
                    f"to_bayesian(..., input_dims=...), the number of its dims without particles."
                )


def _pieces(weight: Tensor) -> tuple[Tensor, ...]:
    """Its draw, and loc and scale where it has a law."""
    if not isinstance(weight, RandomWeight):
        return (weight,)
    return (weight.draw, *weight.law) if isinstance(weight.law, MeanFieldNormal) else (weight.draw,)


def _flat(x: Tensor, own: int, ones: int, outer: torch.Size) -> tuple[Tensor, int | None]:
    """The first ``own`` dims as one; none where nothing differs along them.

    The last ``ones`` of them have size one, the others broadcast to ``outer``.
    """
    if all(x.shape[dim] == 1 or x.stride(dim) == 0 for dim in range(own)):
        return x[(0,) * own], None
    shape = x.shape[own:]
    x = x.reshape(*x.shape[: max(0, own - ones)], *shape)
    return x.expand(*outer, *shape).reshape(-1, *shape), 0


def _single(mapped: Any, dims: Any, index: int) -> Any:
    """The values of one particle, out of those of all."""
    values, structure = tree_flatten(mapped)
    picked = [
        x if dim is None else x[index] for x, dim in zip(values, tree_flatten(dims)[0], strict=True)
    ]
    return tree_unflatten(picked, structure)


def _assembled(weight: Tensor, pieces: list[Tensor], runs: dict[Run, Run]) -> Tensor:
    """The weight of one particle, in a run of its own."""
    if not isinstance(weight, RandomWeight):
        return pieces[0]
    law = MeanFieldNormal(*pieces[1:]) if isinstance(weight.law, MeanFieldNormal) else weight.law
    run = runs.setdefault(weight.run, Run(weight.run.context, weight.run.frame))
    return random_weight(pieces[0], law, weight.key, run)

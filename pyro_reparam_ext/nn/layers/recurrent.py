"""Recurrent networks whose weights are random: the same ones at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear import linear
from .linear_map import UnsupportedLayer

if TYPE_CHECKING:
    from .run import Run

State = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, State], State]
"""From what the input and the hidden state are projected to, and the last state, to the next one."""


def _tanh(x: Tensor, h: Tensor, state: State) -> State:
    return ((x + h).tanh(),)


def _relu(x: Tensor, h: Tensor, state: State) -> State:
    return ((x + h).relu(),)


def _gru(x: Tensor, h: Tensor, state: State) -> State:
    x_reset, x_update, x_new = x.chunk(3, -1)
    h_reset, h_update, h_new = h.chunk(3, -1)
    new = torch.tanh(x_new + torch.sigmoid(x_reset + h_reset) * h_new)
    return (torch.lerp(new, state[0], torch.sigmoid(x_update + h_update)),)


def _lstm(x: Tensor, h: Tensor, state: State) -> State:
    take, keep, new, show = (x + h).chunk(4, -1)
    cell = keep.sigmoid() * state[1] + take.sigmoid() * new.tanh()
    return show.sigmoid() * cell.tanh(), cell


STEPS: dict[str, Step] = {"rnn_tanh": _tanh, "rnn_relu": _relu, "gru": _gru, "lstm": _lstm}


def _cell(step: Step) -> Callable:
    """One step, of (examples, features)."""

    def layer(
        run: Run,
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        examples = (0,) if input.dim() > 1 else ()
        x = linear(run, input, w_ih, b_ih, rows=examples)
        h = linear(run, state[0], w_hh, b_hh, rows=examples)
        state = step(x, h, state)
        return state[0] if isinstance(hx, Tensor) else state

    return layer


def _network(step: Step) -> Callable:
    """Layers of a cell along a sequence, each in one direction or both."""

    def layer(run: Run, *args: Any) -> tuple[Tensor, ...]:
        if not isinstance(args[3], bool):
            raise UnsupportedLayer("it is given a packed sequence; expected one that is padded")
        if not run.context.draws_weights:
            raise UnsupportedLayer(
                "the noise of a step would have to be conditioned on that of all steps before, at a "
                "cost that grows with their square; pre.nn.flipout serves it with one draw for all "
                "steps, and cells (torch.nn.LSTMCell) are served either way"
            )
        return _sequence(run, step, *args)

    return layer


def _sequence(
    run: Run,
    step: Step,
    input: Tensor,
    hx: Any,
    weights: list[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    first = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    runs = layers * (2 if bidirectional else 1)
    # weights of input and state, maybe their biases, maybe a projection
    size = len(weights) // runs
    groups = [weights[i : i + size] for i in range(0, len(weights), size)]
    output = input.transpose(0, 1) if batch_first else input
    last = []
    for index in range(0, runs, runs // layers):
        ways = []
        for i in range(index, index + runs // layers):
            state = tuple(x[i] for x in first)
            outputs, state = _along(run, step, output, state, groups[i], has_biases, backward=i > index)
            ways.append(outputs)
            last.append(state)
        output = torch.cat(ways, -1)
        if dropout and train and index + len(ways) < runs:
            output = F.dropout(output, dropout)
    states = tuple(torch.stack(x) for x in zip(*last, strict=True))
    return (output.transpose(0, 1) if batch_first else output, *states)


def _along(
    run: Run,
    step: Step,
    inputs: Tensor,
    state: State,
    weights: list[Tensor],
    has_biases: bool,
    backward: bool,
) -> tuple[Tensor, State]:
    """One layer in one direction: the outputs at all steps, and the state after the last."""
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = rest[:2] if has_biases else (None, None)
    projection = rest[2 if has_biases else 0 :]
    projected = linear(run, inputs, w_ih, b_ih, rows=(1,)).unbind(0)
    outputs = []
    for x in reversed(projected) if backward else projected:
        state = step(x, linear(run, state[0], w_hh, b_hh, rows=(0,)), state)
        if projection:
            state = (linear(run, state[0], projection[0], rows=(0,)), *state[1:])
        outputs.append(state[0])
    if backward:
        outputs.reverse()
    return torch.stack(outputs), state


LAYERS: dict[Any, Callable[..., Any]] = {
    **{getattr(torch, name): _network(step) for name, step in STEPS.items()},
    **{getattr(torch, f"{name}_cell"): _cell(step) for name, step in STEPS.items()},
}

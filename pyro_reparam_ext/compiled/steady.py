"""A graph that is the same each time that a step is recorded, ready to be compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.fx import GraphModule

from ..callers import told
from ..errors import CannotCapture
from .capture import LINE, capture, drawn_elsewhere
from .graph import difference, fold_numbers, lift_constants, without_alpha, without_mutation


class Changes(Exception):
    """Two captures of a step differ, first at ``line`` of the program, if that is known."""

    def __init__(self, line: str | None) -> None:
        super().__init__(line)
        self.line = line


def steady_graph(
    step: Callable[..., list[Tensor]],
    state: Sequence[Tensor],
    data: Sequence[Tensor],
    modules: Sequence[nn.Module],
) -> tuple[GraphModule, list[Tensor]]:
    """The graph of ``step(write_buffers)``, a function of ``state``, ``data`` and further inputs.

    Those are returned: tensors that the program keeps elsewhere.

    Raises:
        CannotCapture: the step is not one graph.
        Changes: it is another graph each time.
    """
    drawn = drawn_elsewhere()
    gm = capture(step, state, data, modules)
    if drawn_elsewhere() != drawn:
        raise Changes(None)
    node = difference(gm, capture(step, state, data, modules))
    if node is not None:
        raise Changes(node.meta.get(LINE))
    with compiling():
        fold_numbers(gm)
        kept = lift_constants(gm)
        without_alpha(gm)
        return without_mutation(gm, [*state, *data, *kept]), kept


@contextmanager
def compiling() -> Iterator[None]:
    """Says what it means that something fails.

    Raises:
        CannotCapture: in the place of any error.
    """
    try:
        yield
    except Exception as error:
        raise CannotCapture(
            f"the graph of the step can't be compiled: {told(error).rstrip('.')}. Where it has a "
            f"shape that depends on values, give it one that does not, or pass fallback='eager'."
        ) from error

"""Another run of the guide of a program that was evaluated."""

from __future__ import annotations

from typing import Any

from .axes import Visible
from .control_flow import ControlFlow
from .program import Program
from .recorder import Recorder


class Rerun(Recorder):
    """Records the guide of a program once more, at the same indices of its plates."""

    def __init__(
        self, program: Program, axes: Visible, control: ControlFlow, tracking: bool = False
    ) -> None:
        super().__init__(axes, control, tracking)
        self.program = program

    def subsample(self, message: dict[str, Any]) -> None:
        node = self.program.ordinary.trace.nodes.get(message["name"])
        if node is None:
            super().subsample(message)
        else:
            message["value"], message["done"] = node["value"], True

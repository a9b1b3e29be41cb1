"""Gradient estimators, one class and one file each."""

from .disarm import DisARM
from .enumeration import Enumeration
from .gumbel_softmax import GumbelSoftmax
from .leave_one_out import LeaveOneOut
from .local_expectation import LocalExpectation
from .pathwise import Pathwise
from .rebar import REBAR
from .score_function import ScoreFunction
from .straight_through import StraightThrough
from .straight_through_gumbel_softmax import StraightThroughGumbelSoftmax

__all__ = [
    "DisARM",
    "Enumeration",
    "GumbelSoftmax",
    "LeaveOneOut",
    "LocalExpectation",
    "Pathwise",
    "REBAR",
    "ScoreFunction",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
]

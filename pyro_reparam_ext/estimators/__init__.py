"""Gradient estimators, one class and one file each; and the parts that new ones are made of."""

from ..distributions.rules.wrappers import coordinates as coordinates
from ..distributions.rules.wrappers import num_coordinate_dims as num_coordinate_dims
from ..distributions.rules.wrappers import num_coordinates as num_coordinates
from ..distributions.rules.wrappers import sum_rightmost as sum_rightmost
from .base import Estimator as Estimator
from .disarm import DisARM
from .enumeration import Enumeration
from .gumbel_softmax import GumbelSoftmax
from .leave_one_out import LeaveOneOut
from .local_expectation import LocalExpectation
from .pathwise import Pathwise
from .protocol import Branch as Branch
from .protocol import Draw as Draw
from .protocol import Evaluations as Evaluations
from .protocol import Paper as Paper
from .protocol import Site as Site
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

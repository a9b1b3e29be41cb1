"""Gradient estimators, one class and one file each; and the parts that new ones are made of."""

from ..distributions.rules.wrappers import coordinates as coordinates
from ..distributions.rules.wrappers import num_coordinate_dims as num_coordinate_dims
from ..distributions.rules.wrappers import num_coordinates as num_coordinates
from ..distributions.rules.wrappers import sum_rightmost as sum_rightmost
from .analytic_kl import AnalyticKL
from .arm import ARM
from .arms import ARMS
from .base import Estimator as Estimator
from .bit_flip import BitFlip
from .combine import Combine
from .decoupled_straight_through import DecoupledStraightThrough
from .disarm import DisARM
from .double_cv import DoubleCV
from .enumeration import Enumeration
from .gapped_straight_through import GappedStraightThrough
from .gauss_hermite import GaussHermite
from .gumbel_rao import GumbelRao
from .gumbel_softmax import GumbelSoftmax
from .hard_forward import HardForward as HardForward
from .joint_control_variate import JointControlVariate
from .leave_one_out import LeaveOneOut
from .local_expectation import LocalExpectation
from .measure_valued import MeasureValued
from .mu_prop import MuProp
from .pathwise import Pathwise
from .protocol import Branch as Branch
from .protocol import Draw as Draw
from .protocol import Evaluations as Evaluations
from .protocol import Paper as Paper
from .protocol import Site as Site
from .rebar import REBAR
from .reinmax import ReinMax
from .relax import RELAX
from .rodeo import RODEO
from .score_function import ScoreFunction
from .simple import SIMPLE
from .sticking_the_landing import StickingTheLanding
from .straight_through import StraightThrough
from .straight_through_gumbel_softmax import StraightThroughGumbelSoftmax
from .stratified import Stratified
from .taylor_control_variate import TaylorControlVariate
from .unordered_set import UnorderedSet

__all__ = [
    "ARM",
    "AnalyticKL",
    "ARMS",
    "BitFlip",
    "Combine",
    "DecoupledStraightThrough",
    "DisARM",
    "DoubleCV",
    "Enumeration",
    "GappedStraightThrough",
    "GaussHermite",
    "GumbelRao",
    "GumbelSoftmax",
    "JointControlVariate",
    "LeaveOneOut",
    "LocalExpectation",
    "MeasureValued",
    "MuProp",
    "Pathwise",
    "REBAR",
    "RELAX",
    "RODEO",
    "ReinMax",
    "SIMPLE",
    "ScoreFunction",
    "StickingTheLanding",
    "TaylorControlVariate",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
    "Stratified",
    "UnorderedSet",
]

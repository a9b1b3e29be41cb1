"""Continuous distributions, each with a right pathwise gradient in every parameter."""

from .beta import Beta
from .conditional_bernoulli import ConditionalBernoulli
from .continuous_bernoulli import ContinuousBernoulli
from .dirichlet import Dirichlet
from .exponentially_modified_gaussian import ExponentiallyModifiedGaussian
from .gamma import Gamma
from .generalized_gamma import GeneralizedGamma
from .generalized_pareto import GeneralizedPareto
from .gumbel_sinkhorn import GumbelSinkhorn
from .hard_concrete import HardConcrete
from .implicit_univariate import ImplicitUnivariate
from .inverse_gaussian import InverseGaussian
from .inverse_wishart import InverseWishart
from .invertible_gaussian import InvertibleGaussian
from .kumaraswamy import Kumaraswamy
from .lkj_cholesky import LKJCholesky
from .log_beta import LogBeta
from .log_dirichlet import LogDirichlet
from .log_gamma import LogGamma
from .matrix_normal import MatrixNormal
from .mixture_of_diag_normals import MixtureOfDiagNormals
from .mixture_of_diag_normals_shared_covariance import MixtureOfDiagNormalsSharedCovariance
from .mixture_same_family import MixtureSameFamily
from .plackett_luce import PlackettLuce
from .power_spherical import PowerSpherical
from .relaxed_bernoulli import RelaxedBernoulli
from .relaxed_one_hot_categorical import RelaxedOneHotCategorical
from .relaxed_subset import RelaxedSubset
from .rules.pathwise import pathwise_at
from .skew_normal import SkewNormal
from .straight_through_bernoulli import StraightThroughBernoulli
from .straight_through_one_hot_categorical import StraightThroughOneHotCategorical
from .student_t import StudentT
from .triangular import Triangular
from .truncated import Truncated
from .truncated_normal import TruncatedNormal
from .von_mises import VonMises
from .von_mises_fisher import VonMisesFisher
from .wishart import Wishart

__all__ = [
    "Beta",
    "ConditionalBernoulli",
    "ContinuousBernoulli",
    "Dirichlet",
    "ExponentiallyModifiedGaussian",
    "Gamma",
    "GeneralizedGamma",
    "GeneralizedPareto",
    "GumbelSinkhorn",
    "HardConcrete",
    "ImplicitUnivariate",
    "InverseGaussian",
    "InverseWishart",
    "InvertibleGaussian",
    "Kumaraswamy",
    "LKJCholesky",
    "LogBeta",
    "LogDirichlet",
    "LogGamma",
    "MatrixNormal",
    "MixtureOfDiagNormals",
    "MixtureOfDiagNormalsSharedCovariance",
    "MixtureSameFamily",
    "PlackettLuce",
    "PowerSpherical",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "RelaxedSubset",
    "SkewNormal",
    "StraightThroughBernoulli",
    "StraightThroughOneHotCategorical",
    "StudentT",
    "Triangular",
    "Truncated",
    "TruncatedNormal",
    "VonMises",
    "VonMisesFisher",
    "Wishart",
    "pathwise_at",
]

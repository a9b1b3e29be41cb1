"""Bayesian neural networks and noise layers."""

from .bayesian import to_bayesian
from .flipout import flipout
from .gaussian_linear import GaussianLinear
from .guides.auto_k_tied_normal import AutoKTiedNormal
from .guides.auto_matrix_normal import AutoMatrixNormal
from .guides.auto_rank_one_normal import AutoRankOneNormal
from .local_reparameterization import local_reparameterization
from .noisy_linear import NoisyLinear

__all__ = [
    "AutoKTiedNormal",
    "AutoMatrixNormal",
    "AutoRankOneNormal",
    "GaussianLinear",
    "NoisyLinear",
    "flipout",
    "local_reparameterization",
    "to_bayesian",
]

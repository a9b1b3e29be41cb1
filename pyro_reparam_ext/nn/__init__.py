"""Bayesian neural networks and noise layers."""

from .bayesian import to_bayesian
from .flipout import flipout
from .gaussian_linear import GaussianLinear
from .guides.auto_k_tied_normal import AutoKTiedNormal
from .guides.auto_matrix_normal import AutoMatrixNormal
from .guides.auto_rank_one_normal import AutoRankOneNormal
from .kl_weight import kl_weight
from .local_reparameterization import local_reparameterization
from .noisy_linear import NoisyLinear
from .predict import Prediction, predict

__all__ = [
    "AutoKTiedNormal",
    "AutoMatrixNormal",
    "AutoRankOneNormal",
    "GaussianLinear",
    "NoisyLinear",
    "Prediction",
    "flipout",
    "kl_weight",
    "local_reparameterization",
    "predict",
    "to_bayesian",
]

"""Reparameterisers for ``poutine.reparam``: other coordinates for a site, or another distribution."""

from .auto_pathwise import AutoPathwise
from .auto_relax import AutoRelax
from .cholesky import CholeskyReparam
from .gumbel_max import GumbelMaxReparam
from .gumbel_softmax import GumbelSoftmaxReparam
from .inverse_cdf import InverseCDFReparam
from .noncentered import NoncenteredReparam
from .pathwise import PathwiseReparam
from .relax import RelaxReparam
from .standardize import StandardizeReparam

__all__ = [
    "AutoPathwise",
    "AutoRelax",
    "CholeskyReparam",
    "NoncenteredReparam",
    "GumbelMaxReparam",
    "GumbelSoftmaxReparam",
    "InverseCDFReparam",
    "PathwiseReparam",
    "RelaxReparam",
    "StandardizeReparam",
]

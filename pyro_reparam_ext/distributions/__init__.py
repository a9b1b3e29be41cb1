"""Continuous distributions, each with a right pathwise gradient in every parameter."""

from .inverse_gaussian import InverseGaussian
from .pathwise import pathwise_at

__all__ = [
    "InverseGaussian",
    "pathwise_at",
]

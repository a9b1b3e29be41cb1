"""The exception of the package."""

from __future__ import annotations


class EstimatorError(ValueError):
    """A configuration or an input that can't be served.

    The message names the sample site, what was given, what was expected and the remedy. Nothing is
    half-applied when it is raised: parameters and the parameter store are what they were before.
    """


class CannotVectorize(EstimatorError):
    """A program can't be run at many values at once, or it would mean something else then.

    ``ever``: whether there may be another way to run it at once than the one that failed.
    """

    def __init__(self, message: str, ever: bool = True) -> None:
        super().__init__(message)
        self.ever = ever


class CannotCapture(EstimatorError):
    """A step of this program is not one graph."""


class CompilerFault(EstimatorError):
    """Compiled code computes something else than the graph that it was made of."""

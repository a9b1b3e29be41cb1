"""Checks for what is added elsewhere: those that the package's own estimators and distributions pass.

Plain functions that raise an ``AssertionError``, to be called from any test or by themselves.
"""

from .distribution import check_distribution
from .estimator import check_estimator
from .families import Family

__all__ = ["Family", "check_distribution", "check_estimator"]

"""Slow tests, which ``make test`` leaves to ``make test-slow``: quicker ones are like them."""

from collections.abc import Iterable
from typing import Any

import pytest

slow = pytest.mark.slow


def one_in(count: int, cases: Iterable[Any], start: int = 0) -> list[Any]:
    """Cases for ``parametrize``, of which all but one in ``count`` are slow tests."""
    return [
        case
        if number % count == start
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=slow)
        for number, case in enumerate(cases)
    ]

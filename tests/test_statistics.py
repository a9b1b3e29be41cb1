"""What the statistical assertions see, and that a run counts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scipy import stats

from . import statistics
from .statistics import (
    LEVEL,
    Counter,
    assert_at_most,
    assert_follows,
    assert_mean,
    assert_p,
    assert_z,
    p_value,
)

DRAWS = 10_000


@pytest.fixture
def normal():
    return torch.randn(DRAWS, dtype=torch.float64)


HOLDS = {
    "mean": lambda x: assert_mean(x[:, None], torch.zeros(1)),
    "follows": lambda x: assert_follows(x, stats.norm.cdf),
    "at most": lambda x: assert_at_most(x, 0.05),
    "z": lambda x: assert_z(x.mean() * DRAWS**0.5),
    "p": lambda x: assert_p(stats.norm.sf(x.mean() * DRAWS**0.5)),
}


@pytest.mark.parametrize("name", HOLDS)
def test_tells_right_from_wrong_and_counts_both(name, normal):
    before = Counter.made
    HOLDS[name](normal)
    with pytest.raises(AssertionError):
        HOLDS[name](normal + 0.2)
    assert Counter.made == before + 2


@pytest.mark.parametrize("p", [0.0, LEVEL / 2, float("nan")])
def test_no_p_value_passes_that_should_not(p):
    with pytest.raises(AssertionError):
        assert_p(p)


def test_what_does_not_vary_has_to_be_right():
    assert_mean(torch.ones(10, 2), torch.ones(2))
    with pytest.raises(AssertionError):
        assert_mean(torch.ones(10, 2), torch.tensor([1.0, 1.001]))


@pytest.mark.parametrize("spread", [0.0, 1e-6])
def test_what_is_known_to_some_digits_only_is_held_to_these(spread):
    draws = spread * torch.randn(100, 1, dtype=torch.float64)
    for wrong, off in ((1e-4, 0.0), (1e-4, 0.9e-4), (-1e-4, 1e-6)):
        assert p_value(draws, torch.tensor([wrong]), torch.tensor([off])) < LEVEL
    for right, off in ((0.0, 0.0), (1e-4, 1e-4), (-1e-4, 2e-4)):
        assert p_value(draws, torch.tensor([right]), torch.tensor([off])) > 0.001


INNER = """
import pytest
from tests.statistics import assert_p

@pytest.mark.parametrize("i", range(6))
def test_chance(i):
    assert_p(0.5)
"""


CONFTEST = """
from tests import statistics
from tests.conftest import *

statistics.MAX_CASES = 5
"""


@pytest.mark.slow
def test_a_run_with_too_many_assertions_fails(tmp_path: Path):
    """Of its workers together."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_inner.py").write_text(INNER)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(statistics.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert "6 statistical assertions, more than MAX_CASES = 5" in done.stdout
    assert done.returncode == 1

"""Statistical assertions: p-values against one false-alarm rate of the whole suite."""

from collections.abc import Callable

import numpy as np
from scipy import stats
from torch import Tensor

SUITE_FALSE_ALARM_RATE = 1e-5
"""How often a run of the whole suite may fail although everything is right."""
MAX_CASES = 4000
"""How many statistical assertions a run may make (Bonferroni): ``conftest.py`` fails it beyond.

The suite makes some 3,000, and ``make fuzz`` up to 4,000.
"""
LEVEL = SUITE_FALSE_ALARM_RATE / MAX_CASES
"""The p-value below which a single assertion fails."""


class Counter:
    """The statistical assertions that this process has made."""

    made = 0


def p_value(samples: Tensor, exact: Tensor, off: Tensor | float = 0.0) -> float:
    """That the rows of ``samples`` (draws, coordinates) have mean ``exact``: a t-test per coordinate.

    Bonferroni over coordinates. A coordinate without variance has to match to 1e-5.

    Args:
        samples: the draws, one a row.
        exact: the mean that they should have.
        off: by how much each number of ``exact`` may itself be wrong, where it was computed by a rule
            of finite precision: such a difference speaks against nobody.
    """
    samples, exact = samples.detach().double(), exact.detach().double()
    draws = samples.shape[0]
    mean, error = samples.mean(0), samples.std(0) / draws**0.5
    scale = 1e-5 * exact.abs().clamp(min=1e-3)
    fixed = error <= 1e-10 * exact.abs().clamp(min=1e-3)
    distance = ((mean - exact).abs() - off).clamp(min=0)
    if not distance[fixed].le(scale[fixed]).all():
        return 0.0
    if fixed.all():
        return 1.0
    t = (distance / error)[~fixed].numpy()
    return float(min(1.0, 2 * stats.t.sf(t, draws - 1).min() * samples.shape[1]))


def passes(p: float) -> bool:
    """Whether ``p``, of a test of what should hold, leaves chance as an explanation. Counted."""
    Counter.made += 1
    return bool(p >= LEVEL)


def assert_p(p: float, about: object = "") -> None:
    """``p`` is the p-value of what should hold, and ``about`` what is said if it does not."""
    assert passes(p), f"p = {p:.1e} {about}"


def assert_z(z: float) -> None:
    """``z``, of what should hold, is standard normal."""
    assert_p(2 * stats.norm.sf(abs(float(z))), f"z = {z:.1f}")


def assert_mean(samples: Tensor, exact: Tensor) -> None:
    """The rows of ``samples`` have mean ``exact``, by the suite's false-alarm rate."""
    assert samples.isfinite().all()
    p = p_value(samples, exact)
    assert passes(p), (
        f"p = {p:.1e}\nmean  {samples.mean(0).tolist()}\nexact {exact.tolist()}\n"
        f"error {(samples.std(0) / len(samples) ** 0.5).tolist()}"
    )


def assert_follows(
    samples: Tensor, cdf: Callable[[np.ndarray], np.ndarray], about: object = ""
) -> None:
    """Real numbers are draws of the law with this CDF, by the test of Kolmogorov and Smirnov."""
    assert_p(stats.kstest(samples.detach().flatten().double().numpy(), cdf).pvalue, about)


def assert_at_most(samples: Tensor, bound: float) -> None:
    """The mean of ``samples`` lies no higher than ``bound``: a t-test of one side."""
    samples = samples.detach().flatten().double().numpy()
    assert_p(stats.ttest_1samp(samples, bound, alternative="greater").pvalue, samples.mean())

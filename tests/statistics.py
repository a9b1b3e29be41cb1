"""Statistical assertions: p-values against one false-alarm rate of the whole suite."""

from scipy import stats
from torch import Tensor

SUITE_FALSE_ALARM_RATE = 1e-5
"""How often a run of the whole suite may fail although everything is right."""
MAX_CASES = 3000
"""An upper bound on the calls of :func:`assert_mean` in the suite (Bonferroni)."""


def p_value(samples: Tensor, exact: Tensor) -> float:
    """That the rows of ``samples`` (draws, coordinates) have mean ``exact``: a t-test per coordinate.

    Bonferroni over coordinates. A coordinate without variance has to match to 1e-5.
    """
    samples, exact = samples.detach().double(), exact.detach().double()
    draws = samples.shape[0]
    mean, error = samples.mean(0), samples.std(0) / draws**0.5
    scale = 1e-5 * exact.abs().clamp(min=1e-3)
    fixed = error <= 1e-10 * exact.abs().clamp(min=1e-3)
    if not (mean - exact).abs()[fixed].le(scale[fixed]).all():
        return 0.0
    if fixed.all():
        return 1.0
    t = ((mean - exact) / error)[~fixed].abs().numpy()
    return float(min(1.0, 2 * stats.t.sf(t, draws - 1).min() * samples.shape[1]))


def assert_mean(samples: Tensor, exact: Tensor) -> None:
    """The rows of ``samples`` have mean ``exact``, by the suite's false-alarm rate."""
    assert samples.isfinite().all()
    p = p_value(samples, exact)
    assert p >= SUITE_FALSE_ALARM_RATE / MAX_CASES, (
        f"p = {p:.1e}\nmean  {samples.mean(0).tolist()}\nexact {exact.tolist()}\n"
        f"error {(samples.std(0) / len(samples) ** 0.5).tolist()}"
    )

"""Both tails of univariate distributions, with as many digits as mpmath is told to."""

from collections.abc import Callable, Mapping

import mpmath as mp
from mpmath import mpf

Numbers = Mapping[str, mpf]
Tails = tuple[mpf, mpf]


def _normal(z: mpf) -> mpf:
    return mp.erfc(-z / mp.sqrt(2)) / 2


def _gamma(concentration: mpf, x: mpf) -> Tails:
    below = mp.gammainc(concentration, 0, x, regularized=True)
    return below, mp.gammainc(concentration, x, mp.inf, regularized=True)


def _beta(a: mpf, b: mpf, x: mpf, rest: mpf) -> Tails:
    below = mp.betainc(a, b, 0, x, regularized=True)
    return below, 1 - below if below < 0.5 else mp.betainc(b, a, 0, rest, regularized=True)


def _student_t(p: Numbers, x: mpf) -> Tails:
    z = (x - p["loc"]) / p["scale"]
    half = mpf(1) / 2
    tail = mp.betainc(p["df"] / 2, half, 0, p["df"] / (p["df"] + z * z), regularized=True) / 2
    return (tail, 1 - tail) if z < 0 else (1 - tail, tail)


def _skew_normal(p: Numbers, x: mpf) -> Tails:
    """From the side on which the density falls, on the scale on which it does."""
    z, alpha = (x - p["loc"]) / p["scale"], p["skewness"]
    slope = alpha * mp.npdf(alpha * z) / _normal(alpha * z) - z
    width = (-1 if slope > 0 else 1) / max(abs(slope), 1)

    def density(s: mpf) -> mpf:
        u = z + s * width
        return 2 * mp.npdf(u) * _normal(alpha * u)

    with mp.workdps(20):
        tail = abs(width) * mp.quad(density, [0, 1, 2, 4, 8, 16, 32, 64])
    return (tail, 1 - tail) if slope > 0 else (1 - tail, tail)


def _exponentially_modified(p: Numbers, x: mpf) -> Tails:
    z, k = (x - p["loc"]) / p["scale"], p["scale"] * p["rate"]
    shared = mp.exp(k * k / 2 - k * z) * _normal(z - k)
    return _normal(z) - shared, _normal(-z) + shared


def _inverse_gaussian(p: Numbers, x: mpf) -> Tails:
    root = mp.sqrt(p["concentration"] / x)
    lower, upper = root * (x / p["loc"] - 1), root * (x / p["loc"] + 1)
    shared = mp.exp(2 * p["concentration"] / p["loc"]) * _normal(-upper)
    return _normal(lower) + shared, _normal(-lower) - shared


def _kumaraswamy(p: Numbers, x: mpf) -> Tails:
    above = (1 - x ** p["concentration1"]) ** p["concentration0"]
    return 1 - above, above


def _continuous_bernoulli(p: Numbers, x: mpf) -> Tails:
    logit = p["logits"] if "logits" in p else mp.log(p["probs"]) - mp.log1p(-p["probs"])
    if logit == 0:
        return x, 1 - x
    return mp.expm1(logit * x) / mp.expm1(logit), mp.expm1(-logit * (1 - x)) / mp.expm1(-logit)


def _triangular(p: Numbers, x: mpf) -> Tails:
    low, high, peak = p["low"], p["high"], p["peak"]
    if x < peak:
        below = (x - low) ** 2 / ((high - low) * (peak - low))
        return below, 1 - below
    above = (high - x) ** 2 / ((high - low) * (high - peak))
    return 1 - above, above


def _relaxed_bernoulli(p: Numbers, x: mpf) -> Tails:
    z = p["temperature"] * (mp.log(x) - mp.log1p(-x)) - p["logits"]
    return 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z))


def _generalized_pareto(p: Numbers, x: mpf) -> Tails:
    z, c = (x - p["loc"]) / p["scale"], p["concentration"]
    exponential = z if c == 0 else mp.log1p(c * z) / c
    return -mp.expm1(-exponential), mp.exp(-exponential)


def _von_mises(p: Numbers, x: mpf) -> Tails:
    """Of the arc from -pi on."""
    k, shift = p["concentration"], p["loc"]

    def density(angle: mpf) -> mpf:
        return mp.exp(k * (mp.cos(angle - shift) - 1))

    ends = {-mp.pi, x, mp.pi, *(shift + turn for turn in (-2 * mp.pi, 0, 2 * mp.pi))}
    ends |= {
        y + side * k
        for y in (x, *ends)
        for side in (-1, 1)
        for k in (0.003, 0.01, 0.02, 0.03, 0.1, 0.3, 1)
    }
    below, above = (sorted(y for y in ends if a <= y <= b) for a, b in ((-mp.pi, x), (x, mp.pi)))
    with mp.workdps(25):
        parts = [mp.quad(density, piece) for piece in (below, above)]
    return parts[0] / sum(parts), parts[1] / sum(parts)


def _truncated(cdf: Callable[[Numbers, mpf], mpf]) -> Callable[[Numbers, mpf], Tails]:
    def tails(p: Numbers, x: mpf) -> Tails:
        low, at, high = (cdf(p, y) for y in (p["low"], x, p["high"]))
        return (at - low) / (high - low), (high - at) / (high - low)

    return tails


def _standard(p: Numbers, x: mpf) -> mpf:
    return (x - p["loc"]) / p["scale"]


EXACT: dict[str, Callable[[Numbers, mpf], Tails]] = {
    "Gamma": lambda p, x: _gamma(p["concentration"], p["rate"] * x),
    "LogGamma": lambda p, x: _gamma(p["concentration"], p["rate"] * mp.exp(x)),
    "GeneralizedGamma": lambda p, x: _gamma(p["concentration"], (x / p["scale"]) ** p["power"]),
    "Beta": lambda p, x: _beta(p["concentration1"], p["concentration0"], x, 1 - x),
    "LogBeta": lambda p, x: _beta(p["concentration1"], p["concentration0"], mp.exp(x), -mp.expm1(x)),
    "StudentT": _student_t,
    "SkewNormal": _skew_normal,
    "ExponentiallyModifiedGaussian": _exponentially_modified,
    "InverseGaussian": _inverse_gaussian,
    "Kumaraswamy": _kumaraswamy,
    "ContinuousBernoulli": _continuous_bernoulli,
    "ContinuousBernoulli-logits": _continuous_bernoulli,
    "Triangular": _triangular,
    "RelaxedBernoulli": _relaxed_bernoulli,
    "GeneralizedPareto": _generalized_pareto,
    "VonMises": _von_mises,
    "TruncatedNormal": _truncated(lambda p, x: _normal(_standard(p, x))),
    "Truncated-logistic": _truncated(lambda p, x: 1 / (1 + mp.exp(-_standard(p, x)))),
    "Truncated-cauchy": _truncated(lambda p, x: mp.atan(_standard(p, x)) / mp.pi),
    "Truncated-gumbel": _truncated(lambda p, x: mp.exp(-mp.exp(-_standard(p, x)))),
    "Truncated-kumaraswamy": _truncated(lambda p, x: -((1 - x ** p["a"]) ** p["b"])),
}
"""P(X <= x) and P(X > x), by names of the registry."""

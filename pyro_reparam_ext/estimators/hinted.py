"""Hints that a site gives Pyro's own ELBOs, and the estimator that means the same here.

``infer={"baseline": {...}}`` is written for ``TraceGraph_ELBO``, ``infer={"enumerate": "parallel"}`` or
``"sequential"``, also by ``config_enumerate``, for ``TraceEnum_ELBO``. Neither is ignored in silence.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ..callers import outside
from ..errors import EstimatorError
from ..noise import NoiseSource
from .base import Estimator
from .baselines import MovingAverage, SiteBaseline
from .default import default_estimator
from .enumeration import Enumeration
from .score_function import ScoreFunction

ENUMERATES = ("parallel", "sequential")
OPTIONS = (
    "nn_baseline",
    "nn_baseline_input",
    "use_decaying_avg_baseline",
    "baseline_beta",
    "baseline_value",
)


def hinted(message: Mapping[str, Any], given: Estimator | None = None) -> Estimator | None:
    """The estimator that a guide site asks for in the words of another ELBO; None if it doesn't.

    ``given``: the one that it has otherwise, if it is not the default.

    Raises:
        EstimatorError: it asks for what can't be served.
    """
    how, options = message["infer"].get("enumerate"), message["infer"].get("baseline")
    if how and options:
        raise EstimatorError(
            f"site '{message['name']}': it asks for enumeration and for a baseline, which only sampled "
            f"values have; expected one of them. Drop infer['enumerate'] or infer['baseline']."
        )
    if how:
        return _enumeration(message, how)
    return _baseline(message, options, given) if options else None


def check_model_site(message: Mapping[str, Any]) -> None:
    """Raises where the model asks for a site of its own to be summed out."""
    if message["infer"].get("enumerate"):
        name = message["name"]
        raise EstimatorError(
            f"site '{name}': the model asks for it to be enumerated, and the guide does not have it; "
            f"expected it in the guide. Sample '{name}' in the guide, with Enumeration for the exact "
            f"expectation, or train by TraceEnum_ELBO."
        )


def _enumeration(message: Mapping[str, Any], how: object) -> Estimator:
    name, fn, estimator = message["name"], message["fn"], Enumeration()
    if how not in ENUMERATES:
        raise EstimatorError(
            f"site '{name}': infer['enumerate'] is {how!r}, expected 'parallel' or 'sequential'."
        )
    if message["infer"].get("num_samples") is not None:
        raise EstimatorError(
            f"site '{name}': infer['num_samples'] asks for several samples of one enumerated site, "
            f"which is not served; expected None. Use num_particles of the ELBO and an estimator for "
            f"sampled values, such as LeaveOneOut, or train by TraceEnum_ELBO."
        )
    if not estimator.supports(fn):
        raise EstimatorError(
            f"site '{name}': infer['enumerate'] asks for Enumeration, which can't serve "
            f"{type(fn).__name__}; expected one of "
            f"{', '.join(cls.__name__ for cls in estimator.supported)}. Drop infer['enumerate'] of the "
            f"site, or name an estimator for it: estimators={{'{name}': ...}} of the ELBO."
        )
    return estimator


def warn_of_baseline(message: Mapping[str, Any], estimator: Estimator) -> None:
    """Warns if a site whose value carries a gradient asks for a baseline."""
    if message["infer"].get("baseline") and estimator.differentiable:
        warnings.warn(
            f"site '{message['name']}': infer['baseline'] has no meaning for a site that is sampled "
            f"pathwise, as by {type(estimator).__name__}; remove it, or use "
            f"ScoreFunction(baseline=...).",
            stacklevel=outside(),
        )


def _baseline(
    message: Mapping[str, Any], options: object, instead: Estimator | None
) -> Estimator | None:
    name = message["name"]
    if not isinstance(options, Mapping) or not set(options) <= set(OPTIONS):
        raise EstimatorError(
            f"site '{name}': infer['baseline'] is {options!r}, expected a dict with some of "
            f"{', '.join(OPTIONS)}."
        )
    given = {key: options.get(key) for key in OPTIONS}
    if given["nn_baseline"] is not None and given["baseline_value"] is not None:
        raise EstimatorError(
            f"site '{name}': infer['baseline'] has nn_baseline and baseline_value, expected one."
        )
    beta = options.get("baseline_beta", MovingAverage.decay)
    if not 0 <= beta < 1:
        raise EstimatorError(
            f"site '{name}': baseline_beta of infer['baseline'] is {beta!r}, expected 0 <= beta < 1."
        )
    is_pathwise = default_estimator(message["fn"], NoiseSource()).differentiable
    if is_pathwise and not isinstance(instead, ScoreFunction):
        return None  # of no use; the ELBO warns
    baseline = SiteBaseline(
        average=beta if given["use_decaying_avg_baseline"] else None,
        network=given["nn_baseline"],
        network_input=given["nn_baseline_input"],
        value=given["baseline_value"],
    )
    return ScoreFunction(baseline)

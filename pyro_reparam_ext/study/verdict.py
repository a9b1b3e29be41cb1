"""Whether estimators that are unbiased on a condition are so in the program that was measured."""

from __future__ import annotations

import warnings
from dataclasses import replace

from .bias import SIGNIFICANT, bias, is_doubtful
from .conditions import Conditions
from .measured import Measured
from .moments import Moments, reference_of

REMEDY = (
    "The cost seems to jump there (by torch.where, a branch, round, argmax, an index or z > 0.5 on a "
    "value). Use an estimator that takes no derivative of the cost at such sites: ScoreFunction or "
    "LeaveOneOut, for discrete ones also DisARM, LocalExpectation or Enumeration."
)


def trusted_reference(
    reference: Moments, conditions: Conditions, witness: Moments, names: list[str], described: str
) -> Moments:
    """The reference, or where it differs from the score function, that; with a warning."""
    _, z = bias(reference, reference_of([witness], names), names)
    if not z > SIGNIFICANT:
        return reference
    warnings.warn(
        f"{described}: its gradient differs from that of the score function (bias_z = {z:.1f}), which "
        f"is taken as the reference instead. {conditions.sentence}. {REMEDY}",
        stacklevel=3,
    )
    return witness


def judged(
    results: dict[str, Measured], trusted: list[Moments], names: list[str]
) -> dict[str, Measured]:
    """The results, in which no label is called unbiased that differs from trusted gradients.

    Only labels that are unbiased on a condition are judged; the others are by their mathematics. A
    gradient that was the same in all draws may have missed what is rare: of a condition, that is no
    excuse.
    """
    reference = reference_of(trusted, names)
    after = dict(results)
    for label, result in results.items():
        if not (result.unbiased and result.conditions) or any(result.moments is m for m in trusted):
            continue
        if is_doubtful(result.moments, reference, names):
            _, z = bias(result.moments, reference, names)
            said = f"bias_z = {z:.1f}" if z == z else "the same in all draws, beyond the others' error"
            conditions = replace(result.conditions, met=False)
            after[label] = replace(result, unbiased=False, conditions=conditions)
            warnings.warn(
                f"estimators[{label!r}]: its gradient is biased in this program ({said}) and is not "
                f"called unbiased. {conditions.sentence}. {REMEDY}",
                stacklevel=3,
            )
    return after

"""The rule that stops when the iterates are stationary and their mean is known well enough."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import EstimatorError
from .rule import LOOK, SPACING, Verdict
from .stationary import Average, average, most_stationary, shift_of_halves, typical_rhat
from .windows import starts

GROWTH = 1.15
"""Factor by which a run is longer at a look than at the one before."""
FEWEST = 200
"""Rows of a window, at least."""
STILL = 1000
"""Steps in which a loss without noise has to rest."""
REST = 4 * torch.finfo(torch.float32).eps
"""Share of its size by which a loss moves that rests: that of rounding."""
QUIET = 10_000
"""Steps of a window in which a loss has to rest for what still moves to be of no matter."""
NATS = 0.05
"""By so much the loss may then have moved, between the halves of the window."""
GAIN = 2.0
"""Standard errors by which averages have to move for a smaller learning rate to be a gain."""


@dataclass(frozen=True)
class Converged:
    r"""A stopping rule: the iterates are stationary, and their mean is known well enough.

    With a fixed learning rate, parameters do not come to rest at an optimum: they fall towards it, and
    then fluctuate around it. The loss tells little of when, since its noise hides the last of the fall.
    Here the parameters themselves are looked at, as the samples of a Markov chain are. Of a few
    windows, from half of the run to nearly all of it, the one counts that looks most stationary. The
    run stops when in that window, for each of the unconstrained parameters,

    - the split R-hat is below ``rhat``: the means of its two halves agree. It is that of means of up to
      50 batches of iterates, in which a fall is seen that is far below the iterates' own noise; and it
      has to be below what half of all stationary runs have, since a run is looked at many times;
    - the effective sample size :math:`n_\text{eff}` is above ``ess``;
    - the Monte Carlo standard error of the mean,

      .. math:: \text{MCSE} = \frac{s}{\sqrt{n_\text{eff}}},

      is below ``mcse`` times :math:`s`, the standard deviation of the iterates in the window.

    The mean over the window, which is nearer to the optimum than any iterate, then takes the place of
    the parameters. Its error is measured against the fluctuation of the iterates, and not in units of
    the parameter: near the optimum the loss is a quadratic, so that of what fluctuation costs, the
    share ``mcse ** 2`` remains, for any parametrisation. (FASO's threshold is absolute: .1 standard
    deviations of a mean-field normal guide, or .1 in the parameters of other guides.)

    With ``reduce`` the run goes on from the mean with smaller learning rates, as RAABBVI does: what the
    optimiser adds to the mean shrinks with them. It stops when the last reduction moved the mean by no
    more than its errors explain. Errors are shares of the fluctuation at the first rate.

    Some parameters never come to rest, and are of no matter: the logit of an impossible value drifts
    without a bound. Where the mean loss over the two halves of a window of 10,000 steps or more differs
    by less than .05 nats, two standard errors included, R-hat is asked for no longer, and the reason
    says which parameter still moves.

    Where nothing is random (a point estimate, by ``AutoDelta``, from all data) iterates are no samples
    of a Markov chain, and neither R-hat nor an effective sample size mean anything. Such a run stops
    when its loss has moved by no more than rounding for 1,000 steps; its parameters stay those of the
    last.

    Windows have 2,000 steps at least. A fall so slow that it is below the noise of its window is not
    seen; and a learning rate that falls by itself brings iterates to rest anywhere, unseen by any rule.

    Args:
        rhat: bound of R-hat, above 1.
        mcse: bound of the standard error of the mean, a share of the parameter's standard deviation. A
            share of .1 needs an effective sample size of 100.
        ess: bound of the effective sample size.
        average: whether the mean of the window takes the place of the parameters.
        reduce: factor, below 1, by which learning rates are reduced; None stops at the first one.

    Raises:
        EstimatorError: a bound that can't be met, or that says nothing.

    References:
        Dhaka, Catalina, Andersen, Magnusson, Huggins and Vehtari, *Robust, Accurate Stochastic
        Optimization for Variational Inference*, 2020, https://arxiv.org/abs/2009.00666

        Welandawe, Andersen, Vehtari and Huggins, *A Framework for Improving the Reliability of
        Black-box Variational Inference*, 2022, https://arxiv.org/abs/2203.15945

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(2.0))
        >>> guide = pyro.infer.autoguide.AutoNormal(model)
        >>> pyro.set_rng_seed(0)
        >>> svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), pre.TraceEstimator_ELBO())
        >>> result = pre.run_svi(svi, 10_000, until=pre.Converged(), progress=False)
        >>> result.converged, len(result.losses) < 10_000, abs(guide.median()["z"].item() - 1.0) < 0.05
        (True, True, True)
    """

    rhat: float = 1.1
    mcse: float = 0.1
    ess: float = 25.0
    average: bool = True
    reduce: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("rhat", 1.0), ("mcse", 0.0), ("ess", 0.0)):
            value = getattr(self, name)
            if not value > low:
                raise EstimatorError(f"Converged({name}={value!r}): expected a number above {low:g}.")
        if self.reduce is not None and not 0 < self.reduce < 1:
            raise EstimatorError(
                f"Converged(reduce={self.reduce!r}): expected a factor between 0 and 1, such as 0.5, "
                f"or None, which leaves learning rates as they are."
            )

    def next_look(self, step: int) -> int:
        """Later and later: the time of looks is a fixed share of the run."""
        return max(step + LOOK, int(GROWTH * step), FEWEST * SPACING)

    def observe(self, losses: Tensor, iterates: Tensor) -> Verdict:
        """Whether the iterates are stationary, and their mean is known well enough."""
        if _rests(losses):
            return _AT_REST
        verdict, found = self._judge(losses, iterates)
        if found is None or self.reduce is None:
            return verdict
        return replace(
            verdict,
            stop=False,
            coordinate=None,
            rate=self.reduce,
            then=_Reduced(self, found.spread, found.mean),
        )

    def _judge(
        self, losses: Tensor, iterates: Tensor, unit: Tensor | None = None
    ) -> tuple[Verdict, Average | None]:
        """Whether to stop at one learning rate, and the average then.

        ``unit``: what standard errors are measured in, in the place of the iterates' own deviation.
        """
        firsts = [first for first in starts(len(iterates)) if len(iterates) - first >= FEWEST]
        if not firsts:
            return Verdict(False, f"windows of {FEWEST * SPACING:,} steps were yet to be seen"), None
        first, rhat = most_stationary(iterates, firsts)
        rows = len(iterates) - first
        where = f"in the last {rows * SPACING:,} steps"
        moving = max(1, int((rhat > 0).sum()))
        worst, bound = int(rhat.argmax()), min(self.rhat, typical_rhat(moving))
        said = f"R-hat is {rhat[worst]:.3f} (asked for: < {bound:.3f})"
        if rhat[worst] >= bound:
            rests = _what_rests(losses[-rows * SPACING :])
            if rests:
                averaged = rows if self.average else None
                reason = f"{rests}: what still moves is of no matter, although {said} {where}"
                return Verdict(True, reason, averaged, coordinate=worst), None
            progress = f"R-hat {rhat[worst]:.3f}/{bound:.3f}"
            return Verdict(False, f"{said} {where}", coordinate=worst, progress=progress), None
        found = average(iterates[first:])
        unit = found.spread if unit is None else torch.where(unit > 0, unit, found.spread)
        share = (found.error / unit).masked_fill(found.spread == 0, 0.0)
        worst = int((share / self.mcse).maximum(self.ess / found.ess).argmax())
        reason = (
            f"{said}, the standard error of the mean is {share[worst]:.3f} of the iterates' deviation "
            f"(< {self.mcse:g}), and the effective sample size {found.ess[worst]:.0f} "
            f"(> {self.ess:g}), {where}"
        )
        if share[worst] >= self.mcse or found.ess[worst] <= self.ess:
            needed = max(self.ess, float(found.ess[worst]) * float(share[worst] / self.mcse) ** 2)
            progress = f"ESS {found.ess[worst]:.0f}/{needed:.0f}"
            return Verdict(False, reason, coordinate=worst, progress=progress), None
        averaged = rows if self.average else None
        return Verdict(True, reason, averaged, found.error, worst), found


_AT_REST = Verdict(
    True,
    f"the loss is without noise and rests: it moved by no more than rounding in the last {STILL:,} "
    f"steps (where nothing is random, as of a point estimate, there is no R-hat)",
)


def _what_rests(losses: Tensor) -> str:
    """In words, that the loss of a window is the same in both of its halves; empty if it is not."""
    if len(losses) < QUIET:
        return ""
    moved, error = shift_of_halves(losses)
    if not moved + 2 * error < NATS:
        return ""
    return f"the loss rests, its halves differ by {moved:.3f} ± {error:.3f} nats"


def _rests(losses: Tensor) -> bool:
    """Whether a loss has no noise and does not move."""
    last = losses[-STILL:].double()
    return len(losses) >= STILL and float(last.max() - last.min()) <= REST * float(last.abs().max())


@dataclass(frozen=True)
class _Reduced:
    """The rule after a reduction: whether it moved the mean, and whether another one may.

    Args:
        rule: the rule as the user gave it.
        unit: standard deviation of the iterates at the first learning rate.
        before: the mean at the rate before this one.
    """

    rule: Converged
    unit: Tensor
    before: Tensor

    def next_look(self, step: int) -> int:
        return self.rule.next_look(step)

    def observe(self, losses: Tensor, iterates: Tensor) -> Verdict:
        if _rests(losses):
            return _AT_REST
        verdict, found = self.rule._judge(losses, iterates, self.unit)
        if found is None or self.rule.reduce is None:
            return verdict
        shift = ((found.mean - self.before) / self.unit)[self.unit > 0].square().mean().sqrt()
        if not shift > GAIN * self.rule.mcse:
            return verdict
        then = _Reduced(self.rule, self.unit, found.mean)
        return replace(verdict, stop=False, coordinate=None, rate=self.rule.reduce, then=then)

"""The result of a study: variance and bias of each estimator, as a table, a picture, and a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EstimatorError
from .again import Again
from .attribution import Attribution, attribution
from .best import Best, best_of
from .bias import bias
from .datasets import gradient_datasets, inferencedata
from .measured import Measured
from .moments import Moments, Reference, reference_of
from .names import Names, select

if TYPE_CHECKING:
    from arviz import InferenceData
    from pandas import DataFrame
    from xarray import Dataset, DataTree


@dataclass(frozen=True, eq=False)
class GradientStudy:
    """Variance and bias of the ELBO gradient by several estimators, at the same parameters.

    Returned by :func:`gradient_study`. It keeps the programs and a copy of their parameters, so that
    more gradients can be drawn later, at the same parameters.
    """

    results: dict[str, Measured]
    names: list[str]
    reference: Moments | None
    reference_label: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    again: Again | None = None
    attributions: dict[tuple[str, int, int], Attribution] = field(default_factory=dict)

    def summary(self, params: Names = None) -> DataFrame:
        r"""One row per label.

        - ``unbiased``: whether the estimator is, by its mathematics; where that depends on a
          ``condition``, False as soon as the bias measured (in all parameters) is beyond 4;
        - ``evaluations`` of the program that one gradient takes;
        - ``variance``: the sum over coordinates of the variance per coordinate, and ``variance_low``,
          ``variance_high``, its 95 % interval;
        - ``bias``: the norm of mean minus reference, less what sampling error adds;
        - ``relative_variance``, ``relative_bias``: over the squared norm of the reference gradient, and
          over the norm; NaN where it is 0, as an exact one is at an optimum;
        - ``bias_z``: how sure the bias is, as a z-score corrected for the number of coordinates:
          beyond 4 it is real, unless the estimator has draws of a kind that the study never saw (see
          below); NaN where there is nothing to compare with, or the mean is off but no two draws
          differed, so that a value that was never drawn may be all there is to it;
        - ``seconds_per_gradient``: median wall-clock time of one gradient, as in training;
        - ``work_normalized_variance``: ``variance * seconds_per_gradient``;
        - ``batched``: whether draws were made many at once;
        - ``condition``: what ``unbiased`` depends on, with the sites; and whether it was found not to
          be met.

        Two kinds of tests share ``bias_z``: one for every coordinate, and one for the component of the
        gradient along its own direction, in each parameter and in all together. (The direction is the
        exact gradient, or comes from a pilot run that is used for nothing else.) A mean :math:`\bar g`
        of :math:`N` draws with standard error :math:`s` differs from the reference :math:`g` at level
        :math:`p` (Bonferroni over coordinates) if

        .. math:: |\bar g - g| > t_{p/2}\, s + \log(1/p)\, M / N.

        The first term is Student's. The second is for what was not seen. A class that is hardly ever
        drawn or a unit that is hardly ever active is missed by all :math:`N` draws with probability
        :math:`p` if its own is :math:`\log(1/p) / N`; its coordinate then looks nearly constant, at a
        wrong value. :math:`M` is the largest deviation of any draw from the mean in all coordinates of
        the parameter (for parameters of fewer than 16 coordinates: of all parameters), times
        :math:`1 + 50 / N_e`, with :math:`N_e = (\sum_n d_n^2)^2 / \sum_n d_n^4` the effective number of
        draws that make up the variance (:math:`d_n`: distance of a draw from the mean). So unbiased
        estimators pass 4 no more often than a normal z-score, in 6 of 100,000 studies (as far as tests
        on such programs tell), if no draw that was missed is larger than :math:`M`. In a program where
        it is, as where one class of many has a cost several times that of any other and was never
        drawn, no test can know. The price, compared with normal coordinates and a t-test: at 100 draws
        a bias has to be two to three times as large to be seen, at 10,000 about a tenth larger.

        References:
            Audibert, Munos, Szepesvári, 2009, Exploration-exploitation tradeoff using variance
            estimates in multi-armed bandits (for bounds of this form: a deviation in the standard
            error, and one in the range over the number of draws).

        Args:
            params: names of parameters, or a predicate of them, to restrict it to.
        """
        import pandas as pd

        names = select(self.names, params)
        rows, norm = {}, self.reference_gradient(names).norm
        for label, result in self.results.items():
            variance, low, high = result.moments.variance(names)
            other = self._reference(label, names)
            size, z = bias(result.moments, other, names) if other else (np.nan, np.nan)
            rows[label] = {
                "unbiased": result.unbiased,
                "evaluations": result.evaluations,
                "variance": variance,
                "variance_low": low,
                "variance_high": high,
                "bias": size,
                "relative_variance": variance / norm**2 if norm else np.nan,
                "relative_bias": size / norm if norm else np.nan,
                "bias_z": z,
                "seconds_per_gradient": result.seconds,
                "work_normalized_variance": variance * result.seconds,
                "batched": result.batched,
                "condition": str(result.conditions),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("estimator")

    def reference_gradient(self, params: Names = None) -> Reference:
        """The gradient that is taken as true, flat, with its squared standard error."""
        names = select(self.names, params)
        if self.reference is not None:
            return reference_of([self.reference], names)
        return reference_of([r.moments for r in self.results.values() if r.unbiased], names)

    def _reference(self, label: str, names: list[str]) -> Reference | None:
        """The gradient that a label's bias is measured against; nothing that it is part of itself."""
        if self.reference is not None:
            return None if label == self.reference_label else reference_of([self.reference], names)
        others = [r.moments for k, r in self.results.items() if r.unbiased and k != label]
        return reference_of(others, names) if others else None

    def best(self, params: Names = None) -> Best:
        """The unbiased label with the least work-normalised variance, and those that may be as good.

        A tie is an unbiased label whose interval overlaps that of the best one: that of the variance,
        times that of the seconds (both in the summary's sense; times are taken in one run, so that a
        machine that is busy in the whole of it is not told).

        Args:
            params: names of parameters, or a predicate of them, to restrict it to.

        Returns:
            ``label``; ``estimators``, as the study was given them; ``elbo`` to train by; ``ties``.

        Raises:
            EstimatorError: no label is unbiased.
        """
        return best_of(self.results, self._again("best"), select(self.names, params))

    def attribution(
        self,
        label: str | None = None,
        *,
        num_pairs: int = 500,
        intervals: bool = False,
        params: Names = None,
        seed: int = 0,
        progress: bool = True,
    ) -> DataFrame:
        r"""Sources of noise in the gradient by one label: their shares in its variance.

        One row per parameter (its coordinates summed), one column per source:

        - ``site:<name>``: all that the estimator draws for a site of guide or model, in all particles
          and evaluations: the value, its alternatives, and the same drawn again in evaluations of
          other sites;
        - ``plate:<name>``: the indices of a sub-sampled plate;
        - ``elsewhere``: what is drawn elsewhere, as by layers of a network;
        - ``interaction``: what none of them has by itself.

        The share of source :math:`i` is, with :math:`u_i` the random numbers that it draws,

        .. math:: S_i = \operatorname{Var}(E[g \mid u_i]) / \operatorname{Var}(g),

        the first-order Sobol index. Were the noise of one source averaged out, as by an exact estimator
        at that site, the variance would fall by :math:`S_i` at least, and by :math:`S_i` plus the
        interaction at most. Noise means the random numbers that are drawn: the value of a site further
        down moves with those above it.

        It is estimated by pairs of gradients that share the noise of one source, or of all but one
        (see :mod:`~pyro_reparam_ext.study.pick_freeze`), at the parameters of the study and with what
        estimators had learned in its warm-up. With :math:`k` sources, a pair takes :math:`2k + 2`
        gradients (two with one source, four with two). The standard error of a share falls as one over
        the root of ``num_pairs``, and is about .03 for 500 of them. A source without influence has
        exactly 0; a small one may come out negative, within its interval. The shares of a parameter
        whose gradient has no variance are NaN.

        Args:
            label: of the study; the only one, or :meth:`best`.
            num_pairs: pairs of gradients.
            intervals: whether columns are ``(source, "share" | "low" | "high")``, with 95 % intervals.
            params: names of parameters, or a predicate of them, to restrict it to.
            seed: of the random state. What was measured once for a label, number and seed is kept.
            progress: a progress bar (only in a terminal), where it takes seconds.

        Returns:
            A frame whose rows sum to 1, or with ``intervals`` whose shares do.

        Raises:
            EstimatorError: there is no such label, or its gradient has no noise.

        References:
            Sobol', 1993, Sensitivity estimates for nonlinear mathematical models; Saltelli et al.,
            2010, Variance based sensitivity analysis of model output; Janon, Klein, Lagnoux, Nodet,
            Prieur, 2013, Asymptotic normality and efficiency of two Sobol index estimators,
            https://arxiv.org/abs/1303.6447

        Example:
            >>> import pyro, pyro.distributions as dist, torch
            >>> import pyro_reparam_ext as pre
            >>> def model():
            ...     a = pyro.sample("a", dist.Normal(0.0, 1.0))
            ...     b = pyro.sample("b", dist.Normal(0.0, 1.0))
            ...     pyro.sample("x", dist.Normal(a + 2 * b, 1.0), obs=torch.tensor(1.0))
            >>> def guide():
            ...     loc = pyro.param("loc", torch.tensor(0.0))
            ...     pyro.sample("a", dist.Normal(loc, 1.0))
            ...     pyro.sample("b", dist.Normal(0.0, 1.0))
            >>> study = pre.gradient_study(model, guide, estimators={"pathwise": pre.Pathwise()})
            >>> shares = study.attribution()  # of the gradient a + (a + 2 b - 1)
            >>> shares[["site:a", "site:b"]].round(1)
                       site:a  site:b
            parameter
            loc           0.5     0.5
            >>> bool(abs(shares.interaction["loc"]) < 1e-5)
            True
        """
        label = self._label(label)
        key = label, num_pairs, seed
        if key not in self.attributions:
            again, names = self._again("attribution"), self.names
            self.attributions[key] = attribution(again, label, names, num_pairs, seed, progress)
        return self.attributions[key].table(select(self.names, params), intervals)

    def _label(self, label: str | None) -> str:
        if label is None:
            return next(iter(self.results)) if len(self.results) == 1 else self.best().label
        if label not in self.results:
            raise EstimatorError(
                f"label: expected one of {', '.join(map(repr, self.results))}, was given {label!r}."
            )
        return label

    def _again(self, what: str) -> Again:
        if self.again is None:
            raise EstimatorError(
                f"{what}: the study has no programs to draw from, expected one that gradient_study "
                f"made in this process. Make it again."
            )
        return self.again

    def __getstate__(self) -> dict[str, Any]:
        """Without its programs, which need not be pickled with it."""
        return {**self.__dict__, "again": None}

    def to_datatree(self, params: Names = None) -> DataTree:
        """Draws in the group ``gradients``, dims ``(chain, draw, estimator, <param dims>)``.

        The mean of the reference is in the group ``reference``.

        Args:
            params: names of parameters, or a predicate of them, to restrict it to.
        """
        from xarray import DataTree

        return DataTree.from_dict(dict(self._datasets(params)))

    def to_inferencedata(self, params: Names = None) -> InferenceData:
        """The groups of :meth:`to_datatree` as an ``arviz.InferenceData``, for ArviZ below 1.

        Args:
            params: names of parameters, or a predicate of them, to restrict it to.

        Raises:
            EstimatorError: ArviZ has none any more.
        """
        return inferencedata(self._datasets(params))

    def _datasets(self, params: Names) -> dict[str, Dataset]:
        """The groups, by their names."""
        return gradient_datasets(
            {label: result.kept for label, result in self.results.items()},
            self.reference_gradient(params).mean,
            select(self.names, params),
            self.settings,
        )

    def save(self, path: str | os.PathLike, params: Names = None) -> str:
        """Writes :meth:`to_datatree` as netCDF and returns the path."""
        self.to_datatree(params).to_netcdf(os.fspath(path), engine="h5netcdf")
        return os.fspath(path)

    def plot(self, params: Names = None, axes: Any = None) -> np.ndarray:
        """Relative variance and, beside it, relative bias of each estimator.

        Args:
            params: names of parameters, or a predicate of them, to restrict it to.
            axes: two matplotlib axes; made if not given.

        Returns:
            The two axes.
        """
        from .plot import plot_summary

        return plot_summary(self.summary(params), axes)

    def plot_tradeoff(self, params: Names = None, axes: Any = None) -> Any:
        """Squared bias against variance, both relative, with the time of a gradient as the area.

        Args:
            params: names of parameters, or a predicate of them, to restrict it to.
            axes: matplotlib axes; made if not given.

        Returns:
            The axes.
        """
        from .plot_tradeoff import plot_tradeoff

        return plot_tradeoff(self.summary(params), axes)

    def plot_attribution(self, label: str | None = None, axes: Any = None, **options: Any) -> Any:
        """The shares of all sources of noise, as a stacked bar for every parameter.

        Args:
            label: of the study; the only one, or :meth:`best`.
            axes: matplotlib axes; made if not given.
            **options: of :meth:`attribution`.

        Returns:
            The axes.
        """
        from .plot_attribution import plot_shares

        return plot_shares(self.attribution(label, intervals=True, **options), axes)

"""That a distribution does what it says: samples, density, moments and gradients; and is whole."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from tqdm.auto import tqdm

from ..callers import told
from .point import (
    DRAWS,
    DTYPE,
    OUTSIDE,
    PRECISION,
    Oracle,
    Parameters,
    Point,
    flat_gradient,
    implemented,
)
from .statistics import FALSE_ALARM_RATE, p_value
from .surroundings import isolated

if TYPE_CHECKING:
    from pandas import DataFrame


def check_distribution(
    make: Callable[..., TorchDistribution],
    points: Sequence[Mapping[str, Any]],
    *,
    oracle: Oracle | None = None,
    seed: int = 0,
) -> DataFrame:
    r"""Checks a distribution as those of this package are checked.

    At each point it is checked that samples lie in the support, and that density, moments and gradient
    agree with each other and with the samples: for a value with one coordinate by quadrature of its
    ``log_prob``, which has to integrate to one, be the law of the samples, and have ``mean``,
    ``variance`` and ``cdf``, where there are any, as its own; the mean of the pathwise gradient is the
    derivative of the expectations of bounded functions of the value. Of other values the samples and
    their gradient are compared with an ``oracle``. At the first point, shapes, ``expand``, dtypes,
    validation, ``vmap``, copies and pickling are checked too.

    Args:
        make: the distribution, from its parameters as keyword arguments, such as the class itself.
        points: parameters, as numbers or nested lists, of distributions with an empty batch shape.
            Where much of a value lies closer to an end of its support than floating point tells, the
            quadrature fails.
        oracle: in place of quadrature, for a vector, a matrix or an angle: a function of values that
            has numbers on its last dim, and a function of the parameters that returns their exact
            means, differentiable, in plain torch. None, and no quadrature: the elements of a value,
            and the ``mean`` of the distribution, if there is one.
        seed: of the random numbers.

    Returns:
        One row for each comparison with samples: ``point``, ``quantity`` and ``p_value``. Together they
        raise a false alarm once in a million calls.

    Raises:
        AssertionError: names the distribution, what was found, what was expected and the remedy.

    Example:
        >>> import pyro_reparam_ext as pre
        >>> found = pre.testing.check_distribution(
        ...     pre.distributions.Kumaraswamy, [{"concentration1": 2.0, "concentration0": 3.0}]
        ... )
        >>> found.quantity.tolist()
        ['samples', 'gradient']
    """
    from pandas import DataFrame

    rows: list[dict[str, Any]] = []
    rate = FALSE_ALARM_RATE / (2 * len(points))
    with isolated(seed):
        checks = [(point, _Checks(make, point, oracle)) for point in points]
        cases = [
            (point, case) for number, (point, at) in enumerate(checks) for case in at.cases(not number)
        ]
        who = checks[0][1].who
        for point, case in tqdm(cases, desc=who, unit="check", disable=None, leave=False):
            where = ", ".join(f"{name}={x}" for name, x in point.items())
            try:
                found = case()
            except AssertionError as error:
                raise AssertionError(f"{who} at {where}: {error}") from error
            except Exception as error:
                raise AssertionError(f"{who} at {where} fails: {told(error)}") from error
            if found is None:
                continue
            quantity, p = found
            rows.append({"point": where, "quantity": quantity, "p_value": p})
            if p < rate:
                raise AssertionError(f"{who} at {where}: {WRONG[quantity]} (p = {p:.1e}).")
    return DataFrame(rows)


WRONG = {
    "samples": "the samples do not follow the density, or do not have the exact mean. Compare the "
    "sampler with log_prob, or with the oracle",
    "gradient": "the mean of the pathwise gradient is not the derivative of the expectation. Look for "
    "a sign, a factor or a missing parameter in the derivative of the sampler, or say has_rsample = "
    "False",
}
"""What is said of samples that can't be right."""

Case = Callable[[], tuple[str, float] | None]


class _Checks(Point):
    """The checks of a distribution at one point."""

    def cases(self, first: bool) -> Iterator[Case]:
        """All checks; those of shapes and copies at the ``first`` point."""
        yield self.support
        if self.line is not None:
            yield self.normalised
            for name in ("mean", "variance"):
                yield partial(self.moment, name)
            yield self.cdf
        yield self.samples
        if self.fn.has_rsample:
            yield self.gradient
        if first:
            yield self.shapes
            yield self.expanded
            yield self.dtypes
            yield self.validation
            yield self.batched
            yield self.copies

    # -- samples and densities --------------------------------------------------------------------

    def support(self) -> None:
        """Samples are finite, in the support, and have a finite density."""
        value = self.value
        _true(value.isfinite().all(), "a sample is not finite")
        _true(self.fn.support.check(value).all(), f"a sample is not in the support, {self.fn.support}")
        _true(self.fn.log_prob(value).isfinite().all(), "log_prob of a sample is not finite")

    def normalised(self) -> None:
        """The density integrates to one."""
        _, weight = self.weights(self.fn)
        _close(weight.sum(), torch.ones((), dtype=DTYPE), "the integral of exp(log_prob)")

    def moment(self, name: str) -> None:
        """A moment, where it is implemented, is that of the density."""
        found = implemented(lambda: getattr(self.fn, name))
        if found is None or not found.isfinite().all():
            return
        values, weight = self.weights(self.fn)
        mean = (weight * values).sum()
        exact = mean if name == "mean" else (weight * (values - mean) ** 2).sum()
        _close(found, exact, name)

    def cdf(self) -> None:
        """The CDF, where it is implemented, is that of the density, and ``icdf`` its inverse."""
        value = self.value[:50].sort().values
        found = implemented(lambda: self.fn.cdf(value))
        if found is None or self.fn.support.is_discrete:
            return
        _close(found, self.exact_cdf(value), "cdf")
        back, inside = implemented(lambda: self.fn.icdf(found)), (found > 1e-4) & (found < 1 - 1e-4)
        if back is not None:
            _close(back[inside], value[inside], "icdf of cdf")

    def samples(self) -> tuple[str, float] | None:
        """Samples follow the density, or have the mean of the oracle."""
        from scipy import stats

        if self.line is None:
            exact = self.exact_mean(self.parameters)
            return None if exact is None else ("samples", p_value(self.features(self.value), exact))
        if self.fn.support.is_discrete:
            return "samples", p_value(self.features(self.value), self.expected(self.parameters))
        p = stats.kstest(self.value.numpy(), lambda x: self.exact_cdf(torch.as_tensor(x)).numpy())
        return "samples", float(p.pvalue)

    def gradient(self) -> tuple[str, float] | None:
        """The mean of the pathwise gradient is the derivative of the expectation."""
        exact = self.exact_gradient()
        if exact is None:
            return None
        leaves = {k: x.expand(DRAWS, *x.shape).clone().requires_grad_() for k, x in self.free.items()}
        outputs, rows = self.features(self.make(**self.bound(leaves)).rsample()), []
        for output in outputs.unbind(-1):
            rows.append(flat_gradient(output.sum(), leaves, 1))
        draws = torch.cat(rows, 1)
        _true(draws.isfinite().all(), "the gradient of a sample is not finite")
        return "gradient", p_value(draws, exact.reshape(-1))

    # -- a whole distribution ---------------------------------------------------------------------

    def shapes(self) -> None:
        """Parameters broadcast, and samples and densities have the shapes that follow."""
        event = self.fn.event_shape
        fn, batch = self.broadcast
        _same(fn.batch_shape, batch, "the batch shape of parameters that broadcast")
        _same(fn.event_shape, event, "the event shape of parameters that broadcast")
        for shape in ((), (4,), (5, 4)):
            for value in (fn.sample(shape), *([fn.rsample(shape)] if fn.has_rsample else [])):
                _same(value.shape, shape + batch + event, f"the shape of sample({shape})")
                _same(fn.log_prob(value).shape, shape + batch, "the shape of log_prob")

    def expanded(self) -> None:
        """``expand`` keeps the class, the law and the validation, and draws each element anew."""
        fn, batch = self.broadcast
        wider = fn.expand((7, *batch))
        _same(type(wider), type(fn), "the class after expand")
        _same(wider.batch_shape, (7, *batch), "the batch shape after expand")
        _same(wider._validate_args, fn._validate_args, "the validation after expand")
        value = wider.sample((4,))
        _close(wider.log_prob(value), fn.log_prob(value), "log_prob after expand")
        if not fn.support.is_discrete:
            _true(len(value.flatten().unique()) > 7 * batch.numel(), "expand repeats values")

    def dtypes(self) -> None:
        """Samples and densities have the dtype of the parameters."""
        for dtype in (torch.float32, torch.float64):
            fn = self.make(**{k: x.to(dtype) for k, x in self.parameters.items()})
            value = fn.sample((3,))
            if value.is_floating_point():
                _same(value.dtype, dtype, f"the dtype of a sample for parameters of {dtype}")
            _same(fn.log_prob(value).dtype, dtype, f"the dtype of log_prob for parameters of {dtype}")

    def validation(self) -> None:
        """A value outside of the support is refused."""
        wrong = torch.full_like(self.value[0], OUTSIDE)
        if self.fn.support.check(wrong).all():
            return
        try:
            self.fn.log_prob(wrong)
        except ValueError:
            return
        raise AssertionError(
            f"log_prob({OUTSIDE}) is not refused, expected a ValueError, as the value is not in the "
            f"support. Call self._validate_sample(value) if self._validate_args."
        )

    def batched(self) -> None:
        """``vmap`` gives the density of a batch."""
        leaves = {k: torch.stack([x, x]) for k, x in self.parameters.items()}
        value = self.value[:2]

        def score(parameters: Parameters, value: Tensor) -> Tensor:
            return self.make(**parameters, validate_args=False).log_prob(value)

        _close(torch.vmap(score)(leaves, value), self.fn.log_prob(value), "log_prob under torch.vmap")

    def copies(self) -> None:
        """Copies and pickles are the same distribution; a class within a function can't be pickled."""
        value = self.value[:3]
        twins, cls = [copy.deepcopy(self.fn)], type(self.fn)
        if getattr(sys.modules.get(cls.__module__), cls.__name__, None) is cls:  # else not to be found
            twins.append(pickle.loads(pickle.dumps(self.fn)))
        for twin in twins:
            _close(twin.log_prob(value), self.fn.log_prob(value), "log_prob of a copy")
            _same(twin.sample().shape, self.fn.sample().shape, "the shape of a sample of a copy")

    # -- what is exact ----------------------------------------------------------------------------


def _true(condition: Tensor | bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"{message}.")


def _same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what} is {found}, expected {expected}.")


def _close(found: Tensor, expected: Tensor, what: str) -> None:
    found, expected = found.double(), expected.double()
    if not torch.allclose(found, expected, rtol=PRECISION, atol=PRECISION):
        far = (found - expected).abs().argmax()
        raise AssertionError(
            f"{what} is {found.reshape(-1)[far].item():.6g}, expected "
            f"{expected.reshape(-1)[far].item():.6g}."
        )

"""That a distribution does what it says: samples, density, moments and gradients; and is whole."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import biject_to
from tqdm.auto import tqdm

from ..callers import told
from .quadrature import Line, nodes, stretched
from .statistics import FALSE_ALARM_RATE, p_value
from .surroundings import isolated

if TYPE_CHECKING:
    from pandas import DataFrame

DTYPE = torch.float64
DRAWS = 10_000
STEP = 1e-4
"""The relative step of numerical derivatives in a parameter."""
PRECISION = 1e-4
"""The relative error of what is not sampled."""
OUTSIDE = -123.4
"""No value of a distribution that has values outside of its support."""

Parameters = dict[str, Tensor]
Oracle = tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]
"""A function of values that has numbers on its last dim, and their exact means, of the parameters."""


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
        checks = [(point, _Point(make, point, oracle)) for point in points]
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


class _Point:
    """A distribution at one point."""

    def __init__(
        self,
        make: Callable[..., TorchDistribution],
        point: Mapping[str, Any],
        oracle: Oracle | None,
    ) -> None:
        self.make, self.oracle = make, oracle
        self.parameters = {k: torch.as_tensor(x, dtype=DTYPE) for k, x in point.items()}
        self.fn = make(**self.parameters)
        self.who = type(self.fn).__name__

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
        found = _implemented(lambda: getattr(self.fn, name))
        if found is None or not found.isfinite().all():
            return
        values, weight = self.weights(self.fn)
        mean = (weight * values).sum()
        exact = mean if name == "mean" else (weight * (values - mean) ** 2).sum()
        _close(found, exact, name)

    def cdf(self) -> None:
        """The CDF, where it is implemented, is that of the density, and ``icdf`` its inverse."""
        value = self.value[:50].sort().values
        found = _implemented(lambda: self.fn.cdf(value))
        if found is None or self.fn.support.is_discrete:
            return
        _close(found, self.exact_cdf(value), "cdf")
        back, inside = _implemented(lambda: self.fn.icdf(found)), (found > 1e-4) & (found < 1 - 1e-4)
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
            rows.append(_flat_gradient(output.sum(), leaves, 1))
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

    @cached_property
    def value(self) -> Tensor:
        return self.fn.sample((DRAWS,))

    @cached_property
    def broadcast(self) -> tuple[TorchDistribution, torch.Size]:
        """The distribution of parameters of different batch shapes, and the one that follows."""
        shapes = [(3, 1), (2,)]
        parameters = {
            k: x.expand(*shapes[min(i, 1)], *x.shape)
            for i, (k, x) in enumerate(self.parameters.items())
        }
        return self.make(**parameters), torch.Size((3, 2) if len(parameters) > 1 else (3, 1))

    @cached_property
    def line(self) -> Line | None:
        """Nodes on the real line, where the samples are; None where there is no quadrature."""
        fn = self.fn
        if self.oracle is not None or fn.event_shape:
            return None
        if fn.support.is_discrete:
            return stretched(0.0, 1.0, DTYPE)
        try:
            transform = biject_to(fn.support)
        except NotImplementedError:
            return None
        low, middle, high = transform.inv(self.value).quantile(
            torch.tensor([0.2, 0.5, 0.8], dtype=DTYPE)
        )
        return stretched(float(middle), float(high - low), DTYPE)

    def weights(self, fn: TorchDistribution) -> tuple[Tensor, Tensor]:
        """Values in ascending order, and their weights in expectations."""
        assert self.line is not None
        values, log_volume = nodes(fn, self.line)
        known = values.isfinite() & log_volume.isfinite()
        values, log_volume = values[known], log_volume[known]
        inside = fn.support.check(values)
        values, log_volume = values[inside], log_volume[inside]
        weight = (fn.log_prob(values) + log_volume).exp()
        known = weight.isfinite() & (weight > 0)
        values, order = values[known].sort()
        return values, weight[known][order]

    def exact_cdf(self, value: Tensor) -> Tensor:
        """The CDF, by the trapezoidal rule up to a value."""
        values, weight = self.weights(self.fn)
        cumulative = weight.cumsum(0) - 0.5 * weight
        after = torch.searchsorted(values, value).clamp(1, len(values) - 1)
        before = after - 1
        step = (values[after] - values[before]).clamp(min=1e-300)
        share = ((value - values[before]) / step).clamp(0, 1)
        return torch.lerp(cumulative[before], cumulative[after], share)

    def features(self, value: Tensor) -> Tensor:
        """Functions of a value, on the last dim: bounded ones, where its expectations are known."""
        if self.oracle is not None:
            return self.oracle[0](value)
        if self.line is None:
            dims = len(self.fn.event_shape)
            return value.flatten(-dims) if dims else value.unsqueeze(-1)
        middle, high = self.value.double().quantile(torch.tensor([0.5, 0.9], dtype=DTYPE))
        z = (value - middle) / (high - middle).clamp(min=1e-6)
        return torch.stack([torch.tanh(z), torch.exp(-0.5 * (z - 1) ** 2), torch.sin(2 * z)], -1)

    def expected(self, parameters: Parameters) -> Tensor:
        """The expectation of the features, by quadrature."""
        values, weight = self.weights(self.make(**parameters))
        return weight @ self.features(values)

    def exact_mean(self, parameters: Parameters) -> Tensor | None:
        """The same by the oracle, or by the distribution's own mean."""
        if self.oracle is not None:
            return self.oracle[1](**parameters)
        mean = _implemented(lambda: self.make(**parameters).mean)
        return None if mean is None else mean.reshape(-1)

    def exact_gradient(self) -> Tensor | None:
        """The derivative of each expectation in each coordinate of the free parameters."""
        if self.line is not None:
            return torch.stack(list(self._differences()), -1)
        leaves = {k: x.clone().requires_grad_() for k, x in self.free.items()}
        means = self.exact_mean(self.bound(leaves))
        if means is None or not means.requires_grad:
            return None
        return torch.stack([_flat_gradient(mean, leaves, 0) for mean in means])

    def _differences(self) -> Iterator[Tensor]:
        for name, x in self.free.items():
            for unit in torch.eye(x.numel(), dtype=DTYPE).reshape(-1, *x.shape):
                step = STEP * (x * unit).abs().sum().clamp(min=0.01)
                ends = [self.bound({**self.free, name: x + h * unit}) for h in (step, -step)]
                up, down = (self.expected(end) for end in ends)
                yield (up - down) / (2 * step)

    # -- parameters -------------------------------------------------------------------------------

    @cached_property
    def free(self) -> Parameters:
        """The parameters without constraints, in which derivatives are taken."""
        return {
            name: x if (transform := self._transform(name)) is None else transform.inv(x)
            for name, x in self.parameters.items()
        }

    def bound(self, free: Parameters) -> Parameters:
        """The parameters of free ones."""
        found = {}
        for name, x in free.items():
            transform = self._transform(name)
            found[name] = x if transform is None else transform(x)
            if self.fn.arg_constraints.get(name) is constraints.sphere:
                found[name] = x / x.norm(dim=-1, keepdim=True)
        return found

    def _transform(self, name: str) -> Any:
        """The map from free coordinates to a parameter; None where there is none, or no need."""
        constraint = self.fn.arg_constraints.get(name)
        if constraint is None or constraint is constraints.sphere or not _has_event(constraint):
            return None
        try:
            return biject_to(constraint)
        except NotImplementedError:
            return None


def _has_event(constraint: Any) -> bool:
    """Whether it is one of several coordinates together."""
    try:
        return constraint.event_dim > 0
    except NotImplementedError:  # it depends on other parameters
        return False


def _flat_gradient(output: Tensor, leaves: Parameters, batch_dims: int) -> Tensor:
    """The gradient in all leaves, side by side, with so many dims on the left."""
    gradients = torch.autograd.grad(
        output, list(leaves.values()), retain_graph=True, materialize_grads=True
    )
    return torch.cat([x.unsqueeze(-1).flatten(batch_dims) for x in gradients], -1)


def _implemented(get: Callable[[], Tensor]) -> Tensor | None:
    try:
        return get()
    except NotImplementedError:
        return None


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

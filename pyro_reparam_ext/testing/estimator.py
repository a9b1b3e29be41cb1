"""That an estimator does what it says: its gradient, its cost in evaluations, and its facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.optim import SGD
from torch import Tensor
from tqdm.auto import tqdm

from ..elbo import TraceEstimator_ELBO
from ..errors import EstimatorError
from ..estimators.base import Estimator
from ..evaluation.at_once import is_at_once
from ..evaluation.modes import MODES, Vectorize
from .draws import MANY, Step, calls, draws, gradient, joined, varies
from .families import Family
from .given import Graph, OneWay, check_class, named, supported
from .programs import GUIDE, PROGRAMS, CostOutside, InAPlate, InSequence, Parameters, Program
from .statistics import FALSE_ALARM_RATE, likeness, p_value
from .surroundings import isolated, unchanged

if TYPE_CHECKING:
    from pandas import DataFrame

LOOPED = 200
"""Draws of a program that is run in a loop."""
STEPS = 4
"""Steps that are compared with those of a graph."""
SUSPICIOUS, MORE = 0.01, 8
"""The p-value below which a case is drawn anew, and how many times as often."""
COMPARISONS = 6
"""Comparisons with exact values in each case, at most: three quantities, two times."""
TIGHT, LOOSE = 1e-9, 1e-5
"""Relative errors of double precision, and where something is learned in single precision."""


def check_estimator(
    given: Estimator | Callable[[], Estimator],
    distributions: Sequence[Family] | None = None,
    *,
    seed: int = 0,
) -> DataFrame:
    r"""Checks an estimator as those of this package are checked.

    For each distribution, at one site, at one in a plate, at two in nested plates and at two in
    sequence, it is checked that

    - the mean of the gradient is the exact one, as that of the loss (a t-test for parameters of the
      guide and of the model, which together raise a false alarm once in a million calls), if the
      estimator is ``unbiased`` there;
    - costs outside of the plate of a site are served, or refused, as ``coordinatewise`` says;
    - all ways of running a program (``vectorize_particles``) have the same gradient;
    - the gradient can be drawn under ``torch.func.vmap``, and captured as a graph, with the same
      numbers: nothing branches on a value;
    - a site whose value is given, as by ``poutine.replay``, is served, or refused by an
      ``EstimatorError``;
    - ``evaluations`` are as many as are run, and what is handed over has the right shapes and dtypes;
    - the class is a frozen dataclass, and a step changes nothing global but the random state.

    Takes about 20 seconds, less for an estimator of few distributions.

    Args:
        given: the estimator; or its class, or a function, that makes one.
        distributions: those of the sites. None: all of a list that the estimator supports, which has
            Bernoulli, OneHotCategorical, Categorical, Binomial, Normal and Poisson.
        seed: of the random numbers.

    Returns:
        One row for each comparison with an exact value: ``distribution``, ``program``, ``mode``,
        ``quantity``, whether the estimator is ``unbiased`` there, and ``p_value``. Biased ones are
        listed too: nothing is expected of them but finite numbers.

    Raises:
        AssertionError: names the estimator, what was found, what was expected and the remedy.

    Example:
        >>> import pyro_reparam_ext as pre
        >>> found = pre.testing.check_estimator(pre.DisARM)
        >>> sorted(found.distribution.unique())[:2]
        ['Bernoulli', 'Bernoulli, to_event']
    """
    from pandas import DataFrame

    make = (lambda: given) if isinstance(given, Estimator) else given
    who = getattr(make, "__name__", repr(make))
    with isolated(seed):
        with named(who, "can't be made without options (pass an instance)"):
            estimator = make()
        who = type(estimator).__name__
        check_class(who, estimator)
        families = supported(who, estimator, distributions)
        check = _Check(who, make, estimator)
        check.run(families, seed)
    return DataFrame(check.rows)


Case = tuple[str, Callable[[], None]]
"""Where something is checked, and what checks it."""


class _Check:
    """All that is checked of one estimator, and what was found."""

    def __init__(self, who: str, make: Callable[[], Estimator], estimator: Estimator) -> None:
        self.who, self.make, self.estimator = who, make, estimator
        self.rows: list[dict[str, Any]] = []

    def run(self, families: Sequence[Family], seed: int) -> None:
        """All cases, one after the other."""
        cases = list(self._cases(families))
        self.rate = FALSE_ALARM_RATE / (COMPARISONS * len(cases))
        with tqdm(cases, desc=self.who, unit="check", disable=None, leave=False) as bar:
            for number, (where, case) in enumerate(bar):
                torch.manual_seed(seed + number)
                self.where = where
                with named(self.who, f"fails at {where}"), unchanged(f"{self.who} at {where}"):
                    case()

    def _cases(self, families: Sequence[Family]) -> Iterator[Case]:
        for number, family in enumerate(families):
            for cls in PROGRAMS:
                program = cls(family)
                yield f"{family}, {program.name}", partial(self._mean, program)
            program = PROGRAMS[number % len(PROGRAMS)](family)
            yield f"{family}, {program.name}, under vmap", partial(self._hidden, program)
            outside = CostOutside(family)
            yield f"{family}, {outside.name}", partial(self._outside, outside)
        graphs = [family for family in families if family.is_batched]
        for family in {families[0]: None, families[-1]: None}:
            program = InSequence(family)
            yield f"{family}, {program.name}, in a loop", partial(self._loop, program)
            yield f"{family}, {program.name}, at given values", partial(self._given, program)
            program = InAPlate(family, torch.float32)
            yield f"{family}, in single precision", partial(self._single, program)
        for family in {family: None for family in (graphs[:1] + graphs[-1:])}:
            program = InSequence(family)
            yield f"{family}, {program.name}, as a graph", partial(self._captured, program)

    # -- cases ------------------------------------------------------------------------------------

    def _mean(self, program: Program) -> None:
        """The gradient has the exact mean."""
        if program.family.is_batched:
            sample = partial(draws, self._elbo(program, particles=2))
        else:
            sample = partial(calls, self._elbo(program, particles=MANY))
        p = self._compare(program, "at once", *sample(program, 1))
        if p < SUSPICIOUS:
            self._compare(program, "at once, anew", *sample(program, MORE))

    def _loop(self, program: Program) -> None:
        """So it has where a program is run evaluation by evaluation."""
        elbo = self._elbo(program, False)
        steps: list[Step] = []
        while len(steps) < LOOPED and varies([loss for loss, _ in steps]):
            steps.append(gradient(elbo, program))
        self._compare(program, "in a loop", *joined(steps, torch.stack))

    def _hidden(self, program: Program) -> None:
        """A program that does not see the dim of evaluations has the gradient of one that does."""
        state, found = torch.get_rng_state(), []
        for mode in MODES[:2]:
            torch.set_rng_state(state)
            found.append(gradient(self._elbo(program, mode, particles=3), program))
        self._same(found[1], found[0], TIGHT)

    def _outside(self, program: Program) -> None:
        """Costs outside of the plate of a site are refused, if the estimator says so, or served."""
        if not is_at_once(self.estimator):
            self._mean(program)
            return
        try:
            gradient(self._elbo(program), program)
        except EstimatorError as error:
            if "outside" in str(error):
                return
            raise
        raise AssertionError(
            f"{self.who} at {self.where}: nothing was raised, expected an EstimatorError, since "
            f"coordinatewise (or enumerated) is True."
        )

    def _captured(self, program: Program) -> None:
        """Steps of training leave the same as a graph and as Python makes them."""
        found = []
        for kind in (SVI, Graph):
            with pyro.get_param_store().scope():
                torch.manual_seed(0)
                elbo = self._elbo(program)
                svi = kind(program.stored_model, program.stored_guide, SGD({"lr": 1e-3}), elbo)
                losses = torch.tensor([svi.step() for _ in range(STEPS)])
                left = {name: x.detach() for name, x in pyro.get_param_store()._params.items()}
                found.append((losses, {**left, **dict(elbo.states.named_buffers())}))
        learns = found[0][1].keys() > program.initial.keys()
        self._same(found[1], found[0], LOOSE if learns else TIGHT)

    def _single(self, program: Program) -> None:
        """In single precision nothing has another one."""
        elbo = self._elbo(program)
        runs = elbo.evaluate(program.model, program.guide, (program.leaves(),), {})
        surrogate = elbo.surrogate(runs, learn=False).surrogate
        if surrogate.dtype != torch.float32:
            raise AssertionError(
                f"{self.who} at {self.where}: the surrogate is of dtype {surrogate.dtype}, expected "
                f"torch.float32, as the costs are. Make tensors by torch.rand_like, x.new_tensor, or "
                f"with dtype=site.value.dtype."
            )

    def _given(self, program: Program) -> None:
        """Values that a handler gives are served, or refused."""
        elbo, parameters = self._elbo(program), program.leaves()
        values = poutine.trace(program.guide).get_trace(parameters)
        with suppress(EstimatorError):
            elbo.loss_and_grads(program.model, poutine.replay(program.guide, values), parameters)

    # -- parts ------------------------------------------------------------------------------------

    def _elbo(
        self, program: Program, mode: Vectorize = True, particles: int = 1
    ) -> TraceEstimator_ELBO:
        estimators = {site: self.make() for site in program.sites}
        particles = max(particles, self.estimator.min_particles)
        return OneWay(estimators, num_particles=particles, vectorize_particles=mode)

    def _same(
        self,
        found: Step,
        expected: Step,
        tolerance: float,
    ) -> None:
        """Raises if losses, or what there is of each name, are not the same numbers."""
        pairs = {"the loss": (found[0], expected[0])}
        pairs |= {f"'{name}'": (found[1][name], x) for name, x in expected[1].items()}
        for name, (one, other) in pairs.items():
            if not torch.allclose(one, other, rtol=tolerance, atol=tolerance):
                raise AssertionError(
                    f"{self.who} at {self.where}: {name} is {one.tolist()}, expected "
                    f"{other.tolist()}, as without, from the same random numbers. Draw noise by "
                    f"torch's functions or by source, keep no tensors in the estimator, and let what "
                    f"is learned be parameters and buffers of new_state."
                )

    def _compare(self, program: Program, mode: str, loss: Tensor, gradients: Parameters) -> float:
        """Raises if the mean of draws is not the exact one; the least p-value of what is unbiased."""
        least = 1.0
        unbiased = self.estimator.is_unbiased_at(program.family.typical)
        exact_loss, exact = program.exact_gradient()
        guide = [name for name in exact if name.startswith(GUIDE)]
        model = [name for name in exact if name not in guide]
        for quantity, found, mean in (
            ("gradient of the guide", _flat(gradients, guide, 1), _flat(exact, guide)),
            ("gradient of the model", _flat(gradients, model, 1), _flat(exact, model)),
            ("loss", loss.reshape(-1, 1), exact_loss.reshape(1)),
        ):
            if not found.isfinite().all():
                raise AssertionError(
                    f"{self.who} at {self.where}: the {quantity} is not finite in every draw."
                )
            p = p_value(found, mean)
            self.rows.append(
                {
                    "distribution": program.family.name,
                    "program": program.name,
                    "mode": mode,
                    "quantity": quantity,
                    "unbiased": unbiased,
                    "p_value": p,
                }
            )
            if unbiased and p < self.rate:
                raise AssertionError(
                    f"{self.who} at {self.where}: the {quantity} is biased (p = {p:.1e}): its mean is "
                    f"{_rounded(found.mean(0))}, expected {_rounded(mean)}. "
                    + self._remedy(program, quantity, found, mean)
                )
            least = min(least, p) if unbiased else least
        return least

    def _remedy(self, program: Program, quantity: str, found: Tensor, mean: Tensor) -> str:
        if isinstance(program, CostOutside):
            return (
                "It is right where all costs lie inside the plate: if alternatives change one "
                "coordinate in all elements of a plate at once, say coordinatewise = True."
            )
        if quantity == "gradient of the guide":
            return likeness(found, mean)
        return (
            "Model parameters and loss are a mean of the costs by the weights of the branches: say "
            "weights only of alternatives that follow the law of the site, each with its share of 1 in "
            "that mean, the ordinary value having the rest; and let draw sample that law."
        )


def _flat(tensors: Parameters, names: Sequence[str], start: int = 0) -> Tensor:
    return torch.cat([tensors[name].flatten(start) for name in names], -1)


def _rounded(x: Tensor) -> list[float]:
    return [round(value, 4) for value in x.tolist()]

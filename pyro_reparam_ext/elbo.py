"""The ELBO that obeys the estimators of the guide's sites."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.elbo import ELBOModule
from pyro.infer.util import is_validation_enabled
from torch import Tensor, nn

from .config import Configuration, check_configuration, check_names, chosen, resolve
from .diagnosis import Met, check_gradients, diagnose, loss_error
from .elbo_module import EstimatorModule
from .errors import CannotVectorize
from .estimators.base import Estimator
from .estimators.default import default_estimator
from .estimators.hinted import warn_of_baseline
from .estimators.states import state_at
from .evaluation.axes import PARTICLES
from .evaluation.costs import Costs
from .evaluation.evaluate import Layout, evaluate
from .evaluation.first_run import initialise, plate_nesting
from .evaluation.invisible import invisible, unchanged_on_error
from .evaluation.modes import REMEMBERED, Vectorize, Way, check_vectorize
from .evaluation.objective import Mean, Objective
from .evaluation.ordinary import Resolve
from .evaluation.program import Dependencies
from .evaluation.second_derivative import first_order
from .evaluation.surrogate import Surrogate, surrogate_loss
from .particles import Particles, scheme_of
from .schedule import training_step


class TraceEstimator_ELBO(ELBO):
    r"""The evidence lower bound, with a gradient estimator for every site of the guide.

    .. math::
        \mathrm{ELBO} = E_{q_\phi(z)}\big[\log p_\theta(x, z) - \log q_\phi(z)\big]

    A ``pyro.infer.ELBO`` for :class:`~pyro.infer.SVI` and for ``elbo(model, guide)``, wherever
    :class:`~pyro.infer.Trace_ELBO` works. A site's estimator is its own ``infer["estimator"]``, else
    what ``estimators`` says of the site (by name or by a callable), else what the site asks of Pyro's
    ELBOs (``infer["enumerate"]``: ``Enumeration``, ``infer["baseline"]``: ``ScoreFunction``), else the
    one estimator in ``estimators``, else the default, which is always unbiased: ``Pathwise`` where the
    sampler is reparameterised and right, else ``LeaveOneOut`` with two or more particles, else
    ``ScoreFunction("ema")``.

    Estimators that need further evaluations of the program (an antithetic twin, relaxed values, every
    value of a support) get them along one dim left of all plates, in one vectorised run whose cost is
    linear in the number of sites. For programs that can't be run so see ``vectorize_particles``.

    Args:
        estimators: a mapping from site names to estimators, a callable ``site -> Estimator | None`` of
            the Pyro message, one estimator for all sites that it supports, or None. ``"auto"``: at the
            first call they are chosen as by :func:`select_estimators`, for these particles and for the
            data and parameters of that call; from then on ``elbo.estimators`` is the ``Selection``.
        num_particles: samples of the guide that are averaged.
        max_plate_nesting: bound on the nesting of plates; guessed by a run of the program if infinite.
        vectorize_particles: how the program is run at many values. True: at all particles and
            evaluations at once, along dims left of its plates, over which it has to broadcast.
            ``"vmap"``: at once too, under ``torch.func.vmap``, so that it sees its own shapes only.
            False: one by one, for programs that branch on values or whose sites depend on them. The
            same estimates. The first call compares with plain runs of the program; one that fails
            goes on to the next way, with a warning that says why.
        particles: ``"independent"``; or, with the law of each kept, ``"antithetic"``, mirrored pairs,
            ``"latin_hypercube"``, in strata, ``"sobol"``, scrambled points, ``"orthogonal"``, at right
            angles, ``"fixed"``, once for all. For pathwise sites.
        retain_graph: passed to ``backward``.

    What an estimator learns at a site (REBAR's control variate, a baseline) is kept by the ELBO and put
    in the parameter store as ``estimators/<site>/<estimator>``, where ``SVI`` finds, trains and saves
    it; ELBOs that serve sites of the same name share it there, as all that is in the store.

    Raises:
        EstimatorError: an estimator or scheme of particles can't serve a site, a site name is unknown,
            or the loss or a gradient is not finite. Parameters and parameter store are unchanged.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Bernoulli(0.3))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))
        >>> def guide():
        ...     pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.0))))
        >>> elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.Enumeration()})
        >>> print(f"{elbo.loss_and_grads(model, guide):.4f}")
        1.2561
        >>> print(f"{pyro.param('logit').grad:.4f}")
        0.0868
    """

    max_plate_nesting: float
    objective: Objective = Mean()
    """The function of the particles' log weights that is maximised."""

    def __init__(
        self,
        estimators: Configuration = None,
        *,
        num_particles: int = 1,
        max_plate_nesting: float = math.inf,
        vectorize_particles: Vectorize = True,
        particles: Particles = "independent",
        retain_graph: bool | None = None,
    ) -> None:
        check_configuration(estimators)
        self.particles, self._scheme = particles, scheme_of(particles, num_particles)
        check_vectorize(vectorize_particles)
        super().__init__(
            num_particles=num_particles,
            max_plate_nesting=max_plate_nesting,
            vectorize_particles=vectorize_particles,
            retain_graph=retain_graph,
        )
        self.estimators = estimators
        self.states = nn.ModuleDict()
        self._names_checked = False
        self._ways: deque[Way] = deque(maxlen=REMEMBERED)
        self._particles: pyro.plate | None = None

    def __call__(self, model: nn.Module, guide: nn.Module) -> ELBOModule:
        """A module that computes the loss; its parameters include what estimators learn.

        What they learn is made at the first call: call the module once before you build the optimiser,
        load a ``state_dict``, or wrap it in ``DistributedDataParallel``, as with anything in Pyro that
        is initialised lazily. Under ``torch.no_grad()`` nothing is learned from that call.
        """
        return EstimatorModule(model, guide, self, self.states)

    def __getstate__(self) -> dict[str, Any]:
        """Without the programs that it has seen, which need not be copied or pickled with it."""
        return {**self.__dict__, "_ways": deque(maxlen=REMEMBERED)}

    # -- pyro.infer.ELBO --------------------------------------------------------------------------

    def loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> float:
        """An estimate of the negative ELBO."""
        with torch.no_grad(), unchanged_on_error():
            runs = self.evaluate(model, guide, args, kwargs)
            value = self.surrogate(runs, learn=False).loss.item()
            if math.isfinite(value):
                return value
            raise loss_error(value, runs, model, guide, args, kwargs)

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """An estimate of the negative ELBO whose gradient is the gradient estimate."""
        with unchanged_on_error():
            runs = self.evaluate(model, guide, args, kwargs)
            learn = torch.is_grad_enabled()
            if learn:
                self.register()
            estimate = self.surrogate(runs, learn=learn)
            sites = [site for run in runs for site in run.program.sites]
            surrogate = first_order(estimate.surrogate, sites)
        return estimate.loss + (surrogate - surrogate.detach())

    def loss_and_grads(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> float:
        """An estimate of the negative ELBO; adds the gradient estimate to the parameters' ``grad``."""
        with unchanged_on_error(), training_step():
            runs = self.evaluate(model, guide, args, kwargs)
            self.register()
            estimate = self.surrogate(runs, learn=True)
            value = estimate.loss.item()
            if not math.isfinite(value):
                raise loss_error(value, runs, model, guide, args, kwargs)
            if estimate.surrogate.requires_grad:
                estimate.surrogate.backward(retain_graph=self.retain_graph)
            if is_validation_enabled():
                check_gradients(runs, lambda: self.evaluate(model, guide, args, kwargs))
        return value

    # -- what the package itself calls ------------------------------------------------------------

    def evaluate(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple,
        kwargs: dict,
        dependencies: Dependencies | None = None,
    ) -> list[Costs]:
        """All evaluations of the program that one gradient needs.

        ``dependencies``: which cost depends on which sites, if known; found by provenance otherwise.
        """
        if isinstance(self.estimators, str):  # "auto", until the first call
            self.estimators = chosen(self, model, guide, args, kwargs)
            self._names_checked = True
        met: Met = {}

        def noted(message: dict[str, Any]) -> Estimator:
            estimator = self._resolve(message)
            if not (self._names_checked or message["name"] in met):
                warn_of_baseline(message, estimator)
            met[message["name"]] = estimator, message["fn"]
            return estimator

        try:
            way = self.way(model, guide, args, kwargs)
            runs = None
            while runs is None:
                try:
                    runs = self._run(way, model, guide, args, kwargs, noted, dependencies)
                except CannotVectorize as error:
                    way.fall_back(error)
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            diagnose(error, model, guide, args, kwargs, met)
            raise
        way.say(self.vectorize_particles)
        if not self._names_checked:
            latent = {s.name for run in runs for s in run.program.sites if not s.observed}
            check_names(self.estimators, sorted(latent))
            self._names_checked = True
        return runs

    def with_others(self, estimators: Configuration, num_particles: int) -> TraceEstimator_ELBO:
        """An ELBO with other estimators, for programs whose arguments and parameters stay as they are.

        It knows of them what this one has found, as far as that does not depend on estimators.
        """
        options = {"max_plate_nesting": self._bound, "vectorize_particles": self.vectorize_particles}
        kept = self.particles if num_particles > 1 else "independent"
        other = TraceEstimator_ELBO(estimators, num_particles=num_particles, particles=kept, **options)
        other.objective = self.objective
        other._ways.extend(way.for_others() for way in self._ways)
        return other

    def complete(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
    ) -> None:
        """Evaluates the program until all of it has been compared with plain runs."""
        compared = False
        while not compared:
            self.evaluate(model, guide, args, kwargs)
            last = self.way(model, guide, args, kwargs).last
            compared = last is not None and last.complete

    def way(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple, kwargs: dict
    ) -> Way:
        """How this program is run; it is looked at when it is first seen."""
        for way in self._ways:
            if way.serves(model, guide):
                return way
        plates = self._bound  # a transform of torch.func may refuse a plain run
        if not (math.isfinite(plates) and torch._C._functorch.peek_interpreter_stack() is not None):
            plates = plate_nesting(model, guide, args, kwargs, plates)
        way = Way((model, guide), self.vectorize_particles, int(plates))
        self._ways.appendleft(way)
        return way

    def surrogate(self, runs: list[Costs], *, learn: bool) -> Surrogate:
        """Loss and surrogate loss. ``learn``: baselines and control variates learn from them too."""
        return surrogate_loss(runs, self.num_particles, learn, self.objective)

    def register(self) -> None:
        """Hands what estimators learn to the parameter store, so that ``SVI`` trains and saves it."""
        if not len(self.states) or pyro.settings.get("module_local_params"):
            return
        for key, state in self.states.items():
            pyro.module(f"estimators/{key}", state, update_module_params=True)

    # -- parts ------------------------------------------------------------------------------------

    def _run(
        self,
        way: Way,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple,
        kwargs: dict,
        resolve: Resolve,
        dependencies: Dependencies | None,
    ) -> list[Costs]:
        if way.mode == "vmap" and not way.initialised:
            initialise(model, guide, args, kwargs)
            way.initialised = True

        def run(track: bool) -> list[Costs]:
            return evaluate(
                model,
                guide,
                args,
                kwargs,
                resolve=resolve,
                state=partial(state_at, states=self.states),
                layout=self._layout(way),
                crossed=way.crossed,
                objective=self.objective,
                track=track,
            )

        def tracked() -> list[Costs]:
            with invisible(model, guide), torch.no_grad():
                return run(track=True)

        known = dependencies if dependencies is not None else way.dependencies
        runs = run(track=known is None)
        if known:
            for costs in runs:
                costs.depend(known)
        way.check(
            runs,
            lambda: plate_nesting(model, guide, args, kwargs),
            None if known is None else tracked,
        )
        return runs

    def _layout(self, way: Way) -> Layout:
        """Where the particles of a program lie: left of its plates."""
        layout = partial(Layout, self.num_particles, scheme=self._scheme)
        if way.mode is False:
            return layout()
        several, bound = int(self.num_particles > 1), self._bound
        dims = (way.plates if bound == math.inf else int(bound)) + several
        hidden = way.mode == "vmap"
        if hidden or not several:
            return layout(dims, hidden=hidden, random=way.random)
        plate = self._particles
        if plate is None or (plate.dim, plate.size) != (-dims, self.num_particles):
            plate = self._particles = pyro.plate(PARTICLES, self.num_particles, dim=-dims)
        return layout(dims, particles=plate)

    @property
    def _bound(self) -> float:
        """The most dims that plates may take, as the user said; Pyro counts the particles' dim too."""
        return self.max_plate_nesting - (bool(self.vectorize_particles) and self.num_particles > 1)

    def _resolve(self, message: dict[str, Any]) -> Estimator:
        source = self._scheme.source(self.num_particles, None)
        if message["is_observed"]:  # pyro.factor in a guide: nothing to choose
            return default_estimator(message["fn"], source)
        return self.objective.checked(resolve(self.estimators, message, source), message["name"])

    def _get_trace(self, model: Any, guide: Any, args: tuple, kwargs: dict) -> Any:
        raise NotImplementedError("TraceEstimator_ELBO evaluates programs by its own passes")

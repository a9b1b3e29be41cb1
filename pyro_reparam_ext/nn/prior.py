"""Which parameters of a module get which prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Size, Tensor, nn

from ..errors import EstimatorError
from .hyperprior import CERTAIN, Hyperprior, drawn, learn
from .layers.weight_noise_context import PARTICLE_PLATES

PriorOf: TypeAlias = Callable[[str, Tensor], TorchDistribution | None]
Rule: TypeAlias = TorchDistribution | PriorOf | None
Prior: TypeAlias = Rule | Mapping[str | type[nn.Module], Rule]


def rules_for(module: nn.Module, names: dict[str, list[str]], prior: Prior) -> dict[str, Rule]:
    """The rule of each parameter that has one: of the first entry that matches one of its names.

    ``names``: the first name of each parameter, and all of them.

    Raises:
        EstimatorError: an entry matches no parameter.
    """
    if not isinstance(prior, Mapping):
        return dict.fromkeys(names, prior)
    for pattern in prior:
        if not isinstance(pattern, (str, type)):
            raise EstimatorError(
                f"to_bayesian: prior has the key {pattern!r}; expected a name, a pattern like "
                f"'*.bias', the name of a submodule, or a type of module."
            )
    unused = set(prior)
    rules: dict[str, Rule] = {}
    for name, aliases in names.items():
        for pattern, rule in prior.items():
            if any(_matches(module, alias, pattern) for alias in aliases):
                rules.setdefault(name, rule)
                unused.discard(pattern)
    if unused:
        pattern = unused.pop()
        given = repr(pattern) if isinstance(pattern, str) else pattern.__name__
        raise EstimatorError(
            f"to_bayesian: prior for {given} matches no parameter of the module; expected a name, a "
            f"pattern like '*.bias', the name of a submodule, or a type of module. It has "
            f"{', '.join(names)}."
        )
    return rules


def _matches(module: nn.Module, name: str, pattern: str | type[nn.Module]) -> bool:
    """By name or pattern of the parameter, or by name or type of a module that contains it."""
    parts = name.split(".")
    owners = [".".join(parts[:i]) for i in range(len(parts))]
    if isinstance(pattern, str):
        return any(fnmatchcase(candidate, pattern) for candidate in (name, *owners[1:]))
    return any(isinstance(module.get_submodule(owner), pattern) for owner in owners)


def prior_of(name: str, value: Tensor, rule: Rule, hyperprior: Hyperprior) -> TorchDistribution | None:
    """The prior of one parameter, with the shape of its value as event shape.

    Raises:
        EstimatorError: the shape is another one.
    """
    if not hyperprior.sites:
        made = _made(name, value, rule)
        if _is_function(rule):
            _check_particles(name, made, is_new=False)
        return _shaped(name, value, made, Size())
    fn, particles = drawn(lambda: _made(name, value, rule), hyperprior)
    return _shaped(name, value, fn, particles)


def hyperprior_of(name: str, value: Tensor, rule: Rule) -> Hyperprior | None:
    """The sites that the prior of a parameter samples; None where there is no prior.

    Raises:
        EstimatorError: the prior can't be made, or has another shape than the parameter.
    """

    def prior_at(particles: Size) -> TorchDistribution | None:
        fn = _made(name, value, rule)
        if not particles:
            _check_particles(name, fn, is_new=True)
        return _shaped(name, value, fn, particles)

    if not _is_function(rule):
        return None if prior_at(Size()) is None else CERTAIN
    try:
        return learn(prior_at, value)
    except EstimatorError:
        raise
    except Exception as error:
        raise EstimatorError(
            f"to_bayesian: the prior's function raised {type(error).__name__} for '{name}', a "
            f"parameter of shape {tuple(value.shape)}: {error}. Let it serve all shapes of the network "
            f"(biases and weights of norm layers have one dim; w.shape[1:].numel(), the number of "
            f"inputs of a unit, is 1 for those), or give '{name}' an entry of its own before others: "
            f"{{'{name}': None, '*': ...}} learns it as it is."
        ) from error


def _made(name: str, value: Tensor, rule: Rule) -> TorchDistribution | None:
    """The prior as it was given, with the dtype and on the device of the value."""
    fn: Any = rule
    if _is_function(rule):
        fn = rule(name, value)  # type: ignore[misc]
    if fn is None:
        return None
    if not isinstance(fn, TorchDistributionMixin):
        raise EstimatorError(
            f"to_bayesian: the prior of '{name}' is {type(fn).__name__}; expected a distribution of "
            f"pyro.distributions, None for no prior, or a function of name and value that gives one."
        )
    return _like(fn, value)


def _check_particles(name: str, fn: TorchDistribution | None, is_new: bool) -> None:
    """Raises where a prior that samples nothing has the dims of something that was sampled before.

    ``is_new``: whether the network is being made, so that its prior may well be made from that. Later
    it may be by a function that looks outside, and then has a gradient.
    """
    if fn is None:
        return
    for handler in _PYRO_STACK:
        if not isinstance(handler, IndepMessenger) or handler.name not in PARTICLE_PLATES:
            continue
        if handler.dim is None or handler.size == 1:
            continue
        plates = (handler.size, *(1,) * (-1 - handler.dim))
        if fn.batch_shape[handler.dim :] == plates and (is_new or _has_gradient(fn)):
            raise EstimatorError(
                f"to_bayesian: the prior of '{name}' has batch shape {tuple(fn.batch_shape)}, as has "
                f"what is sampled at {handler.size} particles. If it is made from a variable, let the "
                f"prior's function itself sample that, at a site named after '{name}'. If it isn't, "
                f"give it the parameter's shape as an event, prior.expand(w.shape).to_event(w.dim())."
            )


def _has_gradient(fn: Any) -> bool:
    return any(
        isinstance(x, Tensor)
        and x.requires_grad
        or isinstance(x, torch.distributions.Distribution)
        and _has_gradient(x)
        for x in vars(fn).values()
    )


def _is_function(rule: Rule) -> bool:
    return callable(rule) and not isinstance(rule, TorchDistributionMixin)


def _shaped(
    name: str, value: Tensor, fn: TorchDistribution | None, particles: Size
) -> TorchDistribution | None:
    """The prior with the event shape of the value, and these dims of particles left of it."""
    if fn is None:
        return None
    own = value.dim() - fn.event_dim
    try:
        if own >= 0 and fn.event_shape == value.shape[own:]:
            return fn.expand(particles + value.shape[:own]).to_event(own)
    except RuntimeError:
        pass
    raise EstimatorError(
        f"to_bayesian: the prior of '{name}' has shape {tuple(fn.shape())}; expected that of the "
        f"parameter, {tuple(value.shape)}, or one that broadcasts to it."
    )


def _like(fn: Any, value: Tensor) -> Any:
    """The same distribution with the dtype, and on the device, of the value."""
    changed = {}
    for name, attribute in vars(fn).items():
        if isinstance(attribute, Tensor) and attribute.is_floating_point():
            new = attribute.to(value)
        elif isinstance(attribute, torch.distributions.Distribution):
            new = _like(attribute, value)
        else:
            continue
        if new is not attribute:
            changed[name] = new
    if not changed:
        return fn
    fn = copy(fn)
    vars(fn).update(changed)
    return fn

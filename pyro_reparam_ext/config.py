"""Attaching estimators to the sites of a guide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from .errors import EstimatorError
from .estimators.base import Estimator
from .estimators.default import default_estimator
from .estimators.hinted import hinted
from .ignored import warn_where_ignored
from .noise import NoiseSource

Message: TypeAlias = dict[str, Any]
Configuration: TypeAlias = (
    Estimator | Mapping[str, Estimator] | Callable[[Message], Estimator | None] | Literal["auto"] | None
)
"""One estimator for all sites that it supports, a mapping from site names, or a callable of a site."""
AUTO = "auto"
"""The configuration that an ELBO replaces by a measured one at its first call."""
Choice: TypeAlias = Callable[..., Mapping[str, Estimator]]
"""From an ELBO, with the model, the guide and the arguments of a call, to estimators for its sites."""

_choices: list[Choice] = []


def chooses(choice: Choice) -> Choice:
    """Decorates what is asked where :data:`AUTO` stands: what measures ELBOs comes after them."""
    _choices[:] = [choice]
    return choice


def chosen(elbo: object, *call: Any) -> Mapping[str, Estimator]:
    """The estimators that are chosen for an ELBO at its first call."""
    if getattr(elbo, "particles", None) == "fixed":
        raise EstimatorError(
            "estimators='auto' chooses by the noise of gradients, of which particles='fixed' leaves "
            "none; expected fresh noise. Leave estimators out, or choose by particles='independent'."
        )
    return _choices[0](elbo, *call)


def check_configuration(configuration: Configuration) -> None:
    """Raises :class:`~pyro_reparam_ext.EstimatorError` for anything that is not a configuration."""
    if configuration is None or configuration == AUTO or isinstance(configuration, Estimator):
        return
    if isinstance(configuration, Mapping):
        for name, estimator in configuration.items():
            _require_estimator(estimator, name)
    elif not callable(configuration) or isinstance(configuration, type):
        raise EstimatorError(
            f"estimators: expected an Estimator, a mapping {{site name: Estimator}}, a callable "
            f"site -> Estimator | None, 'auto', or None, was given {configuration!r}. Pass an "
            f"instance, for example DisARM()."
        )


def configured(configuration: Configuration, message: Message) -> Estimator | None:
    """The estimator that a configuration names for one site; None if it names none."""
    if configuration is None or isinstance(configuration, str):
        return None
    if isinstance(configuration, Estimator):
        return configuration if configuration.supports(message["fn"]) else None
    if isinstance(configuration, Mapping):
        return configuration.get(message["name"])
    estimator = configuration(message)
    return None if estimator is None else _require_estimator(estimator, message["name"])


def check_names(configuration: Configuration, sites: Iterable[str]) -> None:
    """Raises if a mapping names a site that the guide does not have."""
    if not isinstance(configuration, Mapping):
        return
    sites = list(sites)
    for name in configuration:
        if name not in sites:
            raise EstimatorError(
                f"site '{name}': an estimator is configured for it, but the guide has no latent site "
                f"of that name; it has {', '.join(map(repr, sites)) or 'none'}. Correct the name, or "
                f"configure by a callable if the site does not occur in every run."
            )


def resolve(configuration: Configuration, message: Message, source: NoiseSource) -> Estimator:
    """The estimator of a site, checked. ``source``: of the noise of all sites.

    Raises:
        EstimatorError: the estimator can't serve the site.
    """
    estimator, _ = choose(configuration, message, source)
    estimator.check(message["name"], message["fn"], source)
    return estimator


def choose(
    configuration: Configuration, message: Message, source: NoiseSource
) -> tuple[Estimator, str]:
    """The estimator of a site, and what has chosen it.

    The first that there is of: its own ``infer["estimator"]``; what the configuration says of this very
    site, by its name or by a callable; what it asks of other ELBOs (:func:`hinted`); the one estimator
    that is configured for all sites; the default.
    """
    name, infer = message["name"], message["infer"]
    if infer.get("estimator") is not None:
        return _require_estimator(infer["estimator"], name), "infer['estimator']"
    given = configured(configuration, message)
    if given is not None and not isinstance(configuration, Estimator):
        return given, "estimators="
    hint = hinted(message, given)
    if hint:
        return hint, "infer['enumerate']" if hint.enumerated else "infer['baseline']"
    if given:
        return given, "estimators="
    return default_estimator(message["fn"], source), "default"


class _ConfigMessenger(Messenger):
    """Writes ``infer["estimator"]`` at latent sites that have none."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        self.configuration = configuration
        self.seen: list[str] = []
        self.complete = False

    def __enter__(self) -> _ConfigMessenger:
        self.seen = []
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        if exception[0] is None and not self.complete:
            check_names(self.configuration, self.seen)
            self.complete = True

    def _pyro_sample(self, message: Message) -> None:
        fn = message["fn"]
        if message["is_observed"] or site_is_subsample(message):
            return
        self.seen.append(message["name"])
        if "estimator" not in message["infer"] and isinstance(fn, TorchDistributionMixin):
            estimator = configured(self.configuration, message)
            if estimator is not None:
                message["infer"]["estimator"] = estimator
        if "estimator" in message["infer"]:
            warn_where_ignored(f"site '{message['name']}': {message['infer']['estimator']!r}")


def config_estimator(guide: Callable[..., Any], estimators: Configuration) -> Callable[..., Any]:
    """A guide whose sites carry estimators, for any guide, without rewriting it.

    Never overwrites an estimator that a site has already.

    Args:
        guide: a Pyro guide: a function, a ``PyroModule`` or an autoguide.
        estimators: a mapping from site names to estimators, a callable ``site -> Estimator | None``
            of the Pyro message, or one estimator for all sites that it supports.

    Returns:
        The configured guide.

    Raises:
        EstimatorError: ``estimators`` is none of these, or ``"auto"``; or, when the guide first runs, a
            mapping names a site that it does not have.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def guide():
        ...     return pyro.sample("z", dist.Bernoulli(0.5))
        >>> guide = pre.config_estimator(guide, {"z": pre.DisARM()})
        >>> pyro.poutine.trace(guide).get_trace().nodes["z"]["infer"]["estimator"]
        DisARM(num_pairs=1)
    """
    check_configuration(estimators)
    if isinstance(estimators, str):
        raise EstimatorError(
            f"config_estimator: was given {estimators!r}, but a guide alone can't be measured; "
            f"expected estimators. Pass TraceEstimator_ELBO({estimators!r}), or what "
            f"select_estimators returns."
        )

    return _ConfigMessenger(estimators)(guide)


def _require_estimator(estimator: object, name: str) -> Estimator:
    if not isinstance(estimator, Estimator):
        raise EstimatorError(
            f"site '{name}': expected an Estimator, was given {estimator!r}. Pass an instance, for "
            f"example DisARM()."
        )
    return estimator

"""Names that stand for one thing in a run: sites and parameters of networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from pyro.poutine.trace_struct import Trace
from torch import nn

from ..errors import EstimatorError
from .hyperprior import Hyperprior

_MULTIPLE = "Multiple sample sites named "
"""How Pyro's error begins that names a site that was there before."""


@contextmanager
def one_network_a_name() -> Iterator[None]:
    """Says what to do where a network's site is there already.

    Raises:
        EstimatorError: it is.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(_MULTIPLE):
            raise
        site = str(error).removeprefix(_MULTIPLE)
        raise EstimatorError(
            f"site {site}: a network made by to_bayesian draws it a second time in one run; expected "
            f"one draw. If two networks have it, give each a name, to_bayesian(..., name='a'). If one "
            f"network is called twice, call it once, on torch.cat of the inputs, or make it an "
            f"attribute of a PyroModule whose forward makes both calls: they then see one draw."
        ) from error


def is_training() -> bool:
    """Whether the names of parameters are taken down, as by ``SVI``."""
    return bool(_traces_of_parameters())


def _traces_of_parameters() -> list[Trace]:
    return [x.trace for x in _PYRO_STACK if isinstance(x, TraceMessenger) and x.param_only]


@contextmanager
def check_parameters(parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """Sees to it that what is trained under these names are these parameters.

    Pyro's optimisers go by the names that a run meets. A second network of the same names would be met
    as the first, and would never move.

    Raises:
        EstimatorError: a name stands for another parameter.
    """
    traces = _traces_of_parameters()
    _check(parameters, traces)
    yield
    _check(parameters, traces)


def _check(parameters: dict[str, nn.Parameter], traces: list[Trace]) -> None:
    for trace in traces:
        for name, parameter in parameters.items():
            met = getattr(trace.nodes.get(name, {}).get("value"), "unconstrained", None)
            if met is not None and met() is not parameter:
                module = name.split("$$$")[0]
                raise EstimatorError(
                    f"parameter '{name}': the network made by to_bayesian has one of this name, but "
                    f"the parameter store has another, which would be trained in its place. Where two "
                    f"networks stand in one program, give each a name, to_bayesian(..., name='a'). "
                    f"Where the other is left from an earlier network, call pyro.clear_param_store(). "
                    f"Where it was loaded, take its values over by "
                    f"pyro.module('{module}', network.module, update_module_params=True)."
                )


def check_sites(hyperpriors: dict[str, Hyperprior]) -> None:
    """Raises where the priors of two parameters sample sites of one name."""
    owner: dict[str, str] = {}
    for parameter, hyperprior in hyperpriors.items():
        for site in hyperprior.sites:
            if site in owner:
                raise EstimatorError(
                    f"site '{site}': the priors of '{owner[site]}' and '{parameter}' both sample it; "
                    f'expected a name for each, as f"{{name}}_scale" in a function of name and value.'
                )
            owner[site] = parameter

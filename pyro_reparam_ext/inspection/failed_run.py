"""A program that fails: what is known to be wrong with the sites that it has met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from ..diagnosis import add_note
from ..distributions.rules.known_defects import defects
from ..evaluation.invisible import invisible


@contextmanager
def defects_noted(guide: Callable[..., Any], args: tuple, kwargs: dict) -> Iterator[None]:
    """Adds a note to an error raised inside: the defects of the guide's sites, which may be its reason.

    They are looked for in one more run of the guide, without validation.
    """
    try:
        yield
    except Exception as error:
        for note in _notes(guide, args, kwargs):
            add_note(error, note)
        raise


def _notes(guide: Callable[..., Any], args: tuple, kwargs: dict) -> list[str]:
    recorded = poutine.trace()
    with (
        invisible(guide),
        torch.no_grad(),
        pyro.validation_enabled(False),
        suppress(Exception),
        recorded,
    ):
        guide(*args, **kwargs)  # if it fails, the sites before that are known
    nodes = recorded.trace.nodes.values()
    sites = [x for x in nodes if x["type"] == "sample" and not site_is_subsample(x)]
    return [
        f"site '{node['name']}': {defect.what}. Take pre.distributions.{defect.instead}."
        for node in sites
        for defect in defects(node["fn"])
    ]

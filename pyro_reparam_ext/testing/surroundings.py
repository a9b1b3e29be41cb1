"""That a check leaves what is global as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch

from ..evaluation.invisible import same_random_state


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Starts from a seed and an empty parameter store; puts back all that is global."""
    dtype, validates = torch.get_default_dtype(), torch.distributions.Distribution._validate_args
    with same_random_state(), pyro.get_param_store().scope(), pyro.validation_enabled(True):
        torch.manual_seed(seed)
        with torch.enable_grad():
            try:
                yield
            finally:
                torch.set_default_dtype(dtype)
    torch.distributions.Distribution.set_default_validate_args(validates)


@contextmanager
def unchanged(who: str) -> Iterator[None]:
    """Raises if what runs inside changes anything global but the random state."""
    before = _global_state()
    yield
    for what, now in _global_state().items():
        if now != before[what]:
            raise AssertionError(
                f"{who}: {what} is {now} after a step, was {before[what]}. Put back what you change, "
                f"best by a context manager."
            )


def _global_state() -> dict[str, Any]:
    names = sorted(name for name in pyro.get_param_store() if not name.startswith("estimators/"))
    return {
        "the default dtype": torch.get_default_dtype(),
        "whether gradients are recorded": torch.is_grad_enabled(),
        "the validation of distributions": torch.distributions.Distribution._validate_args,
        "the names in the parameter store": names,
    }

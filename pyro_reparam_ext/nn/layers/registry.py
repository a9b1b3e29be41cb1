"""Every layer that random weights may enter, by the function of torch that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import attention, convolution, embedding, linear, normalization, products, recurrent

LAYERS: dict[Any, Callable[..., Any]] = {
    **linear.LAYERS,
    **convolution.LAYERS,
    **embedding.LAYERS,
    **normalization.LAYERS,
    **attention.LAYERS,
    **recurrent.LAYERS,
    **products.LAYERS,
}
"""Function of torch -> the same with the run before its arguments."""

"""The gradients of a study as datasets with named dims, and datasets as ArviZ below 1 takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EstimatorError

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import Dataset


def gradient_datasets(
    draws: Mapping[str, Mapping[str, np.ndarray]],
    reference: np.ndarray,
    names: list[str],
    settings: Mapping[str, Any],
) -> dict[str, Dataset]:
    """The group ``gradients``, dims ``(chain, draw, estimator, <param dims>)``, and ``reference``.

    Args:
        draws: by label and parameter, shape ``(draws, *param)``.
        reference: the mean of the gradient that is taken as true, flat.
        names: of the parameters, in the order of ``reference``.
        settings: attributes of the draws.
    """
    import xarray as xr

    gradients, means = {}, {}
    for name in names:
        values = np.stack([of_label[name] for of_label in draws.values()], axis=1)[None]
        shape = values.shape[3:]
        dims = tuple(f"{name}_dim_{i}" for i in range(len(shape)))
        gradients[name] = (("chain", "draw", "estimator", *dims), values)
        size = int(np.prod(shape))
        means[name], reference = (dims, reference[:size].reshape(shape)), reference[size:]
    count = len(next(iter(gradients.values()))[1][0]) if gradients else 0
    drawn = xr.Dataset(
        gradients,
        coords={"chain": [0], "draw": np.arange(count), "estimator": list(draws)},
        attrs={key: str(value) for key, value in settings.items()},
    )
    return {"gradients": drawn, "reference": xr.Dataset(means)}


def inferencedata(groups: Mapping[str, Dataset]) -> InferenceData:
    """Groups as an ``arviz.InferenceData``.

    Raises:
        EstimatorError: ArviZ has none any more.
    """
    import arviz as az

    if not hasattr(az, "InferenceData"):
        raise EstimatorError(
            f"to_inferencedata: ArviZ {az.__version__} has no InferenceData; expected one below 1. Use "
            f"to_datatree, which all of its functions take."
        )
    kwargs: dict[str, Any] = dict(groups)
    return az.InferenceData(**kwargs)

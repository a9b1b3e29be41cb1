"""The gradients of a study as datasets: dims, values, and ArviZ without an ``InferenceData``."""

import arviz as az
import numpy as np
import pytest

import pyro_reparam_ext as pre
from pyro_reparam_ext.study.datasets import gradient_datasets, inferencedata

DRAWS = {
    "one": {"loc": np.arange(6.0).reshape(3, 2), "scale": np.ones(3)},
    "other": {"loc": np.zeros((3, 2)), "scale": 2 * np.ones(3)},
}


@pytest.fixture
def groups():
    return gradient_datasets(DRAWS, np.array([7.0, 0.5, 0.25]), ["scale", "loc"], {"seed": 0})


def test_dims_and_values(groups):
    drawn, reference = groups["gradients"], groups["reference"]
    assert drawn["loc"].dims == ("chain", "draw", "estimator", "loc_dim_0")
    np.testing.assert_array_equal(drawn["loc"].sel(chain=0, estimator="one"), DRAWS["one"]["loc"])
    np.testing.assert_array_equal(drawn["scale"].sel(chain=0, estimator="other"), [2.0, 2.0, 2.0])
    assert drawn.attrs == {"seed": "0"}
    assert reference["scale"].item() == 7.0  # flat, in the order of the names
    np.testing.assert_array_equal(reference["loc"], [0.5, 0.25])


def test_arviz_below_one_has_them(groups):
    found = inferencedata(groups)
    assert found.groups() == ["gradients", "reference"]
    assert found.gradients.identical(groups["gradients"])


def test_arviz_without_inferencedata_is_named(groups, monkeypatch):
    monkeypatch.delattr(az, "InferenceData")
    with pytest.raises(pre.EstimatorError, match=f"ArviZ {az.__version__} has no .* Use to_datatree"):
        inferencedata(groups)

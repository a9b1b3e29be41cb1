"""Regression data: sets of the UCI repository with their train/test splits, or diabetes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Regression:
    """Features ``(examples, features)`` and targets, standardised by the training examples.

    ``loc`` and ``scale`` take a standardised target back to its unit.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    loc: Tensor
    scale: Tensor


def standardised(
    name: str, x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray
) -> Regression:
    """The examples of those indices; a feature that is constant in training is left at zero."""
    x_loc, x_scale = x[train].mean(0), x[train].std(0)
    x_scale = np.where(x_scale > 1e-12 * abs(x_loc), x_scale, 1.0)
    loc, scale = y[train].mean(), y[train].std()
    x, y = ((values - m) / s for values, m, s in ((x, x_loc, x_scale), (y, loc, scale)))
    arrays = (x[train], y[train], x[test], y[test], loc, scale)
    return Regression(name, *(torch.as_tensor(a, dtype=torch.float32) for a in arrays))


def diabetes(split: int = 0, test_share: float = 0.25) -> Regression:
    """The 442 patients of scikit-learn, split at random by that seed."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(split).permutation(len(y))
    num_test = round(test_share * len(y))
    return standardised("diabetes", x, y, order[num_test:], order[:num_test])


def load(data_dir: str | Path, name: str, split: int = 0) -> Regression:
    """A set in the format of Hernández-Lobato and Adams (2015), https://arxiv.org/abs/1502.05336.

    Args:
        data_dir: folder with ``NAME/data/data.txt``, beside it the columns of features and target in
            ``index_features.txt`` and ``index_target.txt``, and the rows of every split in
            ``index_train_SPLIT.txt`` and ``index_test_SPLIT.txt``.
        name: of the folder, such as ``concrete``.
        split: 0 to 19.

    Raises:
        FileNotFoundError: there is no such set or split.
        ValueError: an index is outside of the data, or rows of the test set are trained on.
    """
    folder = Path(data_dir) / name / "data"
    if not folder.is_dir():
        found = sorted(path.parent.parent.name for path in Path(data_dir).glob("*/data/data.txt"))
        raise FileNotFoundError(
            f"{folder}: no such folder. {data_dir} holds the sets: {', '.join(found) or 'none'}."
        )
    data = np.loadtxt(folder / "data.txt", ndmin=2)
    features = _indices(folder / "index_features.txt", data.shape[1])
    target = _indices(folder / "index_target.txt", data.shape[1])
    if len(target) != 1:
        raise ValueError(f"{folder / 'index_target.txt'}: {len(target)} columns, expected one.")
    train, test = (
        _indices(folder / f"index_{part}_{split}.txt", len(data)) for part in ("train", "test")
    )
    shared = np.intersect1d(train, test)
    if len(shared):
        raise ValueError(
            f"{folder}: split {split} has {len(shared)} rows both in training and test set, expected "
            f"none; row {shared[0]} is one."
        )
    return standardised(name, data[:, features], data[:, target[0]], train, test)


def _indices(path: Path, size: int) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Splits are numbered from 0, mostly to 19.")
    indices = np.loadtxt(path, ndmin=1).astype(int)
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= size:
        raise ValueError(f"{path}: expected indices from 0 to {size - 1}, found {indices}.")
    return indices

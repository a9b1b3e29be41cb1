"""Intensities of images in [0, 1]: the digits of scikit-learn, or MNIST from its IDX files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

MNIST_TRAIN = "train-images-idx3-ubyte.gz"
MNIST_TEST = "t10k-images-idx3-ubyte.gz"


@dataclass(frozen=True)
class Images:
    """Intensities of shape ``(images, pixels)``, split into training and test images."""

    name: str
    train: Tensor
    test: Tensor

    @property
    def pixels(self) -> int:
        return self.train.shape[1]


def load(data_dir: str | Path | None = None) -> Images:
    """MNIST from ``data_dir``, or scikit-learn's digits if it is None."""
    return digits() if data_dir is None else mnist(data_dir)


def digits(num_test: int = 297) -> Images:
    """The 1,797 digits of 8x8 pixels, shuffled and split the same way every time."""
    from sklearn.datasets import load_digits

    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images = images[order]
    return Images("digits", images[num_test:], images[:num_test])


def mnist(data_dir: str | Path) -> Images:
    """The images of MNIST in its own split.

    Args:
        data_dir: folder with ``train-images-idx3-ubyte.gz`` and ``t10k-images-idx3-ubyte.gz``.
    """
    train, test = (_flat_images(Path(data_dir) / name) for name in (MNIST_TRAIN, MNIST_TEST))
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"{data_dir}: images of {train.shape[1]} pixels in {MNIST_TRAIN}, "
            f"of {test.shape[1]} in {MNIST_TEST}; expected the same size."
        )
    return Images("mnist", train, test)


def _flat_images(path: Path) -> Tensor:
    images = read_idx(path)
    if images.ndim != 3 or 0 in images.shape:
        raise ValueError(
            f"{path}: expected images, an array (images, rows, columns), found {images.shape}."
        )
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32)) / 255


def read_idx(path: str | Path) -> np.ndarray:
    """An array of unsigned bytes from a gzipped IDX file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a gzip file, or not an IDX file of unsigned bytes, or is incomplete.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file. --data-dir takes a folder with MNIST's {MNIST_TRAIN} and "
            f"{MNIST_TEST}."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a complete gzip file: {error}.") from error
    if len(content) < 4:
        raise ValueError(f"{path}: not an IDX file, it has {len(content)} bytes only.")
    zero, kind, dims = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != 0x08:
        raise ValueError(
            f"{path}: not an IDX file of unsigned bytes: it starts with {content[:4].hex()}, "
            f"expected 000008 and the number of dims."
        )
    start = 4 + 4 * dims
    if len(content) < start:
        raise ValueError(f"{path}: the header ends after {len(content)} of {start} bytes.")
    shape = struct.unpack(f">{dims}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path}: {len(content) - start} bytes of data, expected {math.prod(shape)} for shape "
            f"{shape}. Was the file cut short?"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)

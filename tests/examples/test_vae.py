"""The VAE example: trains, compares, and reads MNIST's files."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch

import pyro_reparam_ext as pre

EXAMPLES = Path(__file__).parents[2] / "examples"
LATENTS = ("gaussian", "bernoulli", "onehot")
TOO_LARGE = {("bernoulli", "Enumeration")}


@pytest.fixture(scope="module")
def vae() -> Iterator[ModuleType]:
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield import_module("vae")
    for name in {"vae", "comparison", "datasets", "training"} - before:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def datasets(vae: ModuleType) -> ModuleType:
    return sys.modules["datasets"]


def run(vae: ModuleType, out: Path, *options: str) -> None:
    vae.main(vae.parse(["--out", str(out), *options]))


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def mnist(datasets: ModuleType, tmp_path: Path) -> Path:
    """A folder with files of MNIST's names and format, 120 and 20 images of 28x28."""
    pixels = np.random.default_rng(0).integers(0, 256, (140, 28, 28))
    write_idx(tmp_path / datasets.MNIST_TRAIN, pixels[:120])
    write_idx(tmp_path / datasets.MNIST_TEST, pixels[120:])
    return tmp_path


@pytest.mark.parametrize("latent", LATENTS)
def test_smoke(vae, latent, tmp_path, capsys):
    run(vae, tmp_path, "--latent", latent, "--smoke")
    curve = pd.read_csv(tmp_path / "training.csv")
    assert curve["step"].tolist() == [0, 1, 2, 3]
    assert np.isfinite(curve["test_elbo"]).all()
    assert f"wrote {tmp_path / 'training.csv'}" in capsys.readouterr().out


def supported() -> list[tuple[str, str]]:
    """Every pair of latents and public estimator that serves them."""
    coordinates = {
        "gaussian": torch.distributions.Normal(0.0, 1.0),
        "bernoulli": torch.distributions.Bernoulli(0.5),
        "onehot": torch.distributions.OneHotCategorical(torch.ones(2)),
    }
    pairs = []
    for latent, fn in coordinates.items():
        for name in pre.estimators.__all__:
            cls = getattr(pre, name)
            if isinstance(fn, cls.supported) and (name != "Pathwise" or fn.has_rsample):
                pairs.append((latent, name))
    return [pair for pair in pairs if pair not in TOO_LARGE]


@pytest.mark.parametrize(("latent", "estimator"), supported())
def test_every_estimator_that_serves_the_latents_trains(vae, latent, estimator, tmp_path):
    options = ("--latent", latent, "--estimator", estimator, "--steps", "3", "--batch-size", "5")
    run(vae, tmp_path, *options)
    assert np.isfinite(pd.read_csv(tmp_path / "training.csv")["test_elbo"]).all()


def test_an_estimator_that_does_not_serve_the_latents_is_an_error(vae, tmp_path):
    with pytest.raises(pre.EstimatorError, match="site 'z': DisARM can't serve Normal"):
        run(vae, tmp_path, "--latent", "gaussian", "--estimator", "DisARM", "--smoke")


def test_training_raises_the_test_elbo(vae, tmp_path):
    run(vae, tmp_path, "--latent", "gaussian", "--steps", "200")
    curve = pd.read_csv(tmp_path / "training.csv")["test_elbo"]
    assert curve.iloc[-1] > curve.iloc[0] + 5


@pytest.mark.parametrize("latent", LATENTS)
def test_compare(vae, latent, tmp_path, capsys):
    run(vae, tmp_path, "--latent", latent, "--compare", "--smoke")
    printed = capsys.readouterr().out
    for suffix in ("png", "nc", "csv"):
        assert f"wrote {tmp_path / 'comparison'}.{suffix}" in printed
        assert (tmp_path / f"comparison.{suffix}").stat().st_size > 0
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert set(table["parameters"]) == {"encoder", "decoder"}
    assert {"relative_variance", "relative_bias", "bias_z"} <= set(table.columns)
    biased = set(table["estimator"][~table["unbiased"]])
    assert len(biased) == (0 if latent == "gaussian" else 3)
    gradients = az.from_netcdf(tmp_path / "comparison.nc").gradients
    assert set(gradients["estimator"].values) == set(table["estimator"])
    assert gradients.sizes["draw"] == 8


def test_mnist_files(vae, mnist, tmp_path):
    run(vae, tmp_path, "--data-dir", str(mnist), "--epochs", "1", "--batch-size", "40")
    assert pd.read_csv(tmp_path / "training.csv")["step"].max() == 3


def test_idx_values(datasets, mnist):
    images = datasets.load(mnist)
    assert images.train.shape == (120, 784) and images.test.shape == (20, 784)
    raw = datasets.read_idx(mnist / datasets.MNIST_TEST)
    torch.testing.assert_close(images.test[3, 30] * 255, torch.tensor(float(raw[3, 1, 2])))


def _remove(path: Path) -> None:
    path.unlink()


def _not_gzip(path: Path) -> None:
    path.write_bytes(b"an error page")


def _cut_gzip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _damaged_gzip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def _cut_data(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def _cut_header(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:10]))


def _empty(path: Path) -> None:
    path.write_bytes(gzip.compress(b""))


def _floats(path: Path) -> None:
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 0x0D, 1, 0)))


def _labels(path: Path) -> None:
    write_idx(path, np.arange(10))


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        (_remove, FileNotFoundError, "no such file"),
        (_not_gzip, ValueError, "not a complete gzip file"),
        (_cut_gzip, ValueError, "not a complete gzip file"),
        (_damaged_gzip, ValueError, "not a complete gzip file"),
        (_cut_data, ValueError, "Was the file cut short"),
        (_cut_header, ValueError, "the header ends after 10 of 16 bytes"),
        (_empty, ValueError, "0 bytes only"),
        (_floats, ValueError, "not an IDX file of unsigned bytes"),
        (_labels, ValueError, "expected images"),
    ],
)
def test_a_bad_file_is_named(datasets, mnist, damage, error, match):
    damage(mnist / datasets.MNIST_TEST)
    with pytest.raises(error, match=f"(?s){datasets.MNIST_TEST}.*{match}"):
        datasets.load(mnist)

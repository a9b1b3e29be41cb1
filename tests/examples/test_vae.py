"""The VAE example: trains, compares, and reads MNIST's files."""

from __future__ import annotations

import copy
import gzip
import struct
from pathlib import Path
from types import ModuleType

import arviz as az
import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam

import pyro_reparam_ext as pre

from ..compiled.steps import GraphSVI
from ..slow import slow

LATENTS = ("gaussian", "bernoulli", "onehot")
TOO_LARGE = {("bernoulli", "Enumeration")}


@pytest.fixture(scope="module")
def vae(example) -> ModuleType:
    return example("vae")


@pytest.fixture(scope="module")
def datasets(example) -> ModuleType:
    return example("datasets")


@pytest.fixture(scope="module")
def candidates(example) -> ModuleType:
    return example("vae_candidates")


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
    printed = capsys.readouterr().out
    for name in ("training.csv", "training.md", "training.png", "vae.pt"):
        assert f"wrote {tmp_path / name}" in printed
        assert (tmp_path / name).stat().st_size > 0


@slow
def test_compiled_smoke(vae, tmp_path):
    run(vae, tmp_path, "--smoke", "--compile")
    assert np.isfinite(pd.read_csv(tmp_path / "training.csv")["test_elbo"]).all()


def test_a_graph_of_the_step_trains_alike(vae, tmp_path):
    curves = []
    for cls in (SVI, GraphSVI):
        args = vae.parse(["--smoke", "--out", str(tmp_path)])
        args.svi = cls
        vae.main(args)
        curves.append(pd.read_csv(tmp_path / "training.csv")["test_elbo"].tolist())
    eager, graph = curves
    assert len(set(eager)) == 4
    assert graph == pytest.approx(eager, rel=1e-5)


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
            if name == "Combine":  # of others
                continue
            if isinstance(fn, cls.supported) and (not issubclass(cls, pre.Pathwise) or fn.has_rsample):
                pairs.append((latent, name))
    return [pair for pair in pairs if pair not in TOO_LARGE]


@pytest.mark.parametrize(("latent", "estimator"), supported())
def test_every_estimator_that_serves_the_latents_trains(vae, latent, estimator):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    family = vae.LATENTS[latent]
    made = vae.VAE(16, 4, family(family.sizes["digits"]))
    before = copy.deepcopy(made.state_dict())
    svi = SVI(made.model, made.guide, Adam({"lr": 1e-3}), vae.by_class_name(estimator))
    assert np.isfinite(svi.step(torch.bernoulli(torch.full((5, 16), 0.5))))
    for name, value in made.state_dict().items():
        assert value.isfinite().all()
        assert not value.equal(before[name]), name


def test_an_estimator_named_by_its_class_is_the_candidate_of_that_class(vae):
    assert vae.by_class_name("LeaveOneOut").num_particles == 2
    assert vae.by_class_name("DisARM").num_particles == 1


def test_an_estimator_that_does_not_serve_the_latents_is_an_error(vae, tmp_path):
    with pytest.raises(pre.EstimatorError, match="site 'z': DisARM can't serve Normal"):
        run(vae, tmp_path, "--latent", "gaussian", "--estimator", "DisARM", "--smoke")


def test_training_raises_the_test_elbo(vae, tmp_path):
    run(vae, tmp_path, "--latent", "gaussian", "--steps", "100")
    curve = pd.read_csv(tmp_path / "training.csv")["test_elbo"]
    assert curve.iloc[-1] > curve.iloc[0] + 5


def test_a_bias_measured_as_zero_is_not_told_from_zero(example):
    rows = pd.DataFrame({"bias_z": [5.0, 5.0, 1.0, np.nan], "relative_bias": [0.1, 0.0, 0.1, np.nan]})
    assert example("style").told_from_zero(rows).tolist() == [True, False, False, False]


RELAXED = ["GumbelSoftmax, T=1", "StraightThrough", "ST-GumbelSoftmax, T=1"]
SCORE_FUNCTIONS = ["ScoreFunction, ema", "LeaveOneOut, 2 particles", "LeaveOneOut, 4 particles"]
COMPARED = {
    "gaussian": ["Pathwise", "Pathwise, 4 particles", *SCORE_FUNCTIONS],
    "bernoulli": [*SCORE_FUNCTIONS, "DisARM", "DisARM, 2 pairs", "REBAR", "LocalExpectation", *RELAXED],
    "onehot": [*SCORE_FUNCTIONS, "DisARM", "DisARM, 2 pairs", "REBAR", "LocalExpectation", *RELAXED],
}


@pytest.mark.parametrize("latent", LATENTS)
def test_all_candidates_that_serve_the_latents_are_compared(vae, candidates, latent):
    family = vae.LATENTS[latent]
    prior = family(family.sizes["digits"]).prior(torch.zeros(1))
    assert list(candidates.candidates(prior)) == COMPARED[latent]


def test_compare(vae, tmp_path, capsys):
    latent = "bernoulli"
    run(vae, tmp_path, "--latent", latent, "--compare", "--smoke")
    printed = capsys.readouterr().out
    for ending in (".png", ".nc", ".csv", ".md", "_gradients.csv", "_gradients.md"):
        path = tmp_path / f"{latent}{ending}"
        assert f"wrote {path}" in printed
        assert path.stat().st_size > 0
    table = pd.read_csv(tmp_path / f"{latent}_gradients.csv")
    assert set(table["parameters"]) == {"encoder", "decoder"}
    assert {"relative_variance", "relative_bias", "bias_z"} <= set(table.columns)
    biased = set(table["estimator"][~table["unbiased"]])
    assert biased == set(RELAXED)
    gradients = az.from_netcdf(tmp_path / f"{latent}.nc").gradients
    assert set(gradients["estimator"].values) == set(table["estimator"])
    assert gradients.sizes["draw"] == 8
    overview = pd.read_csv(tmp_path / f"{latent}.csv")
    assert overview["estimator"].tolist() == table["estimator"].unique().tolist()
    assert np.isfinite(overview["test ELBO"]).all()


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

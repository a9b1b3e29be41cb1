"""The import of the package, in a process of its own: what it loads, says and writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_reparam_ext as pre

SOURCE = Path(pre.__file__).parents[1]
DEAR = (
    "arviz",
    "cloudpickle",
    "h5netcdf",
    "matplotlib",
    "pandas",
    "scipy",
    "sympy",
    "torch._inductor",
    "xarray",
)
"""Modules that take long to load, and that few programs need."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("here")


@pytest.fixture(scope="module")
def imported(folders):
    """A process that imports the package and prints what is loaded then."""
    home, here = folders
    places = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR")
    environment = {**os.environ, **dict.fromkeys(places, str(home)), "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", "import sys, pyro_reparam_ext; print(*sys.modules)"]
    return subprocess.run(
        command, cwd=here, env=environment, check=True, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", DEAR)
def test_import_leaves_out(name, imported):
    loaded = imported.stdout.split()
    assert "pyro_reparam_ext" in loaded
    assert name not in loaded


def test_import_is_silent(imported):
    assert imported.stderr == ""


def test_import_writes_no_file(folders, imported):
    assert [path for folder in folders for path in folder.rglob("*")] == []


def test_version_is_that_of_the_citation():
    assert f"\nversion: {pre.__version__}\n" in (SOURCE / "CITATION.cff").read_text()

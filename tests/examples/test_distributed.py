"""Training in several processes: it runs, and all of them end with the same parameters."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from ..slow import one_in
from .conftest import EXAMPLES

TIMEOUT = 240
"""Seconds, of which nearly all are imports on a machine that does much else."""


@pytest.fixture(scope="module")
def distributed(example) -> ModuleType:
    return example("distributed")


def test_smoke(distributed, tmp_path, capsys):
    distributed.main(distributed.parse(["--smoke", "--out", str(tmp_path)]))
    name = "autograd-1"
    (row,) = pd.read_csv(tmp_path / f"{name}.csv").to_dict("records")
    assert row["processes"] == 1 and row["images a step"] == 200 and np.isfinite(row["test ELBO"])
    printed = capsys.readouterr().out
    for file in (f"{name}.csv", f"{name}.md", "vae.pt"):
        assert f"wrote {tmp_path / file}" in printed


@pytest.mark.parametrize("options", one_in(2, [[], ["--compile"]], 1), ids=["DDP", "compiled"])
def test_two_processes(options, tmp_path):
    """Without a compiler, which takes a minute: what it makes is tested with the package."""
    script = [str(EXAMPLES / "distributed.py"), "--smoke", "--out", str(tmp_path)]
    (tmp_path / "bin").mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, *script, *options],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(EXAMPLES.parent),
            "PATH": str(tmp_path / "bin"),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    (row,) = pd.read_csv(tmp_path / f"{'compiledsvi' if options else 'ddp'}-2.csv").to_dict("records")
    assert row["processes"] == 2 and row["alike"] and np.isfinite(row["test ELBO"])

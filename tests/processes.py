"""Runs a function in several processes that can reach one another, as ``torchrun`` starts them."""

from __future__ import annotations

import multiprocessing as mp
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyro
import torch
import torch.distributed as dist

TIMEOUT = 180.0
"""Seconds after which processes are ended, and the test fails."""


def on_ranks(function: Callable[..., Any], *args: Any, size: int = 2) -> list[Any]:
    """What ``function(rank, *args)`` returns in each of ``size`` processes of one gloo group.

    Raises:
        AssertionError: one of them failed, with its traceback, or all took too long.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["pyro", "pyro_reparam_ext", __name__])
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_run, args=(function, rank, size, folder, args), daemon=True)
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + TIMEOUT
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in processes]
        late = [rank for rank, code in enumerate(codes) if code is None]
        for process in processes:
            process.kill()
            process.join()
        failed = [path.read_text() for path in sorted(Path(folder).glob("*.failed"))]
        assert not failed, "\n".join(failed)
        assert not late, f"ranks {late} were not done after {TIMEOUT:.0f} s"
        assert not any(codes), f"exit codes of the ranks: {codes}"
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _run(function: Callable[..., Any], rank: int, size: int, folder: str, args: tuple) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error", UserWarning)
    pyro.enable_validation(True)
    pyro.set_rng_seed(rank)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=TIMEOUT),
        )
        torch.save(function(rank, *args), Path(folder) / f"{rank}.pt")
        dist.destroy_process_group()
    except BaseException:
        (Path(folder) / f"{rank}.failed").write_text(f"rank {rank}: {traceback.format_exc()}")
        raise

"""Machine code: kept, checked, and the same as its graph."""

import hashlib
import os
import subprocess
import sys
import time
from threading import Thread
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam
from torch.fx.experimental.proxy_tensor import make_fx

import pyro_reparam_ext as pre
from pyro_reparam_ext.compiled import backends, steady
from pyro_reparam_ext.compiled.graph import agree

from ..slow import one_in, slow
from .steps import GraphSVI, adam, taken


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache for the tests of this module: a program is compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cached(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache / "pyro_reparam_ext"


def model(x):
    z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


def guide(x):
    logits = pyro.param("logits", torch.zeros(2))
    pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


DATA = torch.linspace(-1.0, 2.0, 8)
STRIDES = [DATA, torch.stack([DATA, -DATA], -1)[:, 0]]


def svi_of(cls=pre.CompiledSVI, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return cls(model, guide, adam(), pre.TraceEstimator_ELBO(pre.DisARM()), **options)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.pt2")}


@pytest.mark.parametrize("x", one_in(2, STRIDES), ids=["dense", "strided"])
def test_compiled_steps_are_the_eager_ones(cached, x):
    eager = taken(svi_of(SVI), lambda number: (x + 0,) if x.is_contiguous() else (x,), 5)
    svi = svi_of()
    compiled = taken(svi, lambda number: (x + 0,) if x.is_contiguous() else (x,), 5)
    assert next(iter(svi._steps.values())).run.__qualname__ != "plain.<locals>.run"
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_they_are_kept_for_the_next_process(cached):
    svi_of().run(3, DATA, progress=False)
    before = files(cached)
    assert before and cached.stat().st_mode & 0o077 == 0
    script = f"""
import sys; sys.path.insert(0, {os.getcwd()!r})
from tests.compiled.test_backends import svi_of, DATA
svi_of().run(3, DATA, progress=False)
print("torch._inductor.compile_fx" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert files(cached) == before


@slow
def test_a_damaged_file_is_compiled_again(cached):
    svi_of().run(3, DATA, progress=False)
    for path in files(cached):
        path.write_bytes(path.read_bytes()[:-100])
    before = files(cached)
    assert svi_of().run(3, DATA, progress=False).losses.isfinite().all()
    assert files(cached) != before


def test_what_several_want_at_once_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gm = make_fx(lambda x: [x + 1])(DATA)
    made = []

    def compile_slowly(gm, example, path):
        made.append(path)
        time.sleep(0.2)
        path.write_bytes(b"code")
        path.with_suffix(".sha256").write_text(hashlib.sha256(b"code").hexdigest())

    monkeypatch.setattr(backends, "_compile", compile_slowly)
    monkeypatch.setattr(
        torch._C._aoti, "AOTIModelPackageLoader", lambda *_: SimpleNamespace(boxed_run=0)
    )
    threads = [Thread(target=backends.ahead_of_time, args=(gm, [DATA])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_folder_that_others_can_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "pyro_reparam_ext").mkdir(mode=0o777)
    (tmp_path / "pyro_reparam_ext").chmod(0o777)
    svi = svi_of()
    svi.step(DATA)
    with pytest.raises(pre.EstimatorError, match="nobody else can write"):
        svi.step(DATA)


def test_without_a_compiler_the_graph_is_run_as_it_is(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(backends.shutil, "which", lambda name: None)
    svi = svi_of()
    svi.step(DATA)
    with pytest.warns(UserWarning, match="No C\\+\\+ compiler was found.*Install g\\+\\+"):
        svi.step(DATA)
    assert len(svi._steps) == 1
    svi.step(DATA)


# -- a compiler that is at fault --------------------------------------------------------------------


def faulty(gm, example):
    """Loses a factor."""
    run = backends.plain(gm, example)

    def wrong(inputs):
        loss, *rest = run(inputs)
        return [loss * 1.001, *rest]

    return wrong


def forgetful(gm, example):
    """Does not write one of its inputs."""
    run = backends.plain(gm, example)
    return lambda inputs: run([inputs[0].clone(), *inputs[1:]])


@pytest.mark.parametrize("backend", [faulty, forgetful])
def test_a_compiler_at_fault_is_found_out(backend):
    class Faulty(GraphSVI):
        pass

    Faulty.backend = staticmethod(backend)
    svi = svi_of(Faulty)
    svi.step(DATA)
    before = pyro.param("logits").clone()
    with pytest.raises(pre.EstimatorError, match="the compiler is at fault"):
        svi.step(DATA)
    assert torch.equal(pyro.param("logits"), before)
    svi = svi_of(Faulty, fallback="eager")
    svi.step(DATA)
    with pytest.warns(UserWarning, match="the compiler is at fault"):
        svi.step(DATA)
    assert not torch.equal(pyro.param("logits"), before)


def scaled_sums(cls):
    """Losses of a program with a sum that is scaled, behind a matrix product."""
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

    def model():
        p = pyro.param("p", torch.eye(4))
        pyro.factor("f", -torch.add(x @ x, p, alpha=0.5).square().sum())

    pyro.clear_param_store()
    svi = cls(model, lambda: None, Adam({"lr": 0.1}), pre.TraceEstimator_ELBO())
    return [svi.step() for _ in range(4)]


INF, NAN = torch.inf, torch.nan


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ([INF, -INF], [INF, -INF], True),
        ([1.0, INF, NAN], [1.0 + 1e-15, INF, NAN], True),
        ([1.0, INF], [1.1, INF], False),
        ([1.0, INF], [1.0, -INF], False),
        ([1.0, 2.0], [1.0, INF], False),
        ([1.0, NAN], [1.0, 2.0], False),
    ],
)
def test_what_is_not_finite_agrees_with_itself(a, b, same):
    """A mask of infinities may come out of a graph as it went in."""
    a, b = (torch.tensor(x, dtype=torch.float64) for x in (a, b))
    assert agree(a, b, b) is same and agree(b, a, a) is same


def test_a_scaled_sum_behind_a_matrix_product(cached):
    assert scaled_sums(pre.CompiledSVI) == pytest.approx(scaled_sums(SVI), rel=1e-5)


@slow
def test_the_inductor_of_this_torch_loses_the_scale_and_is_found_out(cached, monkeypatch):
    """Once it does not, the graph need not be rewritten."""
    monkeypatch.setattr(steady, "without_alpha", lambda gm: None)
    with pytest.raises(pre.EstimatorError, match="the compiler is at fault"):
        scaled_sums(pre.CompiledSVI)

"""How the examples train: every script takes ``--compile``, and stops where it is asked to."""

from __future__ import annotations

import ast
import itertools
from types import ModuleType

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI

import pyro_reparam_ext as pre

from ..compiled.steps import GraphSVI, adam
from .conftest import EXAMPLES


def has_main(script: str) -> bool:
    return any(getattr(x, "name", None) == "main" for x in ast.parse(script).body)


SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if has_main(path.read_text("utf-8")))


@pytest.fixture(scope="module")
def training(example) -> ModuleType:
    return example("training")


def test_the_scripts_are_found():
    assert len(SCRIPTS) == 17


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_takes_compile(example, script):
    parse = example(script).parse
    if script == "distributed":  # whose other way is no SVI
        assert parse(["--compile"]).compile and not parse([]).compile
        return
    assert parse([]).svi is SVI
    assert parse(["--compile"]).svi is pre.CompiledSVI


def model(x: torch.Tensor, scale: float) -> None:
    z = pyro.sample("z", dist.Normal(0.0, scale))
    pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x: torch.Tensor, scale: float) -> None:
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


def location() -> float:
    return pyro.param("loc").item()


@pytest.mark.parametrize("cls", [SVI, GraphSVI])
def test_stretches_take_the_steps_of_a_plain_loop(training, cls):
    data = torch.linspace(-1.0, 1.0, 7)

    def trainer(cls: type[SVI]) -> SVI:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        return cls(model, guide, adam(), pre.TraceEstimator_ELBO())

    svi, expected = trainer(SVI), {}
    for step in range(8):
        expected[step] = location() if step else 0.0
        if step < 7:
            svi.step(data[step], 2.0)

    svi, inside, entered = trainer(cls), [], itertools.count()

    class Context:
        def __enter__(self) -> None:
            inside.append(next(entered))

        def __exit__(self, *error: object) -> None:
            inside.pop()

    batches = ((x, 2.0) for x in data)
    seen, times = {}, []
    for step, seconds in training.stretches(svi, [0, 1, 3, 7], batches=batches, context=Context):
        assert not inside
        seen[step] = location() if step else 0.0
        times.append(seconds)
    assert next(entered) > 0
    assert seen == pytest.approx({step: expected[step] for step in (0, 1, 3, 7)}, rel=1e-5)
    # The first two steps count as those after them.
    assert times[:2] == [0.0, 0.0] and 0 < times[2] < times[3]

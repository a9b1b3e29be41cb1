from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.study import draws as draws_module
from pyro_reparam_ext.study.parts import PARTS, split


@pytest.mark.parametrize("num_draws, size, kept", [(1, 5, 1), (100, 7, 30), (100_000, 7, 100_000)])
def test_parts_make_up_the_draws(num_draws, size, kept):
    parts = split(num_draws, size, kept, (0, 3))
    assert sum(part.count for part in parts) == num_draws
    assert sum(part.kept for part in parts) == kept
    assert all(part.count % size == 0 for part in parts[:-1]) and len(parts) <= PARTS
    assert len({part.seed for part in parts}) == len(parts)
    others = split(num_draws, size, kept, (0, 4)) + split(num_draws, size, kept, (-1, 3))
    assert not {part.seed for part in parts} & {part.seed for part in others}


@pytest.fixture
def program(monkeypatch):
    """A program of closures and stored parameters, in several parts."""
    monkeypatch.setattr(draws_module, "FLOATS", 100)
    pyro.param("scale", torch.tensor(1.5), constraint=dist.constraints.positive)
    data = torch.tensor([0.5, -1.0, 2.0])

    def model():
        with pyro.plate("rows", 3):
            z = pyro.sample("z", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Normal(z, pyro.param("scale")), obs=data)

    def guide():
        with pyro.plate("rows", 3):
            pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", lambda: torch.zeros(3))))

    return model, guide


def study(program, executor=None):
    return pre.gradient_study(
        *program,
        estimators={"DisARM": pre.DisARM(), "ema": pre.ScoreFunction("ema")},
        num_draws=100,
        warmup=5,
        progress=False,
        executor=executor,
    )


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whoever_draws_the_numbers_are_the_same(program, processes, dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        here, elsewhere = study(program), study(program, processes)
    finally:
        torch.set_default_dtype(before)
    for label, result in here.results.items():
        other = elsewhere.results[label]
        assert result.moments.count == other.moments.count == 100
        assert set(result.kept) == {"scale", "logits"}
        for name, kept in result.kept.items():
            assert len(kept) == 100
            np.testing.assert_array_equal(kept, other.kept[name])
            np.testing.assert_array_equal(result.moments.mean[name], other.moments.mean[name])
            np.testing.assert_array_equal(result.moments.squares[name], other.moments.squares[name])
    columns = ["variance", "bias_z", "relative_bias"]
    assert here.summary()[columns].equals(elsewhere.summary()[columns])


def test_what_runs_in_the_same_process_is_refused(program):
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(pre.EstimatorError, match="own process.*ProcessPoolExecutor"):
            study(program, executor)


def test_a_handler_around_the_study_is_refused(program, processes):
    with pyro.poutine.scale(scale=2.0):
        with pytest.raises(pre.EstimatorError, match="handler.*Put it on model and guide"):
            study(program, processes)


def test_what_can_not_be_sent_is_refused(program, processes):
    model, guide = program
    rows = (x for x in range(3))

    def with_a_generator():
        assert rows
        model()

    with pytest.raises(pre.EstimatorError, match="can't be sent.*executor=None"):
        study((with_a_generator, guide), processes)

"""Sub-samples that are chosen: in their weighted mean, costs are those of all data."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre
from pyro_reparam_ext.sub_samples import ChosenIndices, weighted_batches

DOUBLE = torch.float64
SIZES = [(10, 3), (10, 5), (7, 6), (4, 1), (5, 4), (6, 5)]


@pytest.mark.parametrize(("size", "part"), SIZES)
def test_each_datum_counts_once(size, part):
    batches = weighted_batches(size, part)
    counts = torch.zeros(size, dtype=DOUBLE)
    for weight, batch in batches:
        assert len(batch) == part
        counts.index_add_(0, batch, torch.full((part,), weight * size / part, dtype=DOUBLE))
    torch.testing.assert_close(counts, torch.ones(size, dtype=DOUBLE))
    assert sum(weight for weight, _ in batches) == pytest.approx(1.0)
    assert len(batches) == size // part + 2 * (size % part > 0)


def program(given=None):
    with pyro.plate("rows", 7, 3, given) as rows, pyro.plate("columns", 5, 2) as columns:
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.zeros(2, 3))
        return rows, columns


def test_each_pair_of_two_plates_counts_once():
    indices = ChosenIndices()
    with indices:
        program()
        counts = torch.zeros(7, 5, dtype=DOUBLE)
        for weight, chosen in indices.of_all_data():
            indices.chosen = chosen
            rows, columns = program()
            for row in rows:
                counts[row].index_add_(0, columns, torch.full((2,), weight * 35 / 6, dtype=DOUBLE))
    torch.testing.assert_close(counts, torch.ones_like(counts))


def test_given_indices_stay():
    given = torch.tensor([6, 0, 2])
    with ChosenIndices() as indices:
        assert program(given)[0] is given
        assert set(indices.plates) == {"columns"}
        indices.chosen = {"columns": torch.tensor([1, 4])}
        rows, columns = program(given)
        assert rows is given
        assert columns.tolist() == [1, 4]
        replayed = poutine.replay(program, trace=poutine.trace(program).get_trace(given))
        assert replayed()[0] is given


def test_all_data_are_not_drawn():
    with ChosenIndices() as indices:
        for part in (None, 3):
            with pyro.plate("data", 3, part) as index:
                assert index.tolist() == [0, 1, 2]
        assert not indices.plates


def test_a_plate_that_is_not_always_drawn_is_named():
    with ChosenIndices() as indices:
        indices.chosen = {"rows": torch.arange(3)}
        with pytest.raises(pre.EstimatorError, match=r"'columns'.*some runs only.*\['rows'\]"):
            program()


def one_by_one(part):
    for i in pyro.plate("data", 6, part):
        pyro.sample(f"y_{i}", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))


def test_repeats_one_by_one_are_refused():
    with ChosenIndices() as indices:
        one_by_one(3)
        assert len(indices.of_all_data()) == 2
        one_by_one(4)
        with pytest.raises(pre.EstimatorError, match="'data'.*one by one.*4 of 6.*as batches"):
            indices.of_all_data()


def test_exchanged_data_are_the_same_in_sum():
    with ChosenIndices() as indices:
        program()
    for plate, *pairs in indices.exchanges():
        before, after = (torch.cat([x[plate] for x in pair]).sort().values for pair in pairs)
        assert torch.equal(before, after)
        sets = [{frozenset(x[plate].tolist()) for x in pair} for pair in pairs]
        assert sets[0] != sets[1]

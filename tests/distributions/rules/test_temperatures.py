import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext import distributions as ours
from pyro_reparam_ext.distributions.rules.temperatures import batch_temperature

LOGITS = torch.tensor([[0.3, -0.2, 0.5], [1.0, 0.1, -0.4]], dtype=torch.float64)
EACH = torch.tensor([0.4, 0.9], dtype=torch.float64)
TAKE_ROWS = {
    "RelaxedOneHotCategorical": lambda t: ours.RelaxedOneHotCategorical(t, logits=LOGITS),
    "StraightThroughOneHotCategorical": lambda t: ours.StraightThroughOneHotCategorical(
        t, logits=LOGITS
    ),
    "InvertibleGaussian": lambda t: ours.InvertibleGaussian(t, LOGITS, 1.0),
    "RelaxedSubset": lambda t: ours.RelaxedSubset(t, LOGITS, 2),
    "PlackettLuce": lambda t: ours.PlackettLuce(LOGITS, t),
}
every_family = pytest.mark.parametrize("make", TAKE_ROWS.values(), ids=TAKE_ROWS)


@every_family
def test_one_of_each_row_as_torch_broadcasts_it_raises(make):
    with pytest.raises(ValueError, match=r"shape \(2, 1\).*temperature\[\.\.\., 0\]"):
        make(EACH.unsqueeze(-1))
    assert make(EACH).batch_shape == (2,)


@every_family
def test_all_pairs(make):
    assert make(torch.rand(3, 1) + 0.5).batch_shape == (3, 2)


def test_one_of_each_matrix():
    logits = torch.zeros(2, 3, 3)
    with pytest.raises(ValueError, match=r"temperature\[\.\.\., 0, 0\]"):
        ours.GumbelSinkhorn(EACH[:, None, None], logits)
    assert ours.GumbelSinkhorn(EACH, logits).batch_shape == (2,)


def test_a_single_one_is_taken_as_torch_takes_it():
    temperature, probs = torch.tensor([2.2]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    theirs = dist.RelaxedOneHotCategorical(temperature, probs)
    fn = ours.RelaxedOneHotCategorical(temperature, probs)
    assert fn.batch_shape == theirs.batch_shape == ()
    assert fn.sample().shape == theirs.sample().shape == (4,)


def test_batch_temperature():
    one_hot, bits = dist.RelaxedOneHotCategorical, dist.RelaxedBernoulli
    assert batch_temperature(bits(0.5, logits=LOGITS)).dtype == LOGITS.dtype
    assert batch_temperature(one_hot(0.5, logits=LOGITS)).shape == ()
    torch.testing.assert_close(batch_temperature(one_hot(EACH[:, None], logits=LOGITS)), EACH)
    with pytest.raises(ValueError, match=r"one temperature for all classes.*\(2, 3\)"):
        batch_temperature(one_hot(torch.ones(2, 3), logits=LOGITS))

"""Keys of given values, and their laws."""

import pyro.distributions as dist
import pytest
import torch
from scipy import optimize
from torch.distributions import Gumbel

from pyro_reparam_ext.reparam import keys as k

from ..statistics import assert_mean

DTYPE = torch.float64
LOGITS = torch.tensor([0.3, -2.0, 1.5, 0.0], dtype=DTYPE)


@pytest.mark.parametrize("cls", [k.Logistic, k.LogisticKeys, k.Gumbel, k.GumbelKeys])
def test_laws(cls):
    fn = cls(torch.tensor([1.0, -2.0]), torch.tensor(0.5)).expand([3, 2])
    assert type(fn) is cls and fn.has_rsample == ("Keys" not in cls.__name__)
    x = fn.sample((20_000,))
    assert x.shape == (20_000, 3, 2)
    reference = (dist.Logistic if issubclass(cls, k.Logistic) else dist.Gumbel)(fn.loc, fn.scale)
    torch.testing.assert_close(fn.log_prob(x), reference.log_prob(x))
    u = reference.cdf(x)  # uniform
    moments = torch.stack([u, u.square()], -1).reshape(20_000, -1)
    assert_mean(moments, torch.tensor([1 / 2, 1 / 3]).repeat(6))
    drawn = torch.func.vmap(
        lambda loc: cls(loc, torch.ones(()), validate_args=False).sample((4,)), randomness="different"
    )(torch.zeros(5))
    assert drawn.unique().numel() == 20


@pytest.mark.parametrize("logit", [-40.0, -1.0, 0.0, 2.0, 40.0])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_logistic_median(logit, value):
    """Half of the probability of the value is beyond it."""
    logit, value = torch.tensor(logit, dtype=DTYPE), torch.tensor(value, dtype=DTYPE)
    z = k.logistic_median(logit, value)
    assert (z > 0) == bool(value)
    sign = 2 * value - 1
    torch.testing.assert_close((sign * (logit - z)).sigmoid(), (sign * logit).sigmoid() / 2)


@pytest.mark.parametrize("winner", range(4))
def test_gumbel_medians(winner):
    value = torch.eye(4, dtype=DTYPE)[winner]
    z = k.gumbel_medians(LOGITS, value)
    assert z.argmax() == winner
    fn = Gumbel(LOGITS, 1.0)
    top = z[winner]
    # The largest key is independent of which one it is.
    torch.testing.assert_close(fn.cdf(top).prod(), torch.tensor(0.5, dtype=DTYPE))
    for other in set(range(4)) - {winner}:
        ratio = (fn.cdf(z) / fn.cdf(top))[other]
        torch.testing.assert_close(ratio, torch.tensor(0.5, dtype=DTYPE))


def test_ordered_medians():
    z = k.ordered_medians(LOGITS)
    assert z.tolist() == sorted(z.tolist(), reverse=True)
    for place in range(4):
        left = Gumbel(LOGITS[place:], 1.0)
        below = 1.0 if place == 0 else left.cdf(z[place - 1]).prod()
        torch.testing.assert_close(left.cdf(z[place]).prod() / below, torch.tensor(0.5, dtype=DTYPE))


@pytest.mark.parametrize("size", [2, 100, 2000])
def test_single_precision_leads_to_the_value(size):
    """Also to the least likely one, where sums of exponentials round."""
    logits = torch.linspace(30, -30, size)
    last = torch.zeros(size)
    last[-1] = 1
    assert k.gumbel_medians(logits, last).argmax() == size - 1
    assert (k.ordered_medians(logits.flip(-1)).diff() < 0).all()
    assert k.logistic_median(torch.tensor(80.0), torch.tensor(0.0)) < 0


def test_most_likely_shift():
    noise = torch.tensor([[0.3, -5.0, 2.0], [1.0, 8.0, -0.4]], dtype=DTYPE)
    for dims, rows in ((1, [row[None] for row in noise]), (2, [noise])):
        found = k.most_likely_shift(noise, dims).flatten()
        for row, c in zip(rows, found, strict=True):
            loss = lambda c, row=row: -Gumbel(0.0, 1.0).log_prob(row + c).sum().item()  # noqa: E731
            best = optimize.minimize_scalar(
                loss, bounds=(-20, 20), method="bounded", options={"xatol": 1e-9}
            )
            assert c.item() == pytest.approx(best.x, abs=1e-6)

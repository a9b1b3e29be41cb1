import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.nn.functional import binary_cross_entropy_with_logits

from pyro_reparam_ext.study.substitution import Substitution


def test_parameters_are_replaced_wherever_they_are_kept():
    layer, kept = nn.Linear(2, 2), torch.ones(2)
    lstm = nn.LSTM(2, 2)
    new = {id(p): torch.zeros_like(p) for p in [*layer.parameters(), *lstm.parameters()]}
    with Substitution({**new, id(kept): torch.full((2,), 3.0)}):
        assert torch.equal(layer(torch.ones(2)), torch.zeros(2))
        assert torch.equal(torch.stack([kept, kept]), torch.full((2, 2), 3.0))
        assert torch.equal(kept * 2, torch.full((2,), 6.0))
        assert torch.equal(lstm(torch.ones(1, 2))[0], torch.zeros(1, 2))
    assert not torch.equal(layer(torch.ones(2)), torch.zeros(2))


@pytest.mark.parametrize(
    "fill, distribution",
    [
        (lambda x: x.normal_(), torch.distributions.Normal(0.0, 1.0)),
        (lambda x: x.uniform_(), torch.distributions.Uniform(0.0, 1.0)),
        (lambda x: x.exponential_(), torch.distributions.Exponential(1.0)),
        (lambda x: x.cauchy_(), torch.distributions.Cauchy(0.0, 1.0)),
    ],
    ids=["normal", "uniform", "exponential", "cauchy"],
)
def test_random_fills_are_batched_with_the_right_law(fill, distribution):
    from scipy import stats

    with Substitution({}):
        draws = vmap(lambda _: fill(torch.empty(50)), randomness="different")(torch.arange(100))
    uniform = distribution.cdf(draws.double()).flatten().numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-6


def test_cross_entropy_is_the_same():
    logits, target = torch.randn(5, 4) * 30, torch.rand(5, 4)
    for options in ({"reduction": "none"}, {}, {"reduction": "sum"}):
        expected = binary_cross_entropy_with_logits(logits, target, **options)
        with Substitution({}):
            given = binary_cross_entropy_with_logits(logits, target, **options)
        torch.testing.assert_close(given, expected)

"""Parameters given as probabilities or as logits, and hard values given as integers."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre

from ..registry import RELAXED

SCORED = [name for name, entry in RELAXED.items() if entry.log_prob and name != "InvertibleGaussian"]
BERNOULLI = ["RelaxedBernoulli", "StraightThroughBernoulli", "HardConcrete"]
GIVEN = [*BERNOULLI, "RelaxedOneHotCategorical", "StraightThroughOneHotCategorical"]


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("given", ["neither", "both"])
def test_says_what_was_given(name, given):
    x = torch.full(RELAXED[name].event, 0.2)
    options = {"probs": x, "logits": x} if given == "both" else {}
    with pytest.raises(ValueError, match=f"{name}: expected exactly one .* was given {given}"):
        getattr(pre.distributions, name)(0.5, **options)


@pytest.mark.parametrize("name", SCORED)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_scores_hard_values_of_integers(name, dtype):
    entry = RELAXED[name]
    fn = entry.at_temperature(0.5, torch.float32, validate_args=True)
    value = {
        (): torch.tensor(1.0),
        (4, 4): torch.eye(4),
        (4,): (torch.arange(4) < getattr(fn, "total_count", 1)).float(),
        (5,): torch.tensor([0.0, 1.0, 0.0, float(name.startswith("RelaxedSubset")), 0.0]),
    }[tuple(fn.event_shape)]
    integers = fn.log_prob(value.to(dtype))
    assert integers.dtype == torch.float32
    torch.testing.assert_close(integers, fn.log_prob(value))
    score = fn.score_parts(value.to(dtype)).log_prob
    torch.testing.assert_close(score, integers)


def test_gates_have_the_order_of_their_siblings():
    for name in BERNOULLI:
        fn = getattr(pre.distributions, name)(0.5, 0.2)
        torch.testing.assert_close(fn.probs, torch.tensor(0.2))


def test_gates_have_no_score():
    assert not hasattr(pre.distributions.HardConcrete(0.5, 0.2), "score")


@pytest.mark.parametrize("discrete", ["torch", "straight-through"])
@pytest.mark.parametrize("score", ["relaxed", "discrete"])
def test_divergence_of_probabilities_that_are_zero(score, discrete):
    """Those of identical laws, both ways."""
    zeros, gates = torch.tensor([0.0, 0.4, 0.6]), torch.tensor([0.0, 0.5, 1.0])
    d = pre.distributions
    if discrete == "torch":
        one_hot, bernoulli = dist.OneHotCategorical(zeros), dist.Bernoulli(gates)
    else:
        one_hot = d.StraightThroughOneHotCategorical(0.5, zeros)
        bernoulli = d.StraightThroughBernoulli(0.5, gates)
    relaxed_one_hot = d.RelaxedOneHotCategorical(0.5, zeros, score=score)
    relaxed_bernoulli = d.RelaxedBernoulli(0.5, gates, score=score)
    for p, q in ((relaxed_one_hot, one_hot), (relaxed_bernoulli, bernoulli)):
        for divergence in (kl_divergence(p, q), kl_divergence(q, p)):
            torch.testing.assert_close(divergence, torch.zeros_like(divergence), rtol=0, atol=1e-5)


def test_divergence_of_a_discrete_law_that_was_used():
    """Its logits are cached then; and one of logits stays one of logits."""
    probs = torch.tensor([0.0, 0.4, 0.6])
    fn = dist.OneHotCategorical(probs)
    fn.log_prob(fn.sample())
    p = pre.distributions.RelaxedOneHotCategorical(0.5, probs)
    assert kl_divergence(p, fn).abs() < 1e-5
    logits = torch.tensor([20.0, -20.0])
    fn = dist.Bernoulli(logits=logits)
    assert fn.probs[0] == 1
    p = pre.distributions.RelaxedBernoulli(0.5, logits=logits)
    torch.testing.assert_close(kl_divergence(p, fn), torch.zeros(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("logits", [[torch.inf, 0.0], [-torch.inf, -torch.inf], [torch.nan, 0.0]])
def test_says_which_logits_were_given(logits):
    with pytest.raises(ValueError, match=f"expected logits.*was given tensor.*{logits[0]}"):
        pre.distributions.RelaxedOneHotCategorical(0.5, logits=torch.tensor(logits), validate_args=True)


@pytest.mark.parametrize("name", GIVEN)
def test_a_wide_temperature_does_not_promote(name):
    """One without dims, beside logits with dims."""
    logits = torch.zeros(3)
    fn = getattr(pre.distributions, name)(torch.tensor(0.5, dtype=torch.float64), logits=logits)
    assert fn.temperature.dtype == fn.sample().dtype == torch.float32
    for moment in (fn.mean, fn.variance, fn.entropy()):
        assert moment.dtype == torch.float32
        assert moment.isfinite().all()

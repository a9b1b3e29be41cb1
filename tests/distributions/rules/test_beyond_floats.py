"""Shares of draws that floating point can't hold, as torch's samplers have them."""

import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_reparam_ext.distributions.rules import beyond_floats as beyond

from ...statistics import assert_p

N = 100_000
ONE = torch.ones(())
LIMITS = torch.finfo(torch.float32)


def gamma():
    a = torch.tensor(0.01)
    hit = dist.Gamma(a.expand(N), 1.0).rsample() <= LIMITS.tiny
    return hit, beyond.gamma_draws_below(a, beyond.log_tiny(a))


def beta():
    a = torch.tensor(0.05)
    hit = dist.Beta(a.expand(N), a).rsample() <= LIMITS.tiny
    return hit, beyond.beta_draws_below(a, a, beyond.log_tiny(a))


def student_t():
    df = torch.tensor(0.1).expand(N).clone().requires_grad_()
    fn = dist.StudentT(df)
    (gradient,) = torch.autograd.grad(fn.log_prob(fn.rsample()).sum(), df)
    return ~gradient.isfinite(), beyond.student_t_draws_of_nan_gradient(fn)


def kumaraswamy_near_one():
    b = torch.tensor(0.2)
    fn = dist.Kumaraswamy(b.expand(N), b)
    return ~fn.log_prob(fn.rsample()).isfinite(), beyond.kumaraswamy_draws_at_ends(fn)


def kumaraswamy_of_a_large_concentration():
    a, b = torch.tensor(5.0), torch.tensor(0.2)
    fn = dist.Kumaraswamy(a.expand(N), b)
    return fn.rsample() == 1, beyond.kumaraswamy_draws_at_ends(fn)


def kumaraswamy_near_zero():
    a = torch.tensor(0.05)
    fn = dist.Kumaraswamy(a.expand(N), 3 * ONE)
    return fn.rsample() == 0, beyond.kumaraswamy_draws_at_ends(fn)


def relaxed_bernoulli():
    temperature, logits = torch.tensor(0.2), torch.ones(N)
    expected = beyond.relaxed_bernoulli_draws_at_ends(dist.RelaxedBernoulli(temperature, logits=logits))
    finer = dist.RelaxedBernoulli(temperature.double(), logits=logits.double())
    return finer.rsample() > 1 - LIMITS.eps, expected


def relaxed_one_hot():
    temperature = torch.tensor(0.05)
    fn = dist.RelaxedOneHotCategorical(temperature, logits=torch.zeros(N, 2))
    return (fn.rsample() == 0).any(-1), beyond.relaxed_one_hot_draws_with_a_zero(fn)


@pytest.mark.parametrize(
    "law",
    [
        gamma,
        beta,
        student_t,
        kumaraswamy_near_one,
        kumaraswamy_of_a_large_concentration,
        kumaraswamy_near_zero,
        relaxed_bernoulli,
        relaxed_one_hot,
    ],
)
def test_so_many_draws_are_beyond(law):
    hit, expected = law()
    made = int(hit.sum())
    assert made > 50
    assert_p(stats.binomtest(made, N, expected).pvalue, f"{made} of {N}, expected {expected:.2%}")


def test_two_zeros_of_a_relaxed_row_count_twice():
    fn = dist.RelaxedOneHotCategorical(torch.tensor(1e-3), logits=torch.zeros(3))
    assert beyond.relaxed_one_hot_draws_with_a_zero(fn) == 1.0


def test_a_temperature_may_be_a_number():
    one_hot = dist.RelaxedOneHotCategorical(0.05, logits=torch.zeros(2))
    tensor = dist.RelaxedOneHotCategorical(torch.tensor(0.05), logits=torch.zeros(2))
    given = map(beyond.relaxed_one_hot_draws_with_a_zero, (one_hot, tensor))
    assert len({round(share, 6) for share in given}) == 1


def test_the_largest_share_of_a_batch_is_meant():
    a = torch.tensor([0.01, 5.0])
    alone = beyond.gamma_draws_below(a[:1], beyond.log_tiny(a))
    assert beyond.gamma_draws_below(a, beyond.log_tiny(a)) == alone

"""ConditionalBernoulli."""

import math
from itertools import combinations

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.coupling import couple
from pyro_reparam_ext.distributions.supports.k_hot import KHot

from ..statistics import assert_mean

ConditionalBernoulli = pre.distributions.ConditionalBernoulli
INF = math.inf
LOGITS = torch.tensor([0.5, -1.0, 1.5, 0.0, -0.3], dtype=torch.float64)
FAR = [
    [0.0, 300.0, -300.0, 5.0],
    [1e4, 1e4, 9990.0, -1e4],
    [-1e4, -1e4 + 2, -1e4 + 1, -1e4],
    [30.0, -30.0, 0.0, 1.0],
]
MASKED = [
    [0.0, -INF, 2.0, 1.0],
    [INF, 0.0, 1.0, -2.0],
    [INF, -INF, 1.0, 0.0],
    [INF, -INF, INF, 0.0],
    [1.0, -INF, -INF, 0.0],
]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def all_subsets(n, k):
    items = torch.eye(n, dtype=torch.float64)
    return torch.stack([items[list(c)].sum(0) for c in combinations(range(n), k)])


def law(logits, k):
    """All subsets, and their log probabilities in float64, of logits that may be infinite."""
    z, logits = all_subsets(len(logits), k), logits.double()
    # Of the order of infinity: how many sure items are in, less how many impossible ones.
    order = z @ ((logits == INF).double() - (logits == -INF).double())
    scores = z @ torch.where(logits.isinf(), 0.0, logits)
    return z, torch.where(order == order.max(), scores, -INF).log_softmax(0)


def moments(z, log_p):
    """Marginals and entropy."""
    p = log_p.exp()
    return p @ z, -(p * torch.where(p > 0, log_p, 0.0)).sum()


@pytest.mark.parametrize("k", range(6))
def test_law(k):
    fn = ConditionalBernoulli(k, logits=LOGITS)
    z, log_p = law(LOGITS, k)
    marginals, entropy = moments(z, log_p)
    assert torch.equal(fn.enumerate_support(), z)
    torch.testing.assert_close(fn.log_prob(z), log_p)
    torch.testing.assert_close(fn.marginals, marginals)
    torch.testing.assert_close(fn.mean, marginals)
    torch.testing.assert_close(fn.variance, marginals * (1 - marginals))
    torch.testing.assert_close(fn.entropy(), entropy)
    assert torch.equal(fn.mode, z[log_p.argmax()])
    assert_mean((fn.sample((10_000,))[:, None] == z).all(-1).double(), log_p.exp())


@pytest.mark.parametrize("logits", FAR + MASKED)
@DTYPES
def test_far_out_and_masked(logits, dtype):
    """Values against float64, and finite gradients; masked items have none."""
    logits = torch.tensor(logits, dtype=dtype, requires_grad=True)
    fn = ConditionalBernoulli(2, logits=logits, validate_args=True)
    z, log_p = law(logits.detach(), 2)
    marginals, entropy = moments(z, log_p)
    possible = log_p > -INF
    found = fn.log_prob(z.to(dtype))
    torch.testing.assert_close(found.double(), log_p, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(fn.marginals.double(), marginals, rtol=2e-6, atol=1e-30)
    torch.testing.assert_close(fn.entropy().double(), entropy, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(kl_divergence(fn, fn), torch.zeros((), dtype=dtype))
    for of in (found[possible].sum(), fn.marginals.square().sum(), fn.variance.sum(), fn.entropy()):
        (gradient,) = torch.autograd.grad(of, logits)
        assert gradient.isfinite().all()
        assert (gradient[logits.isinf()] == 0).all()
    value = fn.sample((300,))
    assert value.dtype == dtype and fn.support.check(value).all()
    assert (value[:, logits == -INF] == 0).all() and (value[:, logits == INF] == 1).all()


def test_gradients():
    """Of the log normaliser it is the marginals; of these, the covariance; twice differentiable."""
    logits = LOGITS.clone().requires_grad_()
    fn = ConditionalBernoulli(2, logits=logits)
    z, log_p = law(LOGITS, 2)
    p = log_p.exp()
    (gradient,) = torch.autograd.grad(fn.log_prob(z[3]), logits)
    torch.testing.assert_close(gradient, z[3] - p @ z)
    covariance = z.T @ (p[:, None] * z) - torch.outer(p @ z, p @ z)
    jacobian = torch.func.jacrev(lambda x: ConditionalBernoulli(2, logits=x).marginals)(LOGITS)
    torch.testing.assert_close(jacobian, covariance)
    assert torch.autograd.gradgradcheck(
        lambda x: ConditionalBernoulli(2, logits=x, validate_args=False).entropy(), (logits,)
    )


def test_probs():
    """A shift of the logits is no change; 0 and 1 are allowed, without a gradient of NaN."""
    fn = ConditionalBernoulli(2, probs=LOGITS.sigmoid())
    z, log_p = law(LOGITS, 2)
    torch.testing.assert_close(fn.log_prob(z), log_p)
    probs = torch.tensor([0.0, 1.0, 0.3, 0.6], requires_grad=True)
    fn = ConditionalBernoulli(2, probs=probs)
    odds = torch.tensor([0.3 / 0.7, 0.6 / 0.4])
    torch.testing.assert_close(fn.marginals, torch.cat([torch.tensor([0.0, 1.0]), odds / odds.sum()]))
    assert torch.autograd.grad(fn.marginals.square().sum(), probs)[0].isfinite().all()


def test_kl():
    p = ConditionalBernoulli(2, logits=torch.stack([LOGITS, 2 * LOGITS.flip(0)]))
    q = ConditionalBernoulli(2, logits=LOGITS.cos())
    z = all_subsets(5, 2)[:, None]
    log_p, log_q = p.log_prob(z), q.log_prob(z)
    torch.testing.assert_close(kl_divergence(p, q), (log_p.exp() * (log_p - log_q)).sum(0))
    masked = ConditionalBernoulli(2, logits=torch.where(torch.arange(5) == 0, -INF, LOGITS))
    assert kl_divergence(q, masked) == INF
    assert kl_divergence(masked, q) < INF


def test_many_items():
    """In float32 against float64, with logits of any order."""
    torch.manual_seed(0)
    logits = 5 * torch.randn(400, dtype=torch.float64)
    exact, fn = (ConditionalBernoulli(30, logits=x) for x in (logits, logits.float()))
    value = fn.sample((20,))
    torch.testing.assert_close(
        fn.log_prob(value).double(), exact.log_prob(value.double()), rtol=1e-5, atol=1e-4
    )
    torch.testing.assert_close(fn.marginals.double(), exact.marginals, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(exact.marginals.sum(), torch.tensor(30.0).double())


def test_enumeration_of_a_batch():
    fn = ConditionalBernoulli(2, logits=torch.zeros(3, 1, 4))
    assert fn.enumerate_support().shape == (6, 3, 1, 4)
    assert fn.enumerate_support(expand=False).shape == (6, 1, 1, 4)
    assert fn.has_enumerate_support
    assert not ConditionalBernoulli(10, logits=torch.zeros(30)).has_enumerate_support


def test_coupling_sees_the_size():
    old = ConditionalBernoulli(2, logits=LOGITS)
    value = old.sample()
    assert torch.equal(couple(old, value, old), value)
    assert couple(old, value, ConditionalBernoulli(3, logits=LOGITS)).sum() == 3


def test_support():
    inside = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    outside = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.5, 0.5, 1.0], [1.0, math.nan, 1.0]])
    assert KHot(2).check(inside).all() and not KHot(2).check(outside).any()
    assert repr(KHot(2)) == "KHot(2)"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: ConditionalBernoulli(6, logits=LOGITS), ValueError, "total_count = 6"),
        (lambda: ConditionalBernoulli(-1, logits=LOGITS), ValueError, "from 0 to n"),
        (lambda: ConditionalBernoulli(0, logits=torch.tensor(1.0)), ValueError, "from 0 to n"),
        (lambda: ConditionalBernoulli(2), ValueError, "neither"),
        (lambda: ConditionalBernoulli(2, probs=2 * LOGITS, validate_args=True), ValueError, "probs"),
        (
            lambda: ConditionalBernoulli(1, logits=torch.tensor([INF, INF, 0.0]), validate_args=True),
            ValueError,
            "no subset has total_count = 1",
        ),
        (
            lambda: ConditionalBernoulli(2, logits=torch.tensor([-INF, -INF, 0]), validate_args=True),
            ValueError,
            "no subset has total_count = 2",
        ),
        (lambda: ConditionalBernoulli(2, logits=LOGITS).rsample(), NotImplementedError, "LeaveOneOut"),
        (
            lambda: ConditionalBernoulli(10, logits=torch.zeros(30)).enumerate_support(),
            NotImplementedError,
            "10 of 30 items have 30,045,015",
        ),
        (
            lambda: kl_divergence(
                ConditionalBernoulli(2, logits=LOGITS), ConditionalBernoulli(3, logits=LOGITS)
            ),
            ValueError,
            "total_count 2 and of 3",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


# In programs

TASTE = torch.tensor([[0.3, 0.1, 2.0, 0.0], [1.0, 0.2, 0.5, 0.0]], dtype=torch.float64)


def model():
    with pyro.plate("rows", 2):
        z = pyro.sample("z", ConditionalBernoulli(2, logits=torch.zeros(4, dtype=torch.float64)))
        pyro.factor("cost", (z * TASTE).sum(-1) - (z[..., 0] * z[..., 1] + z[..., 2]).square())


def guide():
    logits = pyro.param("logits", torch.tensor([0.2, -0.3, 0.1, 0.4], dtype=torch.float64).repeat(2, 1))
    with pyro.plate("rows", 2):
        pyro.sample("z", ConditionalBernoulli(2, logits=logits))


def test_estimators_are_unbiased():
    """Against the enumerated gradient, which has no variance."""
    study = pre.gradient_study(
        model,
        guide,
        estimators={
            "score": pre.ScoreFunction(),
            "loo": pre.LeaveOneOut(),
            "enumeration": pre.Enumeration(),
        },
        num_draws=2000,
        reference="exact",
        progress=False,
    )
    summary = study.summary()
    assert summary.batched.all() and summary.unbiased.all()
    assert (summary.bias_z.fillna(0) < 5).all()
    assert summary.variance["enumeration"] == 0
    assert summary.variance["loo"] < summary.variance["score"]


def test_is_enumerated_by_pyro():
    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(
        model, pyro.infer.config_enumerate(guide, "parallel")
    )
    ours = pre.TraceEstimator_ELBO(estimators=pre.Enumeration()).differentiable_loss(model, guide)
    torch.testing.assert_close(ours, loss)
    parameter = pyro.get_param_store()._params["logits"]
    found, expected = (torch.autograd.grad(x, parameter)[0] for x in (ours, loss))
    torch.testing.assert_close(found, expected)


def test_too_many_to_enumerate():
    def many():
        pyro.sample("z", ConditionalBernoulli(10, logits=pyro.param("l", torch.zeros(30))))

    elbo = pre.TraceEstimator_ELBO(estimators=pre.Enumeration())
    with pytest.raises(pre.EstimatorError, match=r"site 'z'(.|\n)*30,045,015"):
        elbo.loss_and_grads(many, many)
    assert not pre.Enumeration().serves(ConditionalBernoulli(10, logits=torch.zeros(30)))

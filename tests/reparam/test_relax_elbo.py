"""RelaxReparam: what it makes of the ELBO."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_reparam_ext.reparam import RelaxReparam

from ..statistics import assert_at_most, assert_mean

DRAWS = 20_000
FAMILIES = {
    "Bernoulli": (dist.Bernoulli, torch.tensor(0.0), torch.tensor(0.8), torch.tensor([0.3, 1.2])),
    "OneHotCategorical": (
        dist.OneHotCategorical,
        torch.zeros(3),
        torch.tensor([-0.6, 0.5, -0.5]),
        torch.tensor([0.3, 1.2, 0.6]),
    ),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def expected_likelihood(z, likelihoods, linear):
    """As a mixture, whose mean over the prior at any temperature is that of the discrete model."""
    weights = torch.stack([1 - z, z], -1) if linear == "Bernoulli" else z
    return (weights * likelihoods).sum(-1)


def programs(family, reparam, dtype, q=None):
    cls, prior, posterior, likelihoods = FAMILIES[family]
    prior, likelihoods = prior.to(dtype), likelihoods.to(dtype)
    q = posterior.to(dtype) if q is None else q

    @poutine.reparam(config={"z": reparam})
    def model():
        with pyro.plate("draws", DRAWS):
            z = pyro.sample("z", cls(logits=prior))
            pyro.factor("x", expected_likelihood(z, likelihoods, family).log())

    @poutine.reparam(config={"z": reparam})
    def guide():
        with pyro.plate("draws", DRAWS):
            pyro.sample("z", cls(logits=q))

    return model, guide


def rows(model, guide):
    """The terms of the ELBO, one a draw."""
    trace = poutine.trace(guide).get_trace()
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace()
    trace.compute_log_prob()
    replayed.compute_log_prob()
    z = replayed.nodes["z"]["log_prob"] - trace.nodes["z"]["log_prob"]
    return z + replayed.nodes["x"]["log_prob"], trace.nodes["z"]["value"]


def discrete_elbo(family, q):
    cls, prior, _, likelihoods = FAMILIES[family]
    fn = cls(logits=q)
    values = fn.enumerate_support()
    log_q, log_p = fn.log_prob(values), cls(logits=prior.to(q)).log_prob(values)
    log_x = expected_likelihood(values, likelihoods.to(q), family).log()
    return (log_q.exp() * (log_p + log_x - log_q)).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@every_family
def test_relaxed_score_is_a_lower_bound(family, temperature, dtype):
    """The exponentials of its terms have the evidence for their mean, so their own is below its log.

    The prior is uniform and the likelihood a mixture, so the evidence is that of the discrete model.
    """
    terms, _ = rows(*programs(family, RelaxReparam(temperature), dtype))
    evidence = FAMILIES[family][3].double().mean()
    assert_mean(terms.double().exp()[:, None], evidence[None])
    assert_at_most(terms, evidence.log())


@every_family
def test_discrete_score_tends_to_the_discrete_elbo(family):
    """Against the same draws, hardened, which have the discrete law."""
    gaps = []
    for temperature in (1.0, 0.3, 0.1, 0.03):
        torch.manual_seed(1)
        reparam = RelaxReparam(temperature, score="discrete")
        model, guide = programs(family, reparam, torch.float64)
        terms, z = rows(model, guide)
        hard = z.round() if family == "Bernoulli" else torch.eye(3, dtype=z.dtype)[z.argmax(-1)]
        trace = poutine.trace(guide).get_trace()
        trace.nodes["z"]["value"] = hard
        _, _, posterior, likelihoods = FAMILIES[family]
        fn = FAMILIES[family][0](logits=posterior.double())
        prior = FAMILIES[family][0](logits=FAMILIES[family][1].double())
        log_x = expected_likelihood(hard, likelihoods.double(), family).log()
        hardened = prior.log_prob(hard) + log_x - fn.log_prob(hard)
        assert_mean(hardened[:, None], discrete_elbo(family, posterior.double())[None])
        gaps.append((terms - hardened).mean().abs().item())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.1 * gaps[0]


@every_family
def test_straight_through_has_the_discrete_elbo(family):
    q = FAMILIES[family][2].double().requires_grad_()
    model, guide = programs(family, RelaxReparam(0.5, straight_through=True), torch.float64, q)
    terms, z = rows(model, guide)
    assert ((z == 0) | (z == 1)).all()
    assert_mean(terms[:, None], discrete_elbo(family, q.detach())[None])
    (gradient,) = torch.autograd.grad(terms.mean(), q)
    q = q.detach().requires_grad_()
    (exact,) = torch.autograd.grad(discrete_elbo(family, q), q)
    cosine = (gradient * exact).sum() / (gradient.norm() * exact.norm())
    assert cosine > 0.8  # biased, but not lost

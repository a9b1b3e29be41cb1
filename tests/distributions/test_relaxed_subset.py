"""RelaxedSubset."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import pyro_reparam_ext as pre

from ..statistics import assert_mean

RelaxedSubset = pre.distributions.RelaxedSubset
LOGITS = torch.tensor([0.5, -1.0, 1.5, 0.0], dtype=torch.float64)


def all_subsets(n, k, dtype=torch.float64):
    return torch.stack(
        [torch.eye(n, dtype=dtype)[list(c)].sum(0) for c in itertools.combinations(range(n), k)]
    )


def test_law_of_hard_values():
    """The frequencies of all six subsets."""
    fn = RelaxedSubset(0.5, LOGITS, 2, straight_through=True)
    subsets = all_subsets(4, 2)
    value = fn.sample((20_000,))
    assert_mean((value[:, None] == subsets).all(-1).double(), fn.log_prob(subsets).exp())
    assert_mean(value, fn.mean)
    assert_mean((value - fn.mean).square(), fn.variance)


def test_straight_through_has_the_relaxed_gradient():
    logits = LOGITS.clone().requires_grad_()
    values, gradients = [], []
    for hard in (False, True):
        torch.manual_seed(0)
        value = RelaxedSubset(0.3, logits, 2, straight_through=hard).rsample((50,))
        values.append(value.detach())
        gradients.append(torch.autograd.grad((value * torch.arange(4)).sum(), logits)[0])
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0
    chosen = values[0].topk(2, -1).indices.sort(-1).values
    agree = (values[1].topk(2, -1).indices.sort(-1).values == chosen).all(-1)
    assert agree.double().mean() > 0.9


def test_relaxed_gradient():
    """In logits and temperature, at the same noise."""

    def draw(temperature, logits):
        torch.manual_seed(0)
        return RelaxedSubset(temperature, logits, 2).rsample((5,))

    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(draw, (temperature, LOGITS.clone().requires_grad_()))


def test_one_item_is_a_categorical():
    fn = RelaxedSubset(0.7, LOGITS, 1, straight_through=True)
    one_hot = torch.eye(4, dtype=torch.float64)
    expected = LOGITS.log_softmax(-1)
    torch.testing.assert_close(fn.log_prob(one_hot), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(fn.mean, expected.exp(), rtol=0, atol=1e-10)
    torch.manual_seed(1)
    value = RelaxedSubset(0.7, LOGITS, 1).sample((3,))
    torch.manual_seed(1)
    keys = LOGITS - pre.noise.standard_exponential(torch.Size((3, 4)), LOGITS).log()
    torch.testing.assert_close(value, (keys / 0.7).softmax(-1))


@pytest.mark.parametrize("straight_through", [False, True])
def test_score_is_left_out(straight_through):
    """Its mean is zero or small; of the gradient of log q the path through the value is left."""
    logits = LOGITS.clone().requires_grad_()
    fn = RelaxedSubset(0.5, logits, 2, straight_through=straight_through)
    value = fn.rsample((5,))
    parts = fn.score_parts(value)
    assert torch.equal(parts.log_prob, fn.log_prob(value)) and parts.score_function == 0
    held = RelaxedSubset(0.5, LOGITS, 2, straight_through=straight_through).log_prob(value)
    ours, expected = (
        torch.autograd.grad(x.sum(), logits, retain_graph=True)[0] for x in (parts[2], held)
    )
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("k", [0, 4, 5])
def test_size_of_the_subset(k):
    with pytest.raises(ValueError, match=f"k = {k}"):
        RelaxedSubset(0.5, LOGITS, k)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RelaxedSubset(0.5, LOGITS, 2).mean, "straight_through=True"),
        (lambda: RelaxedSubset(0.5, torch.zeros(65), 2, straight_through=True).mean, "64"),
        (lambda: RelaxedSubset(0.5, LOGITS, 2).entropy(), "average"),
    ],
)
def test_what_is_not_known(make, match):
    with pytest.raises(NotImplementedError, match=match):
        make()


def test_support():
    fn = RelaxedSubset(0.5, torch.zeros(3), 2)
    assert "2" in repr(fn.support)
    inside = torch.tensor([[1.0, 1.0, 0.0], [0.5, 0.7, 0.8]])
    outside = torch.tensor([[1.0, 0.0, 0.0], [1.1, 0.9, 0.0], [1.0, 1.001, 0.0]])
    assert fn.support.check(inside).all()
    assert not fn.support.check(outside).any()


def test_finds_the_items_that_explain_the_data():
    """Noisy indicators of the second and the fourth item."""
    data = torch.tensor([0.3, 0.8, -0.2, 1.1, 0.2])

    def model():
        subset = pyro.sample("subset", RelaxedSubset(0.5, torch.zeros(5), 2, straight_through=True))
        pyro.sample("x", dist.Normal(subset, 0.3).to_event(1), obs=data)

    def guide():
        logits = pyro.param("logits", torch.zeros(5))
        pyro.sample("subset", RelaxedSubset(0.5, logits, 2, straight_through=True))

    elbo = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=0)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), elbo)
    for _ in range(100):
        svi.step()
    found = RelaxedSubset(0.5, pyro.param("logits").detach(), 2, straight_through=True)
    assert (found.mean > 0.5).tolist() == [False, True, False, True, False]

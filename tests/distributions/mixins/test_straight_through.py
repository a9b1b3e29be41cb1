"""What both straight-through distributions do."""

import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.numerics.straight_through import straight_through

from ..registry import RELAXED
from ..relaxed import logits_of

NAMES = ["StraightThroughBernoulli", "StraightThroughOneHotCategorical"]
DISCRETE = dict(zip(NAMES, [dist.Bernoulli, dist.OneHotCategorical], strict=True))
both = pytest.mark.parametrize("name", NAMES)


def make(name, logits, temperature=0.5, **options):
    return RELAXED[name].make(torch.as_tensor(temperature, dtype=logits.dtype), logits, **options)


def leaf(name, *batch):
    return logits_of((*batch, *RELAXED[name].event)).requires_grad_()


def test_hard_values_bit_for_bit():
    """Also where hard + soft rounds."""
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        soft = torch.rand(100_000, dtype=dtype) ** 8
        hard = (soft > 0.3).to(dtype)
        assert not torch.equal((hard + soft) - soft, hard)
        assert torch.equal(straight_through(hard, soft), hard)


@both
def test_hard_values_when_compiled(name):
    """Bit for bit, at temperatures that are no powers of two."""
    logits = logits_of((50, *RELAXED[name].event), torch.float32).requires_grad_()

    def draw(temperature, logits):
        return RELAXED[name].make(temperature, logits, validate_args=False).rsample((40,))

    torch._dynamo.reset()
    draw = torch.compile(draw, backend="aot_eager", fullgraph=True)
    for temperature in (1.0, 0.3, 0.01):
        value = draw(torch.tensor(temperature), logits)
        assert value.requires_grad
        assert ((value == 0) | (value == 1)).all()


@both
@pytest.mark.parametrize("change", ["clone", "detach", "index", "times one", "stack", "double"])
def test_validation_accepts_samples_whatever_was_done_to_them(name, change):
    fn = make(name, leaf(name, 3).float(), 0.1, validate_args=True)
    value = fn.rsample((50,))
    value = {
        "clone": lambda: value.clone(),
        "detach": lambda: value.detach(),
        "index": lambda: value[7],
        "times one": lambda: value * 1,
        "stack": lambda: torch.stack(list(value)),
        "double": lambda: value.double(),
    }[change]()
    assert fn.log_prob(value).isfinite().all()


@both
def test_log_prob_is_linear_in_the_value(name):
    fn = make(name, leaf(name).detach(), validate_args=False)
    low, high = fn.enumerate_support()[:2]
    between = (0.3 * low + 0.7 * high).requires_grad_()
    expected = 0.3 * fn.log_prob(low) + 0.7 * fn.log_prob(high)
    log_prob = fn.log_prob(between)
    torch.testing.assert_close(log_prob, expected)
    (slope,) = torch.autograd.grad(log_prob, between)
    torch.testing.assert_close((slope * (high - low)).sum(), fn.log_prob(high) - fn.log_prob(low))


@both
def test_log_prob_at_hard_values_is_the_discrete_one(name):
    fn = make(name, leaf(name, 4, 1).detach())
    values = fn.enumerate_support()
    expected = DISCRETE[name](logits=fn.logits).log_prob(values)
    torch.testing.assert_close(fn.log_prob(values), expected)
    torch.testing.assert_close(expected.exp().sum(0), torch.ones(4, 1, dtype=torch.float64))


@both
def test_values_broadcast_against_parameters(name):
    fn = make(name, leaf(name, 3, 1).detach(), [0.5, 0.7])
    assert fn.batch_shape == (3, 2)
    value = make(name, leaf(name).detach()).sample((5, 1, 1))
    log_prob = fn.log_prob(value)
    assert log_prob.shape == (5, 3, 2)
    torch.testing.assert_close(log_prob[:, 1, 0], fn.expand((3, 2)).log_prob(value)[:, 1, 0])


@both
@pytest.mark.parametrize("given", ["none", "both"])
def test_takes_one_of_probs_and_logits(name, given):
    x = torch.full(RELAXED[name].event, 0.5)
    options = {"probs": x, "logits": x} if given == "both" else {}
    with pytest.raises(ValueError, match="exactly one"):
        getattr(pre.distributions, name)(0.5, **options)


@both
def test_numbers_take_the_dtype_beside_them(name):
    fn = getattr(pre.distributions, name)(1, logits=logits_of(RELAXED[name].event))
    assert fn.temperature.dtype == torch.float64
    assert fn.expand((2,)).temperature is fn.temperature

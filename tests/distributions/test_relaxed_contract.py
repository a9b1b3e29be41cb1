"""What every relaxed or discrete distribution has to do."""

import copy
import pickle

import pytest
import torch
from torch.distributions import biject_to

from ..slow import one_in
from ..statistics import assert_mean
from .entry import tensors
from .registry import RELAXED
from .relaxed import logits_of

every_entry = pytest.mark.parametrize("name", list(RELAXED))
with_log_prob = pytest.mark.parametrize("name", [n for n, e in RELAXED.items() if e.log_prob])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def has_temperature(name):
    return "temperature" in RELAXED[name].parameters


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("size", ["event", "large"])
@DTYPES
@with_log_prob
def test_accepts_its_own_samples_with_finite_gradients(name, dtype, size, temperature):
    entry = RELAXED[name]
    t = torch.tensor(temperature, dtype=dtype, requires_grad=True)
    logits = logits_of(getattr(entry, size), dtype).requires_grad_()
    fn = entry.make(t, logits, validate_args=True)
    value = fn.rsample((20,)) if fn.has_rsample else fn.sample((20,))
    assert value.dtype == dtype
    assert value.isfinite().all()
    log_prob = fn.log_prob(value)
    assert log_prob.isfinite().all()
    assert log_prob.dtype == dtype
    gradients = torch.autograd.grad(
        log_prob.sum() + value.square().sum(), [t, logits], allow_unused=True
    )
    assert gradients[1] is not None
    assert all(g is None or g.isfinite().all() for g in gradients)


@with_log_prob
def test_nothing_rides_on_the_value(name):
    fn = RELAXED[name].at_temperature(0.3)
    value = fn.rsample((4,)) if fn.has_rsample else fn.sample((4,))
    expected = fn.log_prob(value)
    for twin in (value.clone(), value.detach(), value * 1, value + 0.0, torch.stack(list(value))):
        torch.testing.assert_close(fn.log_prob(twin), expected)
    torch.testing.assert_close(fn.log_prob(value[2]), expected[2])
    torch.testing.assert_close(
        torch.func.vmap(RELAXED[name].at_temperature(0.3, validate_args=False).log_prob)(value),
        expected,
    )


@every_entry
def test_values_are_hard_or_not(name):
    entry = RELAXED[name]
    for dtype in (torch.float32, torch.float64):
        fn = entry.at_temperature(1.0, dtype)
        values = [fn.sample((200,))] + ([fn.rsample((200,))] if fn.has_rsample else [])
        for value in values:
            hard = ((value == 0) | (value == 1)).all()
            assert bool(hard) == entry.hard


@pytest.mark.parametrize(
    ("name", "point"), [(n, i) for n, entry in RELAXED.items() for i in range(len(entry.points))]
)
def test_nearest_hard_value_has_its_probability(name, point):
    """Whatever the temperature."""
    entry, parameters = RELAXED[name], RELAXED[name].points[point]
    values, probs = entry.choices(**tensors(parameters))
    assert probs.sum().item() == pytest.approx(1.0)
    drawn = entry.at(parameters).sample((entry.draws,)).reshape(entry.draws, -1)
    nearest = torch.cdist(drawn, values.reshape(len(values), -1)).argmin(-1)
    assert_mean(torch.nn.functional.one_hot(nearest, len(values)).double(), probs)


@every_entry
def test_sample_is_rsample_without_gradient(name):
    entry = RELAXED[name]
    logits = logits_of(entry.event).requires_grad_()
    fn = entry.make(torch.tensor(0.5, dtype=torch.float64), logits)
    if not fn.has_rsample:
        with pytest.raises(NotImplementedError):
            fn.rsample()
        return
    with torch.random.fork_rng():
        torch.manual_seed(3)
        hard = fn.sample((5,))
    torch.manual_seed(3)
    moving = fn.rsample((5,))
    assert not hard.requires_grad
    assert moving.requires_grad
    torch.testing.assert_close(moving.detach(), hard, rtol=0, atol=0)


@every_entry
def test_shapes(name):
    entry = RELAXED[name]
    logits = logits_of((3, 1, *entry.event))
    temperature = torch.tensor([0.5, 0.8], dtype=torch.float64)
    batch = torch.Size((3, 2)) if has_temperature(name) else torch.Size((3, 1))
    fn = entry.make(temperature, logits)
    event = fn.event_shape
    assert fn.batch_shape == batch
    for shape in ((), (4,), (5, 4)):
        value = fn.sample(shape)
        assert value.shape == shape + batch + event
        if entry.log_prob:
            assert fn.log_prob(value).shape == shape + batch
    wider = fn.expand((7,) + batch)
    assert type(wider) is type(fn)
    assert wider.batch_shape == (7,) + batch
    assert wider._validate_args == fn._validate_args
    value = wider.sample((40,))
    assert value.shape == (40, 7) + batch + event
    assert not torch.equal(value[:, 0], value[:, 1])
    if entry.log_prob:
        torch.testing.assert_close(wider.log_prob(value), fn.log_prob(value))
        assert fn.to_event(1).log_prob(fn.sample()).shape == batch[:1]
        masked = fn.mask(torch.zeros(batch, dtype=torch.bool)).log_prob(fn.sample())
        assert (masked == 0).all()


@pytest.mark.parametrize("name", [n for n, e in RELAXED.items() if e.log_prob and has_temperature(n)])
def test_temperatures_broadcast(name):
    """As two distributions of one temperature each."""
    entry = RELAXED[name]
    logits = logits_of((2, *entry.event))
    temperature = torch.tensor([0.4, 1.3], dtype=torch.float64)
    fn = entry.make(temperature, logits)
    value = fn.sample((6,))
    for i in range(2):
        alone = entry.make(temperature[i], logits[i])
        torch.testing.assert_close(fn.log_prob(value)[:, i], alone.log_prob(value[:, i]))


@every_entry
def test_copies_and_pickles(name):
    entry = RELAXED[name]
    fn = entry.at_temperature(0.5)
    for twin in (copy.deepcopy(fn), pickle.loads(pickle.dumps(fn))):
        value = twin.sample((3,))
        assert value.shape == (3,) + fn.event_shape
        if entry.log_prob:
            torch.testing.assert_close(twin.log_prob(value), fn.log_prob(value))


@every_entry
def test_vmap(name):
    entry = RELAXED[name]
    temperature = torch.tensor([0.3, 0.5, 1.0], dtype=torch.float64)
    logits = logits_of((3, *entry.event))

    def objective(logits, temperature):
        fn = entry.make(temperature, logits, validate_args=False)
        value = fn.rsample((2,)) if fn.has_rsample else fn.sample((2,))
        score = fn.log_prob(value).sum() if entry.log_prob else logits.sum()
        return score + value.square().sum(), value

    gradients, values = torch.func.vmap(
        torch.func.grad(objective, has_aux=True), randomness="different"
    )(logits, temperature)
    assert gradients.shape == logits.shape
    assert gradients.isfinite().all()
    assert values.shape[:2] == (3, 2)


@pytest.mark.parametrize("needed", [True, False])
@pytest.mark.parametrize("name", one_in(3, RELAXED, 1))
def test_compiles_into_one_graph(name, needed):
    entry = RELAXED[name]
    t = torch.tensor(0.4, dtype=torch.float64)
    logits = logits_of(entry.event).requires_grad_(needed)

    def draw(t, logits):
        fn = entry.make(t, logits, validate_args=False)
        return fn.rsample((7,)) if fn.has_rsample else fn.sample((7,))

    def score(t, logits, value):
        return entry.make(t, logits, validate_args=False).log_prob(value)

    torch._dynamo.reset()
    value = torch.compile(draw, backend="eager", fullgraph=True)(t, logits)
    if value.requires_grad:
        assert torch.autograd.grad(value.square().sum(), logits)[0].isfinite().all()
    value = value.detach()
    if entry.log_prob:
        log_prob = torch.compile(score, backend="eager", fullgraph=True)(t, logits, value)
        torch.testing.assert_close(log_prob, score(t, logits, value))


@every_entry
def test_stays_on_its_device(name):
    entry = RELAXED[name]
    t = torch.tensor(0.4, dtype=torch.float64, device="meta")
    fn = entry.make(t, logits_of(entry.event).to("meta"), validate_args=False)
    value = fn.sample((3,))
    assert value.device.type == "meta"
    if entry.log_prob:
        assert fn.log_prob(value).device.type == "meta"


@every_entry
def test_validates_parameters(name):
    entry = RELAXED[name]
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    for parameter in entry.parameters:
        given = {
            "temperature": torch.tensor(0.5, dtype=torch.float64),
            "logits": logits_of(entry.event),
        }
        key = parameter if parameter == "temperature" else "logits"
        given[key] = nan.expand(given[key].shape)
        with pytest.raises(ValueError, match=parameter):
            entry.make(**given, validate_args=True)
    if has_temperature(name):
        with pytest.raises(ValueError, match="temperature"):
            entry.make(
                torch.tensor(0.0, dtype=torch.float64), logits_of(entry.event), validate_args=True
            )


@with_log_prob
def test_validates_values(name):
    fn = RELAXED[name].at_temperature(0.5, validate_args=True)
    for wrong in (float("nan"), -0.3, 7.0):
        with pytest.raises(ValueError, match="support"):
            fn.log_prob(torch.full_like(fn.sample(), wrong))


@every_entry
def test_support_has_a_bijection(name):
    entry = RELAXED[name]
    fn = entry.at_temperature(0.5)
    if entry.no_bijection:
        with pytest.raises(NotImplementedError):
            biject_to(fn.support)
        return
    transform = biject_to(fn.support)
    value = fn.sample((20,))
    torch.testing.assert_close(transform(transform.inv(value)), value, rtol=1e-6, atol=1e-8)

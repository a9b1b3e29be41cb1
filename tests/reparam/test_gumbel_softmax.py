"""GumbelSoftmaxReparam: inverse, density, quantisation, and the hosts of the sites that it makes."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_value
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.wrappers import innermost
from pyro_reparam_ext.reparam import GumbelSoftmaxReparam

from ..statistics import assert_mean
from .layouts import LAYOUTS

d = pre.distributions
SOFT_ONE_HOT = [d.RelaxedOneHotCategorical, dist.RelaxedOneHotCategorical]
SOFT_BINARY = [d.RelaxedBernoulli, dist.RelaxedBernoulli]
HARD_ONE_HOT = [d.StraightThroughOneHotCategorical, dist.RelaxedOneHotCategoricalStraightThrough]
HARD_BINARY = [d.StraightThroughBernoulli, dist.RelaxedBernoulliStraightThrough]
ALL = SOFT_ONE_HOT + SOFT_BINARY + HARD_ONE_HOT + HARD_BINARY
IDS = [f"{cls.__module__.split('.')[0]}-{cls.__name__}" for cls in ALL]
every_class = pytest.mark.parametrize("cls", ALL, ids=IDS)
TEMPERATURES = (0.1, 0.5, 1.0, 2.0)


def make(cls, logits, temperature=0.5, **options):
    return cls(torch.tensor(temperature, dtype=logits.dtype), logits=logits, **options)


def logits_of(cls, classes=3, dtype=torch.float32):
    if cls in SOFT_BINARY + HARD_BINARY:
        return torch.tensor(0.7, dtype=dtype)
    return (2 * torch.arange(classes, dtype=dtype)).sin()


def value_by(model, noise):
    return poutine.condition(model, data={"z_noise": noise})()


def restored(fn, values):
    """The value at the noise that the handler finds for ``values``."""
    reparam = GumbelSoftmaxReparam()
    noise = reparam.inverse(fn, values)
    assert noise.isfinite().all()
    return reparam.forward(fn, noise)


def simplex_values(fn, classes):
    near = torch.full((5, classes), 1e-9).scatter(-1, torch.arange(5)[:, None] % classes, 1.0)
    return {
        "from the distribution": fn.sample((50,)),
        "uniform": dist.Dirichlet(torch.ones(classes)).sample((50,)),
        "near a vertex": near / near.sum(-1, keepdim=True),
        "hard": torch.eye(classes)[: min(5, classes)],
    }


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("cls", SOFT_ONE_HOT)
def test_inverse_of_relaxed_one_hot(cls, temperature, classes):
    torch.manual_seed(classes)
    fn = make(cls, torch.randn(classes) * 2, temperature, validate_args=False)
    for values in simplex_values(fn, classes).values():
        assert values.dtype == torch.float32
        torch.testing.assert_close(restored(fn, values), values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("cls", SOFT_BINARY)
def test_inverse_of_relaxed_bernoulli(cls, temperature):
    fn = make(cls, torch.tensor([0.0, 3.0, -6.0]), temperature, validate_args=False)
    ends = torch.tensor([0.0, 1e-7, 1 - 1e-7, 1.0]).expand(3, 4).T
    for values in (fn.sample((100,)), torch.rand(100, 3), ends):
        torch.testing.assert_close(restored(fn, values), values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("cls", HARD_ONE_HOT)
def test_inverse_of_hard_one_hot_is_exact(cls, classes, temperature):
    for scale in (1.0, 30.0):
        logits = torch.linspace(-1, 1, classes) * scale
        fn = make(cls, logits, temperature, validate_args=False)
        values = torch.eye(classes)
        assert torch.equal(restored(fn, values), values)


@pytest.mark.parametrize("cls", HARD_BINARY)
def test_inverse_of_hard_bernoulli_is_exact(cls):
    fn = make(cls, torch.tensor([0.0, 30.0, -30.0, 1e-30]), validate_args=False)
    for values in (torch.zeros(4), torch.ones(4)):
        assert torch.equal(restored(fn, values), values)


def test_noise_of_a_value_is_most_likely():
    """Of all noise that leads to the value, that is up to a constant."""
    fn = make(d.RelaxedOneHotCategorical, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), 0.7)
    reparam = GumbelSoftmaxReparam()
    noise = reparam.inverse(fn, fn.sample()).requires_grad_()
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(reparam.noise(fn).log_prob(noise + shift), shift)
    assert slope.abs() < 1e-10


@every_class
def test_value_and_quantisation(cls):
    """The value has the law and the gradient of the distribution's own sample."""
    logits = logits_of(cls, dtype=torch.float64).requires_grad_()

    @poutine.reparam(config={"z": GumbelSoftmaxReparam()})
    def model():
        return pyro.sample("z", make(cls, logits, 0.8))

    with pyro.plate("draws", 4000):
        trace = poutine.trace(model).get_trace()
    z, noise = trace.nodes["z"], trace.nodes["z_noise"]
    assert z["is_observed"] and not noise["is_observed"]
    assert innermost(noise["fn"]).support is dist.constraints.real
    value = z["value"]
    hard = ((value == 0) | (value == 1)).all()
    assert hard == (cls in HARD_BINARY + HARD_ONE_HOT)
    # The discrete law of the largest.
    binary = logits.dim() == 0
    probs = logits.sigmoid() if binary else logits.softmax(-1)
    rounded = value.round() if binary else torch.eye(3, dtype=value.dtype)[value.argmax(-1)]
    assert_mean(rounded.reshape(4000, -1), probs.reshape(-1))
    keys = (logits + noise["value"]) / 0.8
    relaxed = keys.sigmoid() if binary else keys.softmax(-1)
    weight = torch.randn_like(value)
    actual, expected = (
        torch.autograd.grad((weight * x).sum(), logits, retain_graph=True)[0] for x in (value, relaxed)
    )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert value.requires_grad


@pytest.mark.parametrize("cls", SOFT_BINARY[:1] + SOFT_ONE_HOT[:1])
def test_value_of_a_guide_moves_as_a_sample(cls):
    """Also where it is held off the boundary, as most are at this temperature."""
    logits = logits_of(cls).requires_grad_()

    @poutine.reparam(config={"z": GumbelSoftmaxReparam(guide=True)})
    def guide():
        with pyro.plate("draws", 500):
            return pyro.sample("z", make(cls, logits, 0.02))

    z = guide()
    fn = make(cls, logits, 0.02)
    moving = d.pathwise_at(fn, z.detach())
    (actual, expected) = (
        torch.autograd.grad(fn.log_prob(x).sum(), logits, retain_graph=True)[0] for x in (z, moving)
    )
    torch.testing.assert_close(actual, expected)
    (frozen,) = torch.autograd.grad(fn.log_prob(z.detach()).sum(), logits)
    assert (actual - frozen).abs().max() > 1


DRAWS = 10_000


@pytest.mark.parametrize("on_model", [False, True])
@every_class
def test_elbo_keeps_its_meaning(cls, on_model):
    """Of the guide alone, and of guide and model: the loss of the original coordinates."""
    p_logits = -0.5 * logits_of(cls, dtype=torch.float64)
    q = logits_of(cls, dtype=torch.float64).requires_grad_()
    rows = q.detach().expand((DRAWS, *q.shape)).clone().requires_grad_()
    hard, binary = cls in HARD_BINARY + HARD_ONE_HOT, q.dim() == 0
    if hard:  # Pyro's do not score hard values
        scored = d.StraightThroughBernoulli if binary else d.StraightThroughOneHotCategorical
        plain = dist.Bernoulli if binary else dist.OneHotCategorical
        expected = kl_divergence(plain(logits=q), plain(logits=p_logits))
    else:
        scored = cls
        ours = d.RelaxedBernoulli if binary else d.RelaxedOneHotCategorical
        expected = kl_divergence(make(ours, q, 0.9), make(ours, p_logits, 0.9))

    @poutine.reparam(config={"z": GumbelSoftmaxReparam(guide=True)})
    def guide():
        with pyro.plate("draws", DRAWS):
            pyro.sample("z", make(cls, rows, 0.9))

    @poutine.reparam(config={"z": GumbelSoftmaxReparam()} if on_model else {})
    def model():
        with pyro.plate("draws", DRAWS):
            pyro.sample("z", make(scored, p_logits, 0.9))

    trace = poutine.trace(guide).get_trace()
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace()
    trace.compute_log_prob()
    replayed.compute_log_prob()
    assert set(replayed.nodes) == {"_INPUT", "draws", "z", "_RETURN"}
    log_q = trace.nodes["z"]["log_prob"] + trace.nodes["z_noise"]["log_prob"]
    losses = log_q - replayed.nodes["z"]["log_prob"]
    assert_mean(losses[:, None], expected.detach()[None])
    (actual,) = torch.autograd.grad(losses.sum(), rows)
    if not hard:
        assert_mean(actual.reshape(DRAWS, -1), torch.autograd.grad(expected, q)[0].reshape(-1))
        return
    # Linear in the value, with the gradient of the relaxed one and the guide's parameters held.
    keys = (rows + trace.nodes["z_noise"]["value"]) / 0.9
    relaxed = keys.sigmoid() if binary else keys.softmax(-1)
    linear = ((q - p_logits).detach() * relaxed).sum()
    torch.testing.assert_close(actual, torch.autograd.grad(linear, rows)[0])


@pytest.mark.parametrize(
    "elbo", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, pre.TraceEstimator_ELBO]
)
@every_class
def test_elbos_run_on_guide_and_model(cls, elbo):
    logits = logits_of(cls)

    def guide():
        q = pyro.param("q", logits.clone())
        with pyro.plate("two", 2):
            return pyro.sample("z", make(cls, q, 0.9))

    def model():
        ours = cls if "pyro_reparam" in cls.__module__ else getattr(d, cls.__name__, None)
        if ours is None:
            ours = (
                d.StraightThroughBernoulli if logits.dim() == 0 else d.StraightThroughOneHotCategorical
            )
        with pyro.plate("two", 2):
            z = pyro.sample("z", make(ours, logits, 0.9))
            pyro.sample("x", dist.Normal(z if logits.dim() == 0 else z[..., 0], 1.0), obs=torch.ones(2))

    guide = poutine.reparam(guide, config={"z": GumbelSoftmaxReparam(guide=True)})
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), elbo(num_particles=2))
    for _ in range(3):
        svi.step()
    assert pyro.param("q").isfinite().all() and not torch.equal(pyro.param("q").detach(), logits)


@pytest.mark.parametrize("auto", [AutoDelta, AutoNormal])
@every_class
def test_initial_value_is_where_it_starts(cls, auto):
    binary = cls in SOFT_BINARY + HARD_BINARY
    hard = cls in HARD_BINARY + HARD_ONE_HOT
    shape = (2,) if binary else (2, 4)
    values = torch.rand(shape) if binary else dist.Dirichlet(torch.ones(4)).sample((2,))
    if hard:
        values = torch.tensor([0.0, 1.0]) if binary else torch.eye(4)[:2]
    logits = torch.randn(shape)

    @poutine.reparam(config={"z": GumbelSoftmaxReparam()})
    def model():
        with pyro.plate("two", 2):
            return pyro.sample("z", make(cls, logits, 0.5, validate_args=False))

    guide = auto(model, init_loc_fn=init_to_value(values={"z": values}))
    guide()
    median = guide.median()
    assert list(median) == ["z_noise"]
    z = value_by(model, median["z_noise"].detach())
    torch.testing.assert_close(z, values, rtol=0, atol=0 if hard else 1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "cls",
    [
        d.RelaxedBernoulli,
        d.RelaxedOneHotCategorical,
        d.StraightThroughBernoulli,
        d.StraightThroughOneHotCategorical,
    ],
)
def test_layouts_and_plates(cls, layout):
    """The guide's density is that of the plain guide, term by term, with plates, masks and scales."""

    def program():
        with pyro.plate("rows", 8, subsample_size=4, dim=-2), pyro.plate("columns", 3, dim=-1):
            with poutine.mask(mask=torch.tensor([[True], [False], [True], [True]])):
                fn = make(cls, logits_of(cls, dtype=torch.float64))
                return pyro.sample("z", LAYOUTS[layout](fn))

    guide = poutine.reparam(program, config={"z": GumbelSoftmaxReparam(guide=True)})
    trace = poutine.trace(guide).get_trace()
    kept = trace.copy()
    kept.remove_node("z_noise")
    plain = poutine.trace(poutine.replay(program, trace=kept)).get_trace()
    trace.compute_log_prob()
    plain.compute_log_prob()
    total = trace.nodes["z"]["log_prob"] + trace.nodes["z_noise"]["log_prob"]
    torch.testing.assert_close(total, plain.nodes["z"]["log_prob"])
    assert trace.nodes["z"]["fn"].shape() == plain.nodes["z"]["fn"].shape()


def test_one_object_serves_several_sites():
    reparam = GumbelSoftmaxReparam()

    def model():
        a = pyro.sample("a", d.RelaxedBernoulli(0.5, logits=torch.zeros(2)).to_event(1))
        b = pyro.sample("b", d.StraightThroughOneHotCategorical(0.5, logits=torch.zeros(4)))
        return a.shape, b.shape

    handled = poutine.reparam(model, config={"a": reparam, "b": reparam})
    for _ in range(2):
        assert handled() == ((2,), (4,))


def test_torch_temperature_of_one_element():
    """As torch's documentation gives it."""
    fn = dist.RelaxedOneHotCategorical(torch.tensor([0.4]), logits=torch.randn(3))
    y = fn.sample()
    torch.testing.assert_close(restored(fn, y), y, rtol=0, atol=1e-5)


def mixture(reparam=True):
    """Two draws of which class, relaxed: the likelihood prefers the last."""

    def model():
        logits = torch.tensor([1.0, 0.0, 0.0])
        with pyro.plate("two", 2):
            z = pyro.sample("z", d.RelaxedOneHotCategorical(0.5, logits=logits))
        loc = z @ torch.tensor([-1.0, 0.0, 2.0])
        pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=torch.tensor([2.0, 1.8]))

    return poutine.reparam(model, config={"z": GumbelSoftmaxReparam()}) if reparam else model


def test_nuts():
    kernel = NUTS(mixture(), jit_compile=False, max_tree_depth=5)
    mcmc = MCMC(kernel, num_samples=40, warmup_steps=40, disable_progbar=True)
    mcmc.run()
    noise = mcmc.get_samples()["z_noise"]
    assert noise.shape == (40, 2, 3) and noise.isfinite().all()
    z = value_by_all(noise)
    assert z.mean(0)[:, 2].min() > 0.6  # 0.21 in the prior


def value_by_all(noise):
    fn = d.RelaxedOneHotCategorical(0.5, logits=torch.tensor([1.0, 0.0, 0.0]))
    return GumbelSoftmaxReparam().forward(fn, noise)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO, pre.TraceEstimator_ELBO])
def test_autoguide(elbo):
    model = mixture()  # an event made of a plate: it does not broadcast over particles
    guide = AutoNormal(model)
    options = {"vectorize_particles": "vmap"} if elbo is pre.TraceEstimator_ELBO else {}
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), elbo(num_particles=4, **options))
    losses = [svi.step() for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert value_by_all(guide.median()["z_noise"])[:, 2].min() > 0.6


TABLE = [
    (
        "observed",
        lambda: d.RelaxedBernoulli(0.5, logits=torch.zeros(())),
        torch.tensor(0.3),
        "observed",
    ),
    ("Bernoulli", lambda: dist.Bernoulli(0.5), None, "RelaxReparam"),
    ("one-hot", lambda: dist.OneHotCategorical(torch.ones(3)), None, "RelaxReparam"),
    ("Normal", lambda: dist.Normal(0.0, 1.0), None, "given Normal"),
]


@pytest.mark.parametrize("name, make_fn, obs, match", TABLE, ids=[row[0] for row in TABLE])
def test_errors(name, make_fn, obs, match):
    @poutine.reparam(config={"z": GumbelSoftmaxReparam()})
    def model():
        pyro.sample("z", make_fn(), obs=obs)

    with pytest.raises(pre.EstimatorError, match=f"'z'.*{match}"):
        model()


@pytest.mark.parametrize("reparam", [pre.reparam.GumbelSoftmaxReparam, pre.reparam.PathwiseReparam])
@pytest.mark.parametrize(
    "make",
    [
        lambda t: dist.RelaxedOneHotCategorical(t, logits=torch.zeros(2, 3)),
        lambda t: dist.RelaxedBernoulli(t, logits=torch.zeros(2, 3)).to_event(1),
        lambda t: dist.RelaxedOneHotCategoricalStraightThrough(t, logits=torch.zeros(2, 3)),
        lambda t: dist.RelaxedBernoulliStraightThrough(t, logits=torch.zeros(2, 3)).to_event(1),
    ],
)
def test_temperature_as_a_number_or_as_torch_broadcasts_it(make, reparam):
    """Torch samples with all of them, and each is the same temperature."""
    scores = []
    for temperature in (0.5, torch.tensor(0.5), torch.full((2, 1), 0.5)):

        def program(temperature=temperature):
            return pyro.sample("z", make(temperature).to_event(1))

        pyro.set_rng_seed(0)
        with pyro.poutine.reparam(config={"z": reparam()}):
            scores.append(pyro.poutine.trace(program).get_trace().log_prob_sum())
    torch.testing.assert_close(torch.stack(scores), scores[0].expand(3))

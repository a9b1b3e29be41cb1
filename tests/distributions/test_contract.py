"""What every distribution has to do, at every point of the registry."""

import copy
import pickle

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.distributions import biject_to

import pyro_reparam_ext as pre

from ..slow import one_in
from ..statistics import assert_follows, assert_mean
from .entry import tensors
from .gradients import exact, leaves_of, pathwise
from .oracle import Joint, Univariate
from .registry import CLASSES, REGISTRY, named, points

OUTSIDE = -123.4
"""No value of any distribution that has values outside of its support."""


def every_point(test):
    served = [(n, i) for n, i in points() if test.__name__ not in REGISTRY[n].exempt]
    return pytest.mark.parametrize(("name", "point"), served)(test)


def some_points(test):
    """Every other point is left to the slow tests."""
    served = [(n, i) for n, i in points() if test.__name__ not in REGISTRY[n].exempt]
    return pytest.mark.parametrize(("name", "point"), one_in(2, served))(test)


def every_entry(test):
    served = [n for n in named() if test.__name__ not in REGISTRY[n].exempt]
    return pytest.mark.parametrize("name", served)(test)


def every_class(test):
    """The first entry of each class: what depends on the code alone, and not on the parameters."""
    served = {n.split("-")[0]: n for n in reversed(named()) if test.__name__ not in REGISTRY[n].exempt}
    return pytest.mark.parametrize("name", one_in(4, served.values(), 2))(test)


def at_point(name: str, point: int):
    entry = REGISTRY[name]
    parameters = entry.points[point]
    return entry, parameters, entry.at(parameters)


def drawn(fn, shape=()):
    return fn.rsample(shape) if fn.has_rsample else fn.sample(shape)


# Samples and densities


@every_point
def test_samples_follow_the_law(name, point):
    entry, parameters, fn = at_point(name, point)
    value = fn.sample((entry.draws,))
    assert fn.support.check(value).all()
    if isinstance(entry.oracle, Joint):
        expected, _ = entry.oracle.expected_with_gradients(parameters)
        assert_mean(entry.oracle.features(value), expected)
    else:
        assert_follows(value, entry.oracle.frozen(**parameters).cdf)


@every_point
def test_log_prob(name, point):
    entry, parameters, fn = at_point(name, point)
    value = fn.sample((50,))
    torch.testing.assert_close(
        fn.log_prob(value), entry.oracle.log_prob(value, parameters), rtol=1e-6, atol=1e-6
    )


def univariate(function=None):
    """The points of real variables, of those that know ``function``."""
    return pytest.mark.parametrize(("name", "point"), points_of_real_variables(function))


def points_of_real_variables(function=None):
    return [
        (name, point)
        for name, point in points()
        if isinstance(REGISTRY[name].oracle, Univariate) and function not in REGISTRY[name].unknown
    ]


# Those of vectors are tested where they are defined.
@pytest.mark.parametrize(("moment", "of_scipy"), [("mean", "mean"), ("variance", "var")])
@univariate()
def test_moments(name, point, moment, of_scipy):
    entry, parameters, fn = at_point(name, point)
    if moment in entry.unknown:
        with pytest.raises(NotImplementedError):
            getattr(fn, moment)
    else:
        exact = float(getattr(entry.oracle.frozen(**parameters), of_scipy)())
        expected = torch.as_tensor(exact, dtype=torch.float64)
        torch.testing.assert_close(getattr(fn, moment), expected, rtol=1e-5, atol=1e-8)


@univariate("entropy")
def test_entropy(name, point):
    entry, parameters, fn = at_point(name, point)
    expected = torch.as_tensor(float(entry.oracle.frozen(**parameters).entropy()), dtype=torch.float64)
    torch.testing.assert_close(fn.entropy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "point"),
    [(n, i) for n, i in points_of_real_variables("mode") if "test_mode" not in REGISTRY[n].exempt],
)
def test_mode(name, point):
    """The density is nowhere larger, neither at quantiles nor beside the mode."""
    entry, parameters, fn = at_point(name, point)
    law = entry.oracle.frozen(**parameters)
    low, high = law.ppf(np.array([0.25, 0.75]))
    mode = float(fn.mode)
    beside = mode + (high - low) * np.concatenate([-np.logspace(-3, 0, 20), np.logspace(-3, 0, 20)])
    at = np.concatenate([law.ppf(np.linspace(0.001, 0.999, 99)), beside])
    at = at[fn.support.check(torch.as_tensor(at)).numpy() & (abs(at - mode) > 1e-6 * (high - low))]
    # At an end the density may be infinite.
    inside = mode + 1e-12 * (law.ppf(np.array(0.5)) - mode)
    assert (law.logpdf(at) <= law.logpdf(inside) + 1e-9).all()


@pytest.mark.parametrize("name", [n for n, point in points_of_real_variables("mode") if point == 0])
def test_gradient_of_the_mode(name):
    entry = REGISTRY[name]
    leaves = tensors(entry.points[entry.typical])
    assert torch.autograd.gradcheck(
        lambda *given: entry.make(**dict(zip(leaves, given, strict=True))).mode,
        [x.requires_grad_() for x in leaves.values()],
        eps=1e-5,
        atol=1e-7,
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "function"),
    [
        (name, f)
        for name in named()
        for f in ("entropy", "cdf", "icdf", "mode")
        if f in REGISTRY[name].unknown
    ],
)
def test_what_is_unknown_raises(name, function):
    _, _, fn = at_point(name, 0)
    with pytest.raises(NotImplementedError):
        known = getattr(fn, function)
        known(*(() if function == "entropy" else (fn.sample((50,)),)))


@univariate("cdf")
def test_cdf(name, point):
    entry, parameters, fn = at_point(name, point)
    value = fn.sample((50,))
    cdf = entry.oracle.cdf(value, parameters)
    torch.testing.assert_close(fn.cdf(value), cdf, rtol=1e-6, atol=1e-8)


@univariate("icdf")
def test_icdf(name, point):
    entry, parameters, fn = at_point(name, point)
    value = fn.sample((50,))
    cdf = entry.oracle.cdf(value, parameters)
    back = fn.icdf(cdf)
    inside = (cdf > 1e-6) & (cdf < 1 - 1e-6)
    torch.testing.assert_close(back[inside], value[inside], rtol=1e-5, atol=1e-7)


# Gradients


@pytest.mark.parametrize(
    ("name", "point"), [(n, i) for n, i in points() if REGISTRY[n].precision is not None]
)
def test_velocity(name, point):
    """The gradient of each draw, where it is the implicit one: no Monte Carlo error."""
    entry, parameters, _ = at_point(name, point)
    leaves = leaves_of(parameters, 200)
    value = entry.make(**leaves).rsample()
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
    value = value.detach()
    cdf = entry.oracle.cdf(value, parameters)
    inside = (cdf > 0.01) & (cdf < 0.99)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        exact = entry.oracle.velocity(value, parameters, leaf)
        tolerance = {
            "rtol": entry.precision,
            "atol": entry.precision * float(exact[inside].abs().max()),
        }
        torch.testing.assert_close(
            gradient[inside], exact[inside], **tolerance, msg=lambda m, leaf=leaf: f"{leaf}: {m}"
        )


@some_points
def test_gradient_of_an_expectation(name, point):
    entry, parameters, _ = at_point(name, point)
    samples, expected = pathwise(entry, parameters, entry.draws), exact(entry, parameters)
    assert_mean(
        torch.cat([samples[k].flatten(1) for k in expected], 1),
        torch.cat([x.flatten() for x in expected.values()]),
    )


def first_and_second(value, leaf):
    """dx/d(parameter), and its derivative along the draw's own path; None if that raises."""
    (first,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
    if not first.requires_grad:
        return first, torch.zeros_like(first)
    try:
        (second,) = torch.autograd.grad(first.sum(), leaf, allow_unused=True)
    except RuntimeError as error:
        assert "second time" in str(error)
        return first.detach(), None
    return first.detach(), torch.zeros_like(first) if second is None else second


# Those of vectors are in their own tests.
@pytest.mark.parametrize("name", [n for n in named() if isinstance(REGISTRY[n].oracle, Univariate)])
def test_second_derivative_is_right_or_raises(name):
    """Against differences of the first one along the path on which the draw moves."""
    entry = REGISTRY[name]
    parameters = entry.points[entry.typical]
    for k in parameters:

        def moving(step, x, k=k):
            leaves = leaves_of(parameters, 20)
            leaves[k] = (leaves[k].detach() + step).requires_grad_()
            return pre.distributions.pathwise_at(entry.make(**leaves), x), leaves[k]

        leaves = leaves_of(parameters, 20)
        drawn = entry.make(**leaves).rsample()
        u = entry.oracle.cdf(drawn.detach(), parameters)
        inside = (u > 0.02) & (u < 0.98)
        first, second = first_and_second(*moving(0.0, drawn.detach()))
        step = 1e-5
        up, down = (first_and_second(*moving(h, drawn.detach() + h * first))[0] for h in (step, -step))
        numerical = ((up - down) / (2 * step))[inside]
        scale = numerical.abs().mean() + first[inside].abs().mean()
        close = {"rtol": 1e-4, "atol": 1e-4 * float(scale)}
        if second is not None:
            torch.testing.assert_close(second[inside], numerical, **close)
        _, of_sample = first_and_second(drawn, leaves[k])
        if of_sample is not None and entry.precision is not None:
            torch.testing.assert_close(of_sample[inside], numerical, **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_entry
def test_finite_at_the_extremes(name, dtype):
    entry = REGISTRY[name]
    for parameters in entry.extremes:
        leaves = {k: x.requires_grad_() for k, x in tensors(parameters, dtype).items()}
        fn = entry.make(**leaves)
        value = fn.rsample((500,))
        assert value.isfinite().all(), parameters
        assert fn.support.check(value.detach()).all(), parameters
        for g in torch.autograd.grad(value.sum(), list(leaves.values()), retain_graph=True):
            assert g.isfinite().all(), f"gradient of the sample: {parameters}"
        log_prob = fn.log_prob(value.detach())
        assert log_prob.isfinite().all(), f"log_prob: {parameters}"
        scored = [x for k, x in leaves.items() if k not in entry.not_scored]
        for g in torch.autograd.grad(log_prob.sum(), scored):
            assert g.isfinite().all(), f"gradient of log_prob: {parameters}"


# A full distribution


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_entry
def test_dtype(name, dtype):
    fn = REGISTRY[name].at(REGISTRY[name].points[0], dtype)
    value = drawn(fn, (3,))
    assert value.dtype == dtype
    assert fn.log_prob(value).dtype == dtype


@every_entry
def test_shapes(name):
    entry = REGISTRY[name]
    event = entry.at(entry.points[0]).event_shape
    parameters = tensors(entry.points[0])
    shapes = [(3, 1), (2,)]
    broadcast = {
        k: x.expand(shapes[min(i, 1)] + x.shape) for i, (k, x) in enumerate(parameters.items())
    }
    batch = torch.Size((3, 2)) if len(parameters) > 1 else torch.Size((3, 1))
    fn = entry.make(**broadcast)
    assert (fn.batch_shape, fn.event_shape) == (batch, event)
    for shape in ((), (4,), (5, 4)):
        for value in (drawn(fn, shape), fn.sample(shape)):
            assert value.shape == shape + batch + event
            assert fn.log_prob(value).shape == shape + batch
    assert drawn(fn).isfinite().all()
    wider = fn.expand((7,) + batch)
    assert type(wider) is type(fn)
    assert wider.batch_shape == (7,) + batch
    assert wider._validate_args == fn._validate_args
    value = drawn(wider, (40,))
    assert value.shape == (40, 7) + batch + event
    assert not torch.equal(value[:, 0], value[:, 1])
    assert entry.hard or len(value.flatten().unique()) > 7 * batch.numel()
    torch.testing.assert_close(wider.log_prob(value), fn.log_prob(value))
    assert fn.to_event(1).log_prob(drawn(fn)).shape == batch[:1]
    mask = torch.arange(2) > 0
    masked = fn.expand((3, 2)).mask(mask).log_prob(drawn(fn.expand((3, 2))))
    assert (masked[:, 0] == 0).all() and (masked[:, 1] != 0).any()


@every_entry
def test_copies_and_pickles(name):
    entry = REGISTRY[name]
    fn = entry.at(entry.points[0])
    value = fn.sample((3,))
    for twin in (copy.deepcopy(fn), pickle.loads(pickle.dumps(fn))):
        torch.testing.assert_close(twin.log_prob(value), fn.log_prob(value))
        assert twin.sample().shape == fn.sample().shape


@every_entry
def test_vmap(name):
    entry = REGISTRY[name]
    parameters = {k: x.expand((4,) + x.shape).clone() for k, x in tensors(entry.points[0]).items()}

    def objective(parameters):
        fn = entry.make(**parameters, validate_args=False)
        value = fn.rsample((3,))
        return value.sum() + fn.log_prob(value).sum(), value

    gradients, values = torch.func.vmap(
        torch.func.grad(objective, has_aux=True), randomness="different"
    )(parameters)
    assert values.shape[:2] == (4, 3)
    assert len(values[:, 0].reshape(4, -1).unique(dim=0)) == 4
    for k, g in gradients.items():
        assert g.shape == parameters[k].shape
        assert g.isfinite().all()


@every_entry
def test_vmap_of_log_prob(name):
    entry = REGISTRY[name]
    fn = entry.at(entry.points[0], validate_args=False)
    value = fn.sample((4,))
    torch.testing.assert_close(torch.func.vmap(fn.log_prob)(value), fn.log_prob(value))


@every_class
def test_compiles_into_one_graph(name):
    """No host round-trip and no branch on a value: the whole of it is one graph."""
    entry = REGISTRY[name]
    leaves = {k: x.requires_grad_() for k, x in tensors(entry.points[0]).items()}

    def draw(parameters):
        return entry.make(**parameters, validate_args=False).rsample((500,))

    def score(parameters, value):
        return entry.make(**parameters, validate_args=False).log_prob(value)

    torch._dynamo.reset()
    value = torch.compile(draw, backend="eager", fullgraph=True)(leaves)
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
    assert all(g.isfinite().all() for g in gradients)
    value = value.detach()
    log_prob = torch.compile(score, backend="eager", fullgraph=True)(leaves, value)
    torch.testing.assert_close(log_prob, entry.make(**leaves).log_prob(value))
    ours = torch.autograd.grad(log_prob.sum(), list(leaves.values()))
    eager = torch.autograd.grad(score(leaves, value).sum(), list(leaves.values()))
    torch.testing.assert_close(ours, eager)


@every_class
def test_compiles_without_gradients(name):
    """Draw and score in one graph, where no parameter needs a gradient."""
    entry = REGISTRY[name]

    def both(parameters):
        fn = entry.make(**parameters, validate_args=False)
        value = drawn(fn, (50,))
        return value, fn.log_prob(value)

    torch._dynamo.reset()
    parameters = tensors(entry.points[0])
    value, log_prob = torch.compile(both, backend="eager", fullgraph=True)(parameters)
    torch.testing.assert_close(log_prob, entry.make(**parameters).log_prob(value))


@every_entry
def test_stays_on_its_device(name):
    """Nothing is made on another device: the meta device has shapes only, and refuses to be mixed."""
    entry = REGISTRY[name]
    parameters = {k: x.to("meta") for k, x in tensors(entry.points[0]).items()}
    fn = entry.make(**parameters, validate_args=False)
    value = drawn(fn, (3,))
    assert value.device.type == "meta"
    assert fn.log_prob(value).device.type == "meta"


@every_entry
def test_validates_parameters(name):
    entry = REGISTRY[name]
    good = tensors(entry.points[0])
    for k, x in good.items():
        with pytest.raises(ValueError, match=k):
            entry.make(**{**good, k: torch.full_like(x, float("nan"))}, validate_args=True)


@every_entry
def test_validates_values(name):
    entry = REGISTRY[name]
    fn = entry.at(entry.points[0], validate_args=True)
    with pytest.raises(ValueError, match="support"):
        fn.log_prob(torch.full_like(fn.sample(), float("nan")))


@every_entry
def test_refuses_values_outside(name):
    """Where there are any; elsewhere, every value has a density."""
    entry = REGISTRY[name]
    fn = entry.at(entry.points[entry.typical], validate_args=True)
    outside = fn.sample() * 0 + OUTSIDE
    if fn.support.check(outside).all():
        assert fn.log_prob(outside).isfinite().all()
    else:
        with pytest.raises(ValueError, match="support"):
            fn.log_prob(outside)


@every_entry
def test_support_has_a_bijection(name):
    """What autoguides and HMC need of a latent site."""
    entry = REGISTRY[name]
    fn = entry.at(entry.points[entry.typical])
    if entry.no_bijection:
        with pytest.raises(NotImplementedError):
            biject_to(fn.support)
        return
    transform = biject_to(fn.support)
    value = fn.sample((50,))
    back = transform(transform.inv(value))
    torch.testing.assert_close(back, value, rtol=1e-6, atol=1e-8)
    free = torch.randn_like(transform.inv(value))
    assert fn.log_prob(transform(free)).isfinite().all()


@pytest.mark.parametrize("elbo", [Trace_ELBO, pre.TraceEstimator_ELBO])
@every_entry
def test_as_a_site_of_a_guide(name, elbo):
    """The loss is the mean of log q - log p over plates and particles, and its gradient flows."""
    entry = REGISTRY[name]
    guide_parameters = tensors(entry.points[entry.typical])
    model_parameters = tensors(entry.points[-1] if _alike(entry) else entry.points[entry.typical])
    seen = []

    def program(prefix, parameters):
        given = {
            k: pyro.param(f"{prefix}_{k}", x.expand((2,) + x.shape).clone())
            for k, x in parameters.items()
        }
        with pyro.plate("plate", 2):
            fn = entry.make(**given)
            value = pyro.sample("x", fn)
        log_prob = fn.log_prob(value).detach()
        if log_prob.shape == (3, 2):  # not in a plain run, to guess plates or to compare
            seen.append(log_prob.sum() / 3)

    loss = elbo(num_particles=3, max_plate_nesting=1, vectorize_particles=True).loss_and_grads(
        lambda: program("model", model_parameters), lambda: program("guide", guide_parameters)
    )
    guide, model = seen[:2]
    assert loss == pytest.approx((guide - model).item(), rel=1e-8, abs=1e-8)
    for k, p in pyro.get_param_store()._params.items():
        scored = k.split("_", 1)[1] not in entry.not_scored
        assert p.grad is not None or not scored, k
        assert p.grad is None or p.grad.isfinite().all(), k


def _alike(entry):
    """Whether the first and the last point can be model and guide of each other."""
    first, last = (entry.at(entry.points[i]) for i in (entry.typical, -1))
    return first.event_shape == last.event_shape and last.support.check(first.sample((50,))).all()


# The registry


def test_exemptions_are_of_tests_and_have_reasons():
    for entry in REGISTRY.values():
        for test, reason in entry.exempt.items():
            assert test in globals() and reason, (entry.name, test)


def test_every_distribution_is_registered():
    public = {n for n in pre.distributions.__all__ if isinstance(getattr(pre.distributions, n), type)}
    assert CLASSES == public


def test_every_distribution_documents_itself():
    for name in CLASSES:
        doc = getattr(pre.distributions, name).__doc__
        for section in (".. math::", "References:", "Args:", "Raises:", "Example:"):
            assert section in doc, f"{name}: {section}"

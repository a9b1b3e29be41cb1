"""The importance-weighted bound: its value and all its gradients against exact ones."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam

import pyro_reparam_ext as pre

from .bound_programs import FUNCTIONS, MIXED, ONE, PLATE, TWO, X, drawn, log_normal, number
from .compiled.steps import assert_same_steps
from .sampling import gradients, losses
from .slow import one_in
from .statistics import assert_mean

WORDS = ["dreg", "pathwise", "vimco", "vimco-star", "score"]
PROGRAMS = {"one": ONE, "plate": PLATE, "two": TWO, "mixed": MIXED, "functions": FUNCTIONS}


def elbo_of(word, num_particles=2, alpha=0.0, mode=True, **options):
    return pre.ImportanceWeighted_ELBO(
        num_particles, word, alpha, vectorize_particles=mode, max_plate_nesting=2, **options
    )


CASES = [(word, name) for name in PROGRAMS for word in WORDS]


@pytest.mark.parametrize("word, name", CASES)
def test_gradient_of_the_bound(word, name):
    alpha = 0.0 if name in ("one", "mixed", "functions") else 0.5
    exact = PROGRAMS[name].exact(2, alpha)
    assert_mean(drawn(elbo_of(word, alpha=alpha), PROGRAMS[name], 8000), exact[1:])


@pytest.mark.parametrize("word, name", one_in(4, CASES, 3))
def test_gradient_of_the_bound_by_three_particles(word, name):
    program, alpha = PROGRAMS[name], 0.3
    if program.normal == 2:  # too many nodes in six dims: as a mean over pairs of layers, by two
        assert_mean(drawn(elbo_of(word, 2, alpha), program, 60000), program.exact(2, alpha)[1:])
        return
    elbo = elbo_of(word, 3, alpha, mode="vmap")
    assert_mean(drawn(elbo, program, 30000), program.exact(3, alpha)[1:])


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", ["plate", "mixed"])
def test_all_modes_have_the_same_law(word, name):
    program = PROGRAMS[name]
    if (word, name) in [("score", "plate"), ("vimco", "mixed")]:
        exact = program.exact(2, 0.5)[1:]
        assert_mean(drawn(elbo_of(word, alpha=0.5, mode="vmap"), program, 8000), exact)
    found = gradients(elbo_of(word, mode=False), program.model, program.guide, list(program.initial), 80)
    assert_mean(found, program.exact(2, 0.0))


def formula(word, alpha, count, seed):
    """The gradient of ``TWO`` in plain torch, from the noise that the guide takes under a seed."""
    p = {name: number(x).requires_grad_() for name, x in TWO.initial.items()}
    torch.manual_seed(seed)
    eps = torch.stack([torch.randn(count, dtype=torch.float64) for _ in range(2)])
    with torch.no_grad():
        w = TWO.joint(p, eps, None)[0]
        share = ((1 - alpha) * w).softmax(0)
        total = (((1 - alpha) * w).logsumexp(0) - math.log(count)) / (1 - alpha)
        z = p["a"] + p["s"].exp() * eps[0]
        v = p["a"] + p["c"] * z + 0.8 * eps[1]

    def held(z, v, p):
        model = log_normal(z, number(0.0), 1.0) + log_normal(v, p["slope"] * z, 1.0)
        model = model + log_normal(number(X), v, 0.7)
        q = log_normal(z, p["a"], p["s"].exp()) + log_normal(v, p["a"] + p["c"] * z, 0.8)
        return model, q

    model, q = held(z, v, p)
    of_model = torch.autograd.grad((share * model).sum(), p["slope"], retain_graph=True)[0]
    names = ["a", "c", "s"]
    if word == "dreg":
        moving_z = p["a"] + p["s"].exp() * eps[0]
        moving_v = p["a"] + p["c"] * moving_z + 0.8 * eps[1]
        fixed = {name: x.detach() for name, x in p.items()}
        parts = held(moving_z, moving_v, fixed)
        weight = alpha * share + (1 - alpha) * share**2
        objective = (weight * (parts[0] - parts[1])).sum()
    else:
        others = []
        for k in range(count):
            rest = torch.cat([w[:k], w[k + 1 :]])
            own = {
                "score": None,
                "vimco": ((1 - alpha) * rest.mean()).exp(),
                "vimco-star": alpha * ((1 - alpha) * rest).exp().mean(),
            }[word]
            if own is None:
                others.append(number(0.0))
            else:
                mean = (((1 - alpha) * rest).exp().sum() + own) / count
                others.append(mean.log() / (1 - alpha))
        objective = ((total - torch.stack(others) - share) * q).sum()
    found = torch.autograd.grad(objective, [p[name] for name in names])
    return -total, {**dict(zip(names, (-x for x in found))), "slope": -of_model}


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("word", ["dreg", "vimco", "vimco-star", "score"])
def test_same_noise_same_gradient_as_the_formula(word, alpha):
    for mode in (True, "vmap"):
        pyro.clear_param_store()
        elbo = elbo_of(word, 5, alpha, mode)
        elbo.loss(TWO.model, TWO.guide)
        torch.manual_seed(7)
        loss = elbo.loss_and_grads(TWO.model, TWO.guide)
        expected, gradient = formula(word, alpha, 5, 7)
        assert loss == pytest.approx(expected.item(), abs=1e-10)
        store = pyro.get_param_store()
        for name, x in gradient.items():
            torch.testing.assert_close(store._params[name].grad, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_value_of_the_bound(alpha):
    for program in (ONE, PLATE):
        pyro.clear_param_store()
        values = losses(elbo_of("dreg", 2, alpha), program.model, program.guide, 200)
        assert_mean(values[:, None], program.exact(2, alpha)[:1])


def test_bound_by_one_particle_is_the_elbo():
    torch.manual_seed(1)
    ours = elbo_of("dreg", 1).loss(ONE.model, ONE.guide)
    torch.manual_seed(1)
    assert ours == pytest.approx(Trace_ELBO().loss(ONE.model, ONE.guide))


# -- signal and noise --------------------------------------------------------------------------------


def ratio(word, num_particles, count=4000):
    """The signal over the noise of the gradient in the mean of the guide."""
    pyro.clear_param_store()
    rows = drawn(elbo_of(word, num_particles), ONE, count)[:, 0]
    return (rows.mean() / rows.std()).abs()


@pytest.mark.parametrize("word, grows", [("dreg", True), ("vimco-star", True), ("pathwise", False)])
def test_signal_over_noise_as_particles_are_added(word, grows):
    few, many = ratio(word, 4), ratio(word, 64)
    assert many > 1.5 * few if grows else many < few / 1.5


# -- plates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["dreg", "vimco"])
def test_a_part_of_the_data_stands_for_all(word):
    found = drawn(elbo_of(word), PLATE, 8000, 2)
    assert_mean(found, PLATE.exact(2, 0.0)[1:])


def elements(idle):
    """Twenty elements of one plate; ``idle``: and a site outside of it on which nothing depends."""

    def model():
        if idle:
            pyro.sample("idle", dist.Normal(number(0.0), 1.0))
        with pyro.plate("data", 20, dim=-1):
            z = pyro.sample("z", dist.Normal(number(0.0), 1.0))
            pyro.sample("x", dist.Normal(z, 0.7), obs=torch.linspace(-2, 2, 20, dtype=torch.float64))

    def guide():
        if idle:
            pyro.sample("idle", dist.Normal(number(0.0), 1.0))
        with pyro.plate("data", 20, dim=-1):
            pyro.sample("z", dist.Normal(param("loc"), 1.0))

    return model, guide


def test_elements_of_a_plate_have_weights_of_their_own():
    own, joint = (losses(elbo_of("dreg", 8), *elements(idle), 100) for idle in (False, True))
    evidence = -dist.Normal(0.0, number(1.49).sqrt()).log_prob(
        torch.linspace(-2, 2, 20, dtype=torch.float64)
    )
    gaps = [values.mean() - evidence.sum() for values in (own, joint)]
    assert 0 < 3 * gaps[0] < gaps[1]


def crossing_model():
    with pyro.plate("data", 3, dim=-1):
        z = pyro.sample("z", dist.Normal(number(0.0), 1.0))
        z = z - z.mean(-1, keepdim=True)
        pyro.sample("x", dist.Normal(z, 0.5), obs=number([1.0, 0.0, -1.0]))


@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize("word", ["dreg", "pathwise", "vimco"])
def test_elements_that_depend_on_each_other_have_one_weight(word, mode):
    elbo = elbo_of(word, 4, mode=mode)
    elbo.loss_and_grads(crossing_model, PLATE.guide)
    torch.manual_seed(3)
    ours = elbo.loss(crossing_model, PLATE.guide)
    if mode is not False:
        torch.manual_seed(3)
        assert ours == pytest.approx(joint_loss(crossing_model, PLATE.guide, 4).item())
    runs = elbo.evaluate(crossing_model, PLATE.guide, (), {})
    elbo.surrogate(runs, learn=False)
    assert not any(run.own_weights for run in runs)


def joint_loss(model, guide, num_particles):
    """The importance-weighted bound with one weight for each particle, by traces of Pyro."""
    with pyro.plate("particles", num_particles, dim=-2):
        guide_trace = pyro.poutine.trace(guide).get_trace()
        model_trace = pyro.poutine.trace(pyro.poutine.replay(model, trace=guide_trace)).get_trace()
    total = 0.0
    for trace, sign in ((model_trace, 1), (guide_trace, -1)):
        trace.compute_log_prob()
        names = [name for name in ("z", "x") if name in trace.nodes]
        total = total + sign * sum(trace.nodes[name]["log_prob"].sum(-1) for name in names)
    return math.log(num_particles) - total.logsumexp(0)


@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal])
def test_autoguide_of_elements_that_depend_on_each_other(guide):
    guide = guide(crossing_model)
    elbo = pre.ImportanceWeighted_ELBO(4)
    torch.manual_seed(3)
    elbo.loss_and_grads(crossing_model, guide)
    (run,) = elbo.evaluate(crossing_model, guide, (), {})
    elbo.surrogate([run], learn=False)
    assert not run.own_weights


def test_scale_of_all_is_one_of_the_bound():
    scaled = pyro.poutine.scale(ONE.model, 0.1), pyro.poutine.scale(ONE.guide, 0.1)
    for word in ("dreg", "vimco"):
        values = []
        for model, guide in ((ONE.model, ONE.guide), scaled):
            pyro.clear_param_store()
            elbo = elbo_of(word, 4)
            elbo.loss(model, guide)
            torch.manual_seed(4)
            loss = elbo.loss_and_grads(model, guide)
            store = pyro.get_param_store()
            values.append([loss, *(store._params[name].grad.item() for name in ONE.initial)])
        assert values[1] == pytest.approx([0.1 * x for x in values[0]])


# -- where it is used --------------------------------------------------------------------------------


@pytest.mark.parametrize("word, name, mode", [("dreg", "mixed", True), ("vimco-star", "plate", "vmap")])
def test_captured(word, name, mode):
    program = PROGRAMS[name]

    def programs():
        return program.model, program.guide, elbo_of(word, 3, 0.25, mode)

    assert_same_steps(programs, tolerance=1e-9)


@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal])
def test_autoguides_train(guide):
    def model():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("x", dist.Normal(z, 0.5), obs=torch.tensor(1.0))

    guide = guide(model)
    svi = SVI(model, guide, Adam({"lr": 0.02}), pre.ImportanceWeighted_ELBO(8))
    steps = [svi.step() for _ in range(150)]
    assert sum(steps[-30:]) < sum(steps[:30])


def test_autoguide_beside_points():
    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(a, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=torch.tensor(1.0))

    guide = AutoGuideList(model)
    guide.append(AutoDelta(pyro.poutine.block(model, expose=["a"])))
    guide.append(AutoNormal(pyro.poutine.block(model, expose=["z"])))
    means = []
    for word in ("dreg", "pathwise"):
        elbo = elbo_of(word, 3)
        rows = gradients(elbo, model, guide, ["AutoGuideList.0.a", "AutoGuideList.1.locs.z"], 200)
        means.append(rows)
    assert_mean(means[0][:, 1:] - means[1][:, 1:], torch.zeros(2))


def test_module_and_study():
    elbo = elbo_of("dreg", 4)(ONE.model, ONE.guide)
    torch.manual_seed(5)
    loss = elbo()
    loss.backward()
    assert pyro.get_param_store()._params["loc"].grad.abs() > 0
    study = pre.gradient_study(
        ONE.model,
        ONE.guide,
        estimators={word: elbo_of(word, 4) for word in ("dreg", "pathwise")},
        num_draws=200,
        progress=False,
    )
    summary = study.summary()
    assert summary.unbiased.all() and summary.variance["dreg"] < summary.variance["pathwise"]


def test_alternatives_beside_the_doubly_reparameterised():
    guide = pre.config_estimator(MIXED.guide, {"b": pre.DisARM(), "d": pre.REBAR()})
    program = type(MIXED)(MIXED.initial, 1, 2, MIXED.model, guide, MIXED.joint)
    assert_mean(drawn(elbo_of("dreg"), program, 8000), MIXED.exact(2, 0.0)[1:])


# -- errors ------------------------------------------------------------------------------------------


def outside_model(batch):
    shift = pyro.sample("shift", dist.Normal(number(0.0), 1.0))
    with pyro.plate("data", 3, subsample_size=batch, dim=-1):
        pyro.sample("z", dist.Normal(shift, 1.0))


def outside_guide(batch):
    pyro.sample("shift", dist.Normal(param("loc"), 1.0))
    with pyro.plate("data", 3, subsample_size=batch, dim=-1):
        pyro.sample("z", dist.Normal(number(0.0), 1.0))


def param(name):
    return pyro.param(name, number(0.1))


ERRORS = {
    "alpha of the ELBO": (lambda: pre.ImportanceWeighted_ELBO(2, alpha=1), "TraceEstimator_ELBO"),
    "negative alpha": (lambda: pre.ImportanceWeighted_ELBO(2, alpha=-0.5), "at least 0"),
    "alpha of words": (lambda: pre.ImportanceWeighted_ELBO(2, alpha="half"), "alpha: expected"),
    "no particles": (lambda: pre.ImportanceWeighted_ELBO(0), "num_particles"),
    "unknown word": (lambda: pre.ImportanceWeighted_ELBO(2, "drag"), "'dreg'.*'pathwise'.*'drag'"),
    "one particle": (
        lambda: elbo_of("vimco", 1).loss(ONE.model, ONE.guide),
        "site 'z': LeaveOneOut needs other particles",
    ),
    "a part of the data, without own weights": (
        lambda: elbo_of("dreg").loss(outside_model, outside_guide, 2),
        "plate 'data'.*guide site 'shift' lies outside of it.*TraceEstimator_ELBO",
    ),
    "two ways to differentiate": (
        lambda: elbo_of("dreg").loss_and_grads(
            TWO.model, pre.config_estimator(TWO.guide, {"z": pre.Pathwise()})
        ),
        "site 'z': Pathwise differentiates through.*gradient='pathwise'",
    ),
    "enumeration": (
        lambda: elbo_of("dreg").loss_and_grads(
            MIXED.model, pre.config_estimator(MIXED.guide, {"b": pre.Enumeration()})
        ),
        "site 'b': Enumeration averages costs.*bound by several particles",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, message = ERRORS[name]
    with pytest.raises(pre.EstimatorError, match=message):
        call()


def test_with_all_of_the_data_sites_may_lie_outside():
    elbo_of("dreg").loss_and_grads(outside_model, outside_guide, None)

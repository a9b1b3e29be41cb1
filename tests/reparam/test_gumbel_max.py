"""GumbelMaxReparam: laws, the ELBO on values and on keys, and the hosts of the sites that it makes."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO, TraceGraph_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_sample, init_to_value
from torch.distributions import kl_divergence

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import GumbelSinkhorn, PlackettLuce
from pyro_reparam_ext.reparam import GumbelMaxReparam
from pyro_reparam_ext.reparam.keys import GumbelKeys

from ..statistics import assert_mean
from .layouts import LAYOUTS

DTYPE = torch.float64
THREE = torch.tensor([0.4, -0.7, 1.1], dtype=DTYPE)
SCALAR = torch.tensor(0.7, dtype=DTYPE)
FAMILIES = {
    "Bernoulli": (lambda logits: dist.Bernoulli(logits=logits), SCALAR),
    "Categorical": (lambda logits: dist.Categorical(logits=logits), THREE),
    "OneHotCategorical": (lambda logits: dist.OneHotCategorical(logits=logits), THREE),
    "PlackettLuce": (lambda logits: PlackettLuce(logits), THREE),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
DRAWS = 20_000


def cost(value, event_dim):
    """Some function of the value, in batch shape."""
    x = value.to(DTYPE)
    if event_dim == 0:
        return (2 * x).sin()
    x = x.flatten(-event_dim)
    weights = torch.linspace(-1, 2, x.shape[-1], dtype=DTYPE)
    return (x * weights).sum(-1).sin() + x[..., 0]


def support_of(fn):
    values = fn.enumerate_support(expand=False)
    return values, cost(values, fn.event_dim)


def expected_loss(make, p, q):
    """The negative discrete ELBO and its gradient, by enumeration."""
    q = q.clone().requires_grad_()
    values, costs = support_of(make(q))
    log_q, log_p = make(q).log_prob(values), make(p).log_prob(values)
    loss = (log_q.exp() * (log_q - log_p - costs)).sum()
    return loss.detach(), torch.autograd.grad(loss, q)[0]


def program(make, logits, with_cost):
    def run():
        with pyro.plate("draws", DRAWS):
            fn = make(logits)
            z = pyro.sample("z", fn)
            if with_cost:
                pyro.factor("x", cost(z, fn.event_dim))

    return run


def reparameterised(run, **options):
    return poutine.reparam(run, config={"z": GumbelMaxReparam(**options)})


@every_family
def test_value_has_its_law(family):
    make, logits = FAMILIES[family]
    trace = poutine.trace(reparameterised(program(make, logits, False))).get_trace()
    z, keys = trace.nodes["z"], trace.nodes["z_keys"]
    assert z["is_observed"] and not keys["is_observed"] and not keys["fn"].has_rsample
    assert z["value"].dtype == make(logits).sample().dtype
    values = make(logits).enumerate_support(expand=False)
    indicators = (z["value"].unsqueeze(1) == values).reshape(DRAWS, len(values), -1).all(-1)
    assert_mean(indicators, make(logits).log_prob(values).exp())


@pytest.mark.parametrize("on_model", [False, True])
@every_family
def test_loss_is_the_discrete_elbo(family, on_model):
    """Loss and gradient, of the guide alone and of guide and model."""
    make, logits = FAMILIES[family]
    p = -0.5 * logits
    rows = logits.expand((DRAWS, *logits.shape)).clone().requires_grad_()
    guide = reparameterised(program(make, rows, False), guide=True)
    model = program(make, p, True)
    if on_model:
        model = reparameterised(model)
    loss, gradient = expected_loss(make, p, logits)

    trace = poutine.trace(guide).get_trace()
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace()
    trace.compute_log_prob()
    replayed.compute_log_prob()
    log_q = trace.nodes["z"]["log_prob"] + trace.nodes["z_keys"]["log_prob"]
    torch.testing.assert_close(log_q, make(rows).log_prob(trace.nodes["z"]["value"]))
    losses = log_q - replayed.nodes["z"]["log_prob"] - replayed.nodes["x"]["log_prob"]
    assert_mean(losses[:, None], loss[None])

    Trace_ELBO().differentiable_loss(model, guide).backward()
    assert_mean(rows.grad.reshape(DRAWS, -1), gradient.reshape(-1))


@pytest.mark.parametrize("family", ["Categorical", "OneHotCategorical", "PlackettLuce"])
def test_guide_of_the_keys(family):
    """The ELBO over keys, a lower bound of that over values, tight where guide and prior agree."""
    make, logits = FAMILIES[family]
    bounds = {}
    for p in (-0.5 * logits, logits):
        p = p - p.logsumexp(-1)
        q = (logits - logits.logsumexp(-1)).requires_grad_()
        values, costs = support_of(make(q))
        excess = q - p
        kl = (excess + (-excess).exp() - 1).sum()  # of Gumbel variables
        loss = kl - (make(q).log_prob(values).exp() * costs).sum()
        gradient = torch.autograd.grad(loss, q)[0]
        rows = q.detach().expand(DRAWS, 3).clone().requires_grad_()

        def guide(rows=rows):
            with pyro.plate("draws", DRAWS):
                pyro.sample("z_keys", GumbelKeys(rows).to_event(1))

        model = reparameterised(program(make, p, True))
        Trace_ELBO().differentiable_loss(model, guide).backward()
        assert_mean(rows.grad, gradient)
        bounds[p] = loss.item() - expected_loss(make, p, q.detach())[0].item()
    apart, same = bounds.values()
    assert apart > 0.05
    assert abs(same) < 1e-12


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO, pre.TraceEstimator_ELBO])
@every_family
def test_other_elbos(family, elbo):
    make, logits = FAMILIES[family]
    rows = logits.expand((DRAWS, *logits.shape)).clone().requires_grad_()
    guide = reparameterised(program(make, rows, False), guide=True)
    model = reparameterised(program(make, -0.5 * logits, True))

    def with_parameter():
        pyro.param("rows", rows)
        guide()

    elbo().loss_and_grads(model, with_parameter)
    _, gradient = expected_loss(make, -0.5 * logits, logits)
    assert_mean(rows.grad.reshape(DRAWS, -1), gradient.reshape(-1))


def matching(temperature=0.7, scale=1.0, iterations=60):
    logits = scale * (2 * torch.arange(9, dtype=DTYPE)).sin().reshape(3, 3)
    return lambda x=logits: GumbelSinkhorn(temperature, x, num_iterations=iterations)


@pytest.mark.parametrize(
    "elbo", [Trace_ELBO(), pre.TraceEstimator_ELBO(), pre.TraceEstimator_ELBO(pre.ScoreFunction())]
)
def test_matchings_score_their_keys(elbo):
    make, prior = matching(), matching(1.1, -0.5)
    logits = make().logits
    rows = logits.expand(DRAWS, 3, 3).clone().requires_grad_()

    def guide():
        with pyro.plate("draws", DRAWS):
            return pyro.sample("z", make(rows))

    def model():
        with pyro.plate("draws", DRAWS):
            return pyro.sample("z", prior())

    guide, model = reparameterised(guide, guide=True), reparameterised(model)
    trace = poutine.trace(guide).get_trace()
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace()
    assert replayed.nodes["z"]["value"] is trace.nodes["z"]["value"]
    assert replayed.nodes["z_keys"]["value"] is trace.nodes["z_keys"]["value"]
    torch.testing.assert_close(trace.nodes["z"]["value"].sum(-1), torch.ones(DRAWS, 3, dtype=DTYPE))

    leaf = logits.clone().requires_grad_()
    kl = kl_divergence(make(leaf), prior())
    elbo.differentiable_loss(model, guide).backward()
    assert_mean(rows.grad.flatten(1), torch.autograd.grad(kl, leaf)[0].flatten())


def test_matching_carries_the_pathwise_gradient():
    logits = matching()().logits.requires_grad_()
    sample = reparameterised(lambda: pyro.sample("z", matching()(logits)))
    trace = poutine.trace(sample).get_trace()
    assert trace.nodes["z_keys"]["fn"].has_rsample
    assert torch.autograd.grad(trace.nodes["z"]["value"][0, 1], logits)[0].abs().min() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_value_is_where_it_starts(family):
    make, logits = FAMILIES[family]
    logits = torch.stack([logits, -20 * logits])  # the second makes the first's values unlikely
    for value in make(logits).enumerate_support():

        def model():
            with pyro.plate("two", 2):
                return pyro.sample("z", make(logits))

        model = reparameterised(model)
        pyro.clear_param_store()
        guide = AutoDelta(model, init_loc_fn=init_to_value(values={"z": value}))
        guide()
        keys = guide.median()["z_keys"].detach()
        assert torch.equal(poutine.condition(model, data={"z_keys": keys})(), value)


def test_initial_matching_is_where_it_starts():
    reparam, fn = GumbelMaxReparam(), matching(iterations=200)()
    values = fn.sample((5,))
    keys = reparam.inverse(fn, values)
    torch.testing.assert_close(reparam.forward(fn, keys), values, rtol=0, atol=1e-8)
    hard = torch.eye(3, dtype=DTYPE)
    torch.testing.assert_close(reparam.forward(fn, reparam.inverse(fn, hard)), hard, rtol=0, atol=1e-8)
    shift = torch.zeros((), dtype=DTYPE, requires_grad=True)
    log_prob = reparam.noise(fn).log_prob(keys[0] + shift)
    assert torch.autograd.grad(log_prob, shift)[0].abs() < 1e-9  # the most likely shift


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", [*FAMILIES, "GumbelSinkhorn"])
def test_layouts_and_plates(family, layout):
    """The density of the guide is that of the plain one, or of its keys, term by term."""
    if family == "GumbelSinkhorn":
        make, logits = matching(), matching()().logits
    else:
        make, logits = FAMILIES[family]

    def run():
        with pyro.plate("rows", 8, subsample_size=4, dim=-2), pyro.plate("columns", 3, dim=-1):
            with poutine.mask(mask=torch.tensor([[True], [False], [True], [True]])):
                return pyro.sample("z", LAYOUTS[layout](make(logits)))

    trace = poutine.trace(reparameterised(run, guide=True)).get_trace()
    trace.compute_log_prob()
    site, keys = trace.nodes["z"], trace.nodes["z_keys"]
    assert site["value"].shape == site["fn"].shape()
    kept = trace.copy()
    if family == "GumbelSinkhorn":
        replayed = poutine.trace(poutine.replay(reparameterised(run), trace=kept)).get_trace()
        replayed.compute_log_prob()
        assert not replayed.nodes["z"]["is_observed"]
        assert torch.equal(replayed.nodes["z_keys"]["log_prob"], keys["log_prob"])
        return
    kept.remove_node("z_keys")
    plain = poutine.trace(poutine.replay(run, trace=kept)).get_trace()
    plain.compute_log_prob()
    torch.testing.assert_close(
        site["log_prob"] + keys["log_prob"], plain.nodes["z"]["log_prob"].expand(4, 3)
    )


@pytest.mark.parametrize("on_model", [False, True])
@pytest.mark.parametrize("family", [*FAMILIES, "GumbelSinkhorn"])
def test_vectorised_particles(family, on_model):
    """A plate outside of the handler, which the distribution has not seen."""
    is_matching = family == "GumbelSinkhorn"
    make, logits = (matching(), matching()().logits) if is_matching else FAMILIES[family]
    rows = logits.expand((3, *logits.shape)).clone()

    def run(x):
        with pyro.plate("rows", 3):
            pyro.sample("z", make(x))

    guide = reparameterised(lambda: run(pyro.param("q", rows.clone())), guide=True)
    model = reparameterised(lambda: run(rows)) if on_model or is_matching else lambda: run(rows)
    elbo = Trace_ELBO(num_particles=50, vectorize_particles=True)
    loss = SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), elbo).step()
    assert loss == pytest.approx(0, abs=1e-5)  # guide and prior agree
    assert pyro.param("q").shape == rows.shape


def test_one_object_serves_several_sites():
    reparam = GumbelMaxReparam()

    def model():
        a = pyro.sample("a", dist.Bernoulli(0.3).expand([2]).to_event(1))
        b = pyro.sample("b", dist.Categorical(torch.ones(4)))
        return a.shape, b.shape

    handled = poutine.reparam(model, config={"a": reparam, "b": reparam})
    for _ in range(2):
        assert handled() == ((2,), ())


def three_classes():
    with pyro.plate("two", 2):
        z = pyro.sample("z", dist.Categorical(logits=torch.tensor([1.0, 0.0, 0.0])))
        loc = torch.tensor([-1.0, 0.0, 2.0])[z]
        pyro.sample("x", dist.Normal(loc, 1.0), obs=torch.tensor([2.0, 0.2]))


def posterior():
    log_joint = torch.tensor([1.0, 0.0, 0.0]) + dist.Normal(
        torch.tensor([-1.0, 0.0, 2.0]), 1.0
    ).log_prob(torch.tensor([[2.0], [0.2]]))
    return log_joint.softmax(-1)


def test_nuts():
    model = reparameterised(three_classes)
    fixed = {"step_size": 0.5, "adapt_step_size": False, "adapt_mass_matrix": False}
    kernel = NUTS(model, init_strategy=init_to_sample, max_tree_depth=4, **fixed)
    mcmc = MCMC(kernel, num_samples=200, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    z = mcmc.get_samples()["z_keys"].argmax(-1)
    shares = torch.nn.functional.one_hot(z, 3).double().mean(0)
    assert (shares - posterior()).abs().max() < 0.15  # the prior differs by 0.65


def test_autoguide_with_the_score_function():
    """Of a hard value the pathwise gradient is zero in silence; the estimator sees to that."""
    start = init_to_value(values={"z": torch.tensor([0, 0])})
    guide = AutoNormal(reparameterised(three_classes), init_loc_fn=start)
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(), num_particles=50)
    svi = SVI(reparameterised(three_classes), guide, pyro.optim.Adam({"lr": 0.1}), elbo)
    for _ in range(150):
        svi.step()
    assert guide.median()["z_keys"][0].argmax() == 2


@pytest.mark.parametrize("start", [AutoNormal, AutoDelta, NUTS])
def test_a_matching_has_a_default_to_start_from(start):
    @poutine.reparam(config={"z": GumbelMaxReparam()})
    def model():
        with pyro.plate("two", 2):
            z = pyro.sample("z", matching()())
            pyro.sample("x", dist.Normal(z[..., 0, 0], 0.5), obs=torch.ones(2, dtype=DTYPE))

    if start is NUTS:
        kernel = NUTS(model)
        kernel.setup(1)
        keys = kernel.initial_params["z_keys"]
    else:
        guide = start(model)
        guide()
        keys = guide.median()["z_keys"]
        value = poutine.condition(model, data={"z_keys": keys})
        rows = poutine.trace(value).get_trace().nodes["z"]["value"]
        torch.testing.assert_close(rows, torch.full_like(rows, 1 / 3))
    assert keys.shape == (2, 3, 3) and keys.isfinite().all()


def of(fn, obs=None, **options):
    def run():
        pyro.sample("z", fn(), obs=obs)

    return reparameterised(run, **options)


TABLE = [
    ("observed", lambda: dist.Bernoulli(0.5), torch.tensor(1.0), "observed"),
    ("observed matching", matching(), torch.eye(3), "observed"),
    ("Normal", lambda: dist.Normal(0.0, 1.0), None, "given Normal"),
    (
        "straight-through",
        lambda: pre.distributions.StraightThroughBernoulli(0.5, logits=SCALAR),
        None,
        "GumbelSoftmaxReparam",
    ),
    ("relaxed order", lambda: PlackettLuce(THREE, 0.5), None, "without a temperature"),
]


@pytest.mark.parametrize("name, fn, obs, match", TABLE, ids=[row[0] for row in TABLE])
def test_errors(name, fn, obs, match):
    with pytest.raises(pre.EstimatorError, match=f"'z'.*{match}"):
        of(fn, obs)()


@pytest.mark.filterwarnings("ignore:Found non-auxiliary")
def test_a_model_that_cannot_score_its_matchings_says_so():
    guide = of(matching(), guide=True)

    def model():
        pyro.sample("z", matching()())

    with pytest.raises(NotImplementedError, match="GumbelMaxReparam"):
        Trace_ELBO().loss(model, guide)

"""Programs that cut the gradient of a relaxed value, under Pyro's ELBOs: none does so in silence."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    JitTrace_ELBO,
    Predictive,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.ops.provenance import ProvenanceTensor
from pyro.optim import Adam

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import AutoRelax, GumbelSoftmaxReparam, RelaxReparam

TABLE = torch.tensor([0.0, 4.0])
ELBOS = {
    "Trace": Trace_ELBO,
    "particles": lambda: Trace_ELBO(num_particles=3),
    "vectorised": lambda: Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=2),
    "guessed": lambda: Trace_ELBO(num_particles=3, vectorize_particles=True),
    "TraceGraph": TraceGraph_ELBO,
    "TraceEnum": lambda: TraceEnum_ELBO(max_plate_nesting=0, strict_enumeration_warning=False),
    "TraceMeanField": TraceMeanField_ELBO,
    "Renyi": lambda: RenyiELBO(num_particles=2),
    "ReweightedWakeSleep": lambda: ReweightedWakeSleep(num_particles=2),
    "Jit": lambda: JitTrace_ELBO(ignore_jit_warnings=True),
}


def model(cost):
    def program():
        z = pyro.sample("z", dist.Bernoulli(0.5))
        cost(z)

    return program


def guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", torch.tensor(-1.0))))


def in_a_context(**options):
    relax = AutoRelax(0.5, **options)

    def wrap(program):
        def run():
            with poutine.reparam(config=relax):
                program()

        return run

    return wrap


def decentered(program):
    soft = poutine.reparam(program, {"z": RelaxReparam(0.5)})
    return poutine.reparam(soft, {"z": GumbelSoftmaxReparam(guide=program is guide)})


RELAXED = {
    "decorator": AutoRelax(0.5, straight_through=True),
    "strategy": lambda p: poutine.reparam(p, config=AutoRelax(0.5, straight_through=True)),
    "context": in_a_context(straight_through=True),
    "by name": lambda p: poutine.reparam(p, {"z": RelaxReparam(0.5, straight_through=True)}),
    "soft": AutoRelax(0.5),
    "soft context": in_a_context(),
    "soft, discrete score": AutoRelax(0.5, score="discrete"),
    "soft, by name": lambda p: poutine.reparam(p, {"z": RelaxReparam(0.5)}),
    "Gumbel noise": decentered,
}
relaxed = pytest.mark.parametrize("relax", RELAXED.values(), ids=RELAXED)
elbos = pytest.mark.parametrize("make", ELBOS.values(), ids=ELBOS)


def caught(run):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        run()
    return [w for w in record if "without a gradient" in str(w.message)]


def steps(program, its_guide, elbo, number=3):
    svi = SVI(program, its_guide, Adam({"lr": 0.01}), elbo)
    return lambda: [svi.step() for _ in range(number)]


# -- what cuts the gradient -----------------------------------------------------------------------

READS = {
    "item": lambda z: pyro.factor("y", TABLE[int(z.item() > 0.5)]),
    "branch": lambda z: pyro.factor("y", torch.tensor(4.0 if (z > 0.5).all() else 0.0)),
    "int": lambda z: pyro.factor("y", TABLE[int(z.flatten()[0])]),
    "tolist": lambda z: pyro.factor("y", torch.tensor(z.detach().reshape(-1).tolist()[0])),
    "numpy": lambda z: pyro.factor("y", torch.tensor(float(z.detach().numpy().sum()))),
    "equal": lambda z: pyro.factor("y", torch.tensor(float(torch.equal(z, torch.ones_like(z))))),
    "of what was computed": lambda z: pyro.factor("y", TABLE[int((2 * z - 1).sum() > 0)]),
    "range": lambda z: [pyro.factor(f"y{i}", torch.ones(())) for i in range(int(z.sum()))],
}
LOST = {
    "index": lambda z: pyro.factor("y", TABLE[z.long()]),
    "comparison": lambda z: pyro.factor("y", 4.0 * (z > 0.5)),
    "where": lambda z: pyro.factor("y", torch.where(z > 0.5, 4.0, 0.0)),
    "detach": lambda z: pyro.factor("y", 4.0 * z.detach()),
    "parameter": lambda z: pyro.sample("y", dist.Normal(TABLE[z.long()], 1.0), obs=torch.tensor(3.0)),
    "data": lambda z: pyro.sample("y", dist.Normal(1.0, 2.0), obs=TABLE[z.long()]),
    "mask": lambda z: pyro.sample("y", dist.Normal(0.0, 1.0).mask(z > 0.5), obs=torch.tensor(3.0)),
    "transformed": lambda z: pyro.sample(
        "y",
        dist.TransformedDistribution(
            dist.Normal(0.0, 1.0), dist.transforms.AffineTransform(TABLE[z.long()], 1.0)
        ),
        obs=torch.tensor(3.0),
    ),
}
SERVED = {
    "linear": lambda z: pyro.factor("y", 4.0 * z),
    "parameter": lambda z: pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(3.0)),
    "lerp": lambda z: pyro.factor("y", torch.lerp(*TABLE, z)),
    "deterministic": lambda z: pyro.factor("y", pyro.deterministic("w", 4.0 * z)),
    "shapes": lambda z: pyro.factor("y", z * len(z.shape) + torch.zeros_like(z)),
    "unused": lambda z: pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(3.0)),
    "downstream": lambda z: pyro.factor("y", 2 * torch.as_tensor(z).exp().log()),
    "recorded": lambda z: pyro.factor("y", z + 0 * pyro.deterministic("hard", (z > 0.5).to(z.dtype))),
}


@relaxed
@pytest.mark.parametrize("cost", READS.values(), ids=READS)
def test_value_read_as_a_number(cost, relax):
    run = steps(relax(model(cost)), relax(guide), Trace_ELBO())
    for _ in range(2):  # after an error it is looked at again
        with pytest.raises(pre.EstimatorError, match=r"'z'.*test_watch.py:\d+.*LocalExpectation"):
            run()
    assert pyro.param("logits") == -1


@relaxed
@pytest.mark.parametrize("cost", LOST.values(), ids=LOST)
def test_cost_without_a_gradient(cost, relax):
    (warning,) = caught(steps(relax(model(cost)), relax(guide), Trace_ELBO()))
    assert "site 'z'" in str(warning.message) and "'y' of the model" in str(warning.message)
    assert warning.filename == __file__


@relaxed
@pytest.mark.parametrize("cost", SERVED.values(), ids=SERVED)
def test_cost_with_a_gradient(cost, relax):
    assert not caught(steps(relax(model(cost)), relax(guide), Trace_ELBO()))


@elbos
@pytest.mark.parametrize("name", ["decorator", "by name", "soft", "context"])
def test_under_every_elbo(name, make):
    relax = RELAXED[name]
    with pytest.raises(pre.EstimatorError, match="'z'.*as a Python number"):
        steps(relax(model(READS["branch"])), relax(guide), make())()
    assert len(caught(steps(relax(model(LOST["index"])), relax(guide), make()))) == 1
    assert not caught(steps(relax(model(SERVED["linear"])), relax(guide), make()))


@pytest.mark.parametrize("name", ["decorator", "soft"])
def test_without_svi(name):
    relax = RELAXED[name]
    elbo = Trace_ELBO()
    with pytest.raises(pre.EstimatorError, match="'z'.*as a Python number"):
        elbo.differentiable_loss(relax(model(READS["item"])), relax(guide))
    loss = caught(lambda: elbo.differentiable_loss(relax(model(LOST["index"])), relax(guide)))
    assert len(loss) == 1


def test_loss_function_of_ones_own():
    def loss(program, its_guide):
        trace = poutine.trace(its_guide).get_trace()
        log_p = poutine.trace(poutine.replay(program, trace)).get_trace().log_prob_sum()
        return trace.log_prob_sum() - log_p

    relax = RELAXED["decorator"]
    with pytest.raises(pre.EstimatorError, match="'z'.*as a Python number"):
        steps(relax(model(READS["item"])), relax(guide), loss)()


def test_names_every_term_once():
    def cost(z):
        for i in range(3):
            pyro.factor(f"y{i}", TABLE[z.long()])
        pyro.factor("w", z)

    relax = RELAXED["decorator"]
    (warning,) = caught(steps(relax(model(cost)), relax(guide), Trace_ELBO(num_particles=2)))
    assert "'y0' of the model, 'y1' of the model, 'y2' of the model depends" in str(warning.message)


def test_each_program_of_a_strategy():
    relax, elbo = RELAXED["decorator"], Trace_ELBO()
    for _ in range(2):
        assert len(caught(steps(relax(model(LOST["index"])), relax(guide), elbo))) == 1
        with pytest.raises(pre.EstimatorError):
            steps(relax(model(READS["item"])), relax(guide), elbo)()


def test_guide_that_reads():
    def branching():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", torch.tensor(-1.0))))
        pyro.sample("w", dist.Normal(1.0 if z > 0.5 else -1.0, 1.0))

    def indexing():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", torch.tensor(-1.0))))
        pyro.sample("w", dist.Normal(TABLE[z.long()], 1.0))

    relax = RELAXED["decorator"]
    program = relax(model(lambda z: pyro.sample("w", dist.Normal(z, 1.0))))
    with pytest.raises(pre.EstimatorError, match="'z'.*as a Python number"):
        steps(program, relax(branching), Trace_ELBO())()
    (warning,) = caught(steps(program, relax(indexing), Trace_ELBO()))
    assert "'w' of the guide" in str(warning.message)


def test_part_of_a_program():
    """The handler is around the site alone: what is done with it outside is watched, too."""
    relax = RELAXED["decorator"]

    @relax
    def part():
        return pyro.sample("z", dist.Bernoulli(0.5))

    def reads():
        pyro.factor("y", TABLE[int(part().item())])

    def loses():
        pyro.factor("y", TABLE[part().long()])

    with pytest.raises(pre.EstimatorError, match="'z'.*as a Python number"):
        steps(reads, relax(guide), Trace_ELBO())()
    assert len(caught(steps(loses, relax(guide), Trace_ELBO()))) == 1


@pytest.mark.parametrize("inside", [False, True])
def test_in_a_plate(inside):
    relax = AutoRelax(0.5, straight_through=True)
    data = torch.tensor([0.3, -0.2, 4.0])

    def rows(program):
        def run():
            with pyro.plate("rows", 3):
                if inside:
                    with poutine.reparam(config=relax):
                        program()
                else:
                    program()

        return run if inside else relax(run)

    def of_rows():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", torch.zeros(3))))

    def indexed(z):
        pyro.sample("y", dist.Normal(TABLE[z.long()], 1.0), obs=data)

    assert len(caught(steps(rows(model(indexed)), rows(of_rows), Trace_ELBO()))) == 1
    with pytest.raises(pre.EstimatorError, match="'z'.*as a Python number"):
        steps(rows(model(lambda z: z.tolist())), rows(of_rows), Trace_ELBO())()


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta])
@pytest.mark.parametrize("name", ["decorator", "soft"])
def test_autoguides(kind, name):
    relax = RELAXED[name]
    with pytest.raises(pre.EstimatorError, match="'z'.*as a Python number"):
        program = relax(model(READS["branch"]))
        steps(program, kind(program), Trace_ELBO())()
    program = relax(model(LOST["index"]))
    assert len(caught(steps(program, kind(program), Trace_ELBO()))) == 1
    program = relax(model(SERVED["linear"]))
    assert not caught(steps(program, kind(program), Trace_ELBO()))


def over_noise(cost, make):
    @poutine.reparam(config={"z": GumbelSoftmaxReparam()})
    def program():
        cost(pyro.sample("z", make(torch.tensor(0.5), logits=torch.tensor(0.3))))

    return program, AutoNormal(program)


@pytest.mark.parametrize("kind", ["RelaxedBernoulli", "StraightThroughBernoulli"])
def test_autoguide_over_gumbel_noise(kind):
    make = getattr(pre.distributions, kind)
    with pytest.raises(pre.EstimatorError, match="'z': GumbelSoftmaxReparam.*as a Python number"):
        steps(*over_noise(READS["branch"], make), Trace_ELBO())()
    assert len(caught(steps(*over_noise(LOST["index"], make), Trace_ELBO()))) == 1
    assert not caught(steps(*over_noise(SERVED["linear"], make), Trace_ELBO()))


# -- what does not train --------------------------------------------------------------------------


def sampled(program):
    trained = {"z": torch.ones(3).requires_grad_()}
    return Predictive(program, posterior_samples=trained)()


NOT_TRAINING = {
    "trace": lambda p, g: poutine.trace(p).get_trace(),
    "replay": lambda p, g: poutine.trace(poutine.replay(p, poutine.trace(g).get_trace())).get_trace(),
    "Predictive": lambda p, g: Predictive(p, guide=g, num_samples=3)(),
    "samples": lambda p, g: sampled(p),
    "loss": lambda p, g: Trace_ELBO().loss(p, g),
    "evaluate_loss": lambda p, g: SVI(p, g, Adam({}), Trace_ELBO()).evaluate_loss(),
}


@pytest.mark.parametrize("run", NOT_TRAINING.values(), ids=NOT_TRAINING)
@pytest.mark.parametrize("name", ["decorator", "by name", "soft", "context"])
def test_programs_may_read_where_nothing_is_trained(name, run):
    relax = RELAXED[name]
    for cost in (READS["branch"], LOST["index"]):
        assert not caught(lambda c=cost: run(relax(model(c)), relax(guide)))
    assert not caught(steps(relax(model(SERVED["linear"])), relax(guide), Trace_ELBO()))


def test_mcmc():
    program = AutoRelax(0.5)(model(LOST["comparison"]))
    kernel = NUTS(program, max_tree_depth=2)
    mcmc = MCMC(kernel, num_samples=2, warmup_steps=2, disable_progbar=True)
    assert not caught(mcmc.run)


def test_our_own_elbo_looks_by_itself():
    relax = RELAXED["soft"]
    elbo = pre.TraceEstimator_ELBO()
    (warning,) = caught(steps(relax(model(LOST["index"])), relax(guide), elbo))
    assert "'z': Pathwise" in str(warning.message)


def test_our_own_elbo_has_an_unbiased_default():
    """A straight-through site takes the score function: the program may read its value."""
    relax = RELAXED["decorator"]
    elbo = pre.TraceEstimator_ELBO(vectorize_particles=False)
    for cost in (LOST["index"], READS["branch"]):
        assert not caught(steps(relax(model(cost)), relax(guide), elbo))


# -- nothing else changes -------------------------------------------------------------------------


def several(z):
    k = pyro.sample("k", dist.Poisson(2.0), obs=torch.tensor(2.0))
    with pyro.plate("rows", 2):
        w = pyro.sample(
            "w", dist.Normal(torch.stack([z, 1 - z]), 1.0).mask(torch.tensor([True, False]))
        )
    total = pyro.deterministic("total", w.sum() + z + k)
    with poutine.scale(scale=2.0):
        pyro.sample("y", dist.Normal(total, 1.0), obs=torch.tensor(3.0))
    return {"total": total}


def guide_of_several():
    guide()
    n = pyro.sample(
        "n", dist.Poisson(pyro.param("rate", torch.tensor(2.0))), infer={"is_auxiliary": True}
    )
    with pyro.plate("rows", 2):
        pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(2)) + 0 * n, 1.0))


@pytest.mark.parametrize("name", ["decorator", "by name", "soft", "context"])
@pytest.mark.parametrize("elbo", ["Trace", "TraceGraph", "particles", "Renyi"])
def test_watched_run_is_the_run(name, elbo):
    """The first run, which is watched, has the loss and the gradient of the later ones."""
    relax = RELAXED[name]
    program, its_guide = relax(model(several)), relax(guide_of_several)
    elbo, rows = ELBOS[elbo](), []
    for _ in range(2):
        torch.manual_seed(3)
        for p in pyro.get_param_store()._params.values():
            p.grad = None
        loss = elbo.loss_and_grads(program, its_guide)
        grads = [
            p.grad.flatten() for p in pyro.get_param_store()._params.values() if p.grad is not None
        ]
        rows.append(torch.cat([torch.tensor([loss]), *grads]))
    assert torch.equal(rows[0], rows[1]) and len(rows[0]) >= 4


@pytest.mark.parametrize("name", ["decorator", "by name", "soft", "context"])
def test_traces_hold_plain_tensors(name):
    relax, kept = RELAXED[name], []

    class Keeping(Trace_ELBO):
        def _get_trace(self, *args):
            kept.append(super()._get_trace(*args))
            return kept[-1]

    Keeping().loss_and_grads(relax(model(several)), relax(guide_of_several))
    for trace in kept[0]:
        assert type(trace) is poutine.Trace
        for node in trace.nodes.values():
            values = [*vars(node.get("fn") or object).values(), node.get("value"), node.get("log_prob")]
            assert not any(isinstance(x, ProvenanceTensor) for x in values)


@pytest.mark.parametrize("name", ["decorator", "by name", "soft", "context"])
def test_only_the_first_run_is_watched(name):
    relax, seen = RELAXED[name], []

    def cost(z):
        seen.append(isinstance(z, ProvenanceTensor))
        pyro.factor("y", z)

    steps(relax(model(cost)), relax(guide), Trace_ELBO(num_particles=2), 3)()
    assert seen == [True] + 5 * [False]


def test_result_may_be_read():
    """Outside of the program, and where the handler is around a part of it alone."""
    relax = RELAXED["decorator"]
    kept = []

    @relax
    def part():
        kept.append(pyro.sample("z", dist.Bernoulli(0.5)))
        return kept[-1]

    loss = Trace_ELBO().differentiable_loss(lambda: pyro.factor("y", part()), relax(guide))
    assert type(loss) is torch.Tensor and isinstance(loss.item(), float)
    assert kept[0].item() in (0.0, 1.0)


def test_error_of_the_program_is_the_programs():
    def fails(z):
        raise KeyError("mine")

    relax = RELAXED["decorator"]
    with pytest.raises(KeyError, match="mine"):
        steps(relax(model(fails)), relax(guide), Trace_ELBO())()


def test_remedy():
    """The estimators that the error names, on the program that it was raised for."""
    for estimator in (pre.LocalExpectation(), pre.Enumeration(), pre.ScoreFunction()):
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=False)
        svi = SVI(model(READS["item"]), guide, Adam({"lr": 0.1}), elbo)
        for _ in range(200):
            svi.step()
        assert pyro.param("logits").sigmoid() > 0.9


def test_handler_that_several_programs_enter():
    """As a context; a run that trains nothing does not count."""
    relax = poutine.reparam(config=AutoRelax(0.5, straight_through=True))

    def within(cost):
        def program():
            with relax:
                z = pyro.sample("z", dist.Bernoulli(0.5))
            cost(z)

        return program

    def its_guide():
        with relax:
            guide()

    for name, cost in LOST.items():
        poutine.trace(within(cost)).get_trace()
        assert len(caught(steps(within(cost), its_guide, Trace_ELBO()))) == 1, name
        loss = Trace_ELBO()
        found = caught(
            lambda c=cost, e=loss: [e.loss_and_grads(within(c), its_guide) for _ in range(3)]
        )
        assert len(found) == 1, name

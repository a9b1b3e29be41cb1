"""Log weights: of a whole program, or of each element of a plate where these are apart."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import pyro_reparam_ext as pre

from ..bound_programs import DOUBLE, ONE, PLATE, TEMPERED, drawn, elbo_of, number
from ..sampling import losses
from ..statistics import assert_mean


def param(name):
    return pyro.param(name, number(0.1))


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
            pyro.sample("x", dist.Normal(z, 0.7), obs=torch.linspace(-2, 2, 20, dtype=DOUBLE))

    def guide():
        if idle:
            pyro.sample("idle", dist.Normal(number(0.0), 1.0))
        with pyro.plate("data", 20, dim=-1):
            pyro.sample("z", dist.Normal(param("loc"), 1.0))

    return model, guide


def test_elements_of_a_plate_have_weights_of_their_own():
    own, joint = (losses(elbo_of("dreg", 8), *elements(idle), 100) for idle in (False, True))
    evidence = -dist.Normal(0.0, number(1.49).sqrt()).log_prob(torch.linspace(-2, 2, 20, dtype=DOUBLE))
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


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("word", ["dreg", "vimco-star", "vimco"])
def test_scaled_and_masked_sites(word, alpha):
    """What the density of a site adds to the weight is what its value is charged less."""
    rows = drawn(elbo_of(word, 2, alpha), TEMPERED, 20_000)
    assert_mean(rows, TEMPERED.exact(2, alpha)[1:])


def test_a_mask_on_coordinates_is_refused():
    def model():
        pyro.sample("z", dist.Bernoulli(torch.ones(2) / 2).to_event(1))

    def guide():
        logits = pyro.param("logits", torch.zeros(2))
        fn = dist.Bernoulli(logits=logits).mask(torch.tensor([True, False]))
        pyro.sample("z", fn.to_event(1))

    with pytest.raises(pre.EstimatorError, match="site 'z': .* mask on the coordinates"):
        elbo_of("vimco", 2).loss_and_grads(model, guide)


def outside_model(batch):
    shift = pyro.sample("shift", dist.Normal(number(0.0), 1.0))
    with pyro.plate("data", 3, subsample_size=batch, dim=-1):
        pyro.sample("z", dist.Normal(shift, 1.0))


def outside_guide(batch):
    pyro.sample("shift", dist.Normal(param("loc"), 1.0))
    with pyro.plate("data", 3, subsample_size=batch, dim=-1):
        pyro.sample("z", dist.Normal(number(0.0), 1.0))


def test_a_part_of_the_data_without_own_weights_is_refused():
    message = "plate 'data'.*guide site 'shift' lies outside of it.*TraceEstimator_ELBO"
    with pytest.raises(pre.EstimatorError, match=message):
        elbo_of("dreg").loss(outside_model, outside_guide, 2)
    elbo_of("dreg").loss_and_grads(outside_model, outside_guide, None)


def test_crossed_elements_of_a_part_of_the_data_are_refused():
    def model(batch):
        with pyro.plate("data", 4, subsample_size=batch, dim=-1):
            z = pyro.sample("z", dist.Normal(number(0.0), 1.0))
            pyro.sample("x", dist.Normal(z - z.mean(-1, keepdim=True), 0.5), obs=number(1.0))

    def guide(batch):
        with pyro.plate("data", 4, subsample_size=batch, dim=-1):
            pyro.sample("z", dist.Normal(param("loc"), 1.0))

    with pytest.raises(pre.EstimatorError, match="plate 'data'.*other elements than its own"):
        elbo_of("pathwise").loss(model, guide, 2)


def test_deterministic_sites_outside_of_the_plate_are_no_costs():
    def model():
        PLATE.model()
        pyro.deterministic("total", number(1.0))

    (run,) = elbo_of("dreg").evaluate(model, PLATE.guide, (), {})
    elbo_of("dreg").surrogate([run], learn=False)
    assert run.own_weights == {"data"}


def test_a_weight_of_zero_is_one_among_others():
    def model():
        pyro.sample("z", dist.Bernoulli(number(0.0)))

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=param("logit")))

    for word in ("vimco", "vimco-star", "score"):
        pyro.clear_param_store()
        elbo = elbo_of(word, 8)
        loss = elbo.loss_and_grads(model, guide)
        assert math.isfinite(loss) and pyro.get_param_store()._params["logit"].grad.isfinite()


def test_particles_have_the_same_part_of_the_data():
    elbo = elbo_of("dreg", 6, mode=False)
    runs = elbo.evaluate(PLATE.model, PLATE.guide, (2,), {})
    first, *others = (run.program.ordinary.trace.nodes["data"]["value"].tolist() for run in runs)
    assert all(indices == first for indices in others)

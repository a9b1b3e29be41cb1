import copy
import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from pyro.nn import PyroModule
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.noise import NoiseSource
from pyro_reparam_ext.temperature import as_option, current_value

from .estimators import relaxed


def decay(step):
    return pytest.approx(math.exp(-0.1 * step))


class Guide(PyroModule):
    """Reads the schedule, and notes what it read."""

    def __init__(self):
        super().__init__()
        self.temperature = pre.ExponentialDecay(1.0, 1e-6, 0.1)
        self.logit = nn.Parameter(torch.tensor(0.3))
        self.read = []

    def forward(self):
        self.read.append(self.temperature().item())
        pyro.sample("z", dist.RelaxedBernoulli(self.temperature(), logits=self.logit))


def model():
    pyro.sample("z", dist.RelaxedBernoulli(torch.tensor(0.5), logits=torch.tensor(0.0)))


def test_svi_advances_it_once_per_step():
    temperature = pre.ExponentialDecay(1.0, 0.1, 0.1)
    elbo = pre.TraceEstimator_ELBO(pre.GumbelSoftmax(temperature), num_particles=3)
    svi = SVI(relaxed.model, relaxed.guide, pyro.optim.SGD({"lr": 0.01}), elbo)
    for _ in range(4):
        svi.step()
    svi.evaluate_loss()
    assert temperature.steps == 4


@pytest.mark.parametrize("elbo", [Trace_ELBO(num_particles=2), pre.TraceEstimator_ELBO()])
def test_any_elbo_advances_it_with_svi(elbo):
    guide = Guide()
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.01}), elbo)
    reads = []
    for _ in range(4):
        guide.read.clear()
        svi.step()
        assert len(set(guide.read)) == 1
        reads.append(guide.read[0])
    assert reads == [decay(i) for i in range(4)]
    guide.read.clear()
    svi.evaluate_loss()
    svi.evaluate_loss()
    assert set(guide.read) == {guide.temperature().item()}
    assert guide.read[0] == decay(4)


def test_is_saved_and_restored_with_the_guide():
    guide = Guide()
    for other in (guide, copy.deepcopy(guide), pickle.loads(pickle.dumps(guide))):
        svi = SVI(model, other, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
        for _ in range(3):
            svi.step()
        fresh = Guide()
        fresh.load_state_dict(other.state_dict())
        SVI(model, fresh, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO()).step()
        assert fresh.read[-1] == decay(3)
        assert fresh.temperature.steps == 4


def test_advances_in_a_loop_of_loss_and_grads():
    guide = Guide()
    elbo = pre.TraceEstimator_ELBO()
    for _ in range(3):
        elbo.loss_and_grads(model, guide)
    assert guide.temperature.steps == 3
    assert guide.read[-1] == decay(2)


def test_a_parameter_that_leaves_its_range_is_loud():
    parameter = nn.Parameter(torch.tensor([0.5, -0.1]))
    assert torch.equal(current_value(as_option(parameter)).isnan(), torch.tensor([False, True]))

    learned = nn.Parameter(torch.tensor(0.1))
    elbo = pre.TraceEstimator_ELBO(pre.GumbelSoftmax(learned))
    learned.data.fill_(-0.1)
    with pytest.raises(pre.EstimatorError, match="site 'z'.*temperature is -0.1"):
        elbo.loss_and_grads(relaxed.model, relaxed.guide)


def test_a_callable_is_asked_at_every_run():
    def temperature():
        return pyro.param("temperature", torch.tensor(0.7), constraint=dist.constraints.positive)

    elbo = pre.TraceEstimator_ELBO(pre.GumbelSoftmax(temperature))
    svi = SVI(relaxed.model, relaxed.guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    for _ in range(3):
        svi.step()
    assert pyro.param("temperature").item() != pytest.approx(0.7)


def test_a_study_reads_it_as_it_stands():
    read = []

    class Noted(pre.ExponentialDecay):
        def forward(self):
            read.append(super().forward().item())
            return super().forward()

    noted = Noted(1.0, 1e-6, 1.0)
    estimators = {
        "relaxed": pre.GumbelSoftmax(noted),
        "reparameterised": pre.Variant(
            elbo=Trace_ELBO(),
            model=pre.reparam.AutoRelax(noted)(relaxed.model),
            guide=pre.reparam.AutoRelax(noted)(relaxed.guide),
        ),
    }
    pre.gradient_study(
        relaxed.model, relaxed.guide, estimators=estimators, reference="exact", num_draws=5
    )
    assert set(read) == {1.0}
    assert noted.steps == 0


def test_a_traced_elbo_is_refused():
    svi = SVI(model, Guide(), pyro.optim.SGD({"lr": 0.01}), JitTrace_ELBO())
    with pytest.raises(pre.EstimatorError, match="JitTrace_ELBO"):
        svi.step()


@pytest.mark.parametrize(
    "temperature", [0.0, -1.0, math.inf, math.nan, "0.5", None, torch.tensor([0.5, -1.0])]
)
@pytest.mark.parametrize(
    "make",
    [
        pre.GumbelSoftmax,
        pre.StraightThroughGumbelSoftmax,
        pre.GappedStraightThrough,
        pre.ReinMax,
        lambda temperature: pre.GumbelRao(temperature, 2),
        pre.reparam.RelaxReparam,
    ],
)
def test_what_is_no_temperature(make, temperature):
    with pytest.raises(pre.EstimatorError, match="temperature must be positive and finite"):
        make(temperature)


BAD = {
    "zero": 0.0,
    "negative": -1.0,
    "NaN": math.nan,
    "infinite": math.inf,
    "tensor": torch.tensor(-0.5),
    "zero tensor": torch.tensor(0.0),
    "none": None,
    "text": "0.5",
    "shape": torch.ones(2, 3),
}
FAMILIES = {
    "Bernoulli": lambda p: dist.Bernoulli(logits=p.expand(4)).to_event(1),
    "OneHotCategorical": lambda p: dist.OneHotCategorical(logits=p * torch.arange(4)),
}


def program(family):
    def guide():
        return pyro.sample("z", FAMILIES[family](pyro.param("p", torch.tensor(0.3))))

    def programs_model():
        z = pyro.sample("z", FAMILIES[family](torch.tensor(0.1)))
        pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=torch.tensor(1.0))

    return programs_model, guide


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    "estimator",
    [
        pre.GumbelSoftmax,
        lambda temperature: pre.GumbelSoftmax(temperature, "discrete"),
        pre.StraightThroughGumbelSoftmax,
    ],
    ids=["relaxed", "discrete", "straight-through"],
)
def test_a_function_that_returns_no_temperature(estimator, value, family, validate):
    elbo = pre.TraceEstimator_ELBO(estimator(lambda: BAD[value]))
    with pyro.validation_enabled(validate):
        for step in (elbo.loss, elbo.loss_and_grads):
            with pytest.raises(pre.EstimatorError, match="site 'z'.*temperature (is|has).*expected"):
                step(*program(family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("straight_through", [True, False])
def test_a_function_that_returns_no_temperature_to_a_reparameteriser(straight_through, value, family):
    relax = pre.reparam.AutoRelax(lambda: BAD[value], straight_through=straight_through)
    programs_model, guide = map(relax, program(family))
    for elbo in (Trace_ELBO(), pre.TraceEstimator_ELBO()):
        with pytest.raises(pre.EstimatorError, match="(?s)site 'z'.*temperature.*expected"):
            elbo.loss_and_grads(programs_model, guide)
    # The default estimator of a straight-through site draws hard values, whatever the temperature.
    elbo = pre.TraceEstimator_ELBO(pre.Pathwise() if straight_through else None)
    with pyro.validation_enabled(False), pytest.raises(pre.EstimatorError, match="'z'.*temperature"):
        elbo.loss_and_grads(programs_model, guide)


@pytest.mark.parametrize("family", ["Bernoulli", "OneHotCategorical"])
def test_a_temperature_for_each_element_of_a_plate(family):
    """Each row as by its own."""
    logits = torch.randn(2, 3, dtype=torch.float64)
    fn = (
        dist.Bernoulli(logits=logits)
        if family == "Bernoulli"
        else dist.OneHotCategorical(logits=logits)
    )
    shape = (2, 1) if family == "Bernoulli" else (2,)
    temperature = torch.tensor([0.5, 2.0], dtype=torch.float64)

    def drawn(temperature):
        torch.manual_seed(2)
        estimator = pre.GumbelSoftmax(temperature)
        draw = estimator.draw(fn, NoiseSource())
        return torch.cat([draw.value, estimator.log_prob(fn, draw).reshape(2, -1)], -1)

    rows = drawn(temperature.reshape(shape))
    for row in range(2):
        torch.testing.assert_close(rows[row], drawn(temperature[row])[row])
        torch.testing.assert_close(rows[row], drawn(temperature[row].reshape(1))[row])

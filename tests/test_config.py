"""Which estimator a site gets."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.config import choose, resolve
from pyro_reparam_ext.estimators.default import default_estimator
from pyro_reparam_ext.noise import NoiseSource

Q = dist.Bernoulli(torch.tensor(0.5))


def _message(fn=Q, **infer):
    return {"name": "z", "fn": fn, "infer": infer}


@pytest.mark.parametrize(
    "configuration",
    [{"z": pre.DisARM()}, pre.DisARM(), lambda site: pre.DisARM()],
    ids=["mapping", "one", "callable"],
)
def test_precedence(configuration):
    assert isinstance(resolve(configuration, _message(), NoiseSource()), pre.DisARM)
    own = pre.ScoreFunction()
    assert resolve(configuration, _message(estimator=own), NoiseSource()) is own


@pytest.mark.parametrize(
    "configuration",
    [None, {"other": pre.DisARM()}, pre.Pathwise(), lambda site: None],
    ids=["none", "mapping", "unsupported", "callable"],
)
def test_default_where_nothing_is_said(configuration):
    assert isinstance(resolve(configuration, _message(), NoiseSource()), pre.ScoreFunction)
    assert isinstance(resolve(configuration, _message(), NoiseSource(2)), pre.LeaveOneOut)


@pytest.mark.parametrize(
    ("configuration", "infer", "chooser"),
    [
        (pre.DisARM(), {"estimator": pre.REBAR()}, "infer['estimator']"),
        ({"z": pre.DisARM()}, {"enumerate": "parallel"}, "estimators="),
        (pre.DisARM(), {}, "estimators="),
        (pre.DisARM(), {"enumerate": "parallel"}, "infer['enumerate']"),
        (None, {"baseline": {"use_decaying_avg_baseline": True}}, "infer['baseline']"),
        (pre.Pathwise(), {}, "default"),
    ],
)
def test_what_has_chosen_it(configuration, infer, chooser):
    estimator, by = choose(configuration, _message(**infer), NoiseSource())
    assert by == chooser
    assert repr(estimator) == repr(resolve(configuration, _message(**infer), NoiseSource()))


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (dist.Normal(0.0, 1.0), pre.Pathwise),
        (dist.Normal(torch.zeros(2), 1.0).to_event(1).mask(True), pre.Pathwise),
        (dist.LogNormal(0.0, 1.0), pre.Pathwise),
        (dist.VonMises(0.0, 1.0), pre.ScoreFunction),
        (dist.OneHotCategoricalStraightThrough(torch.ones(3) / 3), pre.ScoreFunction),
    ],
)
def test_default_is_unbiased(fn, expected):
    estimator = default_estimator(fn, NoiseSource())
    assert type(estimator) is expected and estimator.unbiased


def test_default_learns_a_baseline():
    """Of a cost that is nearly constant little is left, where there are no other particles."""

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", torch.tensor(0.3))))

    def model():
        pyro.sample("z", Q)
        pyro.factor("constant", torch.tensor(1000.0))

    elbo = pre.TraceEstimator_ELBO()
    for step in range(3):
        pyro.clear_param_store()
        elbo.loss_and_grads(model, guide)
        size = pyro.param("logits").grad.abs()
        assert size > 100 if step == 0 else size < 10


@pytest.mark.parametrize(
    "configuration",
    [{"z": pre.DisARM()}, pre.DisARM(), lambda site: pre.DisARM()],
    ids=["mapping", "one", "callable"],
)
def test_config_estimator_attaches(configuration):
    def guide():
        pyro.sample("z", Q.expand([3]).to_event(1))

    configured = pre.config_estimator(guide, configuration)
    trace = pyro.poutine.trace(configured).get_trace()
    assert isinstance(trace.nodes["z"]["infer"]["estimator"], pre.DisARM)


def test_config_estimator_never_overwrites():
    own = pre.ScoreFunction()

    def guide():
        pyro.sample("z", Q, infer={"estimator": own})

    configured = pre.config_estimator(guide, {"z": pre.DisARM()})
    assert pyro.poutine.trace(configured).get_trace().nodes["z"]["infer"]["estimator"] is own

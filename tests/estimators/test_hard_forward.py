"""What straight-through estimators do alike: hard values, and the gradient that they say."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.noise import NoiseSource

from ..statistics import assert_mean
from . import relaxed
from .hard import LOGITS, assert_elbo, bernoulli_slope, one_hot_jacobian

ESTIMATORS = {
    "StraightThrough": pre.StraightThrough(),
    "StraightThroughGumbelSoftmax": pre.StraightThroughGumbelSoftmax(0.5),
    "GumbelRao": pre.GumbelRao(0.5, num_samples=4),
    "GappedStraightThrough": pre.GappedStraightThrough(0.5),
    "ReinMax": pre.ReinMax(),
    "ReinMax-1.5": pre.ReinMax(1.5),
    "DecoupledStraightThrough": pre.DecoupledStraightThrough(1.0, 2.0),
}
OF_SECOND_ORDER_AT_MOST = ("GumbelRao", "GappedStraightThrough", "ReinMax", "DecoupledStraightThrough")
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())
without_noise = pytest.mark.parametrize(
    "estimator",
    [e for e in ESTIMATORS.values() if not isinstance(e, pre.GumbelRao)],
    ids=[label for label in ESTIMATORS if label != "GumbelRao"],
)


@without_noise
def test_the_gradient_of_an_elbo(estimator):
    """GumbelRao's noise is drawn in between: its own test has it."""
    assert_elbo(pre.TraceEstimator_ELBO(estimator), estimator)


@every
def test_values_are_hard_and_have_the_law_of_the_site(estimator):
    logits = LOGITS.expand(4000, 4).clone().requires_grad_()
    one_hot = estimator.draw(dist.OneHotCategorical(logits=logits), NoiseSource()).value
    binary = estimator.draw(dist.Bernoulli(logits=logits).to_event(1), NoiseSource()).value
    for value in (one_hot, binary):
        assert value.requires_grad and ((value == 0) | (value == 1)).all()
    assert (one_hot.sum(-1) == 1).all()
    exact = torch.cat([LOGITS.softmax(-1), LOGITS.sigmoid()])
    assert_mean(torch.cat([one_hot, binary], -1), exact)


@every
def test_two_classes_are_a_bernoulli_variable(estimator):
    """One that has no noise of its own; a logit is the difference of two."""
    if isinstance(estimator, pre.StraightThroughGumbelSoftmax | pre.GumbelRao):
        estimator = pre.StraightThroughGumbelSoftmax(0.5)
    for logit in (-1.7, 0.4):
        for noise in (-5.0, 5.0):
            pair = torch.tensor([0.0, logit], dtype=torch.float64)
            found = one_hot_jacobian(estimator, torch.tensor([0.0, noise]), pair)[1, 1]
            expected = bernoulli_slope(estimator, pair[1], torch.tensor(noise))
            torch.testing.assert_close(found, expected)


@every
def test_far_probabilities_in_float32(estimator):
    """1e-6 and 1 - 1e-6: as in float64, up to the rounding of a probability near 1."""
    logit = torch.tensor([-13.8, 13.8])
    for noise in (torch.tensor([20.0, 20.0]), torch.tensor([-20.0, -20.0])):
        torch.manual_seed(0)
        found = bernoulli_slope(estimator, logit, noise)
        torch.manual_seed(0)
        expected = bernoulli_slope(estimator, logit.double(), noise.double())
        if not isinstance(estimator, pre.GumbelRao):  # whose noise depends on the dtype
            torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=2e-7)
        assert found.isfinite().all()


@every
def test_a_masked_class_is_never_drawn_and_has_no_gradient(estimator):
    logits = torch.tensor([0.3, -torch.inf, 1.0, -13.8]).expand(500, 4).clone().requires_grad_()
    value = estimator.draw(dist.OneHotCategorical(logits=logits), NoiseSource()).value
    assert (value[:, 1] == 0).all()
    (gradient,) = torch.autograd.grad((value * torch.randn(4)).sum(), logits)
    assert gradient.isfinite().all() and (gradient[:, 1] == 0).all()


@every
def test_probabilities_0_and_1(estimator):
    probs = torch.tensor([0.0, 1.0, 0.5]).expand(100, 3).clone().requires_grad_()
    value = estimator.draw(dist.Bernoulli(probs).to_event(1), NoiseSource()).value
    assert (value[:, 0] == 0).all() and (value[:, 1] == 1).all()
    assert torch.autograd.grad(value.sum(), probs)[0].isfinite().all()


def test_bias_is_shown():
    """Where the cost is of fourth order, a study tells each from the exact gradient."""

    def model():
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
        pyro.factor("x", 4 * z**4)

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.4))))

    study = pre.gradient_study(
        model,
        guide,
        estimators={
            **{label: ESTIMATORS[label] for label in OF_SECOND_ORDER_AT_MOST},
            "exact": pre.Enumeration(),
        },
        reference="exact",
        num_draws=1000,
        progress=False,
    )
    summary = study.summary().drop("exact")
    assert not summary.unbiased.any() and (summary.evaluations == 1).all()
    assert (summary.bias_z > 5).all()


def test_a_site_downstream_keeps_its_value_where_nothing_changed():
    """Drawn again under the same law, by the noise that its value was made of."""
    fn = dist.OneHotCategorical(logits=LOGITS.expand(1000, 4))
    for estimator in ESTIMATORS.values():
        value = estimator.draw(fn, NoiseSource()).value
        site = pre.estimators.Site("z", fn, pre.estimators.Draw(value), value[..., 0], estimator)
        assert torch.equal(estimator.redraw(site, fn).value, value)


def test_a_learned_temperature_is_trained():
    for make in (
        lambda t: pre.GumbelRao(t, 2),
        pre.GappedStraightThrough,
        lambda t: pre.DecoupledStraightThrough(1.0, t),
    ):
        pyro.clear_param_store()
        temperature = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        elbo = pre.TraceEstimator_ELBO(make(temperature))
        svi = pyro.infer.SVI(relaxed.model, relaxed.guide, pyro.optim.SGD({"lr": 0.05}), elbo)
        svi.step()
        assert temperature.item() != 0.7


def test_two_sites_in_sequence():
    """The second takes the gradient of the first's value, and both their own."""

    def model():
        a = pyro.sample("a", dist.Bernoulli(torch.tensor(0.5)))
        b = pyro.sample("b", dist.Bernoulli(logits=a - 0.3))
        pyro.sample("y", dist.Normal(a + b, 1.0), obs=torch.tensor(1.5))

    def guide():
        a = pyro.sample("a", dist.Bernoulli(logits=pyro.param("p", torch.tensor(0.2))))
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("q", torch.tensor(0.4)) * (a - 0.5)))

    for estimator in ESTIMATORS.values():
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO(estimator, num_particles=8)
        assert torch.tensor(elbo.loss_and_grads(model, guide)).isfinite()
        for name in ("p", "q"):
            gradient = pyro.param(name).grad
            assert gradient.isfinite() and gradient != 0

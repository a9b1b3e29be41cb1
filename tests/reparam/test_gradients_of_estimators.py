"""Straight-through sites of a reparameteriser, with the gradient of an estimator."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import StraightThroughBernoulli, StraightThroughOneHotCategorical
from pyro_reparam_ext.reparam import AutoRelax, GumbelSoftmaxReparam, RelaxReparam

GRADIENTS = {
    "StraightThrough": pre.StraightThrough(),
    "StraightThroughGumbelSoftmax": pre.StraightThroughGumbelSoftmax(0.5),
    "GumbelRao": pre.GumbelRao(0.5, num_samples=3),
    "GappedStraightThrough": pre.GappedStraightThrough(0.5),
    "ReinMax": pre.ReinMax(1.3),
    "DecoupledStraightThrough": pre.DecoupledStraightThrough(1.0, 2.0),
}
every = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS.keys())
FAMILIES = {
    "Bernoulli": lambda h: dist.Bernoulli(logits=h).to_event(1),
    "OneHotCategorical": lambda h: dist.OneHotCategorical(logits=h),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def programs(family):
    def model():
        with pyro.plate("rows", 2):
            z = pyro.sample("z", FAMILIES[family](torch.tensor([0.1, 0.4, -0.3])))
            pyro.sample("y", dist.Normal((z * torch.arange(3)).sum(-1).sin(), 1.0), obs=torch.ones(2))

    def guide():
        logits = pyro.param("logits", torch.tensor([[0.5, -0.2, 0.3], [1.0, 0.2, -0.9]]))
        with pyro.plate("rows", 2):
            pyro.sample("z", FAMILIES[family](logits))

    return model, guide


def gradient_of(elbo, model, guide):
    pyro.clear_param_store()
    torch.manual_seed(3)
    loss = elbo.loss_and_grads(model, guide)
    return torch.tensor(loss), pyro.param("logits").grad.clone()


@every
@every_family
def test_the_same_as_the_estimator(family, gradient):
    """From one seed, by Pyro's own ELBO."""
    relax = AutoRelax(straight_through=gradient)
    model, guide = programs(family)
    expected = gradient_of(pre.TraceEstimator_ELBO(gradient), model, guide)
    found = gradient_of(Trace_ELBO(), relax(model), relax(guide))
    torch.testing.assert_close(found, expected)


@every_family
def test_a_temperature_is_the_gumbel_softmax_one(family):
    model, guide = programs(family)
    expected, found = (
        gradient_of(Trace_ELBO(), relax(model), relax(guide))
        for relax in (
            AutoRelax(0.5, straight_through=True),
            AutoRelax(straight_through=pre.StraightThroughGumbelSoftmax(0.5)),
        )
    )
    torch.testing.assert_close(found, expected)


@every
@pytest.mark.parametrize("cls", [StraightThroughBernoulli, StraightThroughOneHotCategorical])
def test_what_is_made_of_a_distribution_has_its_gradient(cls, gradient):
    logits = torch.tensor([0.5, -0.2, 0.3]).expand(2, 3).clone().requires_grad_()
    fn = cls(logits=logits, gradient=gradient)
    for made in (fn, fn.expand((4, *fn.batch_shape)), fn.to_event(1).mask(True)):
        torch.manual_seed(1)
        value = made.rsample()
        assert value.requires_grad and ((value == 0) | (value == 1)).all()
        total = (value * torch.randn(3)).sum()
        assert torch.autograd.grad(total, logits, retain_graph=True)[0].isfinite().all()
    assert fn.expand((4, *fn.batch_shape)).gradient is gradient
    assert not fn.sample().requires_grad


def test_a_learned_temperature_is_in_the_store():
    temperature = torch.nn.Parameter(torch.tensor(0.7))
    relax = AutoRelax(straight_through=pre.GumbelRao(temperature, 2))
    model, guide = map(relax, programs("OneHotCategorical"))
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    svi.step()
    assert pyro.get_param_store()["temperature/z$$$temperature"].item() != pytest.approx(0.7)


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan, torch.ones(5)])
@every_family
def test_a_function_that_returns_no_temperature(family, value):
    relax = AutoRelax(straight_through=pre.ReinMax(lambda: torch.as_tensor(value)))
    model, guide = map(relax, programs(family))
    with pytest.raises(pre.EstimatorError, match="site 'z'.*temperature.*expected"):
        Trace_ELBO().loss_and_grads(model, guide)


REFUSED = {
    "both": (lambda: RelaxReparam(0.5, straight_through=pre.ReinMax()), "temperature=0.5.*one of the"),
    "neither": (lambda: RelaxReparam(), "temperature must be positive"),
    "no gradient": (
        lambda: RelaxReparam(straight_through=pre.GumbelSoftmax(1.0)),
        "bool or a straight",
    ),
    "a class": (lambda: AutoRelax(straight_through=pre.ReinMax), "bool or a straight-through"),
    "score": (
        lambda: AutoRelax(straight_through=pre.ReinMax(), score="discrete"),
        "score='discrete' with straight_through",
    ),
    "another law": (
        lambda: AutoRelax(straight_through=pre.DecoupledStraightThrough(0.5, 1.0)),
        "another law.*forward_temperature=1.0.*Divide the logits",
    ),
    "both, distribution": (
        lambda: StraightThroughBernoulli(0.5, probs=0.5, gradient=pre.ReinMax()),
        "StraightThroughBernoulli.*one of the two",
    ),
    "another law, distribution": (
        lambda: StraightThroughOneHotCategorical(
            probs=torch.ones(3), gradient=pre.DecoupledStraightThrough(0.5, 1.0)
        ),
        "another law.*forward_temperature=1.0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, match = REFUSED[name]
    with pytest.raises(pre.EstimatorError, match=match):
        make()


def test_an_autoguide_refuses_it():
    """Its keys have no gradient by it."""
    model, _ = programs("Bernoulli")
    guide = AutoNormal(AutoRelax(straight_through=pre.ReinMax())(model))
    with pytest.raises(pre.EstimatorError, match="an autoguide.*Give it a temperature"):
        guide()


def test_the_noise_of_a_reparameteriser_refuses_it():
    @poutine.reparam(config={"z": GumbelSoftmaxReparam()})
    def model():
        pyro.sample("z", StraightThroughBernoulli(probs=torch.tensor(0.3), gradient=pre.ReinMax()))

    with pytest.raises(pre.EstimatorError, match="site 'z'.*gradient=ReinMax.*a temperature"):
        model()


def test_mcmc_sums_over_it():
    """Its law is the discrete one."""

    @AutoRelax(straight_through=pre.ReinMax())
    def model():
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
        pyro.sample("y", dist.Normal(loc + z, 1.0), obs=torch.tensor(1.0))

    mcmc = pyro.infer.MCMC(
        pyro.infer.NUTS(model, max_plate_nesting=0), 3, warmup_steps=2, disable_progbar=True
    )
    mcmc.run()
    assert list(mcmc.get_samples()) == ["loc"]

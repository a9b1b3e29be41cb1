"""What a program does with relaxed and straight-through values by which their gradient is lost."""

import re
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre

from .forms import tensor

MODES = (True, "vmap", False)
SOFT = {
    "StraightThrough": pre.StraightThrough,
    "StraightThroughGumbelSoftmax": lambda: pre.StraightThroughGumbelSoftmax(0.5),
    "GumbelSoftmax-relaxed": lambda: pre.GumbelSoftmax(0.5),
    "GumbelSoftmax-discrete": lambda: pre.GumbelSoftmax(0.5, "discrete"),
    "REBAR": pre.REBAR,
}


def guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.3))))


def model_of(loc):
    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        pyro.sample("y", dist.Normal(loc(z), 1.0), obs=tensor(0.5))

    return model


READS = {
    "item": lambda z: tensor(1.0) * z.item(),
    "if": lambda z: tensor(2.0) if z > 0.5 else tensor(-2.0),
    "int": lambda z: tensor(1.0) * int(z),
    "float": lambda z: tensor(float(z.detach())),
    "round": lambda z: tensor(float(z.detach().round())),
    "tolist": lambda z: tensor(z.tolist()),
    "numpy": lambda z: tensor(float(z.detach().numpy())),
    "equal": lambda z: tensor(float(torch.equal(z, tensor(1.0)))),
    "index of a list": lambda z: [tensor(-2.0), tensor(2.0)][z.long()],
    "computed": lambda z: tensor(2.0) if (z + 1).square() > 2 else tensor(-2.0),
}
JUMPS = {
    "z > 0.5": lambda z: 4.0 * (z > 0.5).to(z),
    "table[z.long()]": lambda z: torch.stack([tensor(-2.0), tensor(2.0)])[z.long()],
    "where": lambda z: torch.where(z > 0.5, tensor(2.0), tensor(-2.0)),
    "detach": lambda z: 2.0 * z.detach(),
    "one hot": lambda z: torch.nn.functional.one_hot(z.long(), 2)[..., 1].to(z),
}
SMOOTH = {
    "linear": lambda z: 2.0 * z,
    "lerp": lambda z: torch.lerp(tensor(-2.0), tensor(2.0), z),
    "tanh": lambda z: torch.tanh(z) * pyro.param("c", tensor(0.4)),
    "another value detached": lambda z: z * pyro.param("c", tensor(0.4)).detach(),
    "a part detached": lambda z: z * (z.detach() + 1.0),
    "a constant condition": lambda z: torch.where(tensor(1.0) > 0.5, 2.0 * z, z),
    "constant": lambda z: tensor(2.0),
}


def messages(model, estimator, mode, calls=1, guide=guide, **options):
    elbo = pre.TraceEstimator_ELBO(estimator, vectorize_particles=mode, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(calls):
            elbo.loss_and_grads(model, guide)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("read", ["item", "if", "numpy"])
def test_reads_raise(read, name, mode, num_particles):
    elbo = pre.TraceEstimator_ELBO(SOFT[name](), num_particles=num_particles, vectorize_particles=mode)
    with warnings.catch_warnings(), pytest.raises(pre.EstimatorError) as caught:
        warnings.simplefilter("ignore")  # of the ways that failed before
        elbo.loss_and_grads(model_of(READS[read]), guide)
    assert "site 'z'" in str(caught.value)
    assert re.search(rf"{re.escape(__file__)}:\d+", str(caught.value))
    assert "LocalExpectation" in str(caught.value)
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("name", ["StraightThrough", "GumbelSoftmax-relaxed"])
@pytest.mark.parametrize("read", READS)
def test_every_read_raises(read, name):
    elbo = pre.TraceEstimator_ELBO(SOFT[name]())
    with pytest.raises(pre.EstimatorError, match=rf"site 'z'.*{re.escape(__file__)}:\d+"):
        elbo.loss_and_grads(model_of(READS[read]), guide)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SOFT)
def test_reads_in_the_guide_raise(name, mode):
    def branching():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.3))))
        pyro.sample("w", dist.Normal(1.0 if z > 0.5 else 0.0, tensor(1.0)))

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        w = pyro.sample("w", dist.Normal(tensor(0.0), 1.0))
        pyro.sample("y", dist.Normal(z + w, 1.0), obs=tensor(0.5))

    elbo = pre.TraceEstimator_ELBO({"z": SOFT[name]()}, vectorize_particles=mode)
    with pytest.raises(pre.EstimatorError, match="site 'z'"):
        elbo.loss_and_grads(model, branching)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("jump", JUMPS)
def test_costs_without_a_gradient_are_warned_of_once(jump, name, mode):
    said = messages(model_of(JUMPS[jump]), SOFT[name](), mode, calls=20)
    assert len(said) == 1
    assert "site 'z'" in said[0] and "'y' of the model" in said[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("smooth", SMOOTH)
def test_nothing_is_said_of_what_is_differentiable(smooth, name, mode):
    assert not messages(model_of(SMOOTH[smooth]), SOFT[name](), mode)


@pytest.mark.parametrize(
    "estimator", [pre.DisARM(), pre.ScoreFunction(), pre.LocalExpectation()], ids=repr
)
@pytest.mark.parametrize("jump", JUMPS)
def test_jumps_are_right_for_values_of_the_support(jump, estimator):
    assert not messages(model_of(JUMPS[jump]), estimator, True)


@pytest.mark.parametrize("name", SOFT)
def test_nothing_is_said_without_gradients(name):
    elbo = pre.TraceEstimator_ELBO(SOFT[name]())
    elbo.loss(model_of(JUMPS["where"]), guide)


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name in SOFT for mode in MODES if not (name == "REBAR" and mode is False)],
)
def test_another_site_may_be_read(name, mode):
    """Of two sites, the one whose values are those of the support."""

    def two():
        guide()
        pyro.sample("w", dist.Bernoulli(logits=pyro.param("m", tensor(0.1))))

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        w = pyro.sample("w", dist.Bernoulli(tensor(0.3)))
        loc = z * (2.0 if w.item() > 0.5 else -2.0)
        pyro.sample("y", dist.Normal(loc, 1.0), obs=tensor(0.5))

    estimators = {"z": SOFT[name](), "w": pre.ScoreFunction()}
    assert not messages(model, estimators, mode, calls=4, guide=two)


def test_pathwise_sites_may_be_read():
    """Their gradient is no stand-in: what is read is known to be a number."""

    def normal(prior):
        return lambda: pyro.sample("z", dist.Normal(pyro.param("l", tensor(0.3)), prior))

    def model():
        z = pyro.sample("z", dist.Normal(tensor(0.0), 1.0))
        pyro.sample("y", dist.Normal(z * 2, 1.0), obs=tensor(0.5))

    assert not messages(model, pre.Pathwise(), True, guide=normal(1.0), num_particles=3)

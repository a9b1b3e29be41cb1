"""What is looked at before a program is evaluated, and what that leaves behind: nothing."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from pyro.infer import Trace_ELBO

import pyro_reparam_ext as pre

from ..registry import REGISTRY
from .forms import tensor

MODES = (True, "vmap", False)
DATA = torch.tensor([0.3, 1.2, -0.4, 0.8], dtype=torch.float64)


def latent(name, batch=()):
    """A distribution that the estimator serves, with parameters of its own."""
    logits = pyro.param("l", torch.full((*batch, 3), 0.2, dtype=torch.float64))
    if name.startswith("Pathwise"):
        return dist.Normal(logits[..., 0], 1.0)
    return dist.Bernoulli(logits=logits[..., 0])


def prior(name):
    zero = tensor(0.0)
    return dist.Normal(zero, 1.0) if name.startswith("Pathwise") else dist.Bernoulli(logits=zero)


def data_without_a_plate(name):
    def guide():
        pyro.sample("z", latent(name))

    def model():
        z = pyro.sample("z", prior(name))
        pyro.sample("x", dist.Normal(z, 1.0), obs=DATA)

    return model, guide, "x"


def site_without_to_event(name):
    def guide():
        pyro.sample("z", latent(name, (2,)))

    def model():
        z = pyro.sample("z", prior(name).expand([2]))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=tensor(0.5))

    return model, guide, "z"


def data_without_the_outer_plate(name):
    def guide():
        with pyro.plate("n", 4):
            pyro.sample("z", latent(name, (4,)))

    def model():
        with pyro.plate("n", 4):
            z = pyro.sample("z", prior(name))
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.stack([DATA, DATA]))

    return model, guide, "x"


def site_outside_beside_a_plate(name):
    def guide():
        pyro.sample("z", latent(name, (4,)))

    def model():
        z = pyro.sample("z", prior(name).expand([4]))
        with pyro.plate("n", 4):
            pyro.sample("x", dist.Normal(z, 1.0), obs=DATA)

    return model, guide, "z"


FORGOTTEN = (
    data_without_a_plate,
    site_without_to_event,
    data_without_the_outer_plate,
    site_outside_beside_a_plate,
)
LABELS = [*REGISTRY, "default"]


def elbo_of(label, mode, **options):
    estimator = None if label == "default" else REGISTRY[label].make()
    particles = 1 if label == "default" else REGISTRY[label].num_particles
    options = {"num_particles": particles, **options}
    return pre.TraceEstimator_ELBO(
        estimator if estimator is None else {"z": estimator}, vectorize_particles=mode, **options
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("forgotten", FORGOTTEN)
def test_forgotten_plate(forgotten, label, mode):
    model, guide, site = forgotten(label)
    elbo = elbo_of(label, mode)
    with pyro.validation_enabled(mode != "vmap"):  # said with validation and without
        for method in (elbo.loss, elbo.loss_and_grads, elbo.differentiable_loss):
            with pytest.raises(ValueError, match=rf"at site \"{site}\", invalid log_prob shape"):
                method(model, guide)
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("options", [{"num_particles": 3}, {"max_plate_nesting": 1}], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("forgotten", FORGOTTEN)
def test_forgotten_plate_with_options(forgotten, mode, options):
    model, guide, site = forgotten("ScoreFunction")
    with (
        pyro.validation_enabled(mode == "vmap"),
        pytest.raises(ValueError, match=rf"at site \"{site}\", invalid log_prob shape"),
    ):
        elbo_of("ScoreFunction", mode, **options).loss_and_grads(model, guide)


@pytest.mark.parametrize("forgotten", FORGOTTEN)
def test_words_are_those_of_pyro(forgotten):
    model, guide, _ = forgotten("ScoreFunction")
    words = []
    for elbo in (Trace_ELBO(max_plate_nesting=float("inf")), elbo_of("ScoreFunction", True)):
        with pytest.raises(ValueError) as caught:
            elbo.loss_and_grads(model, guide)
        words.append(str(caught.value).split("\n")[0])
    assert words[0] == words[1]


def test_gradients_are_those_of_before():
    model, guide, _ = data_without_a_plate("ScoreFunction")
    guide()
    parameter = pyro.get_param_store()._params["l"]
    parameter.grad = torch.ones_like(parameter)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="invalid log_prob shape"):
        elbo_of("ScoreFunction", True).loss_and_grads(model, guide)
    assert torch.equal(parameter.grad, torch.ones_like(parameter))
    assert torch.equal(torch.get_rng_state(), state)


# -- the random state -------------------------------------------------------------------------------


def programs_of(broadcasts):
    """Two sites and data; the sum broadcasts if it ``broadcasts``."""

    def guide():
        loc = pyro.param("l", lambda: torch.randn(3, dtype=torch.float64))
        z = pyro.sample("z", dist.Bernoulli(logits=loc).to_event(1))
        pyro.sample("e", dist.Normal(z.sum(-1) * pyro.param("c", tensor(0.3)), 1.0))

    def model():
        half = torch.full((3,), 0.5, dtype=torch.float64)
        z = pyro.sample("z", dist.Bernoulli(half).to_event(1))
        e = pyro.sample("e", dist.Normal(tensor(0.0), 1.0))
        total = z.sum(-1) if broadcasts else z.sum()
        with pyro.plate("n", 4, subsample_size=2) as index:
            pyro.sample("x", dist.Normal(total + e, 1.0), obs=DATA[index])

    return model, guide


def steps(elbo, programs, initial):
    """Losses of some calls, random numbers between them, and the gradients."""
    pyro.clear_param_store()
    torch.manual_seed(7)
    if initial is not None:
        pyro.param("l", torch.full((3,), initial, dtype=torch.float64))
    losses = [(elbo.loss_and_grads(*programs), torch.rand(()).item()) for _ in range(5)]
    store = pyro.get_param_store()
    return losses, [store._params[name].grad.tolist() for name in ("l", "c")]


LOOKED_AT = ["DisARM", "LocalExpectation", "REBAR", "ScoreFunction", "LeaveOneOut"]


@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize(
    ("mode", "initial"), [(True, None), (False, None), (True, 0.3), ("vmap", 0.3), (False, 0.3)]
)
@pytest.mark.parametrize("label", LOOKED_AT)
def test_steps_with_a_new_elbo_are_those_with_an_old_one(label, mode, initial, num_particles):
    """Whether it has looked at the program before or does so in these steps."""
    num_particles = max(num_particles, REGISTRY[label].num_particles)
    known, new = (elbo_of(label, mode, num_particles=num_particles) for _ in range(2))
    programs = programs_of(broadcasts=True)
    first = steps(known, programs, initial)
    assert steps(known, programs, initial) == first
    assert steps(new, programs, initial) == first


def test_failed_ways_leave_no_parameters_behind():
    model, guide = programs_of(broadcasts=False)
    with pytest.warns(UserWarning, match="vmap"):
        pre.TraceEstimator_ELBO({"z": pre.DisARM()}, num_particles=3).loss_and_grads(model, guide)
    assert set(pyro.get_param_store().keys()) == {"l", "c"}


# -- densities that are known at draws of their own only ----------------------------------------------


def flow_programs(make):
    torch.manual_seed(0)
    flow = make(2)

    def guide():
        base = dist.Normal(torch.zeros(2), pyro.param("a", torch.ones(2))).to_event(1)
        pyro.sample("w", dist.TransformedDistribution(base, [flow]))

    def model():
        pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    return model, guide


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [transforms.planar, transforms.radial, transforms.sylvester])
def test_flows_without_an_inverse(make, mode):
    """Looking at a program does not score what can't be scored."""
    model, guide = flow_programs(make)
    losses = []
    for elbo in (Trace_ELBO(), pre.TraceEstimator_ELBO(vectorize_particles=mode)):
        torch.manual_seed(1)
        losses.append([elbo.loss_and_grads(model, guide) for _ in range(4)])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [transforms.planar, transforms.radial, transforms.sylvester])
def test_flows_without_an_inverse_for_particles(make, mode):
    model, guide = flow_programs(make)
    elbo = pre.TraceEstimator_ELBO(num_particles=3, vectorize_particles=mode)
    for _ in range(4):
        elbo.loss_and_grads(model, guide)

"""Programs and uses that are easy to break: factors, tracked shapes, copies, transforms."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.nn import PyroModule
from pyro.optim import Adam
from torch import nn
from torch.func import functional_call, grad

import pyro_reparam_ext as pre

from .sampling import gradients
from .statistics import assert_mean


def _tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def _model():
    z = pyro.sample("z", dist.Bernoulli(_tensor(0.3)))
    pyro.factor("f", -z)


def _factor_guide():
    z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("c", _tensor(0.1))))
    pyro.factor("gf", 0.3 * z, has_rsample=True)


ESTIMATORS = [
    pre.ScoreFunction(),
    pre.DisARM(),
    pre.REBAR(),
    pre.LocalExpectation(),
    pre.Enumeration(),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_factor_in_the_guide(estimator):
    c = _tensor(0.1).requires_grad_()
    q = c.sigmoid()
    one = q.log() + 0.3 - _tensor(0.3).log() + 1
    loss = q * one + (1 - q) * ((1 - q).log() - _tensor(0.7).log())
    exact = torch.stack([loss.detach(), *torch.autograd.grad(loss, c)])
    elbo = pre.TraceEstimator_ELBO({"z": estimator})
    assert_mean(gradients(elbo, _model, _factor_guide, ["c"], 400), exact)


def test_factor_that_was_sampled_out_of_sight():
    """A factor with ``has_rsample=False`` is the density of a value that Pyro never saw."""

    def guide():
        c = pyro.param("c", _tensor(0.1))
        hidden = torch.bernoulli(c.detach().sigmoid())
        log_q = dist.Bernoulli(logits=c).log_prob(hidden)
        pyro.factor("hidden", log_q, has_rsample=False)
        pyro.sample("z", dist.Bernoulli(logits=2 * hidden - 1))

    c, loss = _tensor(0.1).requires_grad_(), _tensor(0.0)
    for hidden in (_tensor(0.0), _tensor(1.0)):
        for z in (_tensor(0.0), _tensor(1.0)):
            log_q = dist.Bernoulli(logits=c).log_prob(hidden)
            log_q = log_q + dist.Bernoulli(logits=2 * hidden - 1).log_prob(z)
            cost = log_q - dist.Bernoulli(_tensor(0.3)).log_prob(z) + z
            loss = loss + log_q.exp() * cost
    exact = torch.stack([loss.detach(), *torch.autograd.grad(loss, c)])
    elbo = pre.TraceEstimator_ELBO()
    assert_mean(gradients(elbo, _model, guide, ["c"], 1000), exact)


def test_shapes_of_tracked_values_are_shapes():
    def model():
        z = pyro.sample("z", dist.Bernoulli(0.4 * torch.ones(3)).to_event(1))
        pyro.sample("b", dist.Bernoulli(0.3))
        mean = z.sum(-1) / z.shape[-1:].numel() + z.max(-1).values
        pyro.sample("x", dist.Normal(mean, 1.0), obs=torch.tensor(1.0))

    def guide():
        logits = pyro.param("l", torch.zeros(3))
        z = pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))
        assert isinstance(z.shape, torch.Size)
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("c", torch.tensor(0.1)) + z[..., 0]))

    for num_particles in (1, 2):
        elbo = pre.TraceEstimator_ELBO(num_particles=num_particles)
        assert torch.tensor(elbo.loss_and_grads(model, guide)).isfinite()


def test_a_copied_elbo_steps_its_schedule_once():
    schedule = pre.ExponentialDecay(1.0, 0.1, 0.5)
    elbo = pre.TraceEstimator_ELBO({"z": pre.GumbelSoftmax(schedule)})

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("c", _tensor(0.1))))

    elbo.loss_and_grads(_model, guide)
    other = copy.deepcopy(elbo)
    other.loss_and_grads(_model, guide)
    assert schedule.steps == 1 and other.estimators["z"].temperature.steps == 2


def test_another_baseline_gets_a_state_of_its_own():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)

    def guide(x, baseline):
        logits = pyro.param("c", torch.tensor(0.1))
        estimator = pre.ScoreFunction(baseline)
        with pyro.plate("data", len(x)):
            infer = {"estimator": estimator, "baseline_input": x[:, None]}
            pyro.sample("z", dist.Bernoulli(logits=logits), infer=infer)

    def model(x, baseline):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(0.3))

    elbo = pre.TraceEstimator_ELBO()
    for baseline in (first, second, "ema"):
        pyro.clear_param_store()
        elbo.loss_and_grads(model, guide, torch.ones(3), baseline)
    assert first.weight.grad is not None and second.weight.grad is not None
    assert [key.split(".")[-1] for key in elbo.states.state_dict()] == ["total", "weight"]


def test_baseline_that_cannot_be_called():
    def guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("c", _tensor(0.1))))

    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(nn.Linear(1, 1)))
    with pytest.raises(pre.EstimatorError, match="'z'.*0 inputs.*baseline_input"):
        elbo.loss_and_grads(_model, guide)


class Model(PyroModule):
    def forward(self):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(3 * z, 1.0), obs=torch.tensor(1.0))


class Guide(PyroModule):
    def __init__(self):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(0.2))

    def forward(self):
        pyro.sample("z", dist.Bernoulli(logits=self.logit))


MAKERS = {
    "REBAR": pre.REBAR,
    "ema": lambda: pre.ScoreFunction("ema"),
    "DisARM": pre.DisARM,
    "learned temperature": lambda: pre.GumbelSoftmax(nn.Parameter(torch.tensor(0.5))),
}


@pytest.mark.parametrize("name", MAKERS)
def test_functional_gradients_are_those_of_backward(name):
    with pyro.settings.context(module_local_params=True):
        loss = pre.TraceEstimator_ELBO(MAKERS[name]())(Model(), Guide())
        loss()
        parameters = {k: p.detach().clone() for k, p in loss.named_parameters()}
        state = torch.get_rng_state()
        buffers = {k: b.clone() for k, b in loss.named_buffers()}

        def functional(values):
            torch.set_rng_state(state)
            return functional_call(loss, values, ())

        given = grad(functional)(parameters)
        assert all(torch.equal(b, buffers[k]) for k, b in loss.named_buffers())
        torch.set_rng_state(state)
        loss().backward()
    names = ["guide.logit", *(k for k in parameters if k.endswith("temperature") and name != "REBAR")]
    for key, p in loss.named_parameters():
        if key in names:
            torch.testing.assert_close(given[key], p.grad)
    assert not list(pyro.get_param_store().keys())


def test_one_hot_draws_are_batched():
    def model():
        z = pyro.sample("z", dist.OneHotCategorical(torch.ones(3)))
        k = pyro.sample("k", dist.Categorical(torch.ones(3)))
        pyro.sample("x", dist.Normal((z * torch.arange(3.0)).sum(-1) + k, 1.0), obs=torch.tensor(1.0))

    def guide():
        pyro.sample("z", dist.OneHotCategorical(logits=pyro.param("a", torch.tensor([0.1, 0.5, -0.3]))))
        pyro.sample("k", dist.Categorical(logits=pyro.param("b", torch.tensor([0.2, -0.5, 0.3]))))

    study = pre.gradient_study(
        model,
        guide,
        num_draws=500,
        reference="exact",
        estimators={
            "score": pre.ScoreFunction(),
            "local": pre.LocalExpectation(),
            "REBAR": {"z": pre.REBAR(), "k": pre.LocalExpectation()},
        },
    )
    summary = study.summary()
    assert summary["batched"].all() and (summary["bias_z"] < 5).all()


def without_sites():
    pyro.param("p", torch.ones(2))


@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize(
    ("model", "guide"),
    [(lambda: None, lambda: None), (lambda: None, without_sites), (without_sites, without_sites)],
    ids=["empty", "parameters in the guide", "parameters"],
)
def test_program_without_sample_sites(model, guide, vectorized, num_particles):
    options = {"num_particles": num_particles, "vectorize_particles": vectorized}
    for estimators in (None, pre.Enumeration(), pre.DisARM(), pre.LeaveOneOut()):
        elbo = pre.TraceEstimator_ELBO(estimators, **options)
        assert elbo.loss(model, guide) == 0.0
        assert elbo.differentiable_loss(model, guide).item() == 0.0
        assert elbo.loss_and_grads(model, guide) == 0.0
        assert SVI(model, guide, Adam({"lr": 0.1}), elbo).step() == 0.0


@pytest.mark.parametrize("estimator", [None, pre.DisARM(), pre.Enumeration()], ids=repr)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_plate_nesting": 1},
        {"num_particles": 2},
        {"vectorize_particles": False},
        {"vectorize_particles": False, "num_particles": 2},
    ],
    ids=str,
)
def test_obs_mask_of_a_wrong_shape(options, estimator):
    mask = torch.tensor([[False, False], [False, True], [True, False]])  # has the event dim too
    data = torch.ones(3, 2)

    def model():
        k = pyro.sample("k", dist.Bernoulli(0.5))
        with pyro.plate("data", 3):
            y = dist.MultivariateNormal(k.unsqueeze(-1).expand(*k.shape, 2), torch.eye(2))
            pyro.sample("y", y, obs=data, obs_mask=mask)

    def guide():
        k = pyro.sample("k", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))))
        with pyro.plate("data", 3), poutine.mask(mask=~mask):
            y = dist.MultivariateNormal(k.unsqueeze(-1).expand(*k.shape, 2), torch.eye(2))
            pyro.sample("y_unobserved", y)

    elbo = pre.TraceEstimator_ELBO({"k": estimator} if estimator else None, **options)
    with pytest.raises(ValueError, match=r"Invalid obs_mask shape \(3, 2\); should be broadcast"):
        elbo.loss_and_grads(model, guide)


@pytest.mark.parametrize("vectorized", [True, False])
def test_mask_of_a_wrong_shape(vectorized):
    def guide():
        with pyro.plate("data", 3), poutine.mask(mask=torch.ones(2, dtype=torch.bool)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    def model():
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    elbo = pre.TraceEstimator_ELBO(vectorize_particles=vectorized)
    for programs in ((model, guide), (guide, model)):
        with pytest.raises(pre.EstimatorError, match=r"'z'.*mask shape \(2,\).*\(3,\)"):
            elbo.loss_and_grads(*programs)

"""The weighted mean of several estimators: its weights, what its parts see, and what it refuses."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import SGD

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.combine import Combine
from pyro_reparam_ext.estimators.mixture_weights import DECAY, MixtureWeights

from .. import sampling
from ..statistics import assert_mean
from .closed_form import COLUMNS, ROWS, Program, assert_same, gradients


def elbo_of(estimator, particles=1):
    return pre.TraceEstimator_ELBO(estimator, num_particles=particles, max_plate_nesting=1)


def weights_of(elbo):
    (state,) = elbo.states.values()
    return state().detach()


def test_at_first_the_parts_count_alike():
    """They see one value, and the twin of the first part is that of DisARM alone."""
    program = Program()
    both = gradients(elbo_of(pre.Combine([pre.DisARM(), pre.ScoreFunction()])), program, seed=3)
    parts = [
        gradients(elbo_of(estimator), program, seed=3)
        for estimator in (pre.DisARM(), pre.ScoreFunction())
    ]
    for name in ("logits",):
        expected = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(both[name], expected, rtol=1e-9, atol=1e-9)


def test_weights_have_the_least_noise():
    """Against the closed form for two gradients with a known covariance."""
    torch.manual_seed(0)
    state = MixtureWeights([None, None], torch.zeros((), dtype=torch.float64))
    assert state().tolist() == [0.5, 0.5]
    mean, root = 3.0, torch.tensor([[1.0, 0.0], [0.6, 2.0]], dtype=torch.float64)
    for _ in range(600):
        state.update(mean + root @ torch.randn(2, 2000, dtype=torch.float64))
    covariance = root @ root.T
    first = (covariance[1, 1] - covariance[0, 1]) / (
        covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    )
    assert state()[0].item() == pytest.approx(first.item(), abs=0.02)
    assert state().sum().item() == pytest.approx(1.0)


def test_weights_of_a_step_are_those_of_steps_before():
    program, elbo = Program(), elbo_of(pre.Combine([pre.DisARM(), pre.ScoreFunction()]))
    svi = SVI(program.model, program.guide, SGD({"lr": 0.0}), elbo)
    svi.step()
    before, (state,) = weights_of(elbo), elbo.states.values()
    assert before[0] > 0.9 and before.sum().item() == pytest.approx(1.0)
    products = state.products.clone()
    torch.manual_seed(8)
    svi.step()
    assert not state.products.equal(products)
    assert (state.products - DECAY * products).diagonal().min() > 0
    assert state.products.equal(state.products.mT)


def test_leave_one_out_uses_the_values_of_the_others():
    """Of two antithetic pairs: each cost without the mean cost of the other pair."""
    program = Program()
    elbo = elbo_of(pre.Combine([pre.DisARM(), pre.LeaveOneOut()]), particles=2)
    actual = gradients(elbo, program, seed=4)
    torch.manual_seed(4)
    alpha, weight = program.parameters()
    p = alpha.detach().sigmoid()
    noise = torch.rand(2, ROWS, COLUMNS, 1, dtype=torch.float64).squeeze(-1)
    pairs = torch.stack([noise < p, 1 - noise < p]).double()  # shape: (2, particles, rows, columns)
    costs = torch.stack(
        [torch.stack([program.cost(z, alpha.detach(), weight) for z in x]) for x in pairs]
    )
    means = costs.mean(0)
    detached = costs.detach()
    centred = (detached - detached.mean(0).flip(0))[..., None]
    crossed = (centred * (pairs - p)).mean((0, 1))
    twins = (detached[0] - detached[1])[..., None] * (pairs[0] - pairs[1]) / 2
    within = (twins * alpha.detach().abs().sigmoid() / 1.0).mean(0)
    expected = (crossed + within) / 2
    assert_same(actual, expected, torch.autograd.grad(means.mean(0).sum(), weight)[0])


@pytest.mark.parametrize(
    "parts", [[pre.DisARM(), pre.LeaveOneOut()], [pre.LocalExpectation(), pre.LeaveOneOut()]]
)
def test_no_noisier_than_the_best_part(parts):
    """After some steps of measuring, in the variance of the gradient."""
    program, label = Program(), "combined"
    combined = elbo_of(pre.Combine(parts), particles=2)
    study = pre.gradient_study(
        program.model,
        program.guide,
        estimators={label: combined} | {repr(part): elbo_of(part, particles=2) for part in parts},
        num_draws=2000,
        warmup=100,
    )
    variance = study.summary()["variance"]
    assert variance[label] < 1.1 * variance.drop(label).min()


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ([pre.DisARM()], "two or more estimators, was given 1"),
        ([pre.DisARM(), pre.StraightThrough()], r"StraightThrough\(\) is biased"),
        ([pre.DisARM(), pre.Enumeration()], "takes all values in place of a sample"),
        (
            [pre.Pathwise(), pre.LeaveOneOut()],
            "Pathwise.* differentiates .*LeaveOneOut.* parts of one kind",
        ),
        ([pre.Pathwise(), pre.TaylorControlVariate()], "Taylor.* in a way of its own"),
        ([pre.Pathwise(), pre.AnalyticKL()], "AnalyticKL.* in a way of its own"),
        ([pre.Stratified(), pre.Pathwise()], "Stratified.* in a way of its own"),
        ([pre.DisARM(), Combine([pre.DisARM(), pre.REBAR()])], "is a combination itself"),
        ([pre.DisARM(), pre.DisARM], "is no estimator"),
    ],
)
def test_parts_that_can_not_be_mixed(parts, match):
    with pytest.raises(pre.EstimatorError, match=match):
        pre.Combine(parts)


def test_a_part_that_does_not_serve_the_site():
    def guide():
        pyro.sample("z", pyro.distributions.Poisson(pyro.param("rate", torch.tensor(2.0))))

    elbo = elbo_of({"z": pre.Combine([pre.LeaveOneOut(), pre.DisARM()])}, particles=2)
    with pytest.raises(pre.EstimatorError, match="site 'z': DisARM can't serve Poisson"):
        elbo.loss_and_grads(guide, guide)


def test_a_value_that_is_masked_in_the_guide_is_scored_all_the_same():
    """The alternatives of a part, too: without that, half of the gradient was missing."""

    def guide():
        q = dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.54, dtype=torch.float64)))
        pyro.sample("z", q.mask(torch.tensor(False)))

    def model():
        pyro.sample("z", dist.Bernoulli(logits=torch.tensor(1.13, dtype=torch.float64)))

    estimator = pre.Combine([pre.DisARM(), pre.LeaveOneOut()])
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=2)
    slope = torch.tensor(0.54, dtype=torch.float64).sigmoid()
    exact = torch.tensor([-1.13], dtype=torch.float64) * slope * (1 - slope)
    pyro.clear_param_store()
    torch.manual_seed(0)
    assert_mean(sampling.gradients(elbo, model, guide, ["logit"], 1000)[:, 1:], exact)


def test_the_condition_of_a_part_is_its_own():
    estimator = pre.Combine([pre.DisARM(), pre.REBAR()])
    assert estimator.conditional is pre.REBAR
    assert not pre.Combine([pre.DisARM(), pre.LeaveOneOut()]).conditional.condition


@pytest.mark.parametrize("particles", [1, 3])
def test_noise_is_measured_where_dims_are_added_to_a_site(particles):
    """Outside of the plates of a program there is one dim more: the same products all the same."""

    def guide():
        logits = pyro.param("logits", torch.tensor([0.3, -0.2], dtype=torch.float64))
        return pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))

    def program(size):
        z = pyro.sample("z", dist.Bernoulli(logits=torch.zeros(2, dtype=torch.float64)).to_event(1))
        if size:
            with pyro.plate("data", size):
                pyro.factor("f", z.sum(-1) / size)
        else:
            pyro.factor("f", z.sum(-1))

    products = []
    for size in (0, 4):
        pyro.clear_param_store()
        elbo = pre.TraceEstimator_ELBO(
            pre.Combine([pre.DisARM(), pre.ScoreFunction()]),
            num_particles=particles,
            max_plate_nesting=(size > 0) + (particles > 1),
        )
        torch.manual_seed(0)
        for _ in range(3):
            elbo.loss_and_grads(lambda size=size: program(size), guide)
        (state,) = elbo.states.values()
        products.append(state.products)
    assert products[0].diagonal().min() > 0
    torch.testing.assert_close(*products)

"""Which way a program is run, how that is learned, and what is said of it."""

import re
import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam

import pyro_reparam_ext as pre

from ..sampling import gradients
from ..statistics import assert_mean
from .forms import FORMS, Programs, tensor

MODES = (True, "vmap", False)


def guide():
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.2))))


def model_of(loc):
    """A model whose mean is a function of ``z``."""

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        pyro.sample("x", dist.Normal(loc(z), 1.0), obs=tensor(1.5))

    return model


def exact(low=-2.0, high=2.0):
    """Loss and gradient where the mean is ``low`` or ``high``."""
    logit, x = tensor(0.2).requires_grad_(), tensor(1.5)
    loss = tensor(0.0)
    for q, p, loc in ((-logit, 0.7, low), (logit, 0.3, high)):
        log_q = torch.nn.functional.logsigmoid(q)
        loss = loss + log_q.exp() * (log_q - tensor(p).log() - dist.Normal(loc, 1.0).log_prob(x))
    return torch.stack([loss.detach(), *torch.autograd.grad(loss, logit)])


# -- branches on a value ----------------------------------------------------------------------------

TABLE = [tensor(-2.0), tensor(2.0)]
READS = {
    "item": lambda z: TABLE[1] if z.item() == 1 else TABLE[0],
    "if": lambda z: TABLE[1] if z > 0.5 else TABLE[0],
    "not": lambda z: TABLE[0] if not z else TABLE[1],
    "int": lambda z: TABLE[int(z)],
    "float": lambda z: tensor(4 * float(z) - 2),
    "tolist": lambda z: tensor(4 * z.tolist() - 2),
    "numpy": lambda z: tensor(4 * float(z.numpy()) - 2),
    "equal": lambda z: TABLE[torch.equal(z, tensor(1.0))],
    "allclose": lambda z: TABLE[torch.allclose(z, tensor(1.0))],
    "range": lambda z: sum((tensor(4.0) for _ in range(int(z))), tensor(-2.0)),
    "index": lambda z: TABLE[z.long()],
    "while": lambda z: TABLE[_counted(z)],
    "any": lambda z: TABLE[1] if (z == 1).any() else TABLE[0],
    "nonzero": lambda z: tensor(4.0) * len(z.reshape(1).nonzero()) - 2,
    "computed": lambda z: TABLE[1] if ((z + 1).square() > 2).item() else TABLE[0],
}
LISTS = ("tolist", "numpy")
"""What takes several values, too, and fails later."""
SERVED = {
    "ScoreFunction": (pre.ScoreFunction, 1),
    "LeaveOneOut": (pre.LeaveOneOut, 2),
    "DisARM": (pre.DisARM, 1),
    "LocalExpectation": (pre.LocalExpectation, 1),
    "Enumeration": (pre.Enumeration, 1),
}


def _counted(z):
    count = 0
    while count < z:
        count += 1
    return count


def run(estimator, num_particles, model, mode, calls, guide=guide):
    """Rows of losses and gradients from the second call on, and what the calls said."""
    pyro.param("l", tensor(0.2))
    elbo = pre.TraceEstimator_ELBO(estimator, num_particles=num_particles, vectorize_particles=mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        elbo.loss_and_grads(model, guide)
        rows = gradients(elbo, model, guide, ["l"], calls)
    return rows, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("name", ["LocalExpectation", "Enumeration"])
@pytest.mark.parametrize("read", READS)
def test_branch_on_a_value(read, name, mode):
    make, num_particles = SERVED[name]
    rows, said = run(make(), num_particles, model_of(READS[read]), mode, 2)
    torch.testing.assert_close(rows[:, 1], exact()[1].expand(2))
    if name == "Enumeration":
        torch.testing.assert_close(rows[:, 0], exact()[0].expand(2))
    assert len(said) == 1
    assert "vectorize_particles=False" in said[0]
    assert re.search(rf"{re.escape(__file__)}:\d+", said[0])
    if (name, mode) == ("LocalExpectation", True) and read not in LISTS:
        assert "'z'" in said[0]


@pytest.mark.parametrize("name", ["DisARM", "LeaveOneOut"])
@pytest.mark.parametrize("read", ["item", "if", "equal", "range", "numpy"])
def test_mean_of_branches(read, name):
    make, num_particles = SERVED[name]
    rows, said = run(make(), num_particles, model_of(READS[read]), True, 250)
    assert len(said) == 1
    assert "'z'" in said[0] or "particles" in said[0]
    assert "vectorize_particles=False" in said[0]
    assert_mean(rows, exact())


def test_branch_without_alternatives_is_a_single_run():
    """Nothing is run at several values: the score function has one."""
    rows, said = run(pre.ScoreFunction(), 1, model_of(READS["item"]), True, 600)
    assert not said
    assert_mean(rows, exact())


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("read", READS)
def test_loop_never_warns(read, name):
    make, num_particles = SERVED[name]
    rows, said = run(make(), num_particles, model_of(READS[read]), False, 2)
    assert not said
    if name == "Enumeration":
        torch.testing.assert_close(rows, exact().expand(2, 2))


@pytest.mark.parametrize("name", ["LocalExpectation", "Enumeration"])
def test_branch_in_the_guide(name):
    def branching():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.2))))
        logits = tensor(2.0) if z.item() == 1 else tensor(-1.0)
        pyro.sample("w", dist.Bernoulli(logits=logits))

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        w = pyro.sample("w", dist.Bernoulli(tensor(0.3)))
        pyro.sample("x", dist.Normal(z + w, 1.0), obs=tensor(1.5))

    rows, said = run(SERVED[name][0](), 1, model, True, 300 if name != "Enumeration" else 2, branching)
    assert len(said) == 1
    assert re.search(rf"{re.escape(__file__)}:\d+", said[0])
    logit, loss = tensor(0.2).requires_grad_(), tensor(0.0)
    for z, sign, given in ((0.0, -1, -1.0), (1.0, 1, 2.0)):
        for w in (0.0, 1.0):
            log_q = torch.nn.functional.logsigmoid(sign * logit)
            log_w = dist.Bernoulli(logits=tensor(given)).log_prob(tensor(w))
            prior = dist.Bernoulli(tensor(0.3))
            cost = log_q + log_w - prior.log_prob(tensor(z)) - prior.log_prob(tensor(w))
            cost = cost - dist.Normal(z + w, 1.0).log_prob(tensor(1.5))
            loss = loss + (log_q + log_w).exp() * cost
    assert_mean(rows, torch.stack([loss.detach(), *torch.autograd.grad(loss, logit)]))


def test_structure_that_a_value_decides():
    def branching():
        z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.2))))
        if z > 0.5:
            pyro.sample("w", dist.Bernoulli(tensor(0.3)))

    def model():
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        loc = 2.0 * pyro.sample("w", dist.Bernoulli(tensor(0.3))) if z > 0.5 else tensor(-2.0)
        pyro.sample("x", dist.Normal(loc, 1.0), obs=tensor(1.5))

    rows, said = run({"z": pre.Enumeration(), "w": pre.Enumeration()}, 1, model, True, 2, branching)
    assert len(said) == 1 and "vectorize_particles=False" in said[0]
    low, high = (exact(-2.0, loc)[0] for loc in (0.0, 2.0))
    torch.testing.assert_close(rows[:, 0], (0.7 * low + 0.3 * high).expand(2))


# -- how often programs are run ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["DisARM", "Enumeration", "LeaveOneOut"])
def test_runs_of_a_program_that_is_known(name, mode):
    """Later calls run the model once, or once for each evaluation in a loop."""
    programs = Programs(FORMS["softmax"])
    make, num_particles = SERVED[name]
    elbo = pre.TraceEstimator_ELBO(make(), num_particles=num_particles, vectorize_particles=mode)
    counts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(16):
            programs.runs = 0
            elbo.loss_and_grads(programs.model, programs.guide)
            counts.append(programs.runs)
    alone = {"DisARM": 2, "Enumeration": 8, "LeaveOneOut": 2}[name] if mode is False else 1
    known = [count for call, count in enumerate(counts, 1) if call & (call - 1)]
    assert known[1:] == [alone] * len(known[1:])
    assert counts[0] > alone


def test_other_shapes_are_verified_again():
    runs = []

    def model(x):
        runs.append(x.shape)
        z = pyro.sample("z", dist.Bernoulli(tensor(0.3)))
        with pyro.plate("n", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", tensor(0.2))))

    elbo = pre.TraceEstimator_ELBO(pre.Enumeration())
    for size in (3, 5):
        data = torch.zeros(size, dtype=torch.float64)
        counts = []
        for _ in range(7):
            runs.clear()
            elbo.loss_and_grads(model, guide, data)
            counts.append(len(runs))
        assert counts[0] > 1 and counts[2] == counts[4] == counts[6] == 1


class Counted:
    """A model and a guide that are methods, and do not broadcast."""

    def __init__(self):
        self.runs = 0

    def model(self, scale=1.0):
        self.runs += 1
        half = torch.full((3,), 0.5, dtype=torch.float64)
        with poutine.scale(scale=scale):
            z = pyro.sample("z", dist.Bernoulli(half).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=tensor(1.5))

    def guide(self):
        logits = pyro.param("l", torch.zeros(3, dtype=torch.float64))
        pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


MADE_ANEW = {
    "bound methods": lambda p, call: (p.model, p.guide),
    "scale": lambda p, call: (
        poutine.scale(p.model, scale=0.1 * call),
        poutine.scale(p.guide, scale=0.1 * call),
    ),
    "mask": lambda p, call: (poutine.mask(p.model, mask=True), p.guide),
    "condition": lambda p, call: (poutine.condition(p.model, {"other": tensor(0.0)}), p.guide),
    "partial": lambda p, call: (partial(p.model, scale=0.1 * call), partial(p.guide)),
    "lambda": lambda p, call: (lambda: p.model(), lambda: p.guide()),
}


@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("kind", MADE_ANEW)
def test_programs_that_are_made_anew_are_compared_once(kind, mode):
    """As with ``elbo.loss_and_grads(vae.model, vae.guide)``: one warning, and one run a call."""
    programs, counts = Counted(), []
    elbo = pre.TraceEstimator_ELBO(pre.DisARM(), vectorize_particles=mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in range(1, 9):
            programs.runs = 0
            elbo.loss_and_grads(*MADE_ANEW[kind](programs, call))
            counts.append(programs.runs)
    assert len(caught) == (mode is True)
    assert counts[0] > 1 and counts[3] > 1
    assert [counts[call] for call in (1, 2, 4, 5, 6, 7)] == [1] * 6


def test_other_programs_of_one_code_are_other_programs():
    """What tells them apart is what they close over."""

    def model_summing(total):
        def model():
            z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.5)).to_event(1))
            pyro.sample("x", dist.Normal(total(z), 1.0), obs=torch.tensor(1.5))

        return model

    def three():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.zeros(3))).to_event(1))

    elbo = pre.TraceEstimator_ELBO(pre.Enumeration())
    elbo.loss_and_grads(model_summing(lambda z: z.sum(-1)), three)
    with pytest.warns(UserWarning, match="'x'"):
        elbo.loss_and_grads(model_summing(lambda z: z.sum()), three)


def test_a_program_that_stops_broadcasting():
    """At a size at which it means something else."""

    def model(size):
        z = pyro.sample("z", dist.Bernoulli(torch.full((size,), 0.3, dtype=torch.float64)).to_event(1))
        mean = z.sum(-1) if size == 2 else z.sum()
        pyro.sample("x", dist.Normal(mean, 1.0), obs=tensor(1.5))

    def guide(size):
        logits = pyro.param("l", tensor(0.2))
        pyro.sample("z", dist.Bernoulli(logits=logits.expand(size)).to_event(1))

    elbo = pre.TraceEstimator_ELBO(pre.Enumeration())
    elbo.loss_and_grads(model, guide, 2)
    with pytest.warns(UserWarning, match="'x'.*'vmap'") as caught:
        loss = elbo.loss_and_grads(model, guide, 3)
    assert len(caught) == 1
    looped = pre.TraceEstimator_ELBO(pre.Enumeration(), vectorize_particles=False)
    assert loss == pytest.approx(looped.loss(model, guide, 3), abs=1e-9)


# -- what is given ----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["loop", 2, None, "True"])
def test_no_mode(given):
    with pytest.raises(pre.EstimatorError, match="vectorize_particles.*'vmap'"):
        pre.TraceEstimator_ELBO(vectorize_particles=given)


def test_each_program_has_its_own_way():
    natural, broadcasting = Programs(FORMS["sum"]), model_of(lambda z: z)
    elbo = pre.TraceEstimator_ELBO(pre.Enumeration())
    with pytest.warns(UserWarning, match="vmap"):
        elbo.loss_and_grads(natural.model, natural.guide)
    pyro.clear_param_store()
    natural.initialise()
    losses = [elbo.loss(natural.model, natural.guide) for _ in range(3)]
    assert losses == pytest.approx([natural.exact()[0].item()] * 3, abs=1e-9)
    pyro.clear_param_store()
    rows = gradients(elbo, broadcasting, guide, ["l"], 2)
    torch.testing.assert_close(rows, exact(0.0, 1.0).expand(2, 2))


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_one_warning_in_a_training(mode):
    svi = SVI(
        model_of(READS["item"]),
        guide,
        Adam({"lr": 0.05}),
        pre.TraceEstimator_ELBO(pre.LocalExpectation(), vectorize_particles=mode),
    )
    with pytest.warns(UserWarning, match="one by one") as caught:
        for _ in range(10):
            svi.step()
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_training_finds_the_posterior_of_a_branch():
    svi = SVI(
        model_of(READS["item"]),
        guide,
        Adam({"lr": 0.3}),
        pre.TraceEstimator_ELBO(pre.Enumeration(), vectorize_particles=False),
    )
    for _ in range(300):
        svi.step()
    odds = 0.3 / 0.7 * torch.exp(tensor((3.5**2 - 0.5**2) / 2))
    torch.testing.assert_close(pyro.param("l").detach().sigmoid(), odds / (1 + odds), rtol=0, atol=1e-4)


# -- what vmap and Enumeration are given ------------------------------------------------------------


def normal():
    pyro.sample("z", dist.Normal(pyro.param("m", tensor(0.3)), 1.0))


def normal_model():
    z = pyro.sample("z", dist.Normal(pyro.param("k", tensor(0.1)), 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=tensor(1.5))


@pytest.mark.parametrize(
    "make",
    [lambda: normal, lambda: AutoNormal(normal_model), lambda: AutoMultivariateNormal(normal_model)],
    ids=["function", "AutoNormal", "AutoMultivariateNormal"],
)
def test_new_parameters_under_vmap(make):
    """A parameter that is made in the first call is made outside of vmap."""
    guides = make()
    elbo = pre.TraceEstimator_ELBO(num_particles=3, vectorize_particles="vmap")
    for _ in range(2):
        elbo.loss_and_grads(normal_model, guides)
    assert [way.mode for way in elbo._ways] == ["vmap"]


@pytest.mark.parametrize("mode", [True, "vmap"])
def test_enumeration_beside_alternatives(mode):
    """Dims of particles, of enumerated values and of alternatives, all at once."""

    def two():
        pyro.sample("a", dist.Bernoulli(logits=pyro.param("l", tensor(0.2))))
        pyro.sample("b", dist.Bernoulli(logits=pyro.param("k", tensor(-0.4))))

    def model():
        a = pyro.sample("a", dist.Bernoulli(tensor(0.3)))
        b = pyro.sample("b", dist.Bernoulli(tensor(0.4)))
        pyro.sample("x", dist.Normal(a + 2 * b, 1.0), obs=tensor(1.5))

    estimators = {"a": pre.DisARM(), "b": pre.Enumeration()}
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=3, vectorize_particles=mode)
    samples = gradients(elbo, model, two, ["l", "k"], 200)
    assert [way.mode for way in elbo._ways] == [mode]
    logits = torch.tensor([0.2, -0.4], dtype=torch.float64, requires_grad=True)
    loss = tensor(0.0)
    for a in (0.0, 1.0):
        for b in (0.0, 1.0):
            values = torch.tensor([a, b], dtype=torch.float64)
            log_q = dist.Bernoulli(logits=logits).log_prob(values).sum()
            log_p = dist.Bernoulli(torch.tensor([0.3, 0.4]).double()).log_prob(values).sum()
            log_p = log_p + dist.Normal(tensor(a + 2 * b), 1.0).log_prob(tensor(1.5))
            loss = loss + log_q.exp() * (log_q - log_p)
    assert_mean(samples, torch.cat([loss.detach().reshape(1), *torch.autograd.grad(loss, logits)]))


FAILING = {
    "index": lambda z: z.flip(0)[torch.arange(5, -1, -1)],
    "unpacking": lambda z: torch.stack([2 * element for element in _six(z)]) / 2,
    "dot": lambda z: z + 0 * torch.dot(z, torch.ones(6, dtype=torch.float64)),
    "matmul": lambda z: torch.eye(6, dtype=torch.float64) @ z,
}


def _six(z):
    a, b, c, d, e, f = z
    return a, b, c, d, e, f


@pytest.mark.parametrize("where", ["guide", "model"])
@pytest.mark.parametrize("form", FAILING)
def test_programs_that_fail_for_enumerated_values(form, where):
    """One particle, and yet several values at once: vmap runs what fails for these."""

    def plate():
        return pyro.plate("d", 6)

    def six():
        with plate():
            logits = pyro.param("l", torch.linspace(-1, 1, 6, dtype=torch.float64))
            z = pyro.sample("z", dist.Bernoulli(logits=logits))
            if where == "guide":
                pyro.sample("w", dist.Bernoulli(logits=FAILING[form](z)))

    def model():
        with plate():
            z = pyro.sample("z", dist.Bernoulli(tensor(0.4)))
            if where == "guide":
                z = pyro.sample("w", dist.Bernoulli(tensor(0.4)))
            loc = FAILING[form](z) if where == "model" else z
            pyro.sample("x", dist.Normal(loc, 1.0), obs=torch.linspace(0, 1, 6, dtype=torch.float64))

    losses = []
    for mode in (True, False):
        elbo = pre.TraceEstimator_ELBO(pre.Enumeration(), vectorize_particles=mode)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            losses.append(gradients(elbo, model, six, ["l"], 2))
        assert len(caught) == (mode is True)
        assert [way.mode for way in elbo._ways] == ["vmap" if mode else False]
    torch.testing.assert_close(*losses)

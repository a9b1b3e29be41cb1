"""Values of probability 0 in guide and model: as if they had been removed by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_reparam_ext as pre

from .impossible import CLASSES, NAMES, ROWS, Impossible
from .registry import REGISTRY
from .sampling import gradients
from .slow import one_in
from .statistics import assert_mean

PARTICLES, CALLS = 200, 20
DISCRETE = [label for label in REGISTRY if "Bernoulli" in REGISTRY[label].families]
BIASED = [label for label in DISCRETE if not REGISTRY[label].make().unbiased]
UNBIASED = [label for label in DISCRETE if label not in BIASED]


def served(labels):
    """Each estimator, with each kind of distribution that it serves."""
    return [
        (label, family)
        for label in labels
        for family in ("Bernoulli", "OneHotCategorical", "Categorical")
        if any(family in one for one in REGISTRY[label].families)
    ]


def cases(labels):
    """The same: how impossible values are said, and where, takes turns."""
    kinds = [(by, where) for by in ("logits", "probs") for where in ("both", "guide")]
    return [(*one, *kinds[turn % len(kinds)]) for turn, one in enumerate(served(labels))]


def draws(program, label, calls=CALLS, particles=PARTICLES):
    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(REGISTRY[label].make(), num_particles=particles)
    return gradients(elbo, program.model, program.guide, NAMES, calls)


def by_hand(program, label, calls=CALLS, particles=PARTICLES):
    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(REGISTRY[label].make(), num_particles=particles, max_plate_nesting=1)
    return gradients(elbo, program.smaller_model, program.smaller_guide, NAMES, calls)


def exact(program):
    return by_hand(program, "Enumeration", 1, 1)[0]


@pytest.mark.parametrize(("label", "family", "by", "where"), one_in(2, cases(UNBIASED)))
def test_mean_of_gradient(label, family, by, where):
    program = Impossible(family, by, where)
    assert_mean(draws(program, label), exact(program))


@pytest.mark.parametrize(("label", "family", "by", "where"), one_in(2, cases(BIASED)))
def test_relaxed_as_what_is_left(label, family, by, where):
    program = Impossible(family, by, where)
    difference = draws(program, label) - by_hand(program, label)
    assert_mean(difference, torch.zeros(difference.shape[1]))


def relaxed(**options):
    return lambda program: pre.reparam.AutoRelax(2.0, **options)(program)


def reparameterised(reparam, then=lambda program: program):
    """All latent sites; on the guide, of which the model knows nothing."""
    return lambda program: pyro.poutine.reparam(then(program), config=_on_latent(reparam))


def _on_latent(reparam):
    return lambda site: None if site["is_observed"] else reparam


REPARAMETERISERS = {
    "relaxed": (relaxed(), relaxed()),
    "relaxed, discrete score": (relaxed(score="discrete"), relaxed(score="discrete")),
    "straight-through": (relaxed(straight_through=True), relaxed(straight_through=True)),
    "Gumbel-Softmax": (
        reparameterised(pre.reparam.GumbelSoftmaxReparam(guide=True), relaxed()),
        relaxed(),
    ),
    "Gumbel-Softmax, straight-through": (
        reparameterised(pre.reparam.GumbelSoftmaxReparam(guide=True), relaxed(straight_through=True)),
        relaxed(straight_through=True),
    ),
    "Gumbel-max": (reparameterised(pre.reparam.GumbelMaxReparam(guide=True)), lambda model: model),
}


@pytest.mark.parametrize("by", ["logits", "probs"])
@pytest.mark.parametrize("family", ["Bernoulli", "OneHotCategorical"])
@pytest.mark.parametrize("label", one_in(2, REPARAMETERISERS, 1))
def test_reparameterised_as_what_is_left(label, family, by):
    on_guide, on_model = REPARAMETERISERS[label]
    program, rows = Impossible(family, by), []
    for plates, model, guide in (
        (1, program.model, program.guide),
        (0, program.smaller_model, program.smaller_guide),
    ):
        pyro.clear_param_store()
        options = {"num_particles": PARTICLES, "vectorize_particles": True, "max_plate_nesting": plates}
        # A hard value of an infinite logit has no finite log_prob in torch.
        hard = label == "Gumbel-max"
        elbo = pre.TraceEstimator_ELBO(**options) if hard else Trace_ELBO(**options)
        rows.append(gradients(elbo, on_model(model), on_guide(guide), NAMES, CALLS))
    assert_mean(rows[0] - rows[1], torch.zeros(rows[0].shape[1]))


@pytest.mark.parametrize("by", ["logits", "probs"])
@pytest.mark.parametrize(("label", "family"), one_in(2, served(DISCRETE)))
def test_what_the_model_alone_excludes_is_named(label, family, by):
    program = Impossible(family, by, "model")
    with pytest.raises(pre.EstimatorError, match="(?s)'z'.*probability 0.*exclude"):
        draws(program, label, calls=1, particles=20)
    pyro.clear_param_store()
    draws(Impossible(family, by, "both"), label, calls=1, particles=20)  # the remedy


@pytest.mark.parametrize(
    ("label", "family"),
    [
        (label, family)
        for label in ("Enumeration", "LocalExpectation", "DisARM", "REBAR")
        for family in ("Bernoulli", "OneHotCategorical")
        if family in REGISTRY[label].families
    ],
)
@pytest.mark.parametrize("by", ["logits", "probs"])
def test_in_single_precision(label, family, by):
    program, double = Impossible(family, by, "guide", torch.float32), Impossible(family, by, "guide")
    truth = exact(double)
    rows = draws(program, label)
    assert rows.isfinite().all()
    if label == "Enumeration":
        torch.testing.assert_close(rows.mean(0), truth, rtol=1e-4, atol=1e-5)
    elif label == "LocalExpectation" and family == "OneHotCategorical":
        guide = slice(1, 1 + ROWS * CLASSES)
        torch.testing.assert_close(rows[:, guide].mean(0), truth[guide], rtol=1e-4, atol=1e-5)
    else:
        assert_mean(rows, truth)


@pytest.mark.parametrize("label", one_in(4, UNBIASED))
def test_in_a_loop(label):
    program = Impossible("Bernoulli", "logits", "guide")
    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(REGISTRY[label].make(), num_particles=2, vectorize_particles=False)
    assert_mean(gradients(elbo, program.model, program.guide, NAMES, 100), exact(program))


@pytest.mark.parametrize("probs", [[0.0, 1.0, 0.4], [1.0, 0.0, 0.0]])
@pytest.mark.parametrize("make", [dist.Bernoulli, dist.OneHotCategorical, dist.Categorical])
@pytest.mark.parametrize("estimator", [pre.LocalExpectation(), pre.Enumeration()], ids=repr)
def test_infinite_costs_of_impossible_values(make, probs, estimator):
    """A cost that is infinite, or not a number, where the value can't be."""
    given = torch.tensor(probs, dtype=torch.float64)
    given = given if make is dist.Bernoulli else given / given.sum()
    bad = torch.where(given == 0, torch.inf, 1.0)

    def guide():
        weight = pyro.param("weight", torch.tensor(0.7, dtype=torch.float64))
        free = torch.where((given > 0) & (given < 1), given * weight, given)
        free = free if make is dist.Bernoulli else free / free.sum()
        fn = make(probs=free)
        pyro.sample("z", fn.to_event(1) if make is dist.Bernoulli else fn)

    def model():
        fn = make(probs=given)
        z = pyro.sample("z", fn.to_event(1) if make is dist.Bernoulli else fn)
        if make is dist.Categorical:
            cost = bad[z]
        else:
            cost = torch.where(z > 0, bad * z, 0.0).sum(-1)
        with pyro.validation_enabled(False):
            pyro.factor("cost", -cost)

    elbo = pre.TraceEstimator_ELBO(estimator)
    assert gradients(elbo, model, guide, ["weight"], 3).isfinite().all()


LEFT = ([0, 2], [1, 2, 3])
"""The classes of ``b`` that are possible, given the bit ``a`` that was drawn before."""


class Chain:
    """Which classes of ``b`` are possible depends on ``a``."""

    def parameters(self):
        generator = torch.Generator().manual_seed(5)
        shapes = {"logit": (), "phi": (2, CLASSES), "theta": (2, CLASSES)}
        return [
            pyro.param(name, torch.randn(shape, generator=generator, dtype=torch.float64))
            for name, shape in shapes.items()
        ]

    names = ("logit", "phi", "theta")

    def fn(self, logits, a):
        mask = torch.full((2, CLASSES), -torch.inf, dtype=torch.float64)
        for bit, left in enumerate(LEFT):
            mask[bit, left] = 0
        return dist.OneHotCategorical(logits=(logits + mask)[a.long()])

    def guide(self):
        logit, phi, _ = self.parameters()
        a = pyro.sample("a", dist.Bernoulli(logits=logit))
        pyro.sample("b", self.fn(phi, a))

    def model(self):
        _, _, theta = self.parameters()
        a = pyro.sample("a", dist.Bernoulli(torch.tensor(0.6, dtype=torch.float64)))
        b = pyro.sample("b", self.fn(torch.zeros(CLASSES, dtype=torch.float64), a))
        pyro.factor("cost", -(b * theta[a.long()]).sum(-1))

    def exact(self):
        pyro.clear_param_store()
        logit, phi, theta = parameters = self.parameters()
        q, p = torch.stack([-logit, logit]).sigmoid(), torch.tensor([0.4, 0.6], dtype=torch.float64)
        loss = torch.zeros((), dtype=torch.float64)
        for bit, left in enumerate(LEFT):
            log_q = phi[bit, left].log_softmax(-1)
            inner = log_q + torch.tensor(len(left), dtype=torch.float64).log() + theta[bit, left]
            loss = loss + q[bit] * ((q[bit] / p[bit]).log() + (log_q.exp() * inner).sum())
        gradients_ = torch.autograd.grad(loss, parameters)
        return torch.cat([loss.detach()[None], *(g.flatten() for g in gradients_)])


@pytest.mark.parametrize("second", ["ScoreFunction", "REBAR", "LocalExpectation", "Enumeration"])
@pytest.mark.parametrize("first", ["ScoreFunction", "DisARM", "LocalExpectation", "Enumeration"])
def test_possible_classes_that_depend_on_another_site(first, second):
    chain = Chain()
    estimators = {"a": REGISTRY[first].make(), "b": REGISTRY[second].make()}
    truth = chain.exact()
    pyro.clear_param_store()
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=PARTICLES)
    assert_mean(gradients(elbo, chain.model, chain.guide, chain.names, CALLS), truth)


@pytest.mark.parametrize("given", [{"probs": (0.0, 1.0)}, {"logits": (-torch.inf, torch.inf)}], ids=str)
@pytest.mark.parametrize("label", ["ScoreFunction", "LocalExpectation", "Enumeration"])
def test_certain_counts(label, given):
    """A Binomial site of probability 0 or 1 is a constant: the loss is what is observed."""
    ((name, ends),) = given.items()
    fn = dist.Binomial(3, **{name: torch.tensor(ends, dtype=torch.float64)}).to_event(1)

    def guide():
        weight = pyro.param("weight", torch.tensor(0.5, dtype=torch.float64))
        pyro.sample("z", fn)
        pyro.sample("free", dist.Binomial(3, logits=weight))

    def model():
        z = pyro.sample("z", fn)
        free = pyro.sample("free", dist.Binomial(3, logits=torch.tensor(0.5, dtype=torch.float64)))
        pyro.factor("cost", -(z[..., 0] + 10 * z[..., 1] + 0 * free))

    elbo = pre.TraceEstimator_ELBO({"z": REGISTRY[label].make(), "free": pre.Enumeration()})
    rows = gradients(elbo, model, guide, ["weight"], 2)
    torch.testing.assert_close(rows, torch.tensor([[30.0, 0.0]] * 2, dtype=torch.float64))

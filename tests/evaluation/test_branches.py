"""What an estimator asks for is looked at before it is run: errors name it and the remedy."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.protocol import Branch


@dataclass(frozen=True, eq=False)
class Asking(pre.ScoreFunction):
    """Asks for the ordinary value once more, or for what ``make`` says."""

    make: object = lambda values: (Branch.of(values),)
    count: int = 2

    def evaluations(self, fn):
        return self.count

    def alternatives(self, site):
        return self.make(site.value[None])


def step(**options):
    def guide():
        logits = pyro.param("logits", torch.zeros(3))
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Bernoulli(logits=logits))

    def model():
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.ones(3))

    return pre.TraceEstimator_ELBO(Asking(**options)).loss_and_grads(model, guide)


RIGHT = {
    "one": {},
    "none": {"make": lambda values: (), "count": 1},
    "weights": {"make": lambda x: (Branch.of(x, weights=torch.full((1, 3), 0.5)),)},
    "weights of size 1": {"make": lambda x: (Branch.of(x, weights=torch.full((1, 1), 0.5)),)},
    "order": {"make": lambda x: (Branch.of(x.clone().requires_grad_(), order=1),)},
}

WRONG = [
    ("a branch", {"make": Branch.of}, r"of type Branch, expected a tuple.*\(branch,\)"),
    ("None", {"make": lambda values: None}, r"of type NoneType.*\(\) for none"),
    ("a list", {"make": lambda x: [Branch.of(x)]}, "of type list, expected a tuple"),
    ("values", {"make": lambda x: (x,)}, "of type tuple, expected a tuple of Branch"),
    ("constant", {"make": lambda x: (Branch.of(x, order=1),)}, "order 1 .*require a gradient.*no_grad"),
    (
        "no tensor",
        {"make": lambda x: (Branch(1, lambda a, b: x[a:b], order=2),)},
        "order 2 with no tensor",
    ),
    (
        "a weight for each element",
        {"make": lambda x: (Branch.of(x, weights=torch.full((3,), 0.5)),)},
        r"weights of shape \(3,\), expected \(1, 3\).*leftmost",
    ),
    (
        "weights of another plate",
        {"make": lambda x: (Branch.of(x, weights=torch.full((1, 2), 0.5)),)},
        r"weights of shape \(1, 2\), expected \(1, 3\)",
    ),
    ("too few", {"count": 1}, "evaluations is 1, but 2 are run.*Return 2"),
    (
        "too many",
        {"make": lambda values: (), "count": 2},
        "evaluations is 2, but 1 are run.*let alternatives return 1",
    ),
]


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_runs(name):
    assert step(**RIGHT[name]) > 0


@pytest.mark.parametrize(("options", "match"), [c[1:] for c in WRONG], ids=[c[0] for c in WRONG])
def test_error(options, match):
    with pytest.raises(pre.EstimatorError, match=f"(?s)'z'.*Asking.*{match}"):
        step(**options)


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_in_every_mode(mode):
    elbo = pre.TraceEstimator_ELBO(Asking(count=3), vectorize_particles=mode)

    def program():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("logits", torch.zeros(()))))

    with pytest.raises(pre.EstimatorError, match="evaluations is 3"):
        elbo.loss_and_grads(program, program)

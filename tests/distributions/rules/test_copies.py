import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.distributions.rules.logits import parameter_of
from pyro_reparam_ext.reparam.pathwise import pathwise_twin
from pyro_reparam_ext.reparam.relax import RelaxReparam

# Of probabilities this small float32 keeps no digits in a logit of the others.
PROBS = torch.tensor([1e-30, 0.3, 0.9])
T = torch.tensor(0.7)
MAKERS = {
    "Bernoulli": lambda **p: dist.Bernoulli(**p),
    "OneHotCategorical": lambda **p: dist.OneHotCategorical(**p),
    "ContinuousBernoulli": lambda **p: dist.ContinuousBernoulli(**p),
    "RelaxedBernoulli": lambda **p: dist.RelaxedBernoulli(T, **p),
    "RelaxedOneHotCategorical": lambda **p: dist.RelaxedOneHotCategorical(T, **p),
}


@pytest.mark.parametrize("name", ["probs", "logits"])
@pytest.mark.parametrize("family", MAKERS)
def test_what_was_given_stays_given_once_the_other_is_read(family, name):
    parameter = PROBS if name == "probs" else torch.tensor([-3.0, 0.5, 2.0])
    fn = MAKERS[family](**{name: parameter})
    base = getattr(fn, "base_dist", fn)
    before = parameter_of(base)
    assert fn.logits is not None and fn.probs is not None  # both are cached now
    assert list(parameter_of(base)) == [name]
    assert parameter_of(base)[name] is before[name]


@pytest.mark.parametrize("family", ["ContinuousBernoulli", "RelaxedBernoulli"])
def test_twins_get_what_was_given(family):
    fresh, read = (MAKERS[family](probs=PROBS) for _ in range(2))
    assert read.logits is not None
    assert torch.equal(pathwise_twin(read).probs, pathwise_twin(fresh).probs)


def test_relaxed_ones_too():
    fn = dist.Bernoulli(probs=PROBS)
    assert fn.logits is not None
    assert torch.equal(RelaxReparam(0.5).relaxed("z", fn).probs, PROBS)

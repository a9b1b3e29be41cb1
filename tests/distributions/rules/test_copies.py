import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.copies import mapped, rows
from pyro_reparam_ext.distributions.rules.logits import parameter_of
from pyro_reparam_ext.reparam.pathwise import pathwise_twin
from pyro_reparam_ext.reparam.relax import RelaxReparam

from ..registry import REGISTRY
from .test_noise_map import CASES

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


def _assert_rows(fn, log_prob=True):
    value = fn.sample()
    part = rows(fn, 1, 3)
    assert type(part) is type(fn)
    assert part.batch_shape == (2, *fn.batch_shape[1:]) and part.event_shape == fn.event_shape
    assert part.sample((5,)).shape == (5, *value[1:3].shape)
    if log_prob:
        torch.testing.assert_close(part.log_prob(value[1:3]), fn.log_prob(value)[1:3])


def _directions(name):
    return name.split("-")[0] in ("VonMisesFisher", "PowerSpherical")


@pytest.mark.parametrize("name", CASES)
def test_rows(name):
    case = CASES[name]
    scored = name.split("-")[0] not in ("GumbelSinkhorn", "Wishart", "RelaxedSubset")
    factor = 1.0 if _directions(name) else torch.linspace(0.9, 1.1, 6, dtype=torch.float64)
    _assert_rows(case.at(factor, 6), scored)
    # Parameters without that dim.
    _assert_rows(case.at(1.0, 1).expand([6, 1]), scored)


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(torch.arange(5.0), 1.0).expand([4, 5]).to_event(1),
        dist.Normal(torch.arange(20.0).reshape(4, 5), 1.0).to_event(1).mask(torch.rand(4) < 0.5),
        dist.Normal(torch.arange(4.0).reshape(4, 1), 1.0).to_event(1).mask(False),
        dist.Gamma(torch.rand(4, 1), torch.rand(5)).mask(torch.rand(4, 5) < 0.5),
        dist.TransformedDistribution(
            dist.Normal(torch.arange(4.0), 1.0).expand([4]),
            [dist.transforms.AffineTransform(torch.arange(4.0), torch.rand(4) + 1)],
        ),
        dist.TransformedDistribution(
            dist.Normal(torch.zeros(4, 3), 1.0).to_event(1),
            [dist.transforms.LowerCholeskyAffine(torch.zeros(3), torch.eye(3))],
        ),
        dist.TransformedDistribution(
            dist.Beta(torch.rand(4) + 1, 2.0), [dist.transforms.AffineTransform(torch.rand(4), 2.0).inv]
        ),
        dist.MultivariateNormal(torch.zeros(4, 4), torch.eye(4)),
        dist.Delta(torch.rand(4, 3), event_dim=1),
        dist.Categorical(torch.rand(4, 4)),
        dist.Dirichlet(torch.rand(4, 4)).to_event(0),
        dist.LKJCholesky(3, torch.rand(4) + 1),
        dist.ZeroInflatedPoisson(torch.rand(4), gate=torch.rand(4)),
    ],
    ids=lambda fn: str(fn)[:40],
)
def test_rows_of_wrappers_and_transforms(fn):
    _assert_rows(fn)


def test_rows_of_what_was_given_as_probs():
    fn = dist.Bernoulli(probs=torch.tensor([0.0, 1.0, 0.5, 0.0]))
    assert fn.logits is not None
    assert list(parameter_of(rows(fn, 0, 2))) == ["probs"]


def test_mapped_reaches_every_tensor():
    fn = dist.TransformedDistribution(
        dist.Beta(torch.ones(3), 2.0), [dist.transforms.AffineTransform(torch.ones(3), 2.0)]
    )
    fn = fn.to_event(1).mask(torch.tensor(True))
    double = mapped(fn, lambda x: x.double() if x.is_floating_point() else x)
    assert double.sample().dtype == torch.float64 and fn.sample().dtype == torch.float32
    assert mapped(fn, lambda x: x) is fn


def subclass_of(fn):
    """An instance of a class whose constructor is one's own, with what ``fn`` has."""

    class Mine(type(fn)):
        def __init__(self):
            self.extra = 3

    mine = Mine.__new__(Mine)
    vars(mine).update(vars(fn), extra=3)
    return mine


# Of torch, whose expand is a call of the constructor.
@pytest.mark.parametrize("name", [n for n in REGISTRY if n != "VonMises"])
def test_expand_of_a_subclass_with_its_own_constructor_raises(name):
    fn = REGISTRY[name].at(REGISTRY[name].points[0])
    assert fn.expand((2,)).batch_shape == (2,)
    with pytest.raises(NotImplementedError, match=r"custom \.expand\(\) method"):
        subclass_of(fn).expand((2,))


def test_a_subclass_may_say_what_it_has_more():
    class Mine(pre.distributions.LogGamma):
        def __init__(self, *args):
            super().__init__(*args)
            self.extra = 3

        def _expand_into(self, new, batch_shape):
            super()._expand_into(new, batch_shape)
            new.extra = self.extra

    assert Mine(1.0, 1.0).expand((2,)).extra == 3

"""Log densities and CDFs at values that no draw takes, of every distribution."""

import math

import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions import Gamma, LogBeta, StraightThroughBernoulli
from pyro_reparam_ext.distributions.supports.bounds import bounds

from ...slow import one_in
from ..entry import tensors
from ..oracle import Univariate
from ..registry import REGISTRY

FAR = (-math.inf, -123.4, -1e-3, 0.0, 1.0, 1.001, 2.0, 1e3, math.inf)
SCORED = [n for n, entry in REGISTRY.items() if getattr(entry, "log_prob", True)]
KNOWN_CDF = [
    n for n in SCORED if isinstance(REGISTRY[n].oracle, Univariate) and "cdf" not in REGISTRY[n].unknown
]
HULL = {"StraightThroughBernoulli", "StraightThroughOneHotCategorical", "PlackettLuce"}
"""Discrete laws, whose log probability is extended linearly to relaxed values."""
ANGLES = {"VonMises"}
"""Whose CDF goes on over all turns, as scipy's does."""
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
OVERFLOWS = {"Truncated-gumbel"}
"""Whose base, a distribution of torch, has no finite gradient far out."""


def given(name, dtype=torch.float64):
    """At its points, or in single precision at the extremes."""
    entry = REGISTRY[name]
    far = dtype == torch.float32 and entry.extremes and name not in OVERFLOWS
    cases = entry.extremes if far else entry.points
    return entry, [{k: x.requires_grad_() for k, x in tensors(p, dtype).items()} for p in cases]


def filled(fn):
    """Values of one number, and which of them are outside of the support, on the first dim."""
    value = torch.stack([fn.sample() * 0 + x for x in FAR])
    inside = getattr(fn, "_scored", fn.support).check(value)
    return value.requires_grad_(), ~inside | value.isinf().reshape(len(FAR), -1).any(-1)


def is_end(fn, value):
    """Where a closed support ends, and the density may be 0."""
    if fn.event_shape:
        return (value == 0).flatten(value.dim() - len(fn.event_shape)).any(-1)
    low, high = bounds(fn)
    return sum((value == end for end in (low, high) if end is not None), torch.zeros_like(value)) > 0


@DTYPES
@pytest.mark.parametrize("name", SCORED)
def test_log_prob_is_minus_infinity_without_a_gradient(name, dtype):
    entry, cases = given(name, dtype)
    for leaves in cases:
        fn = entry.make(**leaves, validate_args=False)
        value, outside = filled(fn)
        log_prob = fn.log_prob(value)
        assert (log_prob[outside] == -math.inf).all(), leaves
        assert not log_prob.isnan().any(), leaves
        # Elsewhere it is where it overflows, and has a gradient that is no number either.
        none = outside | ((log_prob == -math.inf) & is_end(fn, value))
        value = value[none | (log_prob > -math.inf)].detach().requires_grad_()
        log_prob = entry.make(**leaves, validate_args=False).log_prob(value)
        gradients = torch.autograd.grad(
            log_prob[log_prob == -math.inf].sum(), [value, *leaves.values()], allow_unused=True
        )
        for g in gradients:
            assert g is None or (g == 0).all(), leaves


@DTYPES
@pytest.mark.parametrize("name", one_in(2, SCORED))
def test_a_value_outside_leaves_the_others_as_they_are(name, dtype):
    """To the last bit, values and gradients."""
    entry, (leaves, *_) = given(name, dtype)
    drawn = entry.make(**leaves, validate_args=False).sample((3,))
    with_others = torch.cat([drawn, drawn * 0 - 123.4, drawn * 0 + math.inf]).requires_grad_()
    alone = drawn.clone().requires_grad_()

    def scored(value):
        log_prob = entry.make(**leaves, validate_args=False).log_prob(value)
        # One by one: sums of other lengths are rounded otherwise.
        gradient = torch.autograd.grad(log_prob[:3].sum(), value, allow_unused=True)[0]
        return log_prob[:3], None if gradient is None else gradient[:3]

    for ours, expected in zip(scored(with_others), scored(alone), strict=True):
        assert (ours is None and expected is None) or torch.equal(ours, expected)


@pytest.mark.parametrize("name", [n for n in SCORED if not REGISTRY[n].hard])
def test_nan_stays_nan(name):
    entry, (leaves, *_) = given(name)
    fn = entry.make(**leaves, validate_args=False)
    assert fn.log_prob(fn.sample((2,)) * math.nan).isnan().all()


@DTYPES
@pytest.mark.parametrize("name", [n for n in KNOWN_CDF if n.split("-")[0] not in ANGLES])
def test_cdf_is_0_below_and_1_above(name, dtype):
    entry, cases = given(name, dtype)
    for leaves in cases:
        fn = entry.make(**leaves, validate_args=False)
        value, outside = filled(fn)
        cdf = fn.cdf(value)
        assert ((cdf >= 0) & (cdf <= 1)).all(), leaves
        assert (cdf.diff() >= -4 * torch.finfo(dtype).eps).all(), leaves
        assert (cdf[outside] == cdf[outside].round()).all(), leaves
        assert cdf[0] == 0 and cdf[-1] == 1
        if outside.any() and cdf.requires_grad:
            for g in torch.autograd.grad(
                cdf[outside].sum(), [value, *leaves.values()], allow_unused=True
            ):
                assert g is None or (g == 0).all(), leaves


@pytest.mark.parametrize("name", one_in(3, SCORED, 1))
def test_vmap(name):
    entry, (leaves, *_) = given(name)
    parameters = {k: x.detach() for k, x in leaves.items()}
    fn = entry.make(**parameters, validate_args=False)
    value = torch.stack([fn.sample(), fn.sample() * 0 - 123.4]).detach()
    torch.testing.assert_close(torch.func.vmap(fn.log_prob)(value), fn.log_prob(value))

    def score(parameters, value):
        return entry.make(**parameters, validate_args=False).log_prob(value).sum()

    slope = torch.func.vmap(torch.func.grad(score), in_dims=(None, 0))(parameters, value)
    assert all(x.isfinite().all() for x in slope.values())


@pytest.mark.parametrize(
    "name", one_in(3, ["Gamma", "Triangular", "RelaxedOneHotCategorical", "Wishart"])
)
def test_compiles_into_one_graph(name):
    entry, (leaves, *_) = given(name)

    def score(parameters, value):
        return entry.make(**parameters, validate_args=False).log_prob(value)

    value, _ = filled(entry.make(**leaves, validate_args=False))
    torch._dynamo.reset()
    compiled = torch.compile(score, backend="eager", fullgraph=True)(leaves, value.detach())
    torch.testing.assert_close(compiled, score(leaves, value.detach()))


def test_ends_belong_to_the_support_as_in_torch():
    ends = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(
        Gamma(1.0, 2.0).log_prob(ends[:1]), torch.distributions.Gamma(1.0, 2.0).log_prob(ends[:1])
    )
    fn = LogBeta(2.0, 1.0, validate_args=False)
    assert fn.log_prob(torch.tensor(0.0)) == -math.inf
    assert fn.cdf(torch.tensor(0.0)) == 1


@pytest.mark.parametrize("cls", [Gamma, pre.distributions.StudentT, pre.distributions.SkewNormal])
def test_integers_are_values(cls):
    fn = cls(*(1.5,) * len(cls.arg_constraints))
    for function in (fn.log_prob, fn.cdf):
        torch.testing.assert_close(function(torch.tensor(2)), function(torch.tensor(2.0)))


@pytest.mark.parametrize("name", one_in(3, SCORED))
def test_the_default_dtype_changes_nothing(name):
    entry, (leaves, *_) = given(name, torch.float32)
    fn = entry.make(**leaves, validate_args=False)
    value, _ = filled(fn)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert fn.log_prob(value.detach()).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


def test_relaxed_values_of_a_discrete_law_are_scored_and_no_others():
    fn = StraightThroughBernoulli(0.5, probs=torch.tensor(0.7), validate_args=False)
    zero, one, half, beyond = fn.log_prob(torch.tensor([0.0, 1.0, 0.5, 1.1]))
    torch.testing.assert_close(half, 0.5 * (zero + one))
    assert beyond == -math.inf

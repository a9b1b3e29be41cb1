"""Every error names the site and the remedy, and leaves parameters and store as they were."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.base import Estimator

BERNOULLI = lambda logit: dist.Bernoulli(logits=logit)  # noqa: E731


def _run(estimators, fn=BERNOULLI, plate=3, model_fn=None, outside=False, new=False, **options):
    """One step with a site ``z`` whose logits are the parameter ``p``."""

    def sample(fn):
        if plate is None:
            return pyro.sample("z", fn(pyro.param("p")))
        with pyro.plate("data", plate):
            return pyro.sample("z", fn(pyro.param("p").expand(plate)))

    def guide():
        if new:
            pyro.param("new", torch.zeros(()))
        sample(fn)

    def model():
        z = sample(model_fn or fn)
        if outside:
            pyro.sample("y", dist.Normal(z.sum(-1, keepdim=True), 1.0), obs=torch.ones(1))

    elbo = pre.TraceEstimator_ELBO(estimators, **options)
    return elbo.loss_and_grads(model, guide)


class _Shape(nn.Module):
    def forward(self):
        return torch.zeros(5)


class _Level(nn.Module):
    def forward(self):
        return torch.zeros(3)


def _bits(n):
    return lambda p: dist.Bernoulli(logits=p.expand(n)).to_event(1)


def _categorical(p):
    return dist.Categorical(logits=torch.stack([p, -p], -1))


CASES = [
    ("unserved", lambda: _run({"z": pre.DisARM()}, lambda p: dist.Normal(p, 1.0)), "'z'.*DisARM"),
    ("not pathwise", lambda: _run({"z": pre.Pathwise()}), "'z'.*Pathwise.*has_rsample"),
    ("name", lambda: _run({"y": pre.DisARM()}, new=True), "'y'.*no latent site.*'z'"),
    ("one particle", lambda: _run(pre.LeaveOneOut()), "'z'.*num_particles=2"),
    ("integer", lambda: _run({"z": pre.GumbelSoftmax(0.5)}, _categorical), "'z'.*OneHotCategorical"),
    ("integer REBAR", lambda: _run({"z": pre.REBAR()}, _categorical), "'z'.*OneHotCategorical"),
    ("empty plate", lambda: _run(None, plate=0), "plate 'data'.*empty.*Skip"),
    ("empty event", lambda: _run(None, _bits(0), None), "'z'.*empty.*Skip"),
    ("class", lambda: _run({"z": pre.DisARM}), "'z'.*instance"),
    ("class for all", lambda: _run(pre.DisARM), "instance"),
    ("from callable", lambda: _run(lambda site: "DisARM", new=True), "'z'.*instance"),
    ("support", lambda: _run(pre.Enumeration(), _bits(13), None), "'z'.*8,192.*LocalExpectation"),
    (
        "local, outside",
        lambda: _run(pre.LocalExpectation(), outside=True, new=True),
        "'z'.*'y'.*outside.*DisARM",
    ),
    (
        "enumerated, outside",
        lambda: _run(pre.Enumeration(), outside=True, new=True),
        "'z'.*'y'.*outside.*DisARM",
    ),
    ("temperature", lambda: pre.GumbelSoftmax(0.0), "temperature must be positive"),
    ("temperature ST", lambda: pre.StraightThroughGumbelSoftmax(-1.0), "must be positive"),
    ("samples", lambda: pre.GumbelRao(0.5, 0), "num_samples must be positive"),
    ("gap", lambda: pre.GappedStraightThrough(0.5, gap=0.0), "gap must be positive"),
    ("learned", lambda: pre.ReinMax(nn.Parameter(torch.ones(()))), "can't be learned.*schedule"),
    ("temperature REBAR", lambda: pre.REBAR(0.0), "temperature must be positive"),
    ("pairs", lambda: pre.DisARM(0), "num_pairs must be positive"),
    ("max_evaluations", lambda: pre.LocalExpectation(0), "max_evaluations must be positive"),
    ("baseline", lambda: pre.ScoreFunction("mean"), "baseline must be"),
    ("score", lambda: pre.GumbelSoftmax(1.0, "hard"), "score must be"),
    ("shape", lambda: _run(pre.ScoreFunction(_Shape()), new=True), r"'z'.*\(5,\).*baseline_input"),
    (
        "model",
        lambda: _run(pre.GumbelSoftmax(0.5), model_fn=lambda p: dist.Normal(p, 1.0), new=True),
        "'z'.*score by Normal.*Bernoulli",
    ),
]


def _normal(p):
    return dist.Normal(p, 1.0)


def _one_hot(p):
    return dist.OneHotCategorical(logits=torch.stack([p, -p], -1))


REMEDIES = {
    "unserved": lambda: _run({"z": pre.Pathwise()}, _normal),
    "not pathwise": lambda: _run({"z": pre.DisARM()}),
    "name": lambda: _run({"z": pre.DisARM()}),
    "one particle": lambda: _run(pre.LeaveOneOut(), num_particles=2),
    "integer": lambda: _run({"z": pre.GumbelSoftmax(0.5)}, _one_hot),
    "integer REBAR": lambda: _run({"z": pre.REBAR()}, _one_hot),
    "empty plate": lambda: _run(None, plate=1),
    "empty event": lambda: _run(None, _bits(1), None),
    "class": lambda: _run({"z": pre.DisARM()}),
    "class for all": lambda: _run(pre.DisARM()),
    "from callable": lambda: _run(lambda site: pre.DisARM()),
    "support": lambda: _run(pre.LocalExpectation(), _bits(13), None),
    "local, outside": lambda: _run(pre.DisARM(), outside=True),
    "enumerated, outside": lambda: _run(pre.DisARM(), outside=True),
    "temperature": lambda: _run(pre.GumbelSoftmax(0.1)),
    "temperature ST": lambda: _run(pre.StraightThroughGumbelSoftmax(0.1)),
    "samples": lambda: _run(pre.GumbelRao(0.5, 1)),
    "gap": lambda: _run(pre.GappedStraightThrough(0.5, gap=0.1)),
    "learned": lambda: _run(pre.ReinMax(pre.ExponentialDecay(1.5, 1.0, 0.1))),
    "temperature REBAR": lambda: _run(pre.REBAR(0.1)),
    "pairs": lambda: _run(pre.DisARM(1)),
    "max_evaluations": lambda: _run(pre.LocalExpectation(1)),
    "baseline": lambda: _run(pre.ScoreFunction("ema")),
    "score": lambda: _run(pre.GumbelSoftmax(1.0, "relaxed")),
    "shape": lambda: _run(pre.ScoreFunction(_Level())),
    "model": lambda: _run(pre.GumbelSoftmax(0.5), model_fn=BERNOULLI),
}
"""What each error says to do instead."""


def test_every_error_has_a_remedy():
    assert set(REMEDIES) == {name for name, _, _ in CASES}


@pytest.mark.parametrize("name", REMEDIES)
def test_remedy(name):
    pyro.param("p", torch.tensor(0.3))
    assert math.isfinite(REMEDIES[name]())


@pytest.mark.parametrize(("call", "match"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_error(call, match):
    parameter = pyro.param("p", torch.tensor(0.3))
    before = pyro.get_param_store().get_state()["params"].copy()
    with pytest.raises(pre.EstimatorError, match="(?s)" + match):
        call()
    assert list(pyro.get_param_store().keys()) == list(before)
    assert parameter.grad is None and parameter.item() == pytest.approx(0.3)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    ("estimator", "fn", "value"),
    [
        (None, BERNOULLI, math.nan),
        (pre.DisARM(), BERNOULLI, math.nan),
        (pre.REBAR(), BERNOULLI, math.nan),
        (None, lambda p: dist.Normal(p, 1.0), math.nan),
        (None, lambda p: dist.Normal(p, 1.0), math.inf),
    ],
    ids=["default", "DisARM", "REBAR", "Normal", "Normal-inf"],
)
def test_parameter_that_is_not_finite(estimator: Estimator | None, fn, value, validate):
    pyro.param("p", torch.tensor(value))
    with pyro.validation_enabled(validate):
        with pytest.raises(pre.EstimatorError, match="(?s)'z'.*'p'.*learning rate"):
            _run(estimator, fn, new=True)
    assert set(pyro.get_param_store().keys()) == {"p"}
    assert pyro.param("p").grad is None


def test_unknown_name_in_config_estimator():
    guide = pre.config_estimator(
        lambda: pyro.sample("z", BERNOULLI(torch.zeros(()))), {"y": pre.REBAR()}
    )
    with pytest.raises(pre.EstimatorError, match="'y'.*'z'"):
        guide()

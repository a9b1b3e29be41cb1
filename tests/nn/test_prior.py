"""Which parameters of a module get which prior."""

from __future__ import annotations

import re
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import pyro_reparam_ext as pre

WIDE, NARROW = dist.Normal(0.0, 10.0), dist.Normal(0.0, 0.1)


def module() -> nn.Sequential:
    head = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 1))
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), head)


def priors(prior):
    """The scale of each parameter's prior."""
    bnn = pre.nn.to_bayesian(module(), prior)
    trace = poutine.trace(bnn).get_trace(torch.randn(3, 4))
    return {
        name: node["fn"].base_dist.scale.mean().item()
        for name, node in trace.nodes.items()
        if node["type"] == "sample"
    }


ALL = [name for name, _ in module().named_parameters()]


@pytest.mark.parametrize(
    ("prior", "wide", "narrow"),
    [
        (WIDE, ALL, []),
        ({"*": WIDE}, ALL, []),
        ({"0.weight": WIDE}, ["0.weight"], []),
        (
            {"*.bias": NARROW, "*": WIDE},
            [x for x in ALL if "bias" not in x],
            [x for x in ALL if "bias" in x],
        ),
        ({"2": WIDE}, [x for x in ALL if x[0] == "2"], []),
        ({"2.1": NARROW, "2": WIDE}, ["2.0.weight", "2.0.bias"], ["2.1.weight", "2.1.bias"]),
        ({nn.BatchNorm1d: None, "*": WIDE}, [x for x in ALL if x[0] != "1"], []),
        ({nn.Linear: WIDE}, [x for x in ALL if x[0] != "1"], []),
        ({"2": lambda name, value: None, nn.Linear: WIDE}, ["0.weight", "0.bias"], []),
        (
            lambda name, value: WIDE if value.dim() > 1 else None,
            [x for x in ALL if "weight" in x and x[0] != "1"],
            [],
        ),
    ],
)
def test_the_first_match_holds(prior, wide, narrow):
    found = priors(prior)
    assert [name for name, scale in found.items() if scale == 10.0] == wide
    assert [name for name, scale in found.items() if scale < 1.0] == narrow
    assert len(found) == len(wide) + len(narrow)


def test_a_prior_around_the_value():
    source = nn.Linear(2, 3)
    bnn = pre.nn.to_bayesian(source, lambda name, value: dist.Normal(value, 1e-6))
    x = torch.randn(4, 2)
    torch.testing.assert_close(bnn(x), source(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("prior", "match"),
    [
        ({"3.weight": WIDE}, "prior for '3.weight' matches no parameter.*0.weight, 0.bias"),
        ({nn.Conv2d: WIDE, "*": WIDE}, "prior for Conv2d matches no parameter"),
        ({3: WIDE}, "prior has the key 3; expected a name"),
        ("normal", "prior of '0.weight' is str; expected a distribution"),
        (lambda name, value: 1.0, "prior of '0.weight' is float; expected a distribution"),
        (
            lambda name, value: dist.Normal(0.0, value.shape[1] ** -0.5),
            r"function raised IndexError for '0.bias', a parameter of shape \(5,\).*{'0.bias': None",
        ),
        (dist.Normal(torch.zeros(7), 1.0), r"prior of '0.weight' has shape \(7,\); expected.*\(5, 4\)"),
        (
            dist.Normal(torch.zeros(5, 3), 1.0).to_event(2),
            r"prior of '0.weight' has shape \(5, 3\); expected.*\(5, 4\)",
        ),
    ],
)
def test_errors(prior, match):
    with pytest.raises(pre.EstimatorError, match=match):
        pre.nn.to_bayesian(module(), prior)


def test_the_remedies_for_a_function_that_raises():
    def fan_in(name, value):
        return dist.Normal(0.0, value.shape[1] ** -0.5)

    without = {**dict.fromkeys(x for x in ALL if "bias" in x), "1.weight": None, "*": fan_in}
    assert len(priors(without)) == 3
    found = priors(lambda name, value: dist.Normal(0.0, value.shape[1:].numel() ** -0.5))
    assert found["0.weight"] == 0.5 and found["1.weight"] == found["0.bias"] == 1.0


def printed_priors() -> list[str]:
    """What the page on networks assigns to ``prior``."""
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    return re.findall(r"^>>> prior = (.*)$", text, re.MULTILINE)


SERVED = {
    "norms": lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.LayerNorm(5), nn.PReLU()),
    "group norm": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ConvTranspose2d(4, 2, 3)
    ),
    "embedding": lambda: nn.Embedding(5, 3),
    "bare layer": lambda: nn.Linear(4, 5),
    "no bias": lambda: nn.Linear(4, 5, bias=False),
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "recurrent": lambda: nn.LSTM(4, 5),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "noisy": lambda: pre.nn.NoisyLinear(3, 2),
    "number": lambda: nn.ParameterDict({"scale": nn.Parameter(torch.tensor(1.0))}),
}


@pytest.mark.parametrize("text", printed_priors())
@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_priors_on_the_page_serve_every_network(text, name, dtype):
    module = SERVED[name]().to(dtype)
    bnn = pre.nn.to_bayesian(module, eval(text, {"dist": dist, "nn": nn}))
    assert set(bnn.initial_values()) == {name for name, _ in module.named_parameters()}
    for parameter, value in module.named_parameters():
        weight = bnn._draw(parameter, value, bnn._rules[parameter])
        assert weight.shape == value.shape and weight.dtype == dtype


def test_the_page_has_priors():
    assert printed_priors()

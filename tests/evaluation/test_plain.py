"""Runs of a program at given values, in its own shapes."""

from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.errors import CannotVectorize
from pyro_reparam_ext.estimators.protocol import Draw
from pyro_reparam_ext.evaluation.plain import plain_run

from .forms import X, tensor

Z = tensor(0.0).new_tensor([1.0, 0.0, 1.0])


def guide():
    z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("l", torch.zeros(3).double())).to_event(1))
    pyro.sample("w", dist.Bernoulli(logits=z.sum()))


def model():
    z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.3).double()).to_event(1))
    w = pyro.sample("w", dist.Bernoulli(tensor(0.4)))
    assert z.shape == (3,) and w.shape == ()
    with pyro.plate("rows", 4):
        pyro.sample(
            "x", dist.Normal(z @ X.T if w.item() else X[:, 0], 1.0), obs=torch.zeros(4).double()
        )


def evaluated(model, guide):
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(), vectorize_particles=False)
    return elbo.evaluate(model, guide, (), {})[0].program


def test_values_densities_and_provenance():
    draws = {"z": Draw(Z), "w": Draw(tensor(1.0))}
    run = plain_run(evaluated(model, guide), draws, {})
    terms = {(term.side, term.name): term for term in run.terms.values()}
    assert set(terms) == {(side, name) for side in ("guide", "model") for name in "zw"} | {
        ("model", "x")
    }
    expected = dist.Normal(X[:, 0] + X[:, 2], 1.0).log_prob(torch.zeros(4).double())
    torch.testing.assert_close(terms["model", "x"].log_prob, expected)
    torch.testing.assert_close(
        terms["guide", "w"].log_prob, dist.Bernoulli(logits=tensor(2.0)).log_prob(tensor(1.0))
    )
    assert not terms["model", "x"].log_prob.requires_grad
    assert {"z", "w"} <= terms["model", "x"].upstream
    assert "z" in terms["guide", "w"].upstream and "w" not in terms["guide", "z"].upstream


def test_what_was_read_and_where():
    program = evaluated(model, guide)
    control = plain_run(program, {"z": Draw(Z), "w": Draw(tensor(1.0))}, {}).control
    assert set(control.lines) == {"w"}
    assert control.lines["w"].startswith(__file__)
    line = int(control.lines["w"].rsplit(":", 1)[1])
    assert "w.item()" in Path(__file__).read_text().splitlines()[line - 1]


def test_values_of_other_dims_of_size_1():
    draws = {"z": Draw(Z.reshape(1, 1, 3)), "w": Draw(tensor(1.0).reshape(1, 1))}
    run = plain_run(evaluated(model, guide), draws, {})
    assert all(term.log_prob.dim() <= 1 for term in run.terms.values())


def test_site_without_a_value():
    with pytest.raises(CannotVectorize, match="'w'.*some evaluations only") as caught:
        plain_run(evaluated(model, guide), {"z": Draw(Z)}, {})
    assert not caught.value.ever

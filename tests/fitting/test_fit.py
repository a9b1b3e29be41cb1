"""A fit in one call, on models whose posterior is known."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import pyro_reparam_ext as pre

X = torch.tensor([[1.0, 0.95], [0.4, 0.45], [-1.2, -1.2], [0.3, 0.25], [-0.6, -0.65]])
"""Columns that are nearly one, so that the weights are correlated."""
Y = torch.tensor([1.3, 0.2, -1.9, 0.6, -1.1])
NOISE = 0.5


def model(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    loc = (x * w).sum(-1)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(loc, NOISE), obs=y)


def posterior():
    """Mean and covariance of the weights, and the log evidence."""
    precision = torch.eye(2) + X.T @ X / NOISE**2
    covariance = precision.inverse()
    law = dist.MultivariateNormal(torch.zeros(len(X)), X @ X.T + NOISE**2 * torch.eye(len(X)))
    return covariance @ X.T @ Y / NOISE**2, covariance, float(law.log_prob(Y))


def fitted(guide, **options):
    pyro.set_rng_seed(0)
    options = {"compiled": False, "max_plate_nesting": 1, "progress": False} | options
    return pre.fit(model, guide, X, Y, **options)


QUICK = {"estimators": pre.Pathwise(), "optim": pyro.optim.Adam({"lr": 0.05})}


def test_a_guide_that_can_be_right():
    guide = AutoMultivariateNormal(model)
    fit = fitted(guide, **QUICK)
    mean, covariance, evidence = posterior()
    assert fit.ok and fit.run.converged
    assert abs(fit.elbo - evidence) < 5 * fit.elbo_error + 0.02
    found = guide.get_posterior()
    torch.testing.assert_close(found.mean, mean, atol=0.1, rtol=0)
    torch.testing.assert_close(found.covariance_matrix, covariance, atol=0.1, rtol=0)
    assert "Fit: ok" in repr(fit) and "ELBO" in repr(fit)
    tree = fit.to_datatree(num_samples=20)
    assert tree["training"]["loss"].sizes == {"step": len(fit.losses)}
    assert tree["log_likelihood"]["y"].shape == (1, 20, 5)


def test_a_guide_that_is_too_narrow_is_said_to_be():
    fit = fitted(AutoNormal(model), **QUICK)
    assert fit.run.converged and not fit.ok
    assert fit.elbo < posterior()[2] - 0.3
    assert "not ok" in repr(fit)


class Once:
    """A rule that stops when it looks first."""

    def next_look(self, step):
        return step + 100

    def observe(self, losses, iterates):
        return pre.Verdict(True, "seen")


def test_estimators_and_particles_are_selected():
    fit = fitted(AutoNormal(model), until=Once())
    assert all(isinstance(x, pre.Pathwise) for x in fit.estimators.values())
    assert fit.num_particles >= 1
    assert len(fit.losses) <= 300 and fit.run.reason == "seen"


def test_every_choice_can_be_given():
    optim = pyro.optim.SGD({"lr": 1e-4})
    fit = fitted(AutoNormal(model), estimators={}, num_particles=3, optim=optim, until=Once())
    assert isinstance(fit.svi, SVI) and fit.svi.optim is optim
    assert fit.num_particles == 3 and fit.estimators == {}
    assert not fit.check.ok


def test_batches_are_not_checked():
    def batched(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        loc = (x * w).sum(-1)
        with pyro.plate("data", 5, subsample=torch.arange(len(x))):
            pyro.sample("y", dist.Normal(loc, NOISE), obs=y)

    batches = [(X[:2], Y[:2]), (X[2:4], Y[2:4])]
    with pytest.warns(UserWarning, match="steps"):  # too few to converge
        fit = pre.fit(
            batched,
            AutoMultivariateNormal(batched),
            batches=batches,
            num_steps=100,
            compiled=False,
            max_plate_nesting=1,
        )
    assert fit.check is None and "batches" in fit.unchecked and not fit.ok
    losses = [[fit.svi.evaluate_loss(x, y) for _ in range(500)] for x, y in batches]
    means = -torch.tensor(losses).mean(1)
    spread = float((means[0] - means[1]).abs())
    assert abs(fit.elbo - float(means.mean())) < 5 * fit.elbo_error + 0.1
    assert fit.elbo_error > spread / 2 / 100**0.5 * 0.8  # the batches' own differences count
    with pytest.raises(pre.EstimatorError, match="fitted by batches"):
        fit.to_datatree()

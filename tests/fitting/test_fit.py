"""A fit in one call, on models whose posterior is known."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.infer.autoguide import AutoDelta, AutoNormal

import pyro_reparam_ext as pre

X = torch.tensor([[1.0, 0.95], [0.4, 0.45], [-1.2, -1.2], [0.3, 0.25], [-0.6, -0.65]])
"""Columns that are nearly one, so that the weights are correlated."""
APART = torch.tensor([[1.0, 0.0], [0.0, 0.5], [-1.2, 0.0], [0.0, 0.3], [-0.6, 0.0]])
"""Columns under which they are not."""
Y = torch.tensor([1.3, 0.2, -1.9, 0.6, -1.1])
NOISE = 0.5


def model(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    loc = (x * w).sum(-1)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(loc, NOISE), obs=y)


def posterior(x):
    """Mean and covariance of the weights, and the log evidence."""
    precision = torch.eye(2) + x.T @ x / NOISE**2
    covariance = precision.inverse()
    law = dist.MultivariateNormal(torch.zeros(len(x)), x @ x.T + NOISE**2 * torch.eye(len(x)))
    return covariance @ x.T @ Y / NOISE**2, covariance, float(law.log_prob(Y))


def fitted(guide, x=X, **options):
    pyro.set_rng_seed(0)
    options = {"compiled": False, "max_plate_nesting": 1, "progress": False} | options
    return pre.fit(model, guide, x, Y, **options)


class After:
    """A rule that stops after so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def next_look(self, step):
        return max(self.steps, step + 1)

    def observe(self, losses, iterates):
        return pre.Verdict(len(losses) >= self.steps, "seen")


def quick():
    """A learning rate that falls, and steps that are enough for it."""
    optim = pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.01 ** (1 / 1000)})
    return {
        "estimators": pre.Pathwise(),
        "num_particles": 8,
        "optim": optim,
        "until": After(1000),
    }


def test_a_guide_that_can_be_right():
    guide = AutoNormal(model)
    fit = fitted(guide, APART, **quick())
    mean, covariance, evidence = posterior(APART)
    assert fit.ok and fit.run.converged and len(fit.losses) == 1000
    assert abs(fit.elbo - evidence) < 5 * fit.elbo_error + 0.02
    torch.testing.assert_close(guide.locs.w, mean, atol=0.05, rtol=0)
    torch.testing.assert_close(guide.scales.w.square(), covariance.diagonal(), atol=0.03, rtol=0)
    assert "Fit: ok" in repr(fit) and "ELBO" in repr(fit)
    tree = fit.to_datatree(num_samples=20)
    assert tree["training"]["loss"].sizes == {"step": len(fit.losses)}
    assert tree["log_likelihood"]["y"].shape == (1, 20, 5)


def test_a_guide_that_is_too_narrow_is_said_to_be():
    fit = fitted(AutoNormal(model), **quick())
    assert fit.run.converged and not fit.ok
    assert fit.elbo < posterior(X)[2] - 0.3
    assert "not ok" in repr(fit)


def test_estimators_and_particles_are_selected():
    fit = fitted(AutoNormal(model), until=After(200))
    assert all(isinstance(x, pre.Pathwise) for x in fit.estimators.values())
    assert fit.num_particles >= 1
    assert len(fit.losses) == 200 and fit.run.reason == "seen"


def test_every_choice_can_be_given():
    optim = pyro.optim.SGD({"lr": 1e-4})
    fit = fitted(AutoNormal(model), estimators={}, num_particles=3, optim=optim, until=After(200))
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
            AutoNormal(batched),
            batches=batches,
            num_steps=100,
            compiled=False,
            max_plate_nesting=1,
        )
    assert fit.check is None and "batches" in fit.unchecked and not fit.ok
    losses = [[fit.svi.evaluate_loss(x, y) for _ in range(60)] for x, y in batches]
    means = -torch.tensor(losses).mean(1)
    spread = float((means[0] - means[1]).abs())
    assert abs(fit.elbo - float(means.mean())) < 5 * fit.elbo_error + 0.1
    assert fit.elbo_error > spread / 2 / 100**0.5 * 0.8  # the batches' own differences count
    with pytest.raises(pre.EstimatorError, match="fitted by batches"):
        fit.to_datatree()


def test_a_point_estimate_stops_by_its_loss_and_is_said_to_be_one():
    optim = pyro.optim.Adam({"lr": 0.05})
    fit = fitted(AutoDelta(model), estimators={}, optim=optim, num_steps=6000)
    assert fit.run.converged and fit.run.averaged is None and "ok" not in fit.check.advice
    assert "the loss is without noise and rests" in fit.run.reason and "R-hat is" not in repr(fit)
    torch.testing.assert_close(fit.guide.median()["w"], posterior(X)[0], atol=1e-2, rtol=0)


def test_a_tempered_objective_is_said_to_be_one():
    bnn = pre.nn.to_bayesian(torch.nn.Linear(2, 1), dist.Normal(0.0, 1.0))

    def network(x, y):
        loc = bnn(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, NOISE), obs=y)

    def run():
        options = {"estimators": {}, "until": After(200), "max_plate_nesting": 1, "progress": False}
        return pre.fit(network, AutoNormal(network), X, Y, compiled=False, **options)

    with pre.nn.kl_weight(bnn, 0.25):
        fit = run()
    said = "the ELBO is of the tempered objective with weight 0.25"
    assert said in fit.objective and said in repr(fit.check) and repr(fit).count(said) == 1
    assert "tempered" not in repr(run())

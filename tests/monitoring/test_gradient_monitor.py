"""The noise of a gradient along training, on a program where it is known."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule

import pyro_reparam_ext as pre

from ..compiled.steps import GraphSVI
from ..statistics import assert_z

SCALE = 0.6


def model(data):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=data)


def guide(data):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), SCALE))


def gradient(loc, data):
    """The derivative of ``z²/2 + (z - data)²/2``, of which the rest of the loss moves with no loc."""
    return 2 * loc - data


VARIANCE = (2 * SCALE) ** 2
"""Of the pathwise gradient in loc: it is ``2 z - data``."""
DATA = torch.tensor(3.0)


def svi(kind=SVI, elbo=None, optim=None):
    optim = optim or pyro.optim.Adam({"lr": 0.1})
    return kind(model, guide, optim, elbo or pre.TraceEstimator_ELBO())


@pytest.mark.parametrize("kind", [SVI, GraphSVI])
@pytest.mark.parametrize("elbo", [pre.TraceEstimator_ELBO(), Trace_ELBO()], ids=["ours", "Pyro's"])
def test_signal_and_noise(kind, elbo):
    training = svi(kind, elbo)
    monitor, draws = pre.GradientMonitor(training, num_draws=2000, every=3), 2000
    locs = []
    for step in range(1, 10):
        training.step(DATA)
        monitor.step(DATA)
        if step % 3 == 0:
            locs.append(pyro.param("loc").item())
    table = monitor.summary()
    assert table["step"].tolist() == [3, 6, 9]
    assert table["parameter"].unique().tolist() == ["loc"]
    for loc, row in zip(locs, table.itertuples(), strict=True):
        assert_z((row.variance / VARIANCE - 1) / (2 / draws) ** 0.5)
        exact = gradient(loc, DATA.item())
        error = 2 * abs(exact) * (VARIANCE / draws) ** 0.5
        assert_z((row.squared_norm - exact**2) / error)
        assert row.snr == pytest.approx(row.squared_norm / row.variance)


def test_it_leaves_training_as_it_is():
    found = []
    for every in (2, 10**9):
        pyro.clear_param_store()
        torch.manual_seed(0)
        training = svi()
        monitor = pre.GradientMonitor(training, every=every)
        for _ in range(6):
            training.step(DATA)
            monitor.step(DATA)
        found.append((pyro.param("loc").item(), torch.rand(()).item()))
    assert found[0] == found[1]


def test_the_moments_of_adam():
    """Of a gradient that stays, training at a learning rate of next to nothing."""
    data = torch.full((400,), 0.8)

    def many():
        z = pyro.sample("z", dist.Normal(torch.zeros(400), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=data)

    def locs():
        pyro.sample("z", dist.Normal(pyro.param("locs", torch.zeros(400)), SCALE).to_event(1))

    optim = pyro.optim.Adam({"lr": 1e-12, "betas": (0.95, 0.995)})
    training = SVI(many, locs, optim, pre.TraceEstimator_ELBO())
    monitor = pre.GradientMonitor(training, every=800)
    for _ in range(800):
        training.step()
        monitor.step()
    (row,) = monitor.summary().itertuples()
    assert row.running_snr == pytest.approx(0.8**2 / VARIANCE, rel=0.1)
    assert row.running_snr == pytest.approx(row.snr, rel=0.15)


class Model(PyroModule):
    def forward(self, data):
        model(data)


def test_a_loop_of_ones_own():
    auto = AutoNormal(model)
    auto(DATA)
    loss = pre.TraceEstimator_ELBO()(Model(), auto)
    optimizer = torch.optim.Adam(auto.parameters(), lr=0.05)
    monitor = pre.GradientMonitor(loss, every=2, optimizer=optimizer)
    for _ in range(4):
        optimizer.zero_grad()
        loss(DATA).backward()
        gradients = [p.grad.clone() for p in auto.parameters()]
        optimizer.step()
        monitor.step(DATA)
        assert all(map(torch.equal, gradients, (p.grad for p in auto.parameters())))
    table = monitor.summary()
    assert set(table["step"]) == {2, 4}
    assert table["running_snr"].notna().all()


def test_it_takes_no_more_than_its_share():
    training = svi()
    monitor = pre.GradientMonitor(training, overhead=1e-9)
    for _ in range(30):
        training.step(DATA)
        monitor.step(DATA)
    assert len(monitor.summary()["step"].unique()) == 1  # the first, which tells what one takes


def test_exports():
    training = svi()
    monitor = pre.GradientMonitor(training, every=1)
    for _ in range(3):
        training.step(DATA)
        monitor.step(DATA)
    dataset = monitor.to_dataset()
    assert dict(dataset.sizes) == {"step": 3, "parameter": 1}
    assert {"variance", "squared_norm", "snr", "running_snr"} == set(dataset.data_vars)
    assert monitor.to_datatree()["monitor"].to_dataset().identical(dataset)

    class Writer:
        written = {}

        def add_scalar(self, name, value, step):
            self.written[name, step] = value

    monitor.to_tensorboard(Writer())
    assert Writer.written["gradient/variance/loc", 2] == dataset["variance"].sel(
        step=2, parameter="loc"
    )


def test_noise_that_grows_is_named():
    """Its scale does, while the gradient stays where it is."""
    noise = [1.0]

    def noisy():
        z = pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))
        pyro.factor("cost", noise[0] * z.square().sin(), has_rsample=True)

    def flat():
        pyro.sample("z", dist.Normal(0.0, 10.0))

    training = SVI(flat, noisy, pyro.optim.SGD({"lr": 1e-9}), pre.TraceEstimator_ELBO())
    monitor = pre.GradientMonitor(training, every=1)
    training.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.step()
    noise[0] = 1000.0
    training.step()
    with pytest.warns(UserWarning, match="step 2: the gradient of parameter 'loc' .of site 'z'"):
        monitor.step()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pre.GradientMonitor(Trace_ELBO()), "was given Trace_ELBO; expected an SVI"),
        (lambda: pre.GradientMonitor(svi(), num_draws=1), "num_draws=1"),
        (lambda: pre.GradientMonitor(svi(), every=0), "every=0"),
    ],
)
def test_errors(make, match):
    with pytest.raises(pre.EstimatorError, match=match):
        make()

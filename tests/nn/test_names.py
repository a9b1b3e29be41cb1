"""Several networks in one program, and one that is called several times."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from torch import nn

import pyro_reparam_ext as pre

NORMAL = dist.Normal(0.0, 1.0)
X, Y = torch.linspace(-1.0, 1.0, 15).reshape(5, 3), torch.linspace(0.0, 1.0, 5)


def network():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))


def two(**names):
    """Two networks, of which other layers have priors."""
    a = pre.nn.to_bayesian(network(), {"0": NORMAL}, name=names.get("a", ""))
    b = pre.nn.to_bayesian(network(), {"2": NORMAL}, name=names.get("b", ""))
    return a, b


def model_of(a, b):
    def model():
        loc, scale = a(X).squeeze(-1), b(X).squeeze(-1).exp()
        with pyro.plate("data", 5):
            pyro.sample("y", dist.Normal(loc, scale), obs=Y)

    return model


def moved(model, *networks, guide=None, elbo=None):
    """Whether each of the parameters moves in training."""
    guide = guide or AutoNormal(model)
    before = [{k: v.clone() for k, v in net.named_parameters()} for net in networks]
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), elbo or Trace_ELBO())
    for _ in range(3):
        svi.step()
    pairs = zip(networks, before, strict=True)
    return [bool((v != old[k]).any()) for net, old in pairs for k, v in net.named_parameters()]


ELBOS = [Trace_ELBO, pre.TraceEstimator_ELBO]


@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("names", [{}, {"a": "same", "b": "same"}])
def test_two_networks_of_one_name(elbo, names):
    """Their parameters would be taken for one another's."""
    a, b = two(**names)
    with pytest.raises(pre.EstimatorError, match=r"\$\$\$4.weight'.*name='a'.*clear_param_store"):
        moved(model_of(a, b), a, b, elbo=elbo())


@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("names", [{"a": "mean", "b": "sd"}, {"b": "sd"}])
def test_with_a_name_for_each_all_move(elbo, names):
    a, b = two(**names)
    found = moved(model_of(a, b), a, b, elbo=elbo())
    assert len(found) == 8 and all(found)


def test_torch_s_optimisers_go_by_no_names():
    with pyro.settings.context(module_local_params=True):
        a, b = two()
        model = model_of(a, b)
        loss = Trace_ELBO()(model, AutoNormal(model))
        loss().backward()
    assert all((x.grad != 0).any() for net in (a, b) for x in net.parameters())


def test_attributes_of_a_module_have_names():
    class Both(PyroModule):
        def __init__(self):
            super().__init__()
            self.a, self.b = two()

        def forward(self):
            return model_of(self.a, self.b)()

    both = Both()
    assert all(moved(both, both.a, both.b))


def test_one_in_the_model_and_one_in_the_guide():
    a, b = two()

    def model():
        z = pyro.sample("z", NORMAL)
        pyro.sample("y", dist.Normal(z, 1.0), obs=Y[0])

    def model_with_a():
        poutine.block(a)(X)
        model()

    def guide():
        pyro.sample("z", dist.Normal(b.module(X).mean(), 1.0))

    assert all(moved(model, guide=guide))
    with_b = lambda: (poutine.block(b, hide_types=["sample"])(X), guide())  # noqa: E731
    with_a = lambda: (poutine.block(a, hide_types=["sample"])(X), model())  # noqa: E731
    with pytest.raises(pre.EstimatorError, match="name='a'"):
        moved(with_a, guide=with_b)


def single(net):
    def model():
        loc = net(X).squeeze(-1)
        with pyro.plate("data", 5):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=Y)

    return model


def test_a_network_after_another():
    """What is left of the first in the store would be trained; and both remedies can be followed."""
    old, new = two()
    assert all(moved(single(old), old))
    with pytest.raises(pre.EstimatorError, match="clear_param_store"):
        moved(single(new), new)
    pyro.clear_param_store()
    assert all(moved(single(new), new))


def test_a_network_of_a_saved_store(tmp_path):
    old = pre.nn.to_bayesian(network(), {"0": NORMAL})
    moved(single(old), old)
    pyro.get_param_store().save(tmp_path / "store")
    pyro.clear_param_store()
    pyro.get_param_store().load(tmp_path / "store")
    new = pre.nn.to_bayesian(network(), {"0": NORMAL})
    with pytest.raises(pre.EstimatorError, match=r"loaded.*pyro.module\('module', network.module, upd"):
        moved(single(new), new)
    pyro.module("module", new.module, update_module_params=True)
    torch.testing.assert_close(new.module[4].weight, old.module[4].weight)
    assert all(moved(single(new), new))


@pytest.mark.parametrize("prior", [NORMAL, {"0": NORMAL}])
def test_one_network_called_twice(prior):
    """An error in a plain function, and each of its remedies."""
    net = pre.nn.to_bayesian(network(), prior)

    def twice():
        loc = (net(X) + net(2 * X)).squeeze(-1)
        with pyro.plate("data", 5):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=Y)

    with pytest.raises(pre.EstimatorError, match=r"site '0.weight'.*name='a'.*torch.cat.*PyroModule"):
        AutoNormal(twice)()

    def once():
        first, second = net(torch.cat([X, 2 * X])).squeeze(-1).chunk(2)
        with pyro.plate("data", 5):
            pyro.sample("y", dist.Normal(first + second, 1.0), obs=Y)

    class Twice(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self):
            loc = (self.net(X) + self.net(2 * X)).squeeze(-1)
            with pyro.plate("data", 5):
                pyro.sample("y", dist.Normal(loc, 1.0), obs=Y)

    for program in (once, Twice()):
        assert all(moved(program, net))


def test_two_networks_with_sites_of_one_name():
    a, b = (pre.nn.to_bayesian(network(), NORMAL) for _ in range(2))
    with pytest.raises(pre.EstimatorError, match="site '0.weight'.*give each a name"):
        AutoNormal(model_of(a, b))()
    a, b = (pre.nn.to_bayesian(network(), NORMAL, name=name) for name in "ab")
    AutoNormal(model_of(a, b))()


def test_other_errors_pass():
    def prior(name, w):
        if poutine.runtime.am_i_wrapped() and "b" in name and len(calls) > 4:
            raise RuntimeError("my own")
        calls.append(name)
        return NORMAL

    calls = []
    net = pre.nn.to_bayesian(nn.Linear(3, 1), prior)
    with pytest.raises(RuntimeError, match="^my own"):
        while True:
            poutine.trace(net)(X)

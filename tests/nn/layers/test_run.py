"""The life of a random weight: from the sample site to the end of the model."""

from __future__ import annotations

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import nn

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn.layers.weight import RandomWeight

from ..mean_field import CONTEXTS, MeanField, flat

X = torch.ones(5, 3, dtype=torch.float64)
MASK = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
BIAS = torch.ones(2, 3, dtype=torch.float64)


def outputs(model, guide, context):
    trace = poutine.trace(guide).get_trace(X)
    with context:
        return poutine.replay(model, trace=trace)(X)


def is_noisy(output) -> bool:
    """Whether the rows of equal inputs differ."""
    return len(output[:, 0].unique()) > 1


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_a_weight_is_plain_once_the_model_has_ended(context):
    guide = MeanField({"w": (2, 3)})
    with context():
        trace = poutine.trace(guide).get_trace(X)
        model = poutine.trace(poutine.replay(lambda x: flat("w", (2, 3)), trace=trace)).get_trace(X)
        weight = model.nodes["w"]["value"]
        assert isinstance(weight, RandomWeight)
        product = F.linear(X, weight)
    assert type(product) is torch.Tensor
    torch.testing.assert_close(product, X @ trace.nodes["w"]["value"].T)
    assert model.nodes["w"]["fn"].log_prob(weight).shape == ()


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_the_guide_may_run_outside_of_the_context(context):
    """The law is the trace's, so that the model alone can be decorated."""
    guide = MeanField({"w": (2, 3)})
    model = context()(lambda x: F.linear(x, flat("w", (2, 3))))
    trace = poutine.trace(guide).get_trace(X)
    assert is_noisy(poutine.replay(model, trace=trace)(X))
    assert not is_noisy(poutine.replay(lambda x: F.linear(x, flat("w", (2, 3))), trace=trace)(X))


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_each_run_has_noise_of_its_own(context):
    """Also where one replayed model is run again and again."""
    guide = MeanField({"w": (2, 3)})
    trace = poutine.trace(guide).get_trace(X)
    model = poutine.replay(lambda x: F.linear(x, flat("w", (2, 3))), trace=trace)
    with context():
        first, second = model(X), model(X)
    assert (first != second).any()


@pytest.mark.parametrize(("inner", "values"), [("local", 200), ("flipout", 8)])
def test_the_innermost_context_holds(inner, values):
    """Flipout has a value per combination of the signs of three inputs."""
    guide, x = MeanField({"w": (1, 3)}), X[:1].expand(200, 3)
    trace = poutine.trace(guide).get_trace(x)
    (outer,) = (context for name, context in CONTEXTS.items() if name != inner)
    with outer(), CONTEXTS[inner]():
        output = poutine.replay(lambda x: F.linear(x, flat("w", (1, 3))), trace=trace)(x)
    assert len(output.mul(1e9).round().unique()) == values


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_local_latents_and_scales_are_no_weights(context):
    """Sites in plates, scalars, and arithmetic of weights among themselves keep their meaning."""

    def model(x):
        tau = pyro.sample("tau", dist.ImproperUniform(dist.constraints.real, (), ()))
        w, v = flat("w", (2, 3)), flat("v", (2, 3))
        sigma = (0.1 * v).exp()
        assert type(tau) is torch.Tensor
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))
            assert type(z) is torch.Tensor
        pyro.sample("u", dist.Normal(w, sigma).to_event(2), obs=torch.zeros(2, 3).double())
        return float((w * v).sum().detach()), w.shape, (w - v).detach()

    guide = MeanField({"w": (2, 3), "v": (2, 3), "tau": ()})
    with context():
        trace = poutine.trace(guide).get_trace(X)
        product, shape, difference = poutine.replay(model, trace=trace)(X)
    w, v = (trace.nodes[name]["value"] for name in ("w", "v"))
    assert product == pytest.approx(float((w * v).sum().detach()))
    assert shape == (2, 3)
    assert (difference == (w - v).detach()).all()


@pytest.mark.parametrize("context", CONTEXTS.values())
@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (lambda x, w: F.linear(x, w.exp()), "linear"),
        (lambda x, w: F.linear(x, w * w), "linear"),
        (lambda x, w: torch.cdist(x, w), "cdist"),
        (lambda x, w: torch.cdist(x[:1], w), "cdist"),
        (lambda x, w: w.gather(0, torch.zeros(2, 3).long()), "gather"),
        (lambda x, w: torch.cat([w, x]), "cat"),
        (lambda x, w: F.linear(x, w[:, [0, 0, 1]]), "linear"),
        (lambda x, w: F.linear(x, w.clone().fill_diagonal_(0.0)), "linear"),
        (lambda x, w: F.linear(x, nn.Parameter(BIAS) * w[0]), "mul"),
        (lambda x, w: F.linear(nn.Parameter(BIAS), w), "linear"),
        (lambda x, w: torch.einsum("ni,oi->no", x, w), "einsum"),
    ],
)
def test_what_is_not_served(context, layer, name):
    """An error that names site, layer and remedy; else one warning, and the value as it is."""
    guide = MeanField({"w": (2, 3)})

    def model(x):
        return layer(x, flat("w", (2, 3)))

    class_name = context.__name__
    with pytest.raises(
        pre.EstimatorError, match=f"(?s)site 'w'.*{class_name} can't serve {name}.*strict=False"
    ):
        outputs(model, guide, context())
    trace = poutine.trace(guide).get_trace(X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with context(strict=False):
            poutine.replay(model, trace=trace)(X)
    (warning,) = caught
    assert f"{class_name} left the noise" in str(warning.message)
    assert f"{name} at 'w'" in str(warning.message)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("context", CONTEXTS.values())
@pytest.mark.parametrize(
    "layer",
    [
        lambda x, w: F.linear(F.linear(x, w), w.T),
        lambda x, w: F.linear(x, w) + F.linear(x, w[:, [1, 0, 2]]),
        lambda x, w: F.linear(x, w * MASK) + F.linear(x, w * (1 - MASK)),
        lambda x, w: F.linear(x[:, :2], BIAS[:, :2], w[:, 0]) + F.linear(x, w),
        lambda x, w: F.linear(x, w, w[:, 0]) + F.linear(x, w),
        lambda x, w: F.linear(x, w) + F.linear(x, w.exp()),
        lambda x, w: F.linear(x[:, None], w)[:, 0] + F.linear(x, w),
        lambda x, w: F.embedding(torch.zeros(5).long(), w)[:, :2] + F.linear(x, w),
        lambda x, w: F.linear(x, w) * float(w.detach().sum()),
        lambda x, w: F.linear(x, w[:1]) * F.linear(w[:1], x[:1]),
    ],
)
def test_uses_whose_joint_law_is_not_known(context, strict, layer):
    """One would be served and the other see the draw: biased, so that it raises in any case."""

    def model(x):
        return layer(x, flat("w", (2, 3)))

    with pytest.raises(pre.EstimatorError, match="site 'w'"):
        outputs(model, MeanField({"w": (2, 3)}), context(strict=strict))


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_a_scale_of_the_data_beside_a_layer(context):
    """The law of the data has the weight itself as a parameter, and what a layer makes of it."""

    def model(x):
        w = flat("w", (3,))
        loc = x * w
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(loc, w.exp()).to_event(1), obs=x)

    with pytest.raises(pre.EstimatorError, match="site 'w'.*the law of 'y' sees the draw"):
        outputs(model, MeanField({"w": (3,)}), context())


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_no_gradient_of_a_function_of_its_own(context):
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            return 2 * F.linear(x, w)

        @staticmethod
        def backward(ctx, gradient):
            return None, None

    def model(x):
        return Twice.apply(x, flat("w", (2, 3)))

    with pytest.raises(pre.EstimatorError, match="site 'w'.*gradients are off"):
        outputs(model, MeanField({"w": (2, 3)}), context())


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_a_site_that_is_blocked_from_the_replay_is_plain(context):
    """Its value is the prior's, whatever the guide says."""

    def model(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(2, 3).double(), 1.0).to_event(2))
        assert type(w) is torch.Tensor
        return F.linear(x, w)

    trace = poutine.trace(MeanField({"w": (2, 3)})).get_trace(X)
    with context(), poutine.replay(trace=trace), poutine.block(hide=["w"]):
        assert not is_noisy(model(X))


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_weights_in_plates_are_not_met_in_silence(context):
    def model(x):
        with pyro.plate("out", 2):
            w = pyro.sample("w", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))
        return F.linear(x, w)

    def guide(x):
        with pyro.plate("out", 2):
            pyro.sample("w", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))

    trace = poutine.trace(guide).get_trace(X)
    with pytest.warns(UserWarning, match="met no weight.*outside of plates"), context():
        poutine.replay(model, trace=trace)(X)


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_enumerated_sites_before_a_layer(context):
    @config_enumerate
    def model(x):
        w = flat("w", (2, 3))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5).expand([len(x)]))
        loc = F.linear(x + z[..., None], w)
        with pyro.plate("again", len(x)):
            pyro.sample("y", dist.Normal(loc, 1.0).to_event(1), obs=x[:, :2])

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    with context(), pytest.raises(pre.EstimatorError, match="site 'z' is enumerated before"):
        elbo.loss(model, MeanField({"w": (2, 3)}), X)


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_a_bias_of_two_layers_is_not_served(context):
    """Nothing says how the outputs of the layers depend on one another."""

    def model(x):
        b = flat("b", (2,))
        return F.linear(x, flat("w", (2, 3)), b) + F.linear(x, flat("v", (2, 3)), b)

    guide = MeanField({"w": (2, 3), "v": (2, 3), "b": (2,)})
    with pytest.raises(pre.EstimatorError, match="can't serve linear: 'b' is used by other layers"):
        outputs(model, guide, context())


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_a_weight_may_be_a_template(context):
    """For the shape and dtype of other tensors; the law isn't asked for."""

    def model(x):
        w = flat("w", (2, 3))
        x = x.float().to(w) + torch.zeros_like(w)[:1]
        return F.linear(x.type_as(w), w)

    assert is_noisy(outputs(model, MeanField({"w": (2, 3)}), context()))


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_a_guide_with_another_law(context):
    def model(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(2, 3).double(), 1.0).to_event(2))
        pyro.sample("y", dist.Normal(F.linear(x, w), 1.0).to_event(2), obs=torch.zeros(5, 2).double())

    guide = AutoMultivariateNormal(model)
    Trace_ELBO().loss(model, guide, X)
    with context(), pytest.raises(pre.EstimatorError, match="'w'.*_AutoMultivariateNormal_latent"):
        Trace_ELBO().loss(model, guide, X)


@pytest.mark.parametrize("context", CONTEXTS.values())
def test_nothing_stays_changed(context):
    functions = {name: getattr(F, name) for name in dir(F)}
    outputs(lambda x: F.linear(x, flat("w", (2, 3))), MeanField({"w": (2, 3)}), context())
    assert {name: getattr(F, name) for name in dir(F)} == functions

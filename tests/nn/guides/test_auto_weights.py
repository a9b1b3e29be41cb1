"""What every guide of weight matrices does as AutoNormal does."""

import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoGuideList, AutoNormal, init_to_value
from pyro.nn import PyroModule, PyroSample

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import AutoKTiedNormal, AutoMatrixNormal, AutoRankOneNormal

from ...statistics import assert_mean

GUIDES = [AutoKTiedNormal, AutoMatrixNormal, AutoRankOneNormal]
SHAPES = {
    "weight": (4, 3),
    "kernel": (2, 3, 2, 2),
    "bias": (4,),
    "positive": (2, 3),
    "scale": (),
    "group": (5, 3, 2),
}
every_guide = pytest.mark.parametrize("cls", GUIDES)


def model(dtype=torch.float32, subsample_size=None):
    """A matrix, a convolution, a vector, a positive matrix, a scalar; matrices in a plate."""

    def normal(*shape):
        return dist.Normal(torch.zeros(shape, dtype=dtype), 1.0).to_event(len(shape))

    weight = pyro.sample("weight", normal(4, 3))
    pyro.sample("kernel", normal(2, 3, 2, 2))
    bias = pyro.sample("bias", normal(4))
    pyro.sample("positive", dist.LogNormal(torch.zeros(2, 3, dtype=dtype), 1.0).to_event(2))
    scale = pyro.sample("scale", dist.LogNormal(torch.zeros((), dtype=dtype), 1.0))
    with pyro.plate("groups", 5, subsample_size=subsample_size) as chosen:
        group = pyro.sample("group", normal(3, 2))
        mean = (weight @ group).sum((-2, -1)) + bias.sum(-1)
        data = torch.linspace(-1, 1, 5, dtype=dtype)[chosen]
        pyro.sample("y", dist.Normal(mean, scale), obs=data)


def trained(cls, model=model, elbo=None, steps=3, **kwargs):
    guide = cls(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), elbo or Trace_ELBO())
    for _ in range(steps):
        assert math.isfinite(svi.step(**kwargs))
    return guide


def unchanged(cls, guide):
    """Another guide, of the whole model, with the same parameters."""
    # Two guides of a class share what the store has.
    pyro.clear_param_store()
    other = cls(model)
    other()
    pyro.clear_param_store()
    other.load_state_dict(guide.state_dict())
    return other


ELBOS = {
    "Trace_ELBO": Trace_ELBO(),
    "vectorised": Trace_ELBO(num_particles=3, vectorize_particles=True),
    "TraceMeanField_ELBO": TraceMeanField_ELBO(num_particles=3, vectorize_particles=True),
    "TraceEstimator_ELBO": pre.TraceEstimator_ELBO(num_particles=3),
}


@pytest.mark.parametrize("elbo", list(ELBOS))
@every_guide
def test_svi_moves_every_parameter(cls, elbo):
    pyro.set_rng_seed(1)
    guide = cls(model)
    guide()
    before = {name: x.detach().clone() for name, x in guide.named_parameters()}
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), ELBOS[elbo])
    for _ in range(2):
        assert math.isfinite(svi.step())
    for name, x in guide.named_parameters():
        assert (x != before[name]).any() and x.isfinite().all(), name


@every_guide
def test_no_parameter_is_left_over(cls):
    """The first step, in which the parameters are made, leaves none that the guide doesn't have."""
    guide = trained(cls, steps=1)
    names = {name.removeprefix(f"{cls.__name__}.") for name in pyro.get_param_store()}
    assert names == {name for name, _ in guide.named_pyro_params()}


@every_guide
def test_density_of_vectorised_particles(cls):
    """Each particle has the density that its values have alone."""
    guide = trained(cls)
    with pyro.plate("particles", 3, dim=-2):
        trace = poutine.trace(guide).get_trace()
    trace.compute_log_prob()
    sites = [name for name in trace.stochastic_nodes if name not in ("particles", "groups")]
    scored = [*sites, *trace.observation_nodes]
    together = sum(trace.nodes[name]["log_prob"].sum(-1) for name in scored)
    assert together.shape == (3,)
    for i in range(3):
        data = {
            name: trace.nodes[name]["value"][i, slice(None) if name.startswith("group") else 0]
            for name in sites
            if trace.nodes[name]["infer"].get("is_auxiliary")
        }
        alone = poutine.trace(poutine.condition(guide, data=data)).get_trace()
        torch.testing.assert_close(alone.log_prob_sum(), together[i])


@every_guide
def test_shapes_of_draws(cls):
    guide = trained(cls)
    assert {name: tuple(x.shape) for name, x in guide().items()} == SHAPES
    drawn = Predictive(model, guide=guide, num_samples=7, parallel=True)()
    for name, shape in SHAPES.items():
        assert drawn[name].shape[0] == 7 and drawn[name].numel() == 7 * math.prod(shape)
    assert drawn["positive"].gt(0).all()


@every_guide
def test_form_of_a_site(cls):
    """An auxiliary unconstrained site, by which its law is found, then a Delta and the Jacobian."""
    guide = trained(cls)
    nodes = poutine.trace(guide).get_trace().nodes
    for name in SHAPES:
        auxiliary, image = nodes[f"{name}_unconstrained"], nodes[name]
        assert auxiliary["infer"]["is_auxiliary"]
        assert type(image["fn"]).__name__ == "Delta"
        assert image["fn"].event_dim == auxiliary["fn"].event_dim
    positive, log = nodes["positive"]["value"], nodes["positive_unconstrained"]["value"]
    torch.testing.assert_close(positive, log.exp())
    torch.testing.assert_close(nodes["positive_jacobian"]["fn"].log_factor, -log.sum())
    assert "weight_jacobian" not in nodes


@every_guide
def test_quantiles_and_median(cls):
    """As often as said a draw lies below."""
    guide = trained(cls)
    with torch.no_grad():
        for start in guide.parameters():
            start.add_(0.2 * torch.randn_like(start))
    levels = [0.1, 0.5, 0.8]
    quantiles = guide.quantiles(levels)
    median = guide.median()
    draws = Predictive(guide, num_samples=20_000, parallel=True)()
    for name, shape in SHAPES.items():
        assert quantiles[name].shape == (3, *shape)
        torch.testing.assert_close(median[name], quantiles[name][1], rtol=1e-4, atol=1e-4)
        below = draws[name].reshape(-1, 1, *shape) < quantiles[name]
        expected = torch.tensor(levels).reshape(3, *[1] * len(shape)).expand(3, *shape)
        assert_mean(below.flatten(1).double(), expected.flatten())


@every_guide
def test_sub_sampled_plate(cls):
    """The matrices that were chosen have their own parameters, and count for all."""
    guide = trained(cls, subsample_size=2)
    with torch.no_grad():
        for x in guide.parameters():
            x.add_(0.2 * torch.randn_like(x))
    part = poutine.trace(guide).get_trace(subsample_size=2).nodes
    whole = poutine.trace(unchanged(cls, guide)).get_trace().nodes
    chosen = part["groups"]["value"]
    assert part["group"]["value"].shape == (2, 3, 2)
    for name in ("group_unconstrained", "group_rows", "group_columns"):
        if name in part:
            expected = whole[name]["fn"].variance[chosen]
            torch.testing.assert_close(part[name]["fn"].variance, expected)
            assert part[name]["scale"] == 2.5
    pyro.clear_param_store()
    particles = Trace_ELBO(num_particles=4, vectorize_particles=True)
    assert math.isfinite(particles.loss(model, guide, subsample_size=2))


@every_guide
def test_part_of_a_list(cls):
    guide = AutoGuideList(model)
    guide.append(cls(poutine.block(model, expose=["weight", "kernel", "positive", "group"])))
    guide.append(AutoNormal(poutine.block(model, expose=["bias", "scale"])))
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    assert math.isfinite(svi.step()) and math.isfinite(svi.step())
    assert set(guide.median()) == set(guide.quantiles([0.5])) == set(SHAPES)


@every_guide
def test_bayesian_module(cls):
    net = PyroModule[torch.nn.Sequential](
        PyroModule[torch.nn.Linear](3, 4), torch.nn.Tanh(), PyroModule[torch.nn.Linear](4, 1)
    )
    for layer in (net[0], net[2]):
        layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand(layer.weight.shape).to_event(2))

    def model(x):
        mean = net(x)[..., 0]
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=x.sum(-1))

    guide = trained(cls, model, x=torch.randn(8, 3))
    assert set(guide.median()) == {"0.weight", "2.weight"}


@every_guide
def test_double_precision(cls):
    guide = trained(cls, dtype=torch.float64)
    tensors = [*guide.parameters(), *guide(dtype=torch.float64).values(), *guide.median().values()]
    assert all(x.dtype == torch.float64 for x in tensors)


@every_guide
def test_start(cls):
    values = {"weight": torch.randn(4, 3), "positive": torch.rand(2, 3) + 0.5}
    guide = cls(model, init_loc_fn=init_to_value(values=values), init_scale=1e-3)
    draw = guide()
    for name, value in values.items():
        torch.testing.assert_close(draw[name], value, rtol=0.05, atol=0.01)


@every_guide
def test_saved_and_loaded(cls):
    guide = trained(cls)
    median = guide.median()
    other = unchanged(cls, guide)
    torch.testing.assert_close(other.median(), median, rtol=0, atol=0)
    copied = pickle.loads(pickle.dumps(guide))
    torch.testing.assert_close(copied.median(), median, rtol=0, atol=0)
    torch.manual_seed(3)
    draw = other()
    pyro.clear_param_store()
    torch.manual_seed(3)
    torch.testing.assert_close(copied(), draw, rtol=0, atol=0)


@every_guide
def test_nothing_is_scored_under_a_mask(cls):
    guide = trained(cls)
    trace = poutine.trace(poutine.mask(guide, mask=False)).get_trace()
    assert trace.log_prob_sum() == 0


@every_guide
def test_a_discrete_site_is_named(cls):
    def model():
        pyro.sample("gate", dist.Bernoulli(0.5).expand([2, 2]).to_event(2))

    with pytest.raises(ValueError, match="gate"):
        cls(model)()

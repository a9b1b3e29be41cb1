import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import AutoPathwise

from ..statistics import LEVEL, assert_mean, p_value

ours = pre.distributions
DTYPE = torch.float64
LOCS = torch.tensor([[-1.0, 2.0], [1.0, 2.0]], dtype=DTYPE)
SCALES = torch.tensor([[0.5, 1.0], [1.0, 0.7]], dtype=DTYPE)
LOGITS = torch.tensor([0.3, -0.2], dtype=DTYPE)


def program(concentration, logits):
    pyro.sample("g", dist.Gamma(concentration, 2.0))
    pyro.sample("v", dist.VonMises(torch.tensor(0.5, dtype=DTYPE), concentration))
    pyro.sample("m", dist.MixtureOfDiagNormals(LOCS, SCALES, logits))
    pyro.sample("n", dist.Normal(0.0, 1.0))
    with pyro.plate("plate", 3):
        pyro.sample("i", dist.InverseGamma(concentration, 1.0).expand([3, 2]).to_event(1))
    pyro.sample("b", dist.BetaBinomial(2.0, 3.0, 10), obs=torch.tensor(4.0))
    pyro.sample("o", dist.Beta(2.0, 3.0), obs=torch.tensor(0.4))


def model():
    program(torch.tensor(1.5, dtype=DTYPE), torch.zeros(2, dtype=DTYPE))


@AutoPathwise()
def guide():
    concentration = pyro.param("concentration", torch.tensor(2.0, dtype=DTYPE))
    program(concentration, pyro.param("logits", LOGITS.clone()))


def classes(trace):
    nodes = {name: node["fn"] for name, node in trace.nodes.items() if node["type"] == "sample"}
    return {name: fn for name, fn in nodes.items() if name != "plate"}


def test_which_sites_are_swapped():
    strategy = AutoPathwise()
    handled = strategy(model)
    for _ in range(2):
        found = classes(poutine.trace(handled).get_trace())
        assert type(found["g"]) is ours.Gamma
        assert type(found["v"]) is ours.VonMises
        assert type(found["m"]) is ours.MixtureOfDiagNormals
        assert type(found["i"].base_dist) is dist.InverseGamma
        assert type(found["i"].base_dist.base_dist) is ours.Gamma
        assert type(found["o"]) is ours.Beta
        assert type(found["n"]) is dist.Normal and type(found["b"]) is dist.BetaBinomial
    swapped = {name for name, reparam in strategy.config.items() if reparam is not None}
    assert swapped == {"g", "v", "m", "i", "o"}


def test_what_is_left_alone():
    mixture = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.MultivariateNormal(torch.zeros(2, 2), torch.eye(2))
    )
    straight_through = dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), torch.tensor(0.3))
    for fn in (mixture, straight_through, straight_through.mask(False), ours.Gamma(1.0, 1.0)):
        handled = poutine.reparam(lambda fn=fn: pyro.sample("x", fn), config=AutoPathwise())
        assert poutine.trace(handled).get_trace().nodes["x"]["fn"] is fn


def test_one_strategy_for_a_model_and_a_guide_that_differ():
    strategy, fns = AutoPathwise(), (dist.Exponential(1.0), dist.Gamma(1.0, 1.0))
    handled = [strategy(lambda fn=fn: pyro.sample("x", fn)) for fn in fns]
    for _ in range(2):
        assert type(poutine.trace(handled[0]).get_trace().nodes["x"]["fn"]) is dist.Exponential
        assert type(poutine.trace(handled[1]).get_trace().nodes["x"]["fn"]) is ours.Gamma


@pytest.mark.parametrize(
    "elbo", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, pre.TraceEstimator_ELBO]
)
def test_every_elbo_runs(elbo):
    def latent():
        with poutine.block(hide=["b", "o"]):
            guide()

    svi = SVI(model, latent, pyro.optim.Adam({"lr": 0.01}), elbo())
    losses = torch.tensor([svi.step() for _ in range(5)])
    assert losses.isfinite().all()
    assert pyro.param("concentration") != 2.0 and (pyro.param("logits") != LOGITS).all()


def test_autonormal_over_a_model():
    def smooth():
        g = pyro.sample("g", dist.Gamma(torch.tensor(1.5, dtype=DTYPE), 2.0))
        pyro.sample("m", dist.MixtureOfDiagNormals(LOCS, SCALES, LOGITS))
        pyro.sample("y", dist.Beta(g, 2.0), obs=torch.tensor(0.4, dtype=DTYPE))

    plain, handled = AutoNormal(smooth), AutoNormal(AutoPathwise()(smooth))
    losses = []
    for one, other in ((plain, smooth), (handled, AutoPathwise()(smooth))):
        torch.manual_seed(1)
        losses.append(Trace_ELBO(num_particles=20).loss(other, one))
    assert losses[0] == pytest.approx(losses[1])


def features(x):
    return x[..., 0] * x[..., 1] + torch.sin(x[..., 0])


def exact_gradient():
    """Of E[features] in the logits, by quadrature."""
    t = torch.linspace(-8, 12, 401, dtype=DTYPE)
    points = torch.stack(torch.meshgrid(t, t, indexing="ij"), -1).flatten(0, 1)
    logits = LOGITS.clone().requires_grad_()
    components = dist.Normal(LOCS, SCALES).log_prob(points.unsqueeze(-2)).sum(-1)
    density = (components + logits.log_softmax(-1)).logsumexp(-1).exp()
    integral = (density * features(points)).sum() * (t[1] - t[0]).square()
    return torch.autograd.grad(integral, logits)[0]


def gradients(handle):
    draws = 20_000
    logits = LOGITS.expand(draws, 2).clone().requires_grad_()

    def mixture():
        fn = dist.MixtureOfDiagNormals(LOCS.expand(draws, 2, 2), SCALES.expand(draws, 2, 2), logits)
        return pyro.sample("x", fn)

    features(handle(mixture)()).sum().backward()
    return logits.grad


def test_gradient_of_mixture_logits_is_unbiased_where_pyros_is_not():
    exact = exact_gradient()
    assert_mean(gradients(AutoPathwise()), exact)
    assert p_value(gradients(lambda program: program), exact) < LEVEL

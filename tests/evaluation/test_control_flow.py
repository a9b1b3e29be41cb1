"""Which cost depends on which site, also where provenance is hidden."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import logsigmoid

import pyro_reparam_ext as pre
from pyro_reparam_ext.evaluation.control_flow import ControlFlow

from ..families import normal_log_prob
from ..sampling import gradients
from ..slow import one_in
from ..statistics import assert_mean

READS = {
    "item": lambda z: z.item(),
    "bool": lambda z: 1 if z > 0.5 else 0,
    "int": lambda z: int(z),
    "float": lambda z: float(z),
    "index": lambda z: [1, 2][z.long()],
    "tolist": lambda z: z.tolist(),
    "numpy": lambda z: z.numpy(),
}


@pytest.mark.parametrize("read", READS)
def test_reads_are_seen(read):
    control = ControlFlow()
    READS[read](control.track(torch.tensor(2.0), frozenset(["z"])) - 1)
    assert control.sites == {"z"}


def test_validation_is_no_read():
    control = ControlFlow()
    z = control.track(torch.tensor(1.0), frozenset(["z"]))
    dist.Normal(z, 1.0, validate_args=True).log_prob(z)
    assert control.sites == frozenset()


def _tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def guide():
    z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("a", _tensor(0.3))))
    if z.item() > 0.5:
        pyro.sample("extra", dist.Bernoulli(logits=pyro.param("b", _tensor(-0.4))))


def model():
    z = pyro.sample("z", dist.Bernoulli(_tensor(0.6)))
    loc = pyro.param("c", _tensor(2.0))
    if z.item() > 0.5:
        loc = loc * pyro.sample("extra", dist.Bernoulli(_tensor(0.2)))
    pyro.sample("y", dist.Normal(loc, 1.0), obs=_tensor(0.5))


def _exact():
    a, b, c = (_tensor(x).requires_grad_() for x in (0.3, -0.4, 2.0))
    p, r, y = _tensor(0.6), _tensor(0.2), _tensor(0.5)
    zero = logsigmoid(-a) - (1 - p).log() - normal_log_prob(y, c, 1.0)
    loss = (-a).sigmoid() * zero
    for e in (0.0, 1.0):
        log_q = e * logsigmoid(b) + (1 - e) * logsigmoid(-b)
        log_r = e * r.log() + (1 - e) * (1 - r).log()
        cost = logsigmoid(a) + log_q - p.log() - log_r - normal_log_prob(y, c * e, 1.0)
        loss = loss + a.sigmoid() * log_q.exp() * cost
    return torch.stack([loss.detach(), *torch.autograd.grad(loss, (a, b, c))])


ESTIMATORS = {
    "ScoreFunction": (pre.ScoreFunction, 1),
    "LeaveOneOut": (pre.LeaveOneOut, 3),
    "DisARM": (pre.DisARM, 1),
    "DisARM-2": (lambda: pre.DisARM(2), 1),
    "LocalExpectation": (pre.LocalExpectation, 1),
    "Enumeration": (pre.Enumeration, 1),
}


@pytest.mark.parametrize("name", one_in(3, ESTIMATORS, 2))
def test_dynamic_structure(name):
    make, num_particles = ESTIMATORS[name]
    elbo = pre.TraceEstimator_ELBO(make(), num_particles=num_particles, vectorize_particles=False)
    calls = 3 if name == "Enumeration" else 700
    pyro.param("b", _tensor(-0.4))
    samples = gradients(elbo, model, guide, ["a", "b", "c"], calls)
    assert_mean(samples, _exact())


def _branching_model():
    z = pyro.sample("z", dist.Bernoulli(_tensor(0.6)))
    pyro.sample("y", dist.Normal(_tensor(1.0 if z.detach() > 0.3 else 0.0), 1.0), obs=_tensor(0.5))


def _branching_guide():
    z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("a", _tensor(0.3))))
    float(z.detach())


@pytest.mark.parametrize("branch", ["guide", "model"])
def test_relaxed_values_that_are_read_raise(branch):
    def plain_guide():
        pyro.sample("z", dist.Bernoulli(logits=pyro.param("a", _tensor(0.3))))

    def plain_model():
        z = pyro.sample("z", dist.Bernoulli(_tensor(0.6)))
        pyro.sample("y", dist.Normal(z, 1.0), obs=_tensor(0.5))

    elbo = pre.TraceEstimator_ELBO(pre.REBAR(), vectorize_particles=False)
    elbo.loss_and_grads(plain_model, plain_guide)
    pyro.clear_param_store()
    in_guide = branch == "guide"
    programs = (plain_model, _branching_guide) if in_guide else (_branching_model, plain_guide)
    with pytest.raises(pre.EstimatorError, match="'z'.*relaxed.*DisARM"):
        elbo.loss_and_grads(*programs)
    assert not list(pyro.get_param_store().keys())


def test_branch_in_a_single_vectorised_run():
    elbo = pre.TraceEstimator_ELBO()
    pyro.param("b", _tensor(-0.4))
    samples = gradients(elbo, model, guide, ["a", "b", "c"], 700)
    assert_mean(samples, _exact())


def test_enumerated_weight_depends_on_upstream_site():
    """The prior of an enumerated site does not see ``w``; its weight, ``q(z | w)``, does."""

    def guide():
        w = pyro.sample("w", dist.Bernoulli(logits=pyro.param("a", _tensor(0.3))))
        pyro.sample("z", dist.Bernoulli(logits=2 * w - 1), infer={"estimator": pre.Enumeration()})

    def model():
        pyro.sample("w", dist.Bernoulli(_tensor(0.5)))
        pyro.sample("z", dist.Bernoulli(_tensor(0.1)))

    a = _tensor(0.3).requires_grad_()
    cost = []
    for w in (0.0, 1.0):
        q = _tensor(2 * w - 1).sigmoid()
        kl = q * (q / 0.1).log() + (1 - q) * ((1 - q) / 0.9).log()
        cost.append(w * logsigmoid(a) + (1 - w) * logsigmoid(-a) - _tensor(0.5).log() + kl)
    loss = (-a).sigmoid() * cost[0] + a.sigmoid() * cost[1]
    exact = torch.autograd.grad(loss, a)[0]
    elbo = pre.TraceEstimator_ELBO({"w": pre.LocalExpectation()})
    actual = gradients(elbo, model, guide, ["a"], 1)[0, 1]
    torch.testing.assert_close(actual, exact)


def test_distribution_whose_transforms_know_their_inverses():
    def guide():
        z = pyro.sample("z", dist.Gumbel(pyro.param("loc", torch.tensor(0.3)), 1.0))
        pyro.sample("b", dist.Bernoulli(logits=z))

    def model():
        z = pyro.sample("z", dist.Gumbel(torch.tensor(0.0), 1.0))
        pyro.sample("b", dist.Bernoulli(logits=2 * z))

    pre.TraceEstimator_ELBO(pre.ScoreFunction()).loss_and_grads(model, guide)
    assert pyro.param("loc").grad.isfinite()


class Product(torch.autograd.Function):
    """A product, by a function that is not dispatched to tracked tensors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight):
        return x * weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient * weight, gradient * x


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("estimator", [pre.ScoreFunction, pre.REBAR, pre.Enumeration])
def test_autograd_functions_keep_the_gradient_of_tracked_values(estimator, vectorize):
    """In the model's parameter and in the value, as without the function."""

    def program(product):
        def guide():
            z = pyro.sample("z", dist.Bernoulli(logits=pyro.param("a", _tensor(0.3))))
            pyro.sample("w", dist.Bernoulli(logits=pyro.param("b", _tensor(0.2)) + z))

        def model():
            z = pyro.sample("z", dist.Bernoulli(_tensor(0.6)))
            w = pyro.sample("w", dist.Bernoulli(_tensor(0.6)))
            loc = product(z + w, pyro.param("c", _tensor(2.0)))
            pyro.sample("y", dist.Normal(loc, 1.0), obs=_tensor(0.5))

        return model, guide

    rows = []
    for product in (Product.apply, torch.mul):
        pyro.clear_param_store()
        torch.manual_seed(4)
        elbo = pre.TraceEstimator_ELBO(estimator(), max_plate_nesting=0, vectorize_particles=vectorize)
        rows.append(gradients(elbo, *program(product), ["a", "b", "c"], 3))
    assert (rows[1][:, -1] != 0).any()
    torch.testing.assert_close(*rows)

import copy
import pickle
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal, init_to_value

import pyro_reparam_ext as pre
from pyro_reparam_ext.reparam import (
    CholeskyReparam,
    InverseCDFReparam,
    NoncenteredReparam,
    StandardizeReparam,
)

from ..slow import one_in
from .cases import CASES, DTYPE

TRIL = torch.tensor([[2.0, 0.0], [1.0, 3.0]], dtype=DTYPE)
OBJECTS = [StandardizeReparam(), InverseCDFReparam(), CholeskyReparam()]


def vector():
    return dist.MultivariateNormal(torch.ones(2, dtype=DTYPE), scale_tril=TRIL)


def number(x):
    return torch.tensor(x, dtype=DTYPE)


def mapped(case, theta, noise):
    fn = case.fn(theta)
    reparam = case.reparam()
    log_abs_det = reparam.log_abs_det(fn, noise)
    return reparam.forward(fn, noise) + log_abs_det.reshape(log_abs_det.shape + (1,) * fn.event_dim)


def drawn(case):
    theta = torch.tensor(case.p, dtype=DTYPE).expand(5, -1).clone()
    return theta, case.reparam().noise(case.fn(theta)).sample()


@pytest.mark.parametrize("case", one_in(len(CASES), CASES), ids=str)
def test_is_one_graph(case):
    theta, noise = drawn(case)
    compiled = torch.compile(partial(mapped, case), fullgraph=True, backend="aot_eager")
    with pyro.validation_enabled(False):
        given = [compiled(theta.requires_grad_(), noise), mapped(case, theta, noise)]
    torch.testing.assert_close(*given)
    gradients = [torch.autograd.grad(x.sum(), theta)[0] for x in given]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_under_vmap(case):
    theta, noise = drawn(case)
    with pyro.validation_enabled(False):
        gradient = torch.func.grad(lambda *inputs: mapped(case, *inputs).sum(), argnums=(0, 1))
        rows = [torch.stack(x) for x in zip(*map(gradient, theta, noise), strict=True)]
        torch.testing.assert_close(list(torch.func.vmap(gradient)(theta, noise)), rows)


INITIAL = [
    (StandardizeReparam(), lambda: dist.Normal(number(10.0), number(5.0)), -3.0),
    (StandardizeReparam(), lambda: dist.Gamma(number(2.0), number(5.0)), 0.7),
    (StandardizeReparam(), lambda: dist.Laplace(torch.zeros(3, dtype=DTYPE), 2.0).to_event(1), 1.5),
    (InverseCDFReparam(), lambda: dist.Normal(number(10.0), number(5.0)), -3.0),
    (InverseCDFReparam(), lambda: dist.Exponential(number(2.0)).expand([2, 3]).to_event(2), 0.4),
    (
        CholeskyReparam(),
        vector,
        3,
    ),
    (
        CholeskyReparam(),
        lambda: dist.MultivariateStudentT(4.0, torch.ones(3, 2, dtype=DTYPE), TRIL).to_event(1),
        -2.0,
    ),
]


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta, AutoMultivariateNormal])
@pytest.mark.parametrize("reparam, make, start", INITIAL)
def test_initial_value_is_where_it_starts(reparam, make, start, auto):
    fn = make()
    values = start + torch.arange(fn.event_shape.numel(), dtype=DTYPE).reshape(fn.event_shape) / 10

    @poutine.reparam(config={"x": reparam})
    def model():
        return pyro.sample("x", make())

    guide = auto(model, init_loc_fn=init_to_value(values={"x": values}))
    guide()
    median = guide.median()
    assert list(median) == [f"x_{reparam.suffix}"]
    x = poutine.condition(model, data={name: value.detach() for name, value in median.items()})()
    torch.testing.assert_close(x, values, rtol=1e-6, atol=1e-6)


MASK = torch.tensor([True, False, True])
LAYOUTS = {
    "plain": lambda fn: fn.expand([4, 3]),
    "to_event": lambda fn: fn.expand([4, 3, 2]).to_event(1),
    "mask": lambda fn: fn.expand([4, 3]).mask(MASK),
    "mask of coordinates": lambda fn: fn.expand([4, 3, 3]).mask(MASK).to_event(1),
    "mask of events": lambda fn: fn.expand([4, 3, 2]).to_event(1).mask(MASK),
    "expanded mask": lambda fn: fn.expand([3]).mask(MASK).expand([4, 3]),
    "expanded events": lambda fn: fn.expand([3]).to_event(1).expand([4, 3]),
    "broadcast by the plates": lambda fn: fn,
}
UNIVARIATE = {
    "standardize": (StandardizeReparam, lambda: dist.Gamma(number(2.0), number(5.0))),
    "inverse cdf": (InverseCDFReparam, lambda: dist.Laplace(number(1.0), number(3.0))),
    "cholesky": (
        CholeskyReparam,
        vector,
    ),
}


def log_joint(trace):
    trace.compute_log_prob()
    terms = [node["log_prob"] for node in trace.nodes.values() if node["type"] == "sample"]
    return sum((term for term in terms if isinstance(term, torch.Tensor)), torch.zeros(()))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", UNIVARIATE)
def test_layouts_and_plates(family, layout):
    """The guide's density is that of the plain guide, term by term, with plates, masks and scales."""
    make, (reparam, base) = LAYOUTS[layout], UNIVARIATE[family]

    def program():
        with pyro.plate("rows", 8, subsample_size=4, dim=-2), pyro.plate("columns", 3, dim=-1):
            with poutine.mask(mask=torch.tensor([[True], [False], [True], [True]])):
                return pyro.sample("x", make(base()))

    guide = poutine.reparam(program, config={"x": reparam(guide=True)})
    trace = poutine.trace(guide).get_trace()
    name = f"x_{reparam.suffix}"
    assert trace.nodes[name]["infer"]["is_auxiliary"] and not trace.nodes["x"]["is_observed"]
    kept = trace.copy()
    kept.remove_node(name)
    plain = poutine.trace(poutine.replay(program, trace=kept)).get_trace()
    assert plain.nodes["x"]["value"] is trace.nodes["x"]["value"]
    torch.testing.assert_close(log_joint(trace), log_joint(plain))

    model = poutine.reparam(program, config={"x": reparam()})
    kept.remove_node("x")
    noise = trace.nodes[name]
    kept.add_node(
        name, **{key: noise[key] for key in ("name", "type", "value", "is_observed", "infer")}
    )
    decentered = poutine.trace(poutine.replay(model, trace=kept)).get_trace()
    site = decentered.nodes["x"]
    assert site["is_observed"] and site["fn"].batch_shape == plain.nodes["x"]["fn"].batch_shape
    assert torch.equal(site["value"], trace.nodes["x"]["value"])
    decentered.compute_log_prob()
    assert torch.equal(
        decentered.nodes[name]["log_prob"].expand(4, 3), trace.nodes[name]["log_prob"].expand(4, 3)
    )


@pytest.mark.parametrize("elbo", [Trace_ELBO, pre.TraceEstimator_ELBO])
def test_autoguide_of_a_subsampled_hierarchy(elbo):
    data = torch.linspace(-1, 1, 10).reshape(10, 1) + torch.zeros(3)

    @poutine.reparam(config={"mean": StandardizeReparam(), "x": InverseCDFReparam()})
    def model():
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("columns", 3, dim=-1):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
            with pyro.plate("rows", 10, subsample_size=4, dim=-2) as index:
                x = pyro.sample("x", dist.Normal(mean, scale))
                pyro.sample("y", dist.Normal(x, 1.0), obs=data[index])

    def create_plates():
        return [pyro.plate("columns", 3, dim=-1), pyro.plate("rows", 10, subsample_size=4, dim=-2)]

    guide = AutoNormal(model, create_plates=create_plates)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo(num_particles=2))
    before = svi.evaluate_loss()
    losses = [svi.step() for _ in range(60)]
    assert guide.locs.x_uniform.shape == (10, 3) and guide.locs.mean_standard.shape == ()
    assert sum(losses[-20:]) / 20 < before


def test_one_object_serves_several_sites():
    reparam = StandardizeReparam()

    def program():
        pyro.sample("a", dist.Normal(1.0, 2.0))
        pyro.sample("b", dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1))
        pyro.sample("c", dist.Gamma(2.0, 3.0))

    handled = poutine.reparam(program, config=dict.fromkeys("abc", reparam))
    options = {"guide": False}
    for _ in range(2):
        trace = poutine.trace(handled).get_trace()
        assert {name for name, node in trace.nodes.items() if not node.get("is_observed", True)} == {
            "a_standard",
            "b_standard",
            "c_standard",
        }
        assert {k: v for k, v in vars(reparam).items() if v is not None} == options
    again = pickle.loads(pickle.dumps(copy.deepcopy(reparam)))
    assert type(again) is StandardizeReparam and again.guide is False


def test_dtype_and_device_follow_the_parameters():
    for dtype in (torch.float32, torch.float64):
        for reparam in (StandardizeReparam(), InverseCDFReparam()):
            fn = dist.Normal(torch.tensor(1.0, dtype=dtype), torch.tensor(2.0, dtype=dtype))
            program = poutine.reparam(lambda fn=fn: pyro.sample("x", fn), config={"x": reparam})
            trace = poutine.trace(program).get_trace()
            assert trace.nodes[f"x_{reparam.suffix}"]["value"].dtype == dtype
            assert trace.nodes["x"]["value"].dtype == dtype


@pytest.mark.parametrize("guide", [False, True])
@pytest.mark.parametrize("reparam", [StandardizeReparam, InverseCDFReparam, CholeskyReparam])
def test_refuses_observed_sites(reparam, guide):
    program = poutine.reparam(
        lambda: pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0)),
        config={"x": reparam(guide=guide)},
    )
    with pytest.raises(pre.EstimatorError, match="site 'x': .*observed site.*Leave 'x' out"):
        program()


def test_is_the_public_base():
    for reparam in OBJECTS:
        assert isinstance(reparam, NoncenteredReparam)
    with pytest.raises(TypeError):
        StandardizeReparam(True)


def test_a_guide_reparameterised_as_a_model():
    def program():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(1.0)), 1.0))

    reparam = poutine.reparam(program, config={"z": StandardizeReparam()})
    with pytest.raises(pre.EstimatorError, match="site 'z'.*guide=True"):
        Trace_ELBO().loss(reparam, reparam)

"""Second derivatives of the loss: right, or an error that names the site; never another number."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import pyro_reparam_ext as pre
from pyro_reparam_ext.distributions.rules.known_defects import is_differentiable_once

from ..distributions.registry import CONTINUOUS as DISTRIBUTIONS
from ..registry import REGISTRY, layout_of
from ..slow import one_in
from ..statistics import assert_mean

EXACT = ("Enumeration", "Pathwise", "AnalyticKL")
ESTIMATED = [label for label in REGISTRY if label not in EXACT]


def family_of(label):
    """That of two bits, where it is served."""
    families = REGISTRY[label].families
    return "Bernoulli-event" if "Bernoulli-event" in families else families[0]


def values_of(layout):
    return tuple(x.clone().requires_grad_() for x in layout.initial.values())


def loss_of(elbo, layout):
    """The differentiable loss as a function of the parameters of a layout."""

    def loss(*values):
        p = dict(zip(layout.initial, values, strict=True))
        return elbo.differentiable_loss(lambda: layout.generate(p), lambda: layout.infer(p))

    return loss


def detached(values):
    return tuple(x.detach() for x in values)


def forward(function):
    """``jacfwd``, for functions that draw random numbers."""
    return jacfwd(function, randomness="same")


def exact_of(layout):
    return lambda *values: layout.exact(dict(zip(layout.initial, values, strict=True)))


def product(loss, values, seed=0):
    """The Hessian of a loss times a fixed vector, flat: every block of it counts."""
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in values]
    first = torch.autograd.grad(loss(*values), values, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(first, vectors, strict=True))
    second = torch.autograd.grad(along, values, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(x) if s is None else s).flatten()
            for s, x in zip(second, values, strict=True)
        ]
    )


def estimated(label, layout, **options):
    estimators = {site: REGISTRY[label].make() for site in layout.sites}
    particles = REGISTRY[label].num_particles
    return pre.TraceEstimator_ELBO(estimators, max_plate_nesting=2, num_particles=particles, **options)


# -- right ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("family", one_in(3, REGISTRY["Enumeration"].families))
@pytest.mark.parametrize("layout", ["no_plate", "plate", "nested_plates", "hierarchy"])
def test_hessian_of_an_enumerated_loss(layout, family, vectorize):
    """In the parameters of guide and model, and between them."""
    if layout == "nested_plates" and not vectorize:
        family = "Bernoulli"  # one run for each joint value
    layout = layout_of(layout, family)
    elbo = estimated("Enumeration", layout, vectorize_particles=vectorize)
    actual = product(loss_of(elbo, layout), values_of(layout))
    torch.testing.assert_close(actual, product(exact_of(layout), values_of(layout)))


def test_hessian_by_every_function_of_torch():
    layout = layout_of("no_plate", "Bernoulli-event")
    values = tuple(x.detach() for x in values_of(layout))
    loss, exact = loss_of(estimated("Enumeration", layout), layout), exact_of(layout)
    numbers = tuple(range(len(values)))
    expected = torch.autograd.functional.hessian(exact, values)
    rows = [
        torch.autograd.functional.hessian(loss, values),
        torch.autograd.functional.hessian(loss, values, vectorize=True),
        hessian(loss, numbers)(*values),
        jacrev(jacrev(loss, numbers), numbers)(*values),
    ]
    for row in rows:
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("layout", one_in(2, ["pathwise_upstream", "pathwise_downstream"]))
def test_mean_of_the_hessian_beside_a_pathwise_site(layout, vectorize):
    layout = layout_of(layout, "Bernoulli")
    elbo = pre.TraceEstimator_ELBO(
        {"z": pre.Enumeration()},
        num_particles=50 if vectorize else 2,
        max_plate_nesting=2,
        vectorize_particles=vectorize,
    )
    rows = [product(loss_of(elbo, layout), values_of(layout)) for _ in range(60)]
    assert_mean(torch.stack(rows), product(exact_of(layout), values_of(layout)))


@pytest.mark.parametrize("layout", one_in(3, ["plate", "subsampled_plate", "hierarchy"], 1))
def test_mean_of_the_hessian_of_pathwise_sites(layout):
    layout = layout_of(layout, "Normal")
    elbo = pre.TraceEstimator_ELBO(pre.Pathwise(), num_particles=50, max_plate_nesting=2)
    rows = [product(loss_of(elbo, layout), values_of(layout)) for _ in range(60)]
    assert_mean(torch.stack(rows), product(exact_of(layout), values_of(layout)))


def test_hessian_of_pathwise_sites_is_that_of_trace_elbo():
    layout, rows = layout_of("hierarchy", "Normal"), []
    for elbo in (pre.TraceEstimator_ELBO(max_plate_nesting=1), Trace_ELBO()):
        torch.manual_seed(0)
        rows.append(product(loss_of(elbo, layout), values_of(layout)))
    torch.testing.assert_close(*rows)


def test_hessian_in_the_model_where_the_guide_is_fixed():
    layout = layout_of("plate", "Bernoulli-event")
    fixed = {k: v for k, v in layout.initial.items() if k in ("phi", "local")}
    free = {k: v.clone().requires_grad_() for k, v in layout.initial.items() if k not in fixed}
    elbo = pre.TraceEstimator_ELBO(pre.ScoreFunction(), num_particles=50)

    def loss(*values):
        p = {**fixed, **dict(zip(free, values, strict=True))}
        return elbo.differentiable_loss(lambda: layout.generate(p), lambda: layout.infer(p))

    def exact(*values):
        return layout.exact({**fixed, **dict(zip(free, values, strict=True))})

    values = tuple(free.values())
    rows = torch.stack([product(loss, values) for _ in range(60)])
    assert_mean(rows, product(exact, values))


def parametrised(fn, parameters, prior):
    """A guide and a model of one site, without data: the loss is a divergence."""

    def loss_by(elbo):
        def loss(*values):
            def guide():
                pyro.sample("z", fn(*values))

            def model():
                pyro.sample("z", fn(*prior))

            return elbo.differentiable_loss(pre.reparam.AutoPathwise()(model), guide_of(guide))

        guide_of = pre.reparam.AutoPathwise()
        return loss

    def exact(*values):
        return torch.distributions.kl_divergence(fn(*values), fn(*prior))

    leaves = tuple(torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in parameters)
    return loss_by, exact, leaves


GAMMA_FAMILY = {
    "Gamma": (dist.Gamma, (1.7, 2.3), (2.0, 1.0)),
    "Beta": (dist.Beta, (1.7, 2.3), (2.0, 1.0)),
    "Dirichlet": (dist.Dirichlet, ((1.7, 2.3, 0.6),), ((2.0, 1.0, 1.0),)),
}


@pytest.mark.parametrize("name", one_in(4, GAMMA_FAMILY))
def test_mean_of_the_hessian_of_the_gamma_family(name):
    """With the samplers of this package, which the error for those of torch recommends."""
    fn, parameters, prior = GAMMA_FAMILY[name]
    prior = tuple(torch.tensor(x, dtype=torch.float64) for x in prior)
    loss_by, exact, leaves = parametrised(fn, parameters, prior)
    elbo = pre.TraceEstimator_ELBO(num_particles=200, max_plate_nesting=1)
    rows = [product(loss_by(elbo), leaves) for _ in range(60)]
    assert_mean(torch.stack(rows), product(exact, leaves))


# -- an error -------------------------------------------------------------------------------------


def twice(loss, values):
    first = torch.autograd.grad(loss(*values), values, create_graph=True)
    return torch.autograd.grad(sum(g.sum() for g in first), values)


SECOND = {
    "grad": twice,
    "functional": lambda loss, x: torch.autograd.functional.hessian(loss, detached(x)),
    "functional-vectorized": lambda loss, x: torch.autograd.functional.hessian(
        loss, detached(x), vectorize=True
    ),
    "hvp": lambda loss, x: torch.autograd.functional.hvp(loss, detached(x), detached(x)),
    "func-forward-over-reverse": lambda loss, x: forward(jacrev(loss))(*detached(x)),
    "func-reverse": lambda loss, x: jacrev(jacrev(loss))(*detached(x)),
    "func-forward": lambda loss, x: forward(forward(loss))(*detached(x)),
    "func-reverse-over-forward": lambda loss, x: jacrev(forward(loss))(*detached(x)),
}


@pytest.mark.parametrize("way", SECOND)
@pytest.mark.parametrize("label", one_in(4, ESTIMATED))
def test_second_derivative_raises(label, way):
    family = "Poisson" if "Poisson" in REGISTRY[label].families else family_of(label)
    layout = layout_of("hierarchy", family)
    elbo, name = estimated(label, layout), type(REGISTRY[label].make()).__name__
    loss_of(elbo, layout)(*values_of(layout))  # makes what is learned, which torch.func can't
    with pytest.raises(pre.EstimatorError, match=f"site 'z1': {name}"):
        SECOND[way](loss_of(elbo, layout), values_of(layout))


@pytest.mark.parametrize("label", ESTIMATED)
def test_derivative_in_the_guide_of_the_gradient_in_the_model_raises(label):
    """And is not taken for zero."""
    layout = layout_of("no_plate", family_of(label))
    p = dict(zip(layout.initial, values_of(layout), strict=True))
    loss = loss_of(estimated(label, layout), layout)(*p.values())
    (gradient,) = torch.autograd.grad(loss, p["theta"], create_graph=True)
    with pytest.raises(
        pre.EstimatorError, match="'z'.*(Use (Enumeration|Pathwise) for 'z'|No estimator has one)"
    ):
        torch.autograd.grad(gradient.sum(), p["phi"], allow_unused=True)


@pytest.mark.parametrize("second", ["DisARM", "LocalExpectation", "StraightThrough"])
def test_one_site_that_is_not_exact_is_named(second):
    layout = layout_of("hierarchy", "Bernoulli")
    elbo = pre.TraceEstimator_ELBO({"z1": pre.Enumeration(), "z2": REGISTRY[second].make()})
    with pytest.raises(pre.EstimatorError, match=f"site 'z2': {second}"):
        twice(loss_of(elbo, layout), values_of(layout))


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize(
    "fn",
    [
        lambda a: dist.Gamma(a, 1.0),
        lambda a: dist.Chi2(a),
        lambda a: dist.InverseGamma(a, 1.0),
        lambda a: dist.Beta(a, 1.0),
        lambda a: dist.Beta(a, 1.0).expand([3]).to_event(1),
        lambda a: dist.AffineBeta(a, 1.0, 2.0, 3.0),
        lambda a: dist.Dirichlet(torch.stack([a, a + 1])),
        lambda a: dist.StudentT(a, 0.0, 1.0),
        lambda a: dist.OneHotCategoricalStraightThrough(logits=torch.stack([a, 1 - a])),
        lambda a: pre.distributions.TruncatedNormal(a, 1.0, 0.0, 1.0),
    ],
)
def test_samplers_without_a_second_derivative(fn, hidden):
    """Those of torch raise by themselves, or leave a part of the derivative out."""
    a, b = (torch.tensor(1.5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    elbo = pre.TraceEstimator_ELBO(pre.Pathwise())
    loss = elbo.differentiable_loss(
        lambda: pyro.sample("z", fn(b)), lambda: pyro.sample("z", fn(1.0 * a))
    )
    (gradient,) = torch.autograd.grad(loss, b if hidden else a, create_graph=True)
    with pytest.raises((pre.EstimatorError, RuntimeError)) as error:
        torch.autograd.grad(gradient, a, allow_unused=True)
    silent = isinstance(error.value, pre.EstimatorError)
    of_torch = "the derivative for" in str(error.value) or "second time" in str(error.value)
    assert silent and "site 'z': Pathwise" in str(error.value) or of_torch


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_own_samplers_that_can_be_differentiated_once_are_known(name):
    entry = DISTRIBUTIONS[name]
    leaves = {
        k: torch.as_tensor(v).double().requires_grad_() for k, v in entry.points[entry.typical].items()
    }
    fn = entry.make(**leaves)
    raises = False
    try:
        values = list(leaves.values())
        first = torch.autograd.grad(
            fn.rsample((2,)).square().sum(), values, create_graph=True, allow_unused=True
        )
        torch.autograd.grad(
            sum(g.sum() for g in first if g is not None and g.requires_grad), values, allow_unused=True
        )
    except RuntimeError as error:
        assert "second time" in str(error)
        raises = True
    assert is_differentiable_once(fn) == raises


# -- a first derivative as before -----------------------------------------------------------------


@pytest.mark.parametrize("label", ESTIMATED)
def test_gradient_is_the_same_by_all_ways(label):
    layout = layout_of("no_plate", family_of(label))
    ways = (
        lambda loss, x: torch.autograd.grad(loss(*x), x),
        lambda loss, x: torch.autograd.grad(loss(*x), x, create_graph=True),
        lambda loss, x: grad(loss, (0, 1, 2))(*detached(x)),
    )
    rows = []
    for way in ways:
        elbo = estimated(label, layout)
        loss, values = loss_of(elbo, layout), values_of(layout)
        torch.manual_seed(3)
        loss(*values)
        rows.append([g.detach() for g in way(loss, values)])
    for row in rows[1:]:
        torch.testing.assert_close(row, rows[0])


def test_gradients_of_many_draws_at_once():
    layout = layout_of("no_plate", "Bernoulli-event")
    loss, values = loss_of(estimated("DisARM", layout), layout), values_of(layout)
    gradient = grad(loss, (0, 1, 2))
    draws = vmap(lambda _: gradient(*detached(values)), randomness="different")(torch.arange(2000))
    exact = torch.autograd.grad(exact_of(layout)(*values), values)
    assert_mean(torch.cat([g.flatten(1) for g in draws], 1), torch.cat([g.flatten() for g in exact]))


@pytest.mark.parametrize("label", ESTIMATED)
def test_forward_mode_raises(label):
    """It would miss what is made for a backward pass."""
    layout = layout_of("no_plate", family_of(label))
    elbo = estimated(label, layout)
    loss, values = loss_of(elbo, layout), detached(values_of(layout))
    loss(*values_of(layout))
    with pytest.raises(pre.EstimatorError, match="forward mode"):
        jvp(loss, values, values)


def test_forward_mode_where_the_loss_is_exact():
    layout = layout_of("no_plate", "Bernoulli-event")
    values = detached(values_of(layout))
    actual = jvp(loss_of(estimated("Enumeration", layout), layout), values, values)
    torch.testing.assert_close(actual, jvp(exact_of(layout), values, values))

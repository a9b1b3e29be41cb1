"""The same program, wherever a reparameteriser is entered: inside of plates, between them, outside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import product
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoNormal,
    init_to_feasible,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from pyro.infer.reparam import LocScaleReparam

import pyro_reparam_ext as pre
from pyro_reparam_ext import reparam

ours = pre.distributions
TRIL = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
LOGITS = torch.tensor([0.5, -0.3, 0.1])


class Case(NamedTuple):
    """A site that does not know of plates, its reparameteriser, and whether that makes noise."""

    fn: Callable[[], dist.TorchDistribution]
    config: Callable[[bool], object]
    latent: str = "x"
    """What is latent on a model."""


def of(cls, *args, **options):
    return lambda guide: {"x": cls(*args, guide=guide, **options)}


def same(cls, *args, **options):
    """A reparameteriser that goes on model and guide alike."""
    return lambda guide: {"x": cls(*args, **options)}


CASES = {
    "StandardizeReparam": Case(
        lambda: dist.Normal(1.0, 2.0), of(reparam.StandardizeReparam), "x_standard"
    ),
    "StandardizeReparam-vector": Case(
        lambda: dist.Normal(torch.ones(3), 2.0).to_event(1),
        of(reparam.StandardizeReparam),
        "x_standard",
    ),
    "StandardizeReparam-gamma": Case(
        lambda: dist.Gamma(2.0, 3.0), of(reparam.StandardizeReparam), "x_standard"
    ),
    "CholeskyReparam": Case(
        lambda: dist.MultivariateNormal(torch.ones(2), scale_tril=TRIL),
        of(reparam.CholeskyReparam),
        "x_white",
    ),
    "InverseCDFReparam": Case(
        lambda: dist.Exponential(2.0), of(reparam.InverseCDFReparam), "x_uniform"
    ),
    "PathwiseReparam": Case(lambda: dist.Gamma(2.0, 3.0), same(reparam.PathwiseReparam)),
    "PathwiseReparam-vector": Case(
        lambda: dist.Dirichlet(torch.ones(3)), same(reparam.PathwiseReparam)
    ),
    "RelaxReparam": Case(lambda: dist.Bernoulli(0.3), same(reparam.RelaxReparam, 0.7)),
    "RelaxReparam-one-hot": Case(
        lambda: dist.OneHotCategorical(logits=LOGITS), same(reparam.RelaxReparam, 0.7, score="discrete")
    ),
    "RelaxReparam-hard": Case(
        lambda: dist.OneHotCategorical(logits=LOGITS),
        same(reparam.RelaxReparam, 0.7, straight_through=True),
    ),
    "GumbelSoftmaxReparam": Case(
        lambda: ours.RelaxedOneHotCategorical(0.7, logits=LOGITS),
        of(reparam.GumbelSoftmaxReparam),
        "x_noise",
    ),
    "GumbelSoftmaxReparam-binary": Case(
        lambda: ours.RelaxedBernoulli(0.7, logits=torch.tensor(0.4)),
        of(reparam.GumbelSoftmaxReparam),
        "x_noise",
    ),
    "GumbelMaxReparam": Case(
        lambda: dist.OneHotCategorical(logits=LOGITS), of(reparam.GumbelMaxReparam), "x_keys"
    ),
    "GumbelMaxReparam-integer": Case(
        lambda: dist.Categorical(logits=LOGITS), of(reparam.GumbelMaxReparam), "x_keys"
    ),
    "GumbelMaxReparam-binary": Case(
        lambda: dist.Bernoulli(0.3), of(reparam.GumbelMaxReparam), "x_keys"
    ),
    "GumbelMaxReparam-order": Case(
        lambda: ours.PlackettLuce(LOGITS), of(reparam.GumbelMaxReparam), "x_keys"
    ),
    "GumbelMaxReparam-matching": Case(
        lambda: ours.GumbelSinkhorn(0.7, logits=torch.eye(3)), of(reparam.GumbelMaxReparam), "x_keys"
    ),
    "AutoPathwise": Case(lambda: dist.Gamma(2.0, 3.0), lambda guide: reparam.AutoPathwise()),
    "AutoRelax": Case(lambda: dist.Bernoulli(0.3), lambda guide: reparam.AutoRelax(0.7)),
    "AutoRelax-hard": Case(
        lambda: dist.Bernoulli(0.3), lambda guide: reparam.AutoRelax(0.7, straight_through=True)
    ),
}
SHIPPED = {name for name in reparam.__all__ if name != "NoncenteredReparam"}


def test_every_reparameteriser_has_a_case():
    assert {name.split("-")[0] for name in CASES} == SHIPPED


class Layout(NamedTuple):
    """Plates from the outermost, as (name, size, subsample size); the place of the handler."""

    plates: tuple[tuple[str, int, int | None], ...]
    places: tuple[int, ...]


LAYOUTS = {
    "one plate": Layout((("rows", 10, None),), (1,)),
    "two plates": Layout((("columns", 3, None), ("rows", 10, None)), (1, 2)),
    "subsampled": Layout((("rows", 10, 4),), (1,)),
    "one of two subsampled": Layout((("columns", 6, 3), ("rows", 10, None)), (1, 2)),
}
WHERE = [(name, place) for name, layout in LAYOUTS.items() for place in layout.places]


def program(case: Case, layout: str, place: int, guide: bool = False, observed: bool = False):
    """With the handler entered after so many plates; outside of all at 0."""
    config = case.config(guide)

    def run():
        plates = LAYOUTS[layout].plates
        with ExitStack() as stack:
            for i, (name, size, subsample) in enumerate(plates):
                if i == place:
                    stack.enter_context(poutine.reparam(config=config))
                dim = i - len(plates)
                stack.enter_context(pyro.plate(name, size, subsample_size=subsample, dim=dim))
            if place == len(plates):
                stack.enter_context(poutine.reparam(config=config))
            x = pyro.sample("x", case.fn())
            if observed:
                fn = case.fn()
                loc = x.to(torch.get_default_dtype())
                loc = loc.sum(tuple(range(-len(fn.event_shape), 0))) if fn.event_shape else loc
                shape = torch.Size([sub or size for _, size, sub in plates])
                y = torch.linspace(-1.0, 2.0, shape.numel()).reshape(shape)
                pyro.sample("y", dist.Normal(loc, 1.0), obs=y)
        return x

    return run


def scored(run: Callable) -> dict[str, tuple]:
    pyro.set_rng_seed(7)
    trace = poutine.trace(run).get_trace()
    trace.compute_log_prob()
    return {
        name: (node["value"], node["log_prob"], node["is_observed"], node["scale"])
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and hasattr(node["fn"], "event_dim")
    }


def assert_same(given: dict, expected: dict) -> None:
    assert given.keys() == expected.keys()
    for name in given:
        for x, y in zip(given[name], expected[name], strict=True):
            if isinstance(x, torch.Tensor):
                torch.testing.assert_close(x, y, equal_nan=True)
            else:
                assert x == y


@pytest.mark.parametrize("guide", [False, True])
@pytest.mark.parametrize("particles", [None, 5])
@pytest.mark.parametrize(("layout", "place"), WHERE)
@pytest.mark.parametrize("name", CASES)
def test_the_same_draws_and_densities(name, layout, place, particles, guide):
    """As with the handler outside, and with a plate of particles around all."""
    case = CASES[name]
    sides = []
    for where in (place, 0):
        run = program(case, layout, where, guide, observed=not guide)
        if particles is not None:
            depth = len(LAYOUTS[layout].plates)
            run = pyro.plate("num_particles_vectorized", particles, dim=-1 - depth)(run)
        sides.append(scored(run))
    assert_same(*sides)
    batch = [sub or size for _, size, sub in LAYOUTS[layout].plates]
    full = torch.Size([particles, *batch] if particles else batch)
    site = case.latent if not guide else "x"
    assert sides[0][site][1].shape == full
    assert len(sides[0][case.latent][0].flatten(0, len(full) - 1).unique(dim=0)) > 1


INITS = {
    "feasible": init_to_feasible,
    "sample": init_to_sample,
    "median": init_to_median,
    "mean": init_to_mean,
    "uniform": init_to_uniform,
}


SCALARS = ("feasible", "uniform")
VECTORS = ("feasible", "uniform", "median", "mean")
UNKNOWN = {
    "RelaxReparam": SCALARS,
    "RelaxReparam-one-hot": VECTORS,
    "RelaxReparam-hard": VECTORS,
    "GumbelMaxReparam": VECTORS,
    "GumbelMaxReparam-integer": SCALARS,
    "GumbelMaxReparam-binary": SCALARS,
    "GumbelMaxReparam-order": VECTORS,
}
"""Initial values that a site does not have, wherever the handler is."""


@pytest.mark.parametrize(("name", "init"), [(name, init) for name in UNKNOWN for init in UNKNOWN[name]])
def test_unknown_initial_values_raise(name, init):
    with pytest.raises((ValueError, NotImplementedError, RuntimeError)):
        AutoDelta(program(CASES[name], "one plate", 0), init_loc_fn=INITS[init])()


def known_initial_values():
    """All (name, init, layout, place)."""
    for name, init, (layout, place) in product(CASES, INITS, WHERE):
        if init not in UNKNOWN.get(name, ()):
            yield name, init, layout, place


@pytest.mark.parametrize(("name", "init", "layout", "place"), [*known_initial_values()])
def test_initial_values_are_one_an_element(name, layout, place, init):
    case = CASES[name]
    shapes = []
    pyro.set_rng_seed(0)
    for where in (0, place):
        guide = AutoDelta(program(case, layout, where), init_loc_fn=INITS[init])
        guide()
        shapes.append({k: v.shape for k, v in guide.named_parameters()})
    assert shapes[0] == shapes[1]
    assert list(shapes[0]) == [f"{case.latent}_unconstrained"] or list(shapes[0]) == [case.latent]
    if init == "sample" and layout == "one plate":
        value = guide.median()[case.latent]
        assert len(value.flatten(0, len(LAYOUTS[layout].plates) - 1).unique(dim=0)) > 1


@pytest.mark.parametrize("name", CASES)
def test_given_initial_values_are_kept(name):
    """Of the full shape; of another, an error says so, or the site gets its own."""
    case = CASES[name]
    start = program(case, "one plate", 0)()
    values = {"x": start}
    guides = []
    for where in (0, 1):
        guide = AutoDelta(program(case, "one plate", where), init_loc_fn=init_to_value(values=values))
        guide()
        guides.append({k: v.detach() for k, v in guide.median().items()})
    assert_same(*({k: (v,) for k, v in x.items()} for x in guides))


@pytest.mark.parametrize("name", CASES)
def test_own_initialisers(name):
    """A function of one element: its tensors are never written to."""
    case = CASES[name]
    one = case.fn().sample()
    before = one.clone()
    guide = AutoDelta(program(case, "one plate", 1), init_loc_fn=lambda site: one)
    try:
        guide()
    except pre.EstimatorError as error:
        assert "site 'x'" in str(error) and "enter poutine.reparam outside of the plates" in str(error)
    assert one.shape == before.shape and torch.equal(one, before)


def test_ten_posteriors():
    r"""x_i ~ N(1, 2^2), y_i ~ N(x_i, 1): noise (x_i - 1) / 2 is N(.4 (y_i - 1), 1 / 5)."""
    y = torch.arange(10.0)

    def model():
        with pyro.plate("n", 10), poutine.reparam(config={"x": reparam.StandardizeReparam()}):
            x = pyro.sample("x", dist.Normal(torch.tensor(1.0), 2.0))
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(50, vectorize_particles=True))
    for _ in range(600):
        svi.step()
    torch.testing.assert_close(guide.median()["x_standard"], 0.4 * (y - 1), atol=0.1, rtol=0.0)


def test_ten_posteriors_by_nuts():
    def model():
        with pyro.plate("n", 10), poutine.reparam(config={"x": reparam.StandardizeReparam()}):
            x = pyro.sample("x", dist.Normal(torch.tensor(1.0), 2.0))
            pyro.sample("y", dist.Normal(x, 1.0), obs=torch.arange(10.0))

    mcmc = MCMC(NUTS(model), num_samples=20, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["x_standard"].shape == (20, 10)


@pytest.mark.parametrize("elbo", [Trace_ELBO, pre.TraceEstimator_ELBO])
@pytest.mark.parametrize("particles", [1, 6])
@pytest.mark.parametrize("name", CASES)
def test_losses(name, particles, elbo):
    """A guide and a model reparameterised inside of their plates have the loss of those outside."""
    case = CASES[name]
    on_model = not case.latent.startswith("x_") or name == "GumbelMaxReparam-matching"
    losses = []
    for where in (1, 0):
        guide = program(case, "one plate", where, guide=True)
        model = program(case, "one plate", where if on_model else 0, observed=True)
        if not on_model:
            plain = case._replace(config=lambda guide: {})
            model = program(plain, "one plate", 0, observed=True)
        pyro.set_rng_seed(3)
        options = {"num_particles": particles, "vectorize_particles": True, "max_plate_nesting": 1}
        losses.append(elbo(**options).loss(model, guide))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("place", [0, 1])
def test_a_temperature_for_each_element(place):
    case = Case(lambda: dist.Bernoulli(0.3), same(reparam.RelaxReparam, torch.linspace(0.2, 2.0, 10)))
    assert scored(program(case, "one plate", place))["x"][0].shape == (10,)


def test_a_hidden_site_has_no_dims_of_plates_further_out():
    def model():
        with (
            pyro.plate("n", 10),
            poutine.block(),
            poutine.reparam(config={"x": reparam.StandardizeReparam()}),
        ):
            return pyro.sample("x", dist.Normal(1.0, 2.0))

    assert model().shape == ()


def test_predictive():
    case = CASES["StandardizeReparam"]
    samples = Predictive(program(case, "one plate", 1), num_samples=5, parallel=True)()
    assert samples["x"].shape == samples["x_standard"].shape == (5, 10)


def test_pyro_s_own_has_one_initial_value():
    """What the documentation says of them; to be taken out when Pyro has changed."""

    def model():
        with pyro.plate("n", 10), poutine.reparam(config={"x": LocScaleReparam(0.0)}):
            pyro.sample("x", dist.Normal(torch.tensor(1.0), 2.0))

    guide = AutoNormal(model)
    guide()
    assert guide.median()["x_decentered"].shape == ()

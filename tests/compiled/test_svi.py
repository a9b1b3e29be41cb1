"""What opens a graph, what can't be one, and what is said of it."""

import copy
import math
import random
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceGraph_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam, ClippedAdam, RMSprop
from torch.utils.data import DataLoader, TensorDataset

import pyro_reparam_ext as pre
from pyro_reparam_ext.compiled.svi import GRAPHS

from .steps import GraphSVI, adam, assert_same_steps, taken

DATA = torch.linspace(-1.0, 2.0, 12)


def guide(*args):
    loc = pyro.param("loc", torch.tensor(0.3))
    scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def model(x=DATA):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def svi_of(model=model, guide=guide, elbo=None, **options):
    return GraphSVI(model, guide, adam(), elbo or pre.TraceEstimator_ELBO(), **options)


def compiled(svi):
    return [step for step in svi._steps.values() if step is not None]


# -- what opens a graph -----------------------------------------------------------------------------


def test_the_second_step_with_arguments_of_a_kind_is_the_first_of_a_graph():
    svi = svi_of()
    for count, x in ((0, DATA), (1, DATA), (1, DATA[:5]), (2, DATA[:5]), (2, DATA), (2, DATA + 1)):
        svi.step(x)
        assert len(compiled(svi)) == count


@pytest.mark.parametrize(
    "other",
    [
        lambda: (DATA.double(),),
        lambda: (torch.stack([DATA, DATA], -1)[:, 0],),
        lambda: (DATA, 2.0),
        lambda: ([DATA, DATA],),
    ],
)
def test_another_type_stride_or_argument_opens_one(other):
    def model(x, scale=1.0):
        x = x[0] if isinstance(x, list) else x
        z = pyro.sample("z", dist.Normal(0.0, scale))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    svi = svi_of(model)
    for args in ((DATA,), other()):
        for _ in range(3):
            svi.step(*args)
    assert len(compiled(svi)) == 2


def test_training_modes_and_new_parameters_open_one():
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.5))

    def model():
        pyro.module("network", network)
        shift = 0.0 if network.training else pyro.param("shift", torch.tensor(0.5))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(DATA)):
            pyro.sample("x", dist.Normal(z + shift + network(DATA[:, None])[:, 0], 1.0), obs=DATA)

    svi = svi_of(model)
    for mode in (True, False):
        network.train(mode)
        for _ in range(4):
            svi.step()
    assert len(compiled(svi)) == 2
    assert not torch.equal(pyro.param("shift"), torch.tensor(0.5))


def test_a_handler_around_a_step_opens_one():
    def run(cls):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        svi, losses = cls(model, guide, adam(), pre.TraceEstimator_ELBO()), []
        for turn in range(12):
            with poutine.scale(scale=1.0 + turn % 3):
                losses.append(svi.step(DATA))
        return svi, losses

    (_, eager), (svi, graph) = run(SVI), run(GraphSVI)
    assert graph == pytest.approx(eager, rel=1e-5)
    assert len(compiled(svi)) == 3


def test_data_in_a_handler_is_never_stale():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0))

    def run(cls):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        svi, losses = cls(model, guide, adam(), pre.TraceEstimator_ELBO()), []
        for turn in range(6):
            with poutine.condition(data={"x": torch.tensor(float(turn))}):
                losses.append(svi.step())
        return losses

    assert run(GraphSVI) == pytest.approx(run(SVI), rel=1e-5)


def test_there_are_so_many_at_most_and_the_rest_is_eager():
    svi = svi_of()
    said = rf"{GRAPHS} graphs.*Size\(\[9\]\).*Size\(\[10\]\).*Pad batches"
    with pytest.warns(UserWarning, match=said):
        for size in range(2, GRAPHS + 3):
            for _ in range(2):
                svi.step(torch.zeros(size))
    assert len(compiled(svi)) == GRAPHS
    assert math.isfinite(svi.step(torch.zeros(11)))


@pytest.mark.parametrize("optim", [adam, lambda: RMSprop({"lr": 0.01})])
def test_nothing_is_compiled_again_where_nothing_changed(optim):
    svi = GraphSVI(model, guide, optim(), pre.TraceEstimator_ELBO())
    for _ in range(2):
        svi.step(DATA)
    (graph,) = compiled(svi)
    for _ in range(3):
        svi.step(DATA)
    assert compiled(svi) == [graph]


def test_a_cleared_store_is_noticed():
    svi = svi_of()
    for _ in range(3):
        svi.step()
    pyro.clear_param_store()
    for _ in range(3):
        svi.step()
    assert pyro.param("loc") != 0.3


def test_a_loaded_optimiser_is_noticed():
    svi = svi_of()
    for _ in range(3):
        svi.step()
    for optimizer in svi.optim.optim_objs.values():
        optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        svi.step()
    assert all(x["state"][0]["step"] == 6 for x in svi.optim.get_state().values())


# -- what can't be one ------------------------------------------------------------------------------


def branching():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z if z > 0 else -z, 1.0), obs=torch.tensor(1.0))  # here


def reading(how):
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(how(z), 1.0), obs=torch.tensor(1.0))

    return model


READS = {
    "branch": branching,
    "item": reading(lambda z: z.item()),
    "numpy": reading(lambda z: float(z.detach().numpy())),
    "tolist": reading(lambda z: z.tolist()),
    "mask": reading(lambda z: z.reshape(1)[z.reshape(1) > -9].sum()),
    "nonzero": reading(lambda z: z + len(z.reshape(1).nonzero())),
}


@pytest.mark.parametrize("name", READS)
def test_a_value_that_is_read_is_named_by_its_line(name):
    svi = svi_of(READS[name], elbo=Trace_ELBO())
    svi.step()
    before = {name: p.clone() for name, p in pyro.get_param_store().items()}
    with pytest.raises(pre.EstimatorError, match=r"test_svi\.py:\d+.*fallback='eager'"):
        svi.step()
    assert all(torch.equal(p, before[name]) for name, p in pyro.get_param_store().items())


def counting():
    calls = []

    def model():
        calls.append(1)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=1 / len(calls)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    return model


def sub_sampling():
    rows = random.sample(range(len(DATA)), 5)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 5):
        pyro.sample("x", dist.Normal(z, 1.0), obs=DATA[rows])


def growing():
    seen = []

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        seen.append(len(seen))
        pyro.sample("x", dist.Normal(z + sum(seen), 1.0), obs=torch.tensor(1.0))

    return model


def test_a_table_is_indexed_by_one_value():
    table = torch.tensor([-1.0, 0.5, 2.0])

    def model():
        z = pyro.sample("z", dist.Categorical(logits=torch.zeros(3)))
        pyro.sample("x", dist.Normal(table[z], 1.0), obs=torch.tensor(1.0))

    def guide():
        pyro.sample("z", dist.Categorical(logits=pyro.param("logits", torch.zeros(3))))

    assert_same_steps(lambda: (model, guide, pre.TraceEstimator_ELBO(pre.ScoreFunction())), count=6)


CHANGING = {"counter": counting(), "random.sample": sub_sampling, "list": growing()}


@pytest.mark.parametrize("name", CHANGING)
def test_what_python_changes_is_named_by_its_site(name):
    svi = svi_of(CHANGING[name], elbo=Trace_ELBO())
    svi.step()
    with pytest.raises(pre.EstimatorError, match="another graph each time.*site 'x' of the model"):
        svi.step()


def test_a_counter_that_does_not_matter_yet_is_warned_of_once():
    calls = {"so far": 0}

    def model():
        calls["so far"] += 1
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with poutine.scale(scale=1.0 if calls["so far"] > 100 else 0.1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    svi = svi_of(model, elbo=Trace_ELBO())
    svi.step()
    with pytest.warns(UserWarning, match=r"'calls' of .*\['so far'\] changed while"):
        svi.step()
    svi.step()
    assert len(svi._steps) == 1


ANNEALED = 0.1


def test_a_variable_of_python_that_changes_between_steps_opens_a_graph(monkeypatch):
    kept, settings = {"rate": 1.0}, SimpleNamespace(noise=1.0)

    def model():
        z = pyro.sample("z", dist.Normal(0.0, settings.noise))
        with poutine.scale(scale=ANNEALED * kept["rate"]):
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    def change(number):
        monkeypatch.setitem(globals(), "ANNEALED", 0.1 if number < 3 else 0.7)
        kept["rate"] = 1.0 if number < 6 else 2.0
        settings.noise = 1.0 if number < 9 else 0.5
        return ()

    svi = assert_same_steps(lambda: (model, guide, pre.TraceEstimator_ELBO()), change, count=12)
    assert len(svi._steps) == 4


def test_modes_of_networks_that_are_reached_through_a_plain_object_or_made_late():
    class Parts:
        network = None

    parts = Parts()

    def model():
        if parts.network is None:
            parts.network = torch.nn.Dropout(0.5)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(parts.network(z * torch.ones(5)), 1.0).to_event(1), obs=DATA[:5])

    def change(number):
        if parts.network is not None:
            parts.network.train(number < 4)
        return ()

    svi = assert_same_steps(lambda: (model, guide, pre.TraceEstimator_ELBO()), change, count=8)
    assert len(svi._steps) == 2


def test_a_hook_on_a_parameter_is_recorded_when_it_is_there():
    def make(cls):
        svi = cls(model, guide, adam(), pre.TraceEstimator_ELBO())

        def step(number):
            if number == 4:
                pyro.param("loc").unconstrained().register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))
            return svi.step()

        return step

    both(make)


def test_a_hook_on_accumulated_gradients_is_refused():
    svi = svi_of()
    svi.step()
    pyro.param("loc").unconstrained().register_post_accumulate_grad_hook(lambda p: None)
    with pytest.raises(pre.EstimatorError, match="parameter 'loc' has a hook.*Tensor.register_hook"):
        svi.step()


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO, RenyiELBO])
def test_an_elbo_without_a_loss_to_differentiate(elbo):
    svi = svi_of(elbo=elbo())
    svi.step()
    with pytest.raises(pre.EstimatorError, match=f"{elbo.__name__} has no differentiable_loss"):
        svi.step()


def test_the_fallback_warns_once_and_steps_as_svi_does():
    pyro.set_rng_seed(0)
    eager = taken(SVI(branching, guide, adam(), Trace_ELBO()), lambda number: (), 5)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pytest.warns(UserWarning) as warned:
        other = taken(svi_of(branching, elbo=Trace_ELBO(), fallback="eager"), lambda number: (), 5)
    assert [str(w.message)[:30] for w in warned] == ["CompiledSVI steps as SVI does:"]
    for name, x in eager.items():
        torch.testing.assert_close(other[name], x)


def test_other_fallbacks_are_refused():
    with pytest.raises(pre.EstimatorError, match="fallback: expected 'error' or 'eager'"):
        svi_of(fallback="loop")


@pytest.mark.parametrize("argument", [SimpleNamespace(x=DATA), np.ones(3), {1.0, 2.0}, torch.nn.ReLU()])
def test_an_argument_that_may_change_without_a_trace_is_refused(argument):
    svi = svi_of(lambda x: model(), lambda x: guide())
    svi.step(argument)
    with pytest.raises(pre.EstimatorError, match="an argument of step.* is a .*expected tensors"):
        svi.step(argument)


def scaled(how):
    def model(*args):
        with poutine.scale(scale=how(*args)):
            pyro.sample(
                "x", dist.Normal(pyro.param("p", torch.tensor(0.1)), 1.0), obs=torch.tensor(1.0)
            )

    return model


SHAPES_OF_VALUES = {
    "where": lambda x: 1.0 / len(torch.where(x > 0)[0]),
    "bincount": lambda x: float(len(torch.bincount(x.abs().long()))),
    "unique_consecutive": lambda x: float(len(torch.unique_consecutive(x))),
    "repeat_interleave": lambda x: float(len(torch.repeat_interleave(x.abs().long() + 1))),
    "list": lambda x: torch.tensor([x[0].abs(), 1.0]).sum(),
}


@pytest.mark.parametrize("name", SHAPES_OF_VALUES)
def test_shapes_and_lists_of_values_are_reads(name):
    svi = svi_of(scaled(SHAPES_OF_VALUES[name]), lambda x: None, Trace_ELBO())
    svi.step(DATA)
    with pytest.raises(pre.EstimatorError, match="reads a value as a Python number"):
        svi.step(DATA)


def test_random_numbers_of_python_that_seldom_matter_are_found():
    svi = svi_of(scaled(lambda: 2.0 if random.random() < 1e-9 else 1.0), lambda: None, Trace_ELBO())
    svi.step()
    with pytest.raises(pre.EstimatorError, match="counts, draws or keeps"):
        svi.step()


def test_a_seed_in_the_program_is_found():
    svi = svi_of(lambda: model(), poutine.seed(guide, rng_seed=1))
    svi.step()
    with pytest.raises(pre.EstimatorError, match="the program sets a seed"):
        svi.step()


# -- what changes between steps ---------------------------------------------------------------------


def both(make, count=10):
    """Losses of ``make(cls)(step)`` by the eager class and as graphs."""
    out = []
    for cls in (SVI, GraphSVI):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        step = make(cls)
        out.append([step(number) for number in range(count)])
    assert out[1] == pytest.approx(out[0], rel=1e-4, abs=1e-5)


def test_a_parameter_that_is_unused_in_one_kind_of_step():
    def model(labelled):
        a, b = (pyro.param(name, torch.tensor(0.5)) for name in "ab")
        pyro.sample("x", dist.Normal(a if labelled else a + b, 1.0), obs=torch.tensor(1.0))

    def make(cls):
        svi = cls(model, lambda labelled: None, adam(), Trace_ELBO())
        return lambda number: svi.step(number % 2 == 0)

    both(make)


@pytest.mark.filterwarnings("ignore:weight was not registered in the param store")
@pytest.mark.parametrize("frozen_first", [True, False])
def test_parameters_that_are_frozen_or_released(frozen_first):
    def make(cls):
        network = torch.nn.Linear(1, 1)
        network.weight.requires_grad_(not frozen_first)

        def model():
            pyro.module("network", network)
            with pyro.plate("rows", len(DATA)):
                pyro.sample("x", dist.Normal(network(DATA[:, None])[:, 0], 1.0), obs=DATA + 1)

        svi = cls(model, lambda: None, adam(), Trace_ELBO())

        def step(number):
            if number == 5:
                network.weight.requires_grad_(frozen_first)
            return svi.step()

        return step

    both(make)


def test_a_schedule_of_other_settings_than_the_rate():
    def make(cls):
        one_cycle = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}}
        optim = pyro.optim.OneCycleLR({**one_cycle, "max_lr": 0.1, "total_steps": 50})
        svi = cls(model, guide, optim, Trace_ELBO())

        def step(number):
            loss = svi.step(DATA)
            optim.step()
            return loss

        return step

    both(make)


@pytest.mark.parametrize("part", ["model", "optim", "elbo", "beta"])
def test_parts_that_are_replaced(part):
    class Annealed(torch.nn.Module):
        beta = 1.0

        def __init__(self):
            super().__init__()
            self.beta = 1.0

        def forward(self):
            with poutine.scale(scale=self.beta):
                model()

    def make(cls):
        elbo, annealed = Trace_ELBO(), Annealed()
        svi = cls(annealed, guide, adam(), elbo)

        def step(number):
            if number == 5 and part == "model":
                svi.model = lambda: model(DATA + 3)
            elif number == 5 and part == "optim":
                svi.optim = Adam({"lr": 0.5})
            elif number == 5 and part == "elbo":
                elbo.num_particles = 3
            elif number == 5:
                annealed.beta = 0.1
            return svi.step()

        return step

    both(make)


def test_a_rate_that_decays_does_not_in_steps_that_are_not_taken():
    optim = ClippedAdam({"lr": 0.1, "lrd": 0.5})
    svi = GraphSVI(model, guide, optim, pre.TraceEstimator_ELBO())
    for _ in range(3):
        svi.step(DATA)
    with pytest.raises(pre.EstimatorError):
        svi.run(50, DATA * math.nan)
    rates = [x.param_groups[0]["lr"] for x in optim.optim_objs.values()]
    assert rates == pytest.approx([0.0125] * 2)


def test_a_copy_compiles_anew():
    svi = svi_of()
    for _ in range(3):
        svi.step(DATA)
    other = copy.deepcopy(svi)
    assert compiled(svi) and not compiled(other)


# -- values that are not finite ---------------------------------------------------------------------


@pytest.mark.parametrize("elbo", [pre.TraceEstimator_ELBO, Trace_ELBO])
def test_a_batch_that_is_not_finite_leaves_the_state_of_before(elbo):
    svi = svi_of(elbo=elbo())
    for _ in range(4):
        svi.step(DATA)
    before = {name: p.clone() for name, p in pyro.get_param_store().items()}
    state = [x["state"][0]["exp_avg"].clone() for x in svi.optim.get_state().values()]
    bad = DATA.clone()
    bad[3] = math.nan
    with pytest.raises(pre.EstimatorError, match="site 'x' of the model"):
        svi.step(bad)
    assert all(torch.equal(p, before[name]) for name, p in pyro.get_param_store().items())
    after = [x["state"][0]["exp_avg"] for x in svi.optim.get_state().values()]
    assert all(map(torch.equal, state, after))
    assert math.isfinite(svi.step(DATA))
    assert not torch.equal(pyro.param("loc"), before["loc"])


def test_so_does_one_in_the_middle_of_a_run():
    def batches(bad):
        return [torch.full((4,), math.nan) if number == bad else DATA[:4] for number in range(150)]

    pyro.set_rng_seed(0)
    good = svi_of()
    good.run(130, batches=batches(None))
    expected = {name: p.clone() for name, p in pyro.get_param_store().items()}
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = svi_of()
    with pytest.raises(pre.EstimatorError, match="site 'x' of the model"):
        svi.run(150, batches=batches(130))
    for name, p in pyro.get_param_store().items():
        assert torch.equal(p, expected[name])


# -- runs -------------------------------------------------------------------------------------------


def test_a_run_is_its_steps():
    pyro.set_rng_seed(0)
    steps = svi_of()
    losses = [steps.step(DATA) for _ in range(130)]
    expected = pyro.param("loc").item()
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    run = svi_of().run(130, DATA, progress=False)
    assert run.losses.tolist() == losses
    assert pyro.param("loc").item() == expected


@pytest.mark.parametrize("cls", [SVI, GraphSVI])
def test_batches_are_gone_through_as_often_as_it_takes(cls):
    loader = DataLoader(TensorDataset(DATA), batch_size=4)
    svi = cls(model, guide, adam(), pre.TraceEstimator_ELBO())
    assert pre.run_svi(svi, 10, batches=loader).losses.shape == (10,)
    svi = cls(lambda x: model(x), lambda x: guide(), adam(), pre.TraceEstimator_ELBO())
    batches = [{"x": DATA[:4]}, {"x": DATA[4:]}]
    assert pre.run_svi(svi, 3, batches=batches).losses.isfinite().all()


def test_batches_that_end_raise():
    svi = svi_of()
    with pytest.raises(pre.EstimatorError, match="ended after 3 of 5 steps"):
        svi.run(5, batches=iter([DATA] * 3))
    with pytest.raises(pre.EstimatorError, match="there are none"):
        svi.run(5, batches=[])


def test_going_on_eagerly_and_back():
    """Optimiser and parameters hold the truth at any time, in either way of stepping."""

    def turns(first, second):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        optim, elbo, guide = Adam({"lr": 0.05}), pre.TraceEstimator_ELBO(), AutoNormal(model)
        one, two = (cls(model, guide, optim, elbo) for cls in (first, second))
        torch.manual_seed(1)
        return [svi.step(DATA) for svi in (one, one, one, two, two, two, one, one)]

    assert turns(SVI, GraphSVI) == pytest.approx(turns(SVI, SVI), rel=1e-5)
    assert turns(GraphSVI, SVI) == pytest.approx(turns(SVI, SVI), rel=1e-5)


def test_the_progress_bar_is_off_where_there_is_no_terminal(capsys):
    svi_of().run(3, progress=True)
    assert capsys.readouterr().err == ""

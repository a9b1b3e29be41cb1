"""Snapshots of all data: what they leave alone, and what they refuse."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre

Y = torch.tensor([0.5, -0.2, 1.0, 0.3])


def model(index=None):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 4, None if index is not None else 2, index) as index:
        pyro.sample("y", dist.Normal(z, 1.0), obs=Y[index])


def normal(name, of=0.0):
    return pyro.sample(name, dist.Normal(pyro.param(f"{name}_loc", torch.tensor(0.3)) + of, 0.5))


def guide(index=None):
    normal("z")


def elbo_of(estimators=None, **options):
    return pre.TraceEstimator_ELBO(
        pre.JointControlVariate() if estimators is None else estimators, max_plate_nesting=1, **options
    )


def two(index=None):
    z, w = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "zw")
    with pyro.plate("data", 4, 2) as index:
        pyro.sample("y", dist.Normal(z + w, 1.0), obs=Y[index])


def two_guide(index=None):
    normal("z"), normal("w")


def chain_guide(index=None):
    normal("w", normal("z"))


def fixed_guide(index=None):
    normal("z"), pyro.sample("w", dist.Normal(0.0, 1.0))


def learned_noise(index=None):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    scale = pyro.param("noise", torch.tensor(1.0), dist.constraints.positive)
    with pyro.plate("data", 4, 2) as index:
        pyro.sample("y", dist.Normal(z, scale), obs=Y[index])


def learned_shift(index=None):
    """Linear costs, without a Hessian."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(False))
    pyro.factor("cost", z * pyro.param("shift", torch.tensor(1.0)))


def local(index=None):
    with pyro.plate("data", 4, None if index is not None else 2, index) as index:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=Y[index])


def local_guide(index=None):
    loc = pyro.param("locs", torch.zeros(4))
    with pyro.plate("data", 4, None if index is not None else 2, index) as index:
        pyro.sample("z", dist.Normal(loc[index], 0.5))


def own_site(index=None):
    model()
    pyro.sample("own", dist.Normal(0.0, 1.0))


def noisy(index=None):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 4, 2) as index:
        pyro.sample("y", dist.Normal(z * torch.rand(()), 1.0), obs=Y[index])


def of_the_mean(index=None):
    """The square of a mean over a sub-sample: no sum over data."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 4, 2) as index:
        pyro.sample("y", dist.Normal(z, 1.0), obs=Y[index] - Y[index].mean() ** 2)


def one_by_one(part):
    def program(index=None):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        for i in pyro.plate("data", 4, part):
            pyro.sample(f"y_{i}", dist.Normal(z, 1.0), obs=Y[i])

    return program


def overflowing(index=None):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 4, 2) as index:
        pyro.factor("cost", -((z * 1e20) ** 4) * Y[index])


JOINT, INDEX = pre.JointControlVariate(), torch.tensor([0, 2])
REFUSED = {
    "another estimator": (two, two_guide, {"z": JOINT}, {}, "'w'.*Pathwise.*all sites of the guide"),
    "a chain": (two, chain_guide, JOINT, {}, "'z'.*together with 'w'.*AutoDiagonalNormal"),
    "no parameters": (two, fixed_guide, JOINT, {}, "'z'.*together with 'w'"),
    "one by one": (two, two_guide, JOINT, {"vectorize_particles": False}, "together with.*one by one"),
    "a parameter": (learned_noise, guide, JOINT, {}, "'z'.*parameter 'noise'.*TaylorControlVariate"),
    "a linear cost": (learned_shift, guide, JOINT, {}, "'z'.*the parameter 'shift'"),
    "sites of single data": (local, local_guide, JOINT, {}, "'z'.*plate 'data', which sub-samples"),
    "a site of the model": (own_site, guide, JOINT, {}, "'own'.*draws by itself.*Add it to the guide"),
    "random costs": (noisy, guide, JOINT, {}, "differ between two evaluations.*outside of its sites"),
    "no sum": (of_the_mean, guide, JOINT, {}, "plate 'data'.*no sum over its data"),
    "an overflow": (overflowing, guide, JOINT, {}, "'z'.*gradient or a Hessian.*not finite"),
    "repeats": (one_by_one(3), guide, JOINT, {}, "plate 'data'.*one by one.*3 of 4 data"),
    "no site": (model, guide, pre.Pathwise(), {}, "'z'.*Pathwise.*expected JointControlVariate"),
}


@pytest.mark.filterwarnings("ignore:Found vars in model", "ignore:.*random numbers that the program")
@pytest.mark.parametrize("mode", [True, "vmap"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_costs_depend_on_beside_the_sites_is_refused(case, mode):
    *programs, estimators, options, match = REFUSED[case]
    elbo = elbo_of(estimators, **{"vectorize_particles": mode, **options})
    with pytest.raises(pre.EstimatorError, match=match):
        pre.take_snapshot(elbo, *programs)


def test_sites_of_given_data_are_refused():
    with pytest.raises(pre.EstimatorError, match="'z'.*plate 'data', which sub-samples"):
        pre.take_snapshot(elbo_of(), local, local_guide, [(INDEX,)])


@pytest.mark.parametrize(
    ("batches", "match"), [([], "batches is empty"), ([INDEX], "type Tensor.*as a tuple")]
)
def test_batches_are_arguments(batches, match):
    with pytest.raises(pre.EstimatorError, match=match):
        pre.take_snapshot(elbo_of(), model, guide, batches)


def test_indices_that_a_plate_draws_beside_given_batches():
    def unused(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 4, len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def used(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 4, 2) as index:
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y[index])

    pyro.set_rng_seed(0)
    elbo = elbo_of()
    pre.take_snapshot(elbo, unused, guide, [(Y[:2],), (Y[2:],)])
    (state,) = elbo.states.values()
    torch.testing.assert_close(state.slope, 0.3 + (0.3 - Y).sum())
    with pytest.raises(pre.EstimatorError, match="'data'.*depend on the indices that it draws"):
        pre.take_snapshot(elbo, used, guide, [(Y[:2],)])


def test_an_error_leaves_the_last_snapshot():
    elbo = elbo_of()
    pre.take_snapshot(elbo, model, guide)
    (state,) = elbo.states.values()
    before = {name: x.clone() for name, x in elbo.states.state_dict().items()}
    pyro.param("z_loc").data.add_(1.0)
    names = set(pyro.get_param_store())
    for programs in ((learned_noise, guide), (two, chain_guide), (one_by_one(3), guide)):
        with pytest.raises(pre.EstimatorError):
            pre.take_snapshot(elbo, *programs)
    assert set(pyro.get_param_store()) == names
    assert state.sites == {"z"}
    torch.testing.assert_close(dict(elbo.states.state_dict()), before)
    elbo.loss_and_grads(model, guide)  # and goes on
    with pyro.plate("data", 4, 2) as index:
        assert len(index) == 2


def test_gradients_and_parameters_stay():
    elbo = elbo_of(num_particles=2)
    elbo.loss_and_grads(model, guide)
    store = pyro.get_param_store()
    before = store["z_loc"].grad.clone(), store["z_loc"].detach().clone()
    pre.take_snapshot(elbo, model, guide)
    torch.testing.assert_close((store["z_loc"].grad, store["z_loc"].detach()), before)


def test_it_is_of_all_data_at_the_mean():
    elbo = elbo_of()
    pre.take_snapshot(elbo, model, guide)
    (state,) = elbo.states.values()
    assert torch.equal(state.point, pyro.param("z_loc"))
    torch.testing.assert_close(state.slope, 0.3 + (0.3 - Y).sum())
    torch.testing.assert_close(state.hessian, torch.tensor(5.0))


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_a_plate_of_guide_and_model(mode):
    def with_plate(part):
        with pyro.plate("data", 4, part):
            pass
        normal("z")

    def of_part(part):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 4, part) as index:
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y[index])

    elbo = elbo_of(vectorize_particles=mode)
    pre.take_snapshot(elbo, of_part, with_plate, part=3)
    (state,) = elbo.states.values()
    torch.testing.assert_close(state.slope, 0.3 + (0.3 - Y).sum())


@pytest.mark.parametrize("mode", [True, False])
def test_a_plate_that_is_run_one_by_one(mode):
    elbo = elbo_of(vectorize_particles=mode)
    pre.take_snapshot(elbo, one_by_one(2), guide)
    (state,) = elbo.states.values()
    torch.testing.assert_close(state.slope, 0.3 + (0.3 - Y).sum())


TABLE = torch.linspace(-1.0, 2.0, 35, dtype=torch.float64).reshape(5, 7)


def rows_and_columns(rows=None, columns=None):
    """Counts in a table of five by seven, with costs of rows alone, too."""
    z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
    with pyro.plate("rows", 5, rows, dim=-2) as row:
        pyro.sample("r", dist.Poisson((z[..., 0] * TABLE[row, :1]).exp()), obs=1.0 + row[:, None])
        with pyro.plate("columns", 7, columns, dim=-1) as column:
            rate = (z[..., 1] * TABLE[row][:, column]).exp()
            pyro.sample("y", dist.Poisson(rate), obs=(row[:, None] + column).double())


def pair_guide(rows=None, columns=None):
    loc = pyro.param("loc", torch.tensor([0.3, -0.4], dtype=torch.float64))
    pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))


@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize("mode", [True, "vmap", False])
@pytest.mark.parametrize(("rows", "columns"), [(3, None), (2, 7), (5, 3), (2, 3), (4, 5)])
def test_parts_that_do_not_divide_the_data(rows, columns, mode, particles):
    """A hidden bias would be here: the snapshot is the gradient of all data, to rounding."""
    options = {"max_plate_nesting": 2 + (particles > 1), "vectorize_particles": mode}
    elbo = pre.TraceEstimator_ELBO(JOINT, num_particles=particles, **options)
    pre.take_snapshot(elbo, rows_and_columns, pair_guide, rows=rows, columns=columns)
    (state,) = elbo.states.values()

    def costs(z):
        trace = poutine.trace(poutine.condition(rows_and_columns, {"z": z})).get_trace()
        return -trace.log_prob_sum()

    z = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(costs(z), z)
    hessian = torch.autograd.functional.hessian(costs, z).diagonal()
    torch.testing.assert_close(state.slope, slope, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.hessian, hessian, rtol=1e-12, atol=1e-12)


def test_other_sites_than_those_of_the_snapshot_are_named():
    elbo = elbo_of()
    pre.take_snapshot(elbo, two, two_guide)
    with pytest.raises(pre.EstimatorError, match=r"'z'.*\['w', 'z'\] together.*\['z'\]"):
        elbo.loss_and_grads(model, guide)


def test_particles_may_change():
    pyro.set_rng_seed(0)
    one, several = elbo_of(), elbo_of(num_particles=3)
    several.loss_and_grads(model, guide)
    pre.take_snapshot(several, model, guide)
    one.states = several.states
    one.loss_and_grads(model, guide)
    pre.take_snapshot(one, model, guide)
    several.loss_and_grads(model, guide)


def test_a_guide_that_differs_from_batch_to_batch_is_refused():
    x = torch.tensor([0.2, -1.0, 3.0, 0.5], dtype=torch.float64)

    def model(batch):
        z = pyro.sample("z", dist.Normal(x.new_tensor(0.0), 1.0))
        with poutine.scale(scale=2.0), pyro.plate("data", 2):
            pyro.sample("y", dist.Normal(z * batch, 1.0), obs=batch)

    def guide(batch):
        slope = pyro.param("slope", x.new_tensor(0.5))
        pyro.sample("z", dist.Normal(slope * batch.mean(), 1.0))

    elbo = pre.TraceEstimator_ELBO(pre.JointControlVariate(), max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match="'z'.*differs from batch to batch.*Taylor"):
        pre.take_snapshot(elbo, model, guide, [(x[:2],), (x[2:],)])


def test_costs_that_are_scaled_by_what_a_batch_has_observed_are_refused():
    """The first and the last datum are alike: only a closer look tells."""
    y = torch.arange(12, dtype=torch.float64) / 3
    seen = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 1, 1], dtype=torch.bool)

    def model():
        z = pyro.sample("z", dist.Normal(y.new_tensor(0.0), 1.0))
        with pyro.plate("data", 12, subsample_size=4) as i:
            scale = seen.sum() / 12 * 4 / seen[i].sum().clamp(min=1)
            with poutine.scale(scale=scale), poutine.mask(mask=seen[i]):
                pyro.sample("y", dist.Normal(z, 1.0), obs=y[i])

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", y.new_tensor(0.5)), 1.0))

    elbo = pre.TraceEstimator_ELBO(pre.JointControlVariate(), max_plate_nesting=1)
    with pytest.raises(pre.EstimatorError, match="'data'.*no sum over its data"):
        pre.take_snapshot(elbo, model, guide)


def test_what_is_no_snapshot_of():
    def fixed():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    elbo = pre.TraceEstimator_ELBO(pre.JointControlVariate())
    with pytest.raises(pre.EstimatorError, match="'z'.*without a parameter that is learned"):
        pre.take_snapshot(elbo, fixed, fixed)
    with pytest.raises(pre.EstimatorError, match="batches is of type int.*for each batch"):
        pre.take_snapshot(elbo, fixed, fixed, 3)
    with pytest.raises(
        pre.EstimatorError, match="of type Trace_ELBO, expected the TraceEstimator_ELBO"
    ):
        pre.take_snapshot(pyro.infer.Trace_ELBO(), fixed, fixed)

"""Snapshots of all data: what they leave alone, and what they refuse."""

import pyro
import pyro.distributions as dist
import pytest
import torch

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


JOINT, INDEX = pre.JointControlVariate(), torch.tensor([0, 2])
REFUSED = {
    "another estimator": (two, two_guide, {"z": JOINT}, {}, "'w'.*Pathwise.*all sites of the guide"),
    "a chain": (two, chain_guide, JOINT, {}, "'z'.*together with 'w'.*AutoDiagonalNormal"),
    "no parameters": (two, fixed_guide, JOINT, {}, "'z'.*together with 'w'"),
    "one by one": (two, two_guide, JOINT, {"vectorize_particles": False}, "together with.*one by one"),
    "a parameter": (learned_noise, guide, JOINT, {}, "'z'.*parameter 'noise'.*TaylorControlVariate"),
    "a linear cost": (learned_shift, guide, JOINT, {}, "'z'.*the parameter 'shift'"),
    "sites of single data": (local, local_guide, JOINT, {}, "'z'.*plate 'data', which sub-samples"),
    "no site": (model, guide, pre.Pathwise(), {}, "'z'.*Pathwise.*expected JointControlVariate"),
}


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
    with pytest.raises(pre.EstimatorError, match="indices that plate 'data' draws"):
        pre.take_snapshot(elbo, used, guide, [(Y[:2],)])


def test_an_error_leaves_the_last_snapshot():
    elbo = elbo_of()
    pre.take_snapshot(elbo, model, guide)
    before = {name: x.clone() for name, x in elbo.states.state_dict().items()}
    pyro.param("z_loc").data.add_(1.0)
    with pytest.raises(pre.EstimatorError):
        pre.take_snapshot(elbo, learned_noise, guide)
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
    torch.testing.assert_close(state.point, torch.tensor(0.3))
    torch.testing.assert_close(state.slope, 0.3 + (0.3 - Y).sum())
    torch.testing.assert_close(state.hessian, torch.tensor(5.0))


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

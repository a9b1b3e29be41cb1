"""Derivatives of the costs in values of sites: of the evaluations that were asked for, each once."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_reparam_ext as pre
from pyro_reparam_ext.estimators.protocol import Branch

from ..sampling import gradients

SEEN = {}


@dataclass(frozen=True, eq=False)
class Looking(pre.DoubleCV):
    """Keeps the slopes at the ordinary value that it is given."""

    def surrogate(self, evaluations):
        SEEN[evaluations.site.name] = evaluations.site.value.detach(), evaluations.gradient(0).detach()
        return super().surrogate(evaluations)


def bits(name, plate):
    def probs():
        return torch.sigmoid(pyro.param(f"logits_{name}", torch.tensor([0.2, -0.1, 0.4])))

    if not plate:
        return pyro.sample(name, dist.Bernoulli(probs()).to_event(1))
    with pyro.plate("plate", 3):
        return pyro.sample(name, dist.Bernoulli(probs()))


@pytest.mark.parametrize("enumerated", [False, True])
@pytest.mark.parametrize("plates", [(False, False), (False, True)], ids=["equal", "other"])
def test_slopes_of_several_sites(plates, enumerated):
    def program(latent):
        coin = 1.0
        if enumerated:
            coin += pyro.sample("coin", dist.Bernoulli(pyro.param("coin_probs", torch.tensor(0.3))))
        a, b = bits("a", plates[0]), bits("b", plates[1])
        if not latent:
            pyro.factor("cost", -coin * a.sum() * b.sum())

    estimators = {"a": Looking(), "b": Looking()} | ({"coin": pre.Enumeration()} if enumerated else {})
    elbo = pre.TraceEstimator_ELBO(estimators, vectorize_particles="vmap", max_plate_nesting=1)
    for _ in range(3):
        elbo.loss_and_grads(lambda: program(False), lambda: program(True))
    (a, slope_a), (b, slope_b) = SEEN["a"], SEEN["b"]
    factor = 1 + (pyro.param("coin_probs").item() if enumerated else 0)
    # The log densities of guide and model, which are the same, cancel.
    torch.testing.assert_close(slope_a.flatten(), (factor * b.sum()).expand(3))
    torch.testing.assert_close(slope_b.flatten(), (factor * a.sum()).expand(3))


@pytest.mark.parametrize("mode", [True, "vmap", False])
def test_one_particle_of_a_bound_lands_in_all_plates(mode):
    """The doubly reparameterised gradient is that of sticking the landing, site by site."""
    double = torch.float64

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("z_loc", torch.tensor(0.5, dtype=double)), 1.0))
        with pyro.plate("plate", 3):
            pyro.sample("w", dist.Normal(pyro.param("w_loc", torch.zeros(3, dtype=double)), 1.0))

    def model():
        z = pyro.sample("z", dist.Normal(torch.tensor(0.0, dtype=double), 1.0))
        with pyro.plate("plate", 3):
            pyro.sample("w", dist.Normal(z.sin(), 1.0))

    found = []
    for elbo in (
        pre.ImportanceWeighted_ELBO(1, vectorize_particles=mode, max_plate_nesting=1),
        pre.TraceEstimator_ELBO(
            pre.StickingTheLanding(), vectorize_particles=mode, max_plate_nesting=1
        ),
    ):
        elbo.loss(model, guide)
        pyro.set_rng_seed(1)
        found.append(gradients(elbo, model, guide, ["z_loc", "w_loc"], 1)[0, 1:])
    torch.testing.assert_close(*found)


def test_joint_branches_that_can_not_be_shared_are_named():
    @dataclass(frozen=True, eq=False)
    class Joint(pre.Pathwise):
        def alternatives(self, site):
            return (Branch(2, lambda a, b: site.value[None][a:b], joint=True),)

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    elbo = pre.TraceEstimator_ELBO(Joint())
    with pytest.raises(pre.EstimatorError, match="'z'.*Joint are joint with a count of 2.*order of 0"):
        elbo.loss_and_grads(guide, guide)


@pytest.mark.parametrize("per_particle", [False, True])
def test_joint_slopes_are_those_of_one_particle(per_particle):
    """Of costs that differ between the particles, by another site, and of costs that don't."""
    joints, factors = [], []

    @dataclass(frozen=True, eq=False)
    class Taylor(pre.TaylorControlVariate):
        def surrogate(self, evaluations):
            joints.append(evaluations.joint)
            return super().surrogate(evaluations)

    def guide():
        g = pyro.sample("g", dist.Gamma(3.0, pyro.param("rate", torch.tensor(2.0))))
        factors.append(g)
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.4)), 1.0))

    def model():
        g = pyro.sample("g", dist.Gamma(3.0, 2.0))
        z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(False))
        pyro.factor("differs", -g * z**3)
        pyro.factor("same", -5 * z**2)

    estimators = {"z": Taylor(per_particle=per_particle)}
    elbo = pre.TraceEstimator_ELBO(estimators, num_particles=4, max_plate_nesting=1)
    for _ in range(6):
        factors.clear()
        elbo.loss_and_grads(model, guide)
    part, g = joints[-1].parts["z"], factors[0].detach().flatten()
    assert part.count == (1 if per_particle else 4)
    slopes = g * 3 * 0.4**2 + 10 * 0.4  # log q is flat at its mean
    curvature, way = g * 6 * 0.4 + 10 - 1, (part.value - 0.4).flatten()
    moved = curvature * way if per_particle else curvature.mean() * way.mean()
    slope = slopes if per_particle else slopes.mean()
    torch.testing.assert_close(joints[-1].slope("z").flatten(), slope.reshape(-1))
    torch.testing.assert_close(joints[-1].moved["z"].flatten(), moved.reshape(-1))


def test_joint_slopes_are_the_same_in_a_hidden_dim():
    """Under ``vmap`` a cost that is the same in all particles has no dim of them."""
    found = []

    @dataclass(frozen=True, eq=False)
    class Taylor(pre.TaylorControlVariate):
        def surrogate(self, evaluations):
            joint = evaluations.joint
            found.append((joint.slope("z").flatten(), joint.moved["z"].flatten()))
            return super().surrogate(evaluations)

    def guide():
        pyro.sample("g", dist.Gamma(3.0, pyro.param("rate", torch.tensor(2.0))))
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.4)), 1.0))

    def model():
        g = pyro.sample("g", dist.Gamma(3.0, 2.0))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("differs", -g * z**3)
        pyro.factor("same", -5 * z**2)

    last = []
    for mode in (True, "vmap"):
        elbo = pre.TraceEstimator_ELBO(
            {"z": Taylor()}, num_particles=4, max_plate_nesting=1, vectorize_particles=mode
        )
        for _ in range(6):
            elbo.loss(model, guide)
        pyro.set_rng_seed(0)
        elbo.loss_and_grads(model, guide)
        last.append(found[-1])
    torch.testing.assert_close(*last)

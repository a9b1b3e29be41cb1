"""Every ELBO counts all of the density of a guide of weight matrices."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import init_to_value

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import AutoKTiedNormal, AutoMatrixNormal, AutoRankOneNormal

SHAPES = {"weight": (4, 3), "positive": (2, 3), "scale": (), "group": (5, 3, 2)}


def prior_only():
    """Matrices and numbers with locations away from 0, most of them positive."""

    def positive(*shape):
        return dist.LogNormal(torch.full(shape, 2.0).double(), 0.3).to_event(len(shape))

    pyro.sample("weight", dist.Normal(torch.full((4, 3), 1.5).double(), 0.3).to_event(2))
    pyro.sample("positive", positive(2, 3))
    pyro.sample("scale", positive())
    with pyro.plate("groups", 5):
        pyro.sample("group", positive(3, 2))


PARTICLES = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
VALUED = {
    "Trace_ELBO": Trace_ELBO(),
    "TraceGraph_ELBO": TraceGraph_ELBO(),
    "TraceMeanField_ELBO": TraceMeanField_ELBO(),
    "TraceEstimator_ELBO": pre.TraceEstimator_ELBO(num_particles=1),
    **{
        f"vectorised {cls.__name__}": cls(
            num_particles=3, vectorize_particles=True, max_plate_nesting=1
        )
        for cls in (Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, pre.TraceEstimator_ELBO)
    },
}


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("elbo", list(VALUED))
@pytest.mark.parametrize("cls", [AutoKTiedNormal, AutoMatrixNormal, AutoRankOneNormal])
def test_the_bound_of_a_guide_that_is_the_prior(cls, elbo, scale):
    """It is 0 at every draw, if all of the guide's density is counted, as little as that may be."""
    start = {"weight": torch.full((4, 3), 1.5)}
    for name in ("positive", "scale", "group"):
        start[name] = torch.full(SHAPES[name], 2.0).exp()
    start = {name: x.double() for name, x in start.items()}
    guide = cls(prior_only, init_loc_fn=init_to_value(values=start), init_scale=0.3)
    guide()
    if cls is AutoRankOneNormal:
        # So little noise in common that the law is that of independent normals.
        for side in ("row", "column"):
            module = getattr(guide, f"{side}_scales")
            for name in ("weight", "positive", "group"):
                setattr(module, name, torch.full_like(getattr(module, name), 1e-5))
    pyro.clear_param_store()
    programs = (poutine.scale(program, scale) for program in (prior_only, guide))
    with torch.no_grad():
        assert abs(VALUED[elbo].loss(*programs)) < 1e-3

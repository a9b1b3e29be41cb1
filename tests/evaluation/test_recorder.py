"""What is recorded of a program: its sites with all dims, and what it saw itself."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.evaluation.axes import PARTICLES, Hidden, Visible
from pyro_reparam_ext.evaluation.control_flow import ControlFlow
from pyro_reparam_ext.evaluation.recorder import Recorder

COUNT = 5


class Drawing(Recorder):
    """Draws each site in its full form and gives the program its part."""

    def sample(self, message, fn):
        if message["is_observed"]:
            return frozenset()
        self.give(message, fn.sample())
        return frozenset([message["name"]]) if self.tracking else frozenset()


def program(shapes):
    z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("rows", 4, subsample_size=2) as index, pyro.poutine.scale(scale=2.0):
        w = pyro.sample("w", dist.Bernoulli(logits=z[0].expand(2)))
        pyro.sample("x", dist.Normal(z.sum() + w, 1.0), obs=torch.zeros(2))
    shapes.update(z=z.shape, w=w.shape, index=index.shape)


def record(axes, tracking=False):
    shapes, recorder = {}, Drawing(axes, ControlFlow(), tracking)
    with recorder, axes.running():
        program(shapes)
    return recorder, shapes


def test_nodes_have_all_dims_and_the_program_sees_none():
    axes = Hidden(COUNT, 2)
    recorder, shapes = record(axes)
    axes.close()
    assert shapes == {"z": (3,), "w": (2,), "index": (2,)}
    assert recorder.nodes["z"]["value"].shape == (COUNT, 1, 3)
    assert recorder.nodes["w"]["value"].shape == (COUNT, 2)
    x = recorder.nodes["x"]
    assert x["fn"].batch_shape == (COUNT, 2)
    expected = recorder.nodes["z"]["value"].sum(-1) + recorder.nodes["w"]["value"]
    torch.testing.assert_close(x["fn"].mean, expected)
    assert [frame.name for frame in x["cond_indep_stack"]] == ["rows", PARTICLES]
    assert x["scale"] == 4.0


@pytest.mark.parametrize("tracking", [True, False])
def test_provenance_is_kept_beside_the_nodes(tracking):
    recorder, shapes = record(Visible(), tracking)
    assert shapes["z"] == (3,)
    for name in ("z", "w", "x"):
        node = recorder.nodes[name]
        assert type(node["value"]) is torch.Tensor
    if tracking:
        assert recorder.upstream["w"] >= {"z"} and recorder.upstream["x"] >= {"z", "w"}
        assert "w" not in recorder.upstream["z"]
    else:
        assert not recorder.upstream


def test_one_particle_has_no_dim():
    axes = Hidden(1, 1)
    recorder, _ = record(axes)
    axes.close()
    assert recorder.nodes["z"]["value"].shape == (3,)
    assert [frame.name for frame in recorder.nodes["x"]["cond_indep_stack"]] == ["rows"]

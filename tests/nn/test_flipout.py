"""Flipout against its formula; its gradients are tested along with local reparameterisation's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pyro import poutine

import pyro_reparam_ext as pre

from .mean_field import MeanField, flat


def outputs(model, guide, x, **options):
    with pre.nn.flipout(**options):
        trace = poutine.trace(guide).get_trace(x)
        return trace, poutine.replay(model, trace=trace)(x)


def test_each_example_has_the_draw_up_to_signs():
    """One input, one output: the deviation of each example is the draw's, plus or minus."""
    guide = MeanField({"w": (1, 1), "b": (1,)})
    x = torch.ones(64, 1, dtype=torch.float64)
    trace, output = outputs(lambda x: F.linear(x, flat("w", (1, 1)), flat("b", (1,))), guide, x)
    w, b = (trace.nodes[name]["value"] - guide.loc[name] for name in ("w", "b"))
    deviation = output - (guide.loc["w"] + guide.loc["b"])
    possible = torch.stack(
        [sign_w * w[0, 0] + sign_b * b[0] for sign_w in (-1, 1) for sign_b in (-1, 1)]
    )
    distance, chosen = (deviation - possible).abs().min(-1)
    assert distance.max() < 1e-12
    assert len(chosen.unique()) == 4


@pytest.mark.parametrize("batch_dim", [0, 1])
def test_positions_of_an_example_share_their_signs(batch_dim):
    guide = MeanField({"w": (4, 3)})
    x = torch.ones(5, 5, 3, dtype=torch.float64)
    _, output = outputs(lambda x: F.linear(x, flat("w", (4, 3))), guide, x, batch_dim=batch_dim)
    across = output.movedim(batch_dim, 0)
    assert (across == across[:, :1]).all()
    assert (across[:, 0] != across[:1, 0]).any()


def test_batch_dim_out_of_range():
    guide = MeanField({"w": (4, 3)})
    with pytest.raises(pre.EstimatorError, match="site 'w': flipout can't serve linear: .*batch_dim=1"):
        outputs(lambda x: F.linear(x, flat("w", (4, 3))), guide, torch.ones(5, 3), batch_dim=1)

"""Views, shifts and multiples of a weight have the law that the same does to its draws."""

from __future__ import annotations

import pytest
import torch
from pyro import poutine

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn.layers.mean_field_normal import MeanFieldNormal

from ..mean_field import MeanField, flat

MASK = torch.tensor([[1.0, 0.0, -2.0], [0.5, 1.0, 3.0]]).double()


def transformed(transform):
    """The weight transformed in the model, the guide, and the guide's draw."""
    guide = MeanField({"w": (2, 3)})
    trace = poutine.trace(guide).get_trace()
    kept = []
    with pre.nn.local_reparameterization():
        model = poutine.replay(lambda: kept.append(transform(flat("w", (2, 3)))), trace=trace)
        model()
    return kept[0], guide, trace.nodes["w"]["value"]


@pytest.mark.parametrize(
    "transform",
    [
        lambda w: w.T,
        lambda w: w.mT,
        lambda w: w.t(),
        lambda w: torch.transpose(w, 0, 1),
        lambda w: w.reshape(3, 2),
        lambda w: w.view(-1),
        lambda w: w.flatten(),
        lambda w: w[None],
        lambda w: w[..., 1:],
        lambda w: w.unsqueeze(0).squeeze(0),
        lambda w: w.permute(1, 0),
        lambda w: w.contiguous().clone(),
        lambda w: w.to(torch.float32),
        lambda w: w.float().double(),
        lambda w: w.expand(2, 3),
        lambda w: w.chunk(3, -1)[1],
        lambda w: torch.split(w, 1)[1],
        lambda w: w.unbind(-1)[2],
        lambda w: 2.0 * w,
        lambda w: w * -0.5,
        lambda w: w / 3,
        lambda w: -w,
        lambda w: w + 1,
        lambda w: 1 - w,
        lambda w: w - 2.0,
        lambda w: torch.sub(w, 2.0),
        lambda w: w * MASK,
        lambda w: MASK * w,
        lambda w: w + MASK,
        lambda w: MASK - w,
        lambda w: w / (MASK + 5),
        lambda w: (2 * w.T + 1).reshape(2, 3),
    ],
)
def test_law(transform):
    weight, guide, draw = transformed(transform)
    torch.testing.assert_close(weight.draw, transform(draw))
    assert isinstance(weight.law, MeanFieldNormal)
    torch.testing.assert_close(weight.law.loc, transform(guide.loc["w"]))
    slope = transform(guide.loc["w"] + guide.scale["w"]) - transform(guide.loc["w"])
    torch.testing.assert_close(weight.law.scale, slope.abs(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "transform",
    [
        lambda w: w.exp(),
        lambda w: w * w,
        lambda w: 1 / w,
        lambda w: w**2,
        lambda w: w.sum(-1),
        lambda w: w.roll(1),
        lambda w: w.expand(4, 2, 3),
        lambda w: w[:, [0, 0, 1]],
        lambda w: torch.cat([w, w]),
        lambda w: w.tanh()[0],
        lambda w: torch.stack([w, 2 * w]),
        lambda w: w.sort(-1)[0],
        lambda w: w.exp().chunk(3, -1)[0],
    ],
)
def test_law_is_lost(transform):
    weight, _, draw = transformed(transform)
    assert "went through" in weight.law
    torch.testing.assert_close(weight.draw, transform(draw))

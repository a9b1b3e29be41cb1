"""Directions at an angle, and how they move."""

import math

import pytest
import torch

from pyro_reparam_ext.numerics.sphere import angle_between, away, direction_at, half_versine, turned_by

from ..statistics import assert_mean

LOC = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_have_the_angle(dtype):
    angle = torch.linspace(0.001, 3.14, 500, dtype=dtype)
    value = direction_at(angle, LOC.to(dtype))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(angle_between(value, LOC.to(dtype)), angle, rtol=1e-5, atol=20 * eps)
    torch.testing.assert_close(
        half_versine(value, LOC.to(dtype)), (angle / 2).sin().square(), rtol=1e-3, atol=20 * eps
    )


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_directions_are_uniform_about_the_axis(dim):
    loc = torch.eye(dim, dtype=torch.float64)[0]
    value = direction_at(torch.full((20_000,), 1.0, dtype=torch.float64), loc)
    rest = value[:, 1:] / math.sin(1.0)
    expected = torch.cat([torch.zeros(dim - 1), torch.full((dim - 1,), 1 / (dim - 1))])
    assert_mean(torch.cat([rest, rest.square()], 1), expected)


def test_away_is_the_derivative_in_the_angle():
    value = direction_at(torch.tensor(0.7, dtype=torch.float64), LOC)
    step = away(value, LOC, angle_between(value, LOC))
    torch.testing.assert_close(step @ step, torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(step @ value, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close((step @ LOC).item(), -math.sin(0.7))


def test_turns_with_the_axis():
    value = direction_at(torch.tensor(0.7, dtype=torch.float64), LOC)
    tangent = direction_at(torch.tensor(math.pi / 2, dtype=torch.float64), LOC)
    generator = torch.outer(tangent, LOC) - torch.outer(LOC, tangent)
    jacobian = torch.stack([turned_by(e, value, LOC) for e in torch.eye(3, dtype=torch.float64)])
    torch.testing.assert_close(jacobian @ tangent, generator @ value)
    torch.testing.assert_close(jacobian @ LOC, torch.zeros(3, dtype=torch.float64))

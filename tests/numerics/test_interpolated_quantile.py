"""Points by a polynomial, against the quantile in double precision."""

import pytest
import torch

from pyro_reparam_ext.numerics.interpolated_quantile import (
    MANY,
    is_worth_it,
    point_at,
    polynomial_terms,
)
from pyro_reparam_ext.numerics.truncated_standard_normal import Frame, frame_of, quantile

INF = float("inf")
# The bulk, tails from their start on, of either side, with and without an end, narrow intervals.
BOUNDS = [
    (-1.0, 2.0),
    (-2.0, 1.0),
    (-INF, INF),
    (1.0, INF),
    (1.0, 1.5),
    (1.01, 4.0),
    (3.0, INF),
    (-INF, -40.0),
    (1e4, INF),
    (5.0, 5.004),
    (0.2, 0.2005),
    (-1e-4, 1e-4),
]


def parameters(bounds):
    low, high = torch.tensor(bounds).T
    return torch.full_like(low, 0.25), torch.full_like(low, 0.5), 0.25 + 0.5 * low, 0.25 + 0.5 * high


def exact(frame, u):
    """Of the frame as float32 has it; away from 1, where its rounding says the point."""
    double = Frame(*(x.double() if x.is_floating_point() else x for x in frame))
    return double.origin + double.unit * quantile(double, u.double())


def test_is_the_quantile():
    """All intervals at once: to a few roundings of the point, and of the distance from an end."""
    frame = frame_of(*parameters(BOUNDS))
    u = torch.cat([torch.logspace(-6, -1, 40), torch.linspace(0.1, 0.98, 50)])[:, None]
    x, expected = point_at(u, *polynomial_terms(frame)).double(), exact(frame, u)
    eps = torch.finfo(torch.float32).eps
    distance = (expected - frame.origin).abs()
    # In the bulk u counts from erf at the end, whose rounding moves the point by that over the density.
    bulk = ~(frame.tail | frame.narrow)
    slack = torch.where(bulk, 0.5 / (1 - torch.erf(distance / frame.unit.abs() / 2**0.5)), 0.0)
    tolerance = eps * (2 * expected.abs() + 4 * distance + 2 * slack * frame.unit.abs())
    assert ((x - expected).abs() <= tolerance).all(), ((x - expected).abs() / tolerance).amax(0)


def test_worth_it_by_shapes():
    batch = torch.zeros(10)
    assert is_worth_it(torch.zeros(MANY), torch.zeros(()))
    assert not is_worth_it(torch.zeros(MANY - 1), torch.zeros(()))
    assert not is_worth_it(torch.zeros(MANY), torch.zeros(MANY // 64 + 1))
    assert not is_worth_it(torch.zeros(MANY, dtype=torch.float64), batch.double())
    assert not is_worth_it(torch.zeros(MANY, 10, device="meta"), batch)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_finite_for_every_uniform_number(bounds):
    eps = torch.finfo(torch.float32).eps
    frame = frame_of(*(x[0] for x in parameters([bounds])))
    u = torch.tensor([0.25 * eps, eps, 0.5, 1 - eps, 1 - 0.5 * eps])
    assert point_at(u, *polynomial_terms(frame)).isfinite().all()


def test_vmap():
    u = torch.linspace(0.01, 0.99, 20)
    given = parameters(BOUNDS)

    def points(*parameters):
        return point_at(u, *polynomial_terms(frame_of(*parameters)))

    torch.testing.assert_close(
        torch.func.vmap(points)(*given), point_at(u[:, None], *polynomial_terms(frame_of(*given))).T
    )

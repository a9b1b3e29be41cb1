"""The tail of a law of large concentration, as that of a normal one with a correction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NEAR = 2e-3
"""Below it the correction is a parabola; above, no digit that counts is lost in it."""


def uniform_tail(
    deviation: Tensor,
    size: Tensor,
    apart: Tensor,
    spread: Tensor,
    root: Tensor | float,
    centre: Tensor | float,
    slope: Tensor | float,
    bend: Tensor | float,
) -> Tensor:
    r"""The lower tail, by Temme's expansion that is uniform in the distance from the centre.

    The tail is an integral over :math:`\eta` of :math:`e^{-s \eta^2 / 2}` times
    :math:`\eta / t(\eta)`, whose expansion by parts is

    .. math::
        \tfrac12 \mathrm{erfc}\big(-\eta \sqrt{s / 2}\big) + \frac{e^{-s \eta^2 / 2}}{\sqrt{2 \pi s}}\;
            \frac{c_0(\eta) + (c_0'(\eta) - c_0'(0)) / (s \eta)}{1 - c_0'(0) / s},
        \qquad c_0 = \frac{1}{\eta} - \frac{1}{t}, \qquad \frac{dt}{d\eta} = \frac{\eta\, v}{t}

    Relative error of the order of :math:`s^{-2}`. See Temme, *The uniform asymptotic expansion of a
    class of integrals related to cumulative distribution functions*, 1982.

    Args:
        deviation: :math:`\eta`, where :math:`s \eta^2 / 2` is what the exponent of the density lacks.
        size: s, the total concentration.
        apart: t, the distance from the centre, in a unit in which it is near :math:`\eta`.
        spread: v.
        root: what :math:`\eta` is small or large against.
        centre: :math:`c_0(0)`.
        slope: :math:`c_0'(0)`.
        bend: :math:`c_0''(0) / 2`.
    """
    near = deviation.abs() < NEAR * root
    eta, t = (torch.where(near, 1.0, x) for x in (deviation, apart))
    first = torch.where(near, centre + (slope + bend * deviation) * deviation, 1 / eta - 1 / t)
    second = torch.where(near, 2 * bend, (eta * spread / t**3 - 1 / eta.square() - slope) / eta) / size
    density = (-0.5 * size * deviation.square()).exp() / (2 * math.pi * size).sqrt()
    normal = 0.5 * torch.erfc(-deviation * (0.5 * size).sqrt())
    return normal + density * (first + second) / (1 - slope / size)

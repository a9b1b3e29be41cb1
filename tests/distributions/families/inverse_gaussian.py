"""InverseGaussian."""

from scipy import stats

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry, grid
from ..oracle import Univariate

ENTRIES = (
    Entry(
        "InverseGaussian",
        pre.distributions.InverseGaussian,
        points=grid(loc=(0.7, 2.0), concentration=(0.3, 5.0)),
        extremes=grid(loc=(1e-3, 1.0, 1e4), concentration=(1e-3, 1.0, 1e6)),
        typical=3,
        oracle=Univariate(
            lambda loc, concentration: stats.invgauss(mu=loc / concentration, scale=concentration)
        ),
        sampler="transformation with two roots; implicit gradient, closed form",
        elsewhere=Elsewhere(tfp="implicit gradient"),
        precision=1e-6,
        unknown=("entropy",),
    ),
)

"""MatrixNormal."""

import torch
from scipy import stats

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry
from ..oracle import Joint
from .matrices import FACTOR, NARROW, gram, scaled

LOC = [[0.5, -1.0], [2.0, 0.0], [-0.3, 4.0]]
NOISE = "differentiable function of noise"


def log_density(value, loc, row_tril, column_tril):
    parameters = (x.detach().numpy() for x in (loc, gram(row_tril), gram(column_tril)))
    return torch.as_tensor(stats.matrix_normal(*parameters).logpdf(value.detach().numpy()))


def features(x):
    x = x.flatten(-2)
    return torch.cat([x, (x[..., :, None] * x[..., None, :]).flatten(-2)], -1)


def expectation(loc, row_tril, column_tril):
    mean = loc.flatten()
    second = torch.kron(gram(row_tril), gram(column_tril)) + torch.outer(mean, mean)
    return torch.cat([mean, second.flatten()])


ENTRIES = (
    Entry(
        "MatrixNormal",
        pre.distributions.MatrixNormal,
        points=(
            {"loc": LOC, "row_tril": FACTOR, "column_tril": [[0.8, 0.0], [-0.5, 1.3]]},
            {"loc": [[1.0, -2.0]], "row_tril": [[0.4]], "column_tril": NARROW},
        ),
        extremes=(
            {"loc": LOC, "row_tril": scaled(FACTOR, 1e-5), "column_tril": scaled(NARROW, 1e-5)},
            {"loc": LOC, "row_tril": scaled(FACTOR, 1e5), "column_tril": scaled(NARROW, 1e5)},
            {"loc": LOC, "row_tril": scaled(FACTOR, 1e-8), "column_tril": scaled(NARROW, 1e8)},
        ),
        oracle=Joint(log_density, features, expectation),
        sampler=NOISE,
        elsewhere=Elsewhere(tfp=NOISE, numpyro=NOISE),
    ),
)

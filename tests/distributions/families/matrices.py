"""Wishart, InverseWishart and LKJCholesky."""

import math

import numpy as np
import torch
from scipy import stats

import pyro_reparam_ext as pre

from ..entry import Elsewhere, Entry
from ..oracle import Joint

FACTOR = [[1.2, 0.0, 0.0], [0.4, 0.7, 0.0], [-0.9, 0.3, 1.5]]
SCALE = (np.array(FACTOR) @ np.array(FACTOR).T).tolist()
NARROW = [[1.0, 0.0], [0.999, 0.04471]]


def scaled(factor, by):
    return (by * np.array(factor)).tolist()


def scipy_density(law, scale, value, df):
    """scipy has the matrices first, and one of parameters."""
    points = value.detach().numpy()
    batch = points.reshape((-1,) + points.shape[-2:])
    log_density = law(float(df), scale.detach().numpy()).logpdf(np.moveaxis(batch, 0, -1))
    return torch.as_tensor(np.reshape(log_density, points.shape[:-2]))


def lower(x):
    i, j = torch.tril_indices(x.shape[-1], x.shape[-1])
    return x[..., i, j]


def sum_digamma(df, dim):
    return torch.digamma(0.5 * (df - torch.arange(dim, dtype=df.dtype))).sum()


def symmetric(x):
    return 0.5 * (x + x.mT)


def gram(factor):
    factor = factor.tril()
    return factor @ factor.mT


# Wishart


def wishart_features(x):
    return torch.cat([lower(x), x[..., 0, 1:].square(), torch.logdet(x)[..., None]], -1)


def wishart_expectation(df, scale):
    dim = scale.shape[-1]
    row = scale[0, 1:]
    squares = df * (row.square() + scale[0, 0] * scale.diagonal()[1:]) + (df * row).square()
    log_det = sum_digamma(df, dim) + dim * math.log(2) + torch.logdet(scale)
    return torch.cat([lower(df * scale), squares, log_det[None]])


def wishart(scale_of):
    return {
        "log_density": lambda value, df, **given: scipy_density(
            stats.wishart, scale_of(*given.values()), value, df
        ),
        "features": wishart_features,
        "expectation": lambda df, **given: wishart_expectation(df, scale_of(*given.values())),
    }


# InverseWishart: moments of the inverse, which has them for every df


def inverse_wishart_features(x):
    return torch.cat([lower(torch.linalg.inv(x)), torch.logdet(x)[..., None]], -1)


def inverse_wishart_expectation(df, scale):
    dim = scale.shape[-1]
    log_det = torch.logdet(scale) - dim * math.log(2) - sum_digamma(df, dim)
    return torch.cat([lower(df * torch.linalg.inv(scale)), log_det[None]])


def inverse_wishart(scale_of):
    return {
        "log_density": lambda value, df, **given: scipy_density(
            stats.invwishart, scale_of(*given.values()), value, df
        ),
        "features": inverse_wishart_features,
        "expectation": lambda df, **given: inverse_wishart_expectation(df, scale_of(*given.values())),
    }


# LKJCholesky


def lkj2(concentration, validate_args=None):
    return pre.distributions.LKJCholesky(2, concentration, validate_args=validate_args)


def lkj4(concentration, validate_args=None):
    return pre.distributions.LKJCholesky(4, concentration, validate_args=validate_args)


def lkj_log_density(value, concentration):
    """By the normaliser of the C-vine (Lewandowski, Kurowicka, Joe 2009, equation 16)."""
    d, log_constant = value.shape[-1], 0.0
    for k in range(1, d):
        a = concentration + 0.5 * (d - k - 1)
        log_beta = 2 * torch.lgamma(a) - torch.lgamma(2 * a)
        log_constant = log_constant + (d - k) * (
            (2 * concentration - 2 + d - k) * math.log(2) + log_beta
        )
    logs = value.diagonal(dim1=-2, dim2=-1).log()
    jacobian = (logs * (d - 1 - torch.arange(d))).sum(-1)
    return 2 * (concentration - 1) * logs.sum(-1) + jacobian - log_constant


def lkj_features(x):
    correlation = x @ x.mT
    pairs = lower(correlation[..., 1:, :-1]).square()
    return torch.cat([pairs, x.diagonal(dim1=-2, dim2=-1)[..., 1:].log()], -1)


def lkj_expectation(d):
    def expectation(concentration):
        """Every correlation is 2 Beta(a, a) - 1 with a = eta - 1 + d / 2."""
        square = 1 / (2 * concentration + d - 1)
        i = torch.arange(2, d + 1, dtype=torch.float64)
        top = torch.digamma(concentration + 0.5 * (d - i))
        logs = 0.5 * (top - torch.digamma(concentration + 0.5 * (d - 1)))
        return torch.cat([square.expand(d * (d - 1) // 2), logs])

    return expectation


def lkj(name, make, d):
    return Entry(
        name,
        make,
        points=tuple({"concentration": x} for x in (0.3, 1.0, 4.0)),
        extremes=tuple({"concentration": x} for x in (0.1, 1.0, 1e3, 1e5)),
        oracle=Joint(lkj_log_density, lkj_features, lkj_expectation(d)),
        draws=5000,
        sampler="onion; implicit gradient of the Beta rows",
        elsewhere=Elsewhere(
            torch="no gradient", pyro="no gradient", tfp="no gradient", numpyro="through Beta draws"
        ),
    )


ENTRIES = (
    Entry(
        "Wishart",
        lambda df, scale_tril, validate_args=None: pre.distributions.Wishart(
            df, scale_tril=scale_tril, validate_args=validate_args
        ),
        points=({"df": 7.0, "scale_tril": FACTOR}, {"df": 2.6, "scale_tril": FACTOR}),
        extremes=(
            {"df": 1.001, "scale_tril": NARROW},
            {"df": 1e6, "scale_tril": NARROW},
            {"df": 2.001, "scale_tril": scaled(FACTOR, 1e-4)},
            {"df": 50.0, "scale_tril": scaled(FACTOR, 1e4)},
        ),
        no_bijection=True,
        oracle=Joint(**wishart(gram)),
        draws=5000,
        sampler="Bartlett; differentiable function of noise, implicit for the chi-squared",
        elsewhere=Elsewhere(
            torch="backward raises for a sample shape",
            pyro="backward raises for a sample shape",
            numpyro="in the scale only",
            tfp="differentiable function of noise",
        ),
    ),
    Entry(
        "Wishart-covariance",
        pre.distributions.Wishart,
        points=({"df": 4.5, "covariance_matrix": SCALE},),
        extremes=({"df": 2.1, "covariance_matrix": scaled(SCALE, 1e-6)},),
        no_bijection=True,
        oracle=Joint(**wishart(symmetric)),
        draws=5000,
        sampler="Bartlett; differentiable function of noise, implicit for the chi-squared",
    ),
    Entry(
        "InverseWishart",
        lambda df, scale_tril, validate_args=None: pre.distributions.InverseWishart(
            df, scale_tril=scale_tril, validate_args=validate_args
        ),
        points=({"df": 7.0, "scale_tril": FACTOR}, {"df": 2.6, "scale_tril": FACTOR}),
        extremes=(
            {"df": 1.01, "scale_tril": NARROW},
            {"df": 1e6, "scale_tril": NARROW},
            {"df": 2.01, "scale_tril": scaled(FACTOR, 1e-3)},
            {"df": 50.0, "scale_tril": scaled(FACTOR, 1e4)},
        ),
        no_bijection=True,
        oracle=Joint(**inverse_wishart(gram)),
        draws=5000,
        sampler="Bartlett of the inverse, triangular solve",
        elsewhere=Elsewhere(tfp="none"),
    ),
    Entry(
        "InverseWishart-matrix",
        pre.distributions.InverseWishart,
        points=({"df": 4.5, "scale_matrix": SCALE},),
        extremes=({"df": 2.1, "scale_matrix": scaled(SCALE, 1e-6)},),
        no_bijection=True,
        oracle=Joint(**inverse_wishart(symmetric)),
        draws=5000,
        sampler="Bartlett of the inverse, triangular solve",
    ),
    lkj("LKJCholesky", lkj4, 4),
    lkj("LKJCholesky-2", lkj2, 2),
)

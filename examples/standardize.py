"""Standardisation: which laws are a function of noise, and does the gradient go through?

N(10, 5) is N(0, 1) * 5 + 10, and a vector of any covariance is mu + L z; other laws are quantiles of
uniform noise, and for the rest the distribution function defines the path implicitly. Samples are
checked against the law (Kolmogorov-Smirnov), gradients against exact ones; then the same inside Pyro::

    python examples/standardize.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from report import Report
from scipy import stats
from standardize_figure import picture
from standardize_models import by_hand
from torch import Tensor
from training import add_compile
from transformations import TRANSFORMATIONS

import pyro_reparam_ext as pre

PRICE = "Standard deviation of a gradient in Sigma: through the Cholesky factor, over that by Price"


def rows_of(
    name: str,
    formula: str,
    cost: str,
    gradients: Tensor,
    exact: dict[str, Tensor],
    ks: float | None = None,
) -> list[dict[str, object]]:
    """One row a parameter; of a vector or a matrix that coordinate which is furthest off.

    Args:
        name: the law.
        formula: how it is sampled.
        cost: whose expectation is differentiated.
        gradients: draws of shape ``(draws, coordinates of all parameters)``.
        exact: parameter -> its exact gradient.
        ks: p-value that the samples follow the law.
    """
    rows, start = [], 0
    for parameter, value in exact.items():
        part = gradients[:, start : start + value.numel()]
        start += value.numel()
        mean, error = part.mean(0), part.std(0) / math.sqrt(len(part))
        z = (mean - value.flatten()) / error
        worst = int(z.abs().argmax())
        place = "".join(str(i + 1) for i in np.unravel_index(worst, value.shape)) if value.dim() else ""
        rows.append(
            {
                "law": name,
                "transformation": formula,
                "f": cost,
                "d/d": f"{parameter}_{place} (furthest off)" if place else parameter,
                "measured": mean[worst].item(),
                "±": error[worst].item(),
                "exact": value.flatten()[worst].item(),
                "z": z[worst].item(),
                "p": min(1.0, 2 * stats.norm.sf(abs(z[worst].item())) * distinct(value)),
                "KS p": ks,
            }
        )
    return rows


def distinct(value: Tensor) -> int:
    """The number of coordinates; of a symmetric matrix those on and above the diagonal."""
    return len(value) * (len(value) + 1) // 2 if value.dim() == 2 else value.numel()


def vector(dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, covariance and direction, of ``dim`` coordinates that are all correlated."""
    i = torch.arange(dim, dtype=torch.double)
    covariance = 0.6 ** (i - i.unsqueeze(-1)).abs() * torch.outer(0.5 + i / dim, 0.5 + i / dim)
    return 0.3 * i - 0.5, covariance, torch.cos(i + 1)


def draws_of_vector(dim: int, draws: int) -> dict[str, Tensor]:
    """Gradients of E[cos(a x)] under N(mu, Sigma) by mu + L z, and by the theorems of Bonnet and Price.

    The gradient in mu is the expected gradient of f, that in Sigma half its expected Hessian.
    """
    mu, covariance, a = vector(dim)
    mus = mu.expand(draws, -1).clone().requires_grad_()
    covariances = covariance.expand(draws, -1, -1).clone().requires_grad_()
    noise = torch.randn(draws, dim, 1, dtype=torch.double)
    x = mus + (torch.linalg.cholesky(covariances) @ noise).squeeze(-1)
    through = torch.autograd.grad((x @ a).cos().sum(), (mus, covariances))
    hessians = -(x @ a).cos().detach()[:, None, None] * torch.outer(a, a)
    return {"mu": through[0], "Sigma": through[1].flatten(1), "Price": hessians.flatten(1) / 2}


def vectors(dim: int, gradients: dict[str, Tensor]) -> list[dict[str, object]]:
    """The rows of these draws."""
    exact, name = exact_of_vector(*vector(dim)), f"N(mu, Sigma), {dim} dims"
    through = torch.cat([gradients["mu"], gradients["Sigma"]], -1)
    price = {"Sigma": exact["Sigma"]}
    return [
        *rows_of(name, "mu + L z", "cos(a x)", through, exact),
        *rows_of(name, "half the Hessian (Price)", "cos(a x)", gradients["Price"], price),
    ]


def against_price(dim: int, gradients: dict[str, Tensor]) -> dict[str, object]:
    """Standard deviation of a gradient in Sigma through the Cholesky factor, over that by Price."""
    cholesky, price = gradients["Sigma"].std(0), gradients["Price"].std(0)
    ratios = cholesky / price
    return {
        "law": f"N(mu, Sigma), {dim} dims",
        "least, of a coordinate": ratios.min().item(),
        "largest": ratios.max().item(),
        "of the norms": (cholesky.norm() / price.norm()).item(),
    }


def exact_of_vector(mu: Tensor, covariance: Tensor, a: Tensor) -> dict[str, Tensor]:
    """E[cos(a x)] = cos(a mu) exp(-a Sigma a / 2), differentiated by hand."""
    damped = (-(a @ covariance @ a) / 2).exp()
    cos, sin = (a @ mu).cos() * damped, (a @ mu).sin() * damped
    return {"mu": -sin * a, "Sigma": -cos * torch.outer(a, a) / 2}


def in_pyro(
    law: Callable[..., dist.TorchDistribution],
    at: dict[str, Tensor],
    cost: Callable[[Tensor], Tensor],
    reparam: pre.reparam.NoncenteredReparam,
    draws: int,
) -> Tensor:
    """Draws of the gradient of a Pyro program whose loss is E[cost], its guide reparameterised."""

    def parameters() -> list[Tensor]:
        return [pyro.param(name, value) for name, value in at.items()]

    def model() -> None:
        x = pyro.sample("x", law(*parameters()))  # the law of the guide, so no divergence is added
        pyro.factor("cost", -cost(x))

    def guide() -> None:
        pyro.sample("x", law(*parameters()))

    reparameterised = pyro.poutine.reparam(guide, config={"x": reparam})
    study = pre.gradient_study(
        model, reparameterised, estimators={"": pre.Pathwise()}, num_draws=draws, progress=False
    )
    kept = study.to_inferencedata().gradients
    return torch.cat(
        [torch.from_numpy(kept[name].values[0, :, 0]).reshape(draws, -1) for name in at], -1
    )


def pyro_rows(draws: int) -> list[dict[str, object]]:
    """The same gradients by reparameterised guides."""
    rows, served = [], {t.name: t for t in TRANSFORMATIONS}
    for name, family, reparam in (
        ("Normal(10, 5)", dist.Normal, pre.reparam.StandardizeReparam(guide=True)),
        ("Exponential(2)", dist.Exponential, pre.reparam.InverseCDFReparam(guide=True)),
        ("Weibull(2, 1.5)", dist.Weibull, pre.reparam.InverseCDFReparam(guide=True)),
    ):
        case = served[name]
        at = {k: torch.tensor(v, dtype=torch.double) for k, v in case.at.items()}
        gradients = in_pyro(family, at, case.cost, reparam, draws)
        exact = dict(zip(at, case.exact(), strict=True))
        rows += rows_of(f"{name} in Pyro", type(reparam).__name__, case.cost_name, gradients, exact)
    mu, covariance, a = vector(2)
    reparam = pre.reparam.CholeskyReparam(guide=True)
    gradients = in_pyro(
        dist.MultivariateNormal,
        {"mu": mu, "Sigma": covariance},
        lambda x: (x @ a).cos(),
        reparam,
        draws,
    )
    exact = exact_of_vector(mu, covariance, a)
    return rows + rows_of(
        "N(mu, Sigma), 2 dims, in Pyro", type(reparam).__name__, "cos(a x)", gradients, exact
    )


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_compile(parser, "train the reparameterised models by CompiledSVI")
    parser.add_argument("--draws", type=int, default=200_000, help="samples of each law")
    parser.add_argument("--steps", type=int, default=2000, help="of training each program")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/standardize"), help="results folder")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    draws, steps = (1000, 3) if args.smoke else (args.draws, args.steps)
    rows, samples = [], {}
    for case in TRANSFORMATIONS:
        x, gradients = case.draws(draws)
        samples[case.name] = x.numpy()
        ks = stats.kstest(samples[case.name], case.cdf).pvalue
        exact = dict(zip(case.at, case.exact(), strict=True))
        rows += rows_of(case.name, case.formula, case.cost_name, gradients, exact, ks)
    by_dim = {dim: draws_of_vector(dim, draws) for dim in (2, 5)}
    rows += [row for dim in by_dim for row in vectors(dim, by_dim[dim])] + pyro_rows(draws)
    price = pd.DataFrame([against_price(dim, by_dim[dim]) for dim in by_dim])
    measured = pd.DataFrame(rows, dtype=object)  # where nothing was measured stays empty
    report = Report(args.out)
    report.table(measured, "Gradients of E[f(x)] through the noise, against exact ones")
    report.table(price, PRICE, "price")
    report.table(
        by_hand(steps, args.seed, args.svi), "Reparameterised models and noncentred ones", "models"
    )
    report.picture(picture(samples, measured, vector(2), draws))


if __name__ == "__main__":
    main(parse())

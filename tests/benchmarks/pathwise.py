"""The overhead of TraceEstimator_ELBO over Pyro's own ELBO where every site is Pathwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyro
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

import pyro_reparam_ext as pre

from .programs import GaussianVAE, bayesian_network, binary_images, hierarchical
from .timing import Row, compare

PROGRAMS = {
    "hierarchical regression, AutoNormal, 5 sites": hierarchical,
    "Bayesian net 13-50-1, AutoNormal": bayesian_network,
}


def run(quick: bool = False) -> list[Row]:
    rows = []
    for validation in (False, True):
        with pyro.validation_enabled(validation):
            for name, ours, plain in _cases():
                rows.append(
                    compare(
                        f"Pathwise / Trace_ELBO, {name}",
                        f"validation {'on' if validation else 'off'}",
                        ours,
                        plain,
                        repetitions=5 if quick else 100,
                        calls=10,
                        at_most=None if validation else 1.05,
                    )
                )
    return rows


def _cases() -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """By name: a gradient, or a step of training, by each of the two ELBOs."""
    vae, x = GaussianVAE(), binary_images(64, 64)

    def gradient(elbo: Callable) -> Callable[[], object]:
        one = elbo(max_plate_nesting=1)
        return lambda: (vae.zero_grad(), one.loss_and_grads(vae.model, vae.guide, x))

    yield "64-64-10, batch 64", gradient(pre.TraceEstimator_ELBO), gradient(Trace_ELBO)
    for name, program in PROGRAMS.items():
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        model, guide, args = program()
        ours, plain = (
            SVI(model, guide, Adam({"lr": 1e-4}), elbo(max_plate_nesting=1))
            for elbo in (pre.TraceEstimator_ELBO, Trace_ELBO)
        )
        yield (
            name,
            lambda ours=ours, args=args: ours.step(*args),
            lambda plain=plain, args=args: plain.step(*args),
        )

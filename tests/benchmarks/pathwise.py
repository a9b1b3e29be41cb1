"""The overhead of TraceEstimator_ELBO over Pyro's own ELBO where every site is Pathwise."""

from __future__ import annotations

import pyro
from pyro.infer import ELBO, Trace_ELBO

import pyro_reparam_ext as pre

from .programs import GaussianVAE, binary_images
from .timing import Row, compare


def run(quick: bool = False) -> list[Row]:
    rows = []
    for validation in (False, True):
        with pyro.validation_enabled(validation):
            vae, x = GaussianVAE(), binary_images(64, 64)

            def gradient(elbo: ELBO, vae: GaussianVAE = vae, x=x) -> None:
                vae.zero_grad()
                elbo.loss_and_grads(vae.model, vae.guide, x)

            ours, plain = (elbo(max_plate_nesting=1) for elbo in (pre.TraceEstimator_ELBO, Trace_ELBO))
            rows.append(
                compare(
                    "Pathwise / Trace_ELBO, 64-64-10, batch 64",
                    f"validation {'on' if validation else 'off'}",
                    lambda elbo=ours, gradient=gradient: gradient(elbo),
                    lambda elbo=plain, gradient=gradient: gradient(elbo),
                    repetitions=5 if quick else 100,
                    calls=10,
                    at_most=None if validation else 1.05,
                )
            )
    return rows

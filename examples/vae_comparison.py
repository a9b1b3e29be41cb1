"""Estimators side by side: variance and bias along one run, and a training curve of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pandas as pd
import pyro
import torch
from datasets import Images
from report import Report, progress
from style import told_from_zero
from torch import nn
from vae_candidates import candidates
from vae_figure import PARTS, draw
from vae_training import Run, binarised, train

import pyro_reparam_ext as pre


class Comparison:
    """One reference run, a study at each of its snapshots, and a short run per estimator."""

    def __init__(
        self, args: argparse.Namespace, images: Images, make_vae: Callable[[], nn.Module]
    ) -> None:
        self.args, self.images, self.make_vae = args, images, make_vae
        self.batch = binarised(
            images.train[: args.batch_size], torch.Generator().manual_seed(args.seed)
        )
        self.draws = 8 if args.smoke else args.draws
        self.warmup = min(self.draws, 200)
        self.short = min(args.steps, 1500)
        steps = args.steps
        self.snapshots = sorted({max(1, steps // 10), max(1, steps // 3), steps})

    def run(self, report: Report) -> None:
        """Runs everything, and leaves its tables, its picture and the draws of the last study."""
        gradients, study = self.studies()
        curves = self.curves()
        name = self.args.latent
        setting = f"{self.make_vae().latent.name} latents on {self.images.name}"
        report.table(
            gradients.drop(columns=["variance_low", "variance_high", "batched"]),
            f"Gradients of a VAE with {setting}, model frozen after so many steps: one batch of "
            f"{len(self.batch)}, {self.draws} gradients per estimator",
            f"{name}_gradients",
        )
        report.table(
            self.overview(gradients, curves),
            f"A VAE with {setting}: gradients after {self.snapshots[-1]} steps (variance over the "
            f"squared norm, norm of the bias over the norm of the true gradient; bias where it can be "
            f"told from zero), and training by each for {self.short} steps (ELBO in nats per image)",
            name,
        )
        title = (
            f"Gradient estimators of a VAE with {setting} ({self.draws} gradients each, "
            f"batch {len(self.batch)})"
        )
        report.picture(draw(gradients, curves, title), name)
        # The gradients of all weights by all estimators would take hundreds of megabytes.
        biases = {"params": lambda parameter: parameter.endswith("bias")}
        report.save(f"{name}.nc", lambda path: study.save(path, **biases))

    def studies(self) -> tuple[pd.DataFrame, pre.GradientStudy]:
        """The summaries at all snapshots as one table, and the study at the last."""
        vae = self.make_vae()
        reference_run = self._train(
            vae,
            self._candidates(vae)[vae.latent.default_estimator],
            self.args.steps,
            "reference run",
            self.snapshots,
        )
        frames = []
        for step, state in reference_run.snapshots.items():
            vae.load_state_dict(state)
            pyro.clear_param_store()
            study = pre.gradient_study(
                vae.model,
                vae.guide,
                self.batch,
                estimators=self._candidates(vae),
                num_draws=self.draws,
                reference=vae.latent.reference,
                seed=self.args.seed,
                warmup=self.warmup,
            )
            for part in PARTS:
                frame = study.summary(params=lambda name, part=part: name.startswith(part))
                frame = frame.reset_index(names="estimator")
                frame.insert(0, "parameters", part)
                frame.insert(0, "step", step)
                frames.append(frame)
        return pd.concat(frames, ignore_index=True), study

    def curves(self) -> dict[str, pd.DataFrame]:
        """A training curve per estimator, all from the same initial parameters."""
        labels = list(self._candidates(self.make_vae()))
        curves = {}
        for label in progress(labels, "training curves"):
            vae = self.make_vae()
            elbo = self._candidates(vae)[label]
            curves[label] = self._train(vae, elbo, self.short, label).curve
        return curves

    def overview(self, gradients: pd.DataFrame, curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
        """One row per estimator: the gradient at the last snapshot, and what training led to."""
        last = gradients[gradients["step"] == self.snapshots[-1]].set_index("estimator")
        parts = {part: last[last["parameters"] == part] for part in PARTS}
        table = parts[PARTS[0]][["unbiased", "evaluations"]].copy()
        for part, rows in parts.items():
            table[f"{part}: variance"] = rows["relative_variance"]
            table[f"{part}: bias"] = rows["relative_bias"].where(told_from_zero(rows))
        table["test ELBO"] = {label: curve["test_elbo"].iloc[-1] for label, curve in curves.items()}
        table["CPU seconds"] = {label: curve["seconds"].iloc[-1] for label, curve in curves.items()}
        return table.reset_index()

    def _candidates(self, vae: nn.Module) -> dict[str, pre.TraceEstimator_ELBO]:
        return candidates(vae.latent.prior(self.batch))

    def _train(
        self,
        vae: nn.Module,
        elbo: pre.TraceEstimator_ELBO,
        steps: int,
        description: str,
        snapshots_at: list[int] | None = None,
    ) -> Run:
        return train(
            vae,
            elbo,
            self.images,
            steps=steps,
            batch_size=self.args.batch_size,
            learning_rate=self.args.learning_rate,
            snapshots_at=snapshots_at or (),
            description=description,
            svi=self.args.svi,
        )

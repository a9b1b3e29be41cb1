"""A variational autoencoder with Gaussian, Bernoulli or one-hot latents, by any estimator.

Train one, on the digits that ship in scikit-learn::

    python examples/vae.py --latent bernoulli --estimator DisARM

Compare the estimators that suit the latents: variance and bias of the gradient along training, and
training curves::

    python examples/vae.py --latent bernoulli --compare

Both take MNIST's files as they are: ``--data-dir FOLDER``.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from datasets import Images, load
from pyro.distributions import TorchDistribution
from report import Report
from torch import Tensor, nn
from training import add_compile
from vae_candidates import by_class_name
from vae_comparison import Comparison
from vae_training import picture, train

import pyro_reparam_ext as pre

HIDDEN = {"digits": 64, "mnist": 200}


class BernoulliLatent:
    """Independent binary latents."""

    name = "Bernoulli"
    sizes = {"digits": 32, "mnist": 200}
    default_estimator = "DisARM"
    reference = "LocalExpectation"

    def __init__(self, size: int) -> None:
        self.num_outputs = self.num_features = size

    def posterior(self, outputs: Tensor) -> TorchDistribution:
        return dist.Bernoulli(logits=outputs).to_event(1)

    def prior(self, x: Tensor) -> TorchDistribution:
        return self.posterior(x.new_zeros(self.num_outputs))

    def features(self, z: Tensor) -> Tensor:
        return z


class OneHotLatent:
    """Independent categorical latents, one-hot."""

    name = "one-hot"
    sizes = {"digits": (4, 8), "mnist": (20, 10)}
    default_estimator = "REBAR"
    reference = "LocalExpectation"

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.num_outputs = self.num_features = math.prod(size)

    def posterior(self, outputs: Tensor) -> TorchDistribution:
        return dist.OneHotCategorical(logits=outputs.unflatten(-1, self.size)).to_event(1)

    def prior(self, x: Tensor) -> TorchDistribution:
        return self.posterior(x.new_zeros(self.num_outputs))

    def features(self, z: Tensor) -> Tensor:
        return z.flatten(-2)


class GaussianLatent:
    """Independent Normal latents."""

    name = "Gaussian"
    sizes = {"digits": 10, "mnist": 50}
    default_estimator = "Pathwise"
    reference = "Pathwise"

    def __init__(self, size: int) -> None:
        self.num_features, self.num_outputs = size, 2 * size

    def posterior(self, outputs: Tensor) -> TorchDistribution:
        loc, log_scale = outputs.chunk(2, -1)
        return dist.Normal(loc, log_scale.exp()).to_event(1)

    def prior(self, x: Tensor) -> TorchDistribution:
        return self.posterior(x.new_zeros(self.num_outputs))

    def features(self, z: Tensor) -> Tensor:
        return z


Latent = BernoulliLatent | OneHotLatent | GaussianLatent
LATENTS = {"gaussian": GaussianLatent, "bernoulli": BernoulliLatent, "onehot": OneHotLatent}


class VAE(nn.Module):
    """Binary pixels from latents by one hidden layer, and latents from pixels by another."""

    def __init__(self, pixels: int, hidden: int, latent: Latent) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(
            nn.Linear(pixels, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, latent.num_outputs)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent.num_features, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, pixels)
        )

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", self.latent.prior(x))
            logits = self.decoder(self.latent.features(z))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("images", len(x)):
            pyro.sample("z", self.latent.posterior(self.encoder(x)))


def make_vae(args: argparse.Namespace, images: Images) -> VAE:
    """A fresh VAE of the architecture that suits the images; the same for the same seed."""
    pyro.set_rng_seed(args.seed)
    family = LATENTS[args.latent]
    return VAE(images.pixels, HIDDEN[images.name], family(family.sizes[images.name]))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latent", choices=LATENTS, default="bernoulli")
    parser.add_argument(
        "--estimator", choices=pre.estimators.__all__, help="default: one that suits the latents"
    )
    add_compile(parser)
    parser.add_argument("--compare", action="store_true", help="compare the estimators")
    parser.add_argument("--data-dir", type=Path, help="MNIST's IDX files (default: digits)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimisation steps (default: 3000)")
    length.add_argument("--epochs", type=int, help="passes over the training images instead")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--draws", type=int, default=500, help="gradients per estimator and study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results/vae"), help="results folder")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    images = load(args.data_dir)
    if args.epochs is not None:
        args.steps = args.epochs * math.ceil(len(images.train) / args.batch_size)
    elif args.steps is None:
        args.steps = 3 if args.smoke else 3000
    report = Report(args.out)
    if args.compare:
        Comparison(args, images, lambda: make_vae(args, images)).run(report)
        return

    vae = make_vae(args, images)
    name = args.estimator or vae.latent.default_estimator
    run = train(
        vae,
        by_class_name(name),
        images,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        description=name,
        svi=args.svi,
    )
    title = f"A VAE with {vae.latent.name} latents on {images.name}, trained by {name}"
    report.table(run.curve, f"{title}: test ELBO in nats per image", "training")
    report.picture(picture(run, vae, images, title), "training")
    report.save("vae.pt", lambda path: torch.save(vae.state_dict(), path))


if __name__ == "__main__":
    main(parse())

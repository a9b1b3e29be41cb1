"""Bayesian networks for regression and classification, and how their predictions are judged."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer import Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_value
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics.functional import mean_squared_error
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error
from uci import Regression

import pyro_reparam_ext as pre

PREDICTIVE_DRAWS = 500
INTERVAL = 0.9


def fan_in_normal(name: str, value: Tensor) -> TorchDistribution:
    """Weights whose layer keeps the scale of its inputs."""
    return dist.Normal(0.0, value.shape[-1] ** -0.5)


def learned_scale(name: str, value: Tensor) -> TorchDistribution:
    """Weights whose scale is drawn as well, one for each weight matrix and vector of biases."""
    return dist.Normal(0.0, pyro.sample(f"{name}_scale", dist.HalfNormal(1.0)))


PRIOR = {"*.weight": fan_in_normal, "*.bias": dist.Normal(0.0, 1.0)}


class Problem:
    """Data, a model of them with a Bayesian network of one hidden layer, and its guide."""

    name: str
    units: str
    prior: Any = PRIOR
    kl_weight: float = 1.0
    initial: dict[str, Tensor] = {}

    def __init__(self, x: Tensor, y: Tensor, test_x: Tensor, hidden: int, outputs: int) -> None:
        self.x, self.y, self.test_x = x, y, test_x
        network = nn.Sequential(nn.Linear(x.shape[-1], hidden), nn.ReLU(), nn.Linear(hidden, outputs))
        self.bnn = pre.nn.to_bayesian(network, self.prior)

    @property
    def num_examples(self) -> int:
        return len(self.x)

    def likelihood(self, output: Tensor) -> TorchDistribution:
        raise NotImplementedError

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        likelihood = self.likelihood(self.bnn(x))
        batch = poutine.scale(scale=self.num_examples / len(x))
        with pyro.plate("data", len(x)), batch:
            pyro.sample("y", likelihood, obs=y)

    def make_guide(self, kind: type[AutoNormal] = AutoNormal) -> AutoNormal:
        """Located where the network is initialised, and almost certain of it."""
        pyro.clear_param_store()  # or a guide of the same name would go on with what it holds
        values = self.bnn.initial_values() | self.initial
        guide = kind(self.model, init_loc_fn=init_to_value(values=values), init_scale=0.05)
        guide(self.x, self.y)
        return guide

    def context(self, noise: Callable[[], Any] | None) -> Callable[[], Any]:
        """What training is in: the noise of weights, and the weight of their divergence."""

        @contextmanager
        def both() -> Iterator[None]:
            with (noise or nullcontext)(), pre.nn.kl_weight(self.bnn, self.kl_weight):
                yield

        return both if self.kl_weight != 1 else noise or nullcontext

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        if size >= self.num_examples:
            return self.x, self.y
        index = torch.randperm(self.num_examples)[:size]
        return self.x[index], self.y[index]

    def elbo_per_example(self, guide: Callable) -> float:
        """The ELBO over all training examples, by many draws of the weights."""
        elbo = Trace_ELBO(num_particles=32, vectorize_particles=True, max_plate_nesting=1)
        with torch.no_grad():
            return -elbo.loss(self.model, guide, self.x, self.y) / self.num_examples

    def test_distribution(self, guide: Callable) -> TorchDistribution:
        """The likelihood of the test examples at many draws of the weights, side by side."""
        predictive = Predictive(self.model, guide=guide, num_samples=PREDICTIVE_DRAWS, parallel=True)
        return predictive.get_vectorized_trace(self.test_x).nodes["y"]["fn"]

    def predict(self, guide: Callable) -> az.InferenceData:
        """Posterior predictive draws, pointwise log likelihood and observed data of the test set."""
        raise NotImplementedError

    def scores(self, predictions: az.InferenceData) -> dict[str, float]:
        raise NotImplementedError

    def calibration(self, predictions: az.InferenceData) -> tuple[np.ndarray, np.ndarray]:
        """Stated probabilities, and how often what they say came true."""
        raise NotImplementedError


def inference_data(draws: dict[str, Tensor], log_likelihood: Tensor, y: Tensor) -> az.InferenceData:
    """Draws of shape ``(draws, examples, ...)`` as one chain."""
    return az.from_dict(
        posterior_predictive={name: value[None].numpy() for name, value in draws.items()},
        log_likelihood={"y": log_likelihood[None].numpy()},
        observed_data={"y": y.numpy()},
    )


def mean_log_likelihood(predictions: az.InferenceData) -> float:
    """Of a test example under the mixture over all draws, not the mean over draws."""
    log_likelihood = torch.from_numpy(predictions.log_likelihood["y"].values[0])
    return float((log_likelihood.logsumexp(0) - math.log(len(log_likelihood))).mean())


class RegressionProblem(Problem):
    """A normal likelihood with learned noise, in standardised units inside, the target's outside."""

    units = "RMSE and log likelihood in the target's units; coverage of 90 % intervals"
    calibration_labels = ("stated probability of the interval", "share of targets inside")
    initial = {"noise": torch.tensor(0.5)}

    def __init__(self, data: Regression, hidden: int) -> None:
        self.name, self.data = data.name, data
        super().__init__(data.train_x, data.train_y, data.test_x, hidden, outputs=1)

    def likelihood(self, output: Tensor) -> TorchDistribution:
        noise = pyro.sample("noise", dist.HalfCauchy(1.0))
        return dist.Normal(output.squeeze(-1), noise)

    def predict(self, guide: Callable) -> az.InferenceData:
        standardised, data = self.test_distribution(guide), self.data
        y = data.test_y * data.scale + data.loc
        fn = dist.Normal(standardised.loc * data.scale + data.loc, standardised.scale * data.scale)
        return inference_data({"y": fn.sample(), "mean": fn.mean}, fn.log_prob(y), y)

    def scores(self, predictions: az.InferenceData) -> dict[str, float]:
        mean = torch.from_numpy(predictions.posterior_predictive["mean"].values[0]).mean(0)
        y = torch.from_numpy(predictions.observed_data["y"].values)
        return {
            "RMSE": float(mean_squared_error(mean, y, squared=False)),
            "log likelihood": mean_log_likelihood(predictions),
            "coverage": self.coverage(predictions, INTERVAL),
        }

    def coverage(self, predictions: az.InferenceData, probability: float) -> float:
        """The share of test targets in their highest density interval of that probability."""
        interval = az.hdi(predictions, group="posterior_predictive", hdi_prob=probability)["y"].values
        y = predictions.observed_data["y"].values
        return float(((interval[:, 0] <= y) & (y <= interval[:, 1])).mean())

    def calibration(self, predictions: az.InferenceData) -> tuple[np.ndarray, np.ndarray]:
        stated = np.linspace(0.1, 0.95, 12)
        return stated, np.array([self.coverage(predictions, p) for p in stated])


class Classification(Problem):
    """The digits of scikit-learn, 8x8 pixels, in ten classes."""

    name = "digits"
    units = "log likelihood in nats per test image; expected calibration error in 15 bins"
    calibration_labels = ("stated probability of the digit", "share of digits that are it")
    prior = dist.Normal(0.0, 1.0)
    kl_weight = 0.1  # or the forecasts are too cautious: see the table of priors

    def __init__(
        self,
        split: int,
        hidden: int,
        num_test: int = 397,
        *,
        prior: Any = prior,
        kl_weight: float = kl_weight,
    ) -> None:
        from sklearn.datasets import load_digits

        self.prior, self.kl_weight = prior, kl_weight
        pixels, digits = load_digits(return_X_y=True)
        order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(split))
        x = torch.tensor(pixels, dtype=torch.float32)[order] / 16
        y = torch.tensor(digits)[order]
        self.test_y = y[:num_test]
        super().__init__(x[num_test:], y[num_test:], x[:num_test], hidden, outputs=10)

    def likelihood(self, output: Tensor) -> TorchDistribution:
        return dist.Categorical(logits=output)

    def predict(self, guide: Callable) -> az.InferenceData:
        fn = self.test_distribution(guide)
        draws = {"y": fn.sample(), "probabilities": fn.probs}
        return inference_data(draws, fn.log_prob(self.test_y), self.test_y)

    def forecast(self, guide: Callable) -> dict[str, float]:
        """Scores of the class probabilities, and how much the weights' uncertainty adds to theirs."""
        prediction = pre.nn.predict(self.bnn, guide, self.test_x, PREDICTIVE_DRAWS)
        information = float(prediction.mutual_information.mean())
        return self.scores_of(prediction.probabilities) | {"mutual information": information}

    def plain(self, steps: int, learning_rate: float, batch_size: int) -> dict[str, float]:
        """Scores of the same network with certain weights, trained by maximum likelihood."""
        network = nn.Sequential(*(copy.deepcopy(layer) for layer in self.bnn.module))
        weights = {name: nn.Parameter(x) for name, x in self.bnn.initial_values().items()}
        optimiser = torch.optim.Adam(weights.values(), learning_rate)
        decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.1 ** (1 / steps))
        for _ in range(steps):
            x, y = self.batch(batch_size)
            loss = nn.functional.cross_entropy(functional_call(network, weights, x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
        with torch.no_grad():
            return self.scores_of(functional_call(network, weights, self.test_x).softmax(-1))

    def probabilities(self, predictions: az.InferenceData) -> Tensor:
        draws = torch.from_numpy(predictions.posterior_predictive["probabilities"].values[0])
        return draws.mean(0)

    def scores(self, predictions: az.InferenceData) -> dict[str, float]:
        return self.scores_of(self.probabilities(predictions))

    def scores_of(self, probabilities: Tensor) -> dict[str, float]:
        """Of class probabilities, averaged over all draws of the weights."""
        options = {"num_classes": probabilities.shape[-1]}
        true = probabilities.gather(-1, self.test_y.unsqueeze(-1))
        return {
            "accuracy": float(
                multiclass_accuracy(probabilities, self.test_y, average="micro", **options)
            ),
            "log likelihood": float(true.log().mean()),
            "calibration error": float(
                multiclass_calibration_error(probabilities, self.test_y, n_bins=15, **options)
            ),
        }

    def calibration(self, predictions: az.InferenceData) -> tuple[np.ndarray, np.ndarray]:
        """Of all ten probabilities of every image, in bins of equal numbers."""
        probabilities = self.probabilities(predictions)
        stated = probabilities.flatten()
        true = nn.functional.one_hot(self.test_y, probabilities.shape[-1]).flatten().float()
        used = stated > 0.02  # most are next to zero, and right
        order = stated[used].argsort()
        bins = order.tensor_split(10)
        return tuple(np.array([v[used][b].mean() for b in bins]) for v in (stated, true))

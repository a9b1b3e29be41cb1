"""Spike-and-slab regression on ten features: its exact posterior, models, and guides."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

SLAB = 0.5
"""Standard deviation of a coefficient that is in, in sds of the target for each sd of the feature."""
SERUM = slice(4, 8)
"""Four of the blood's measurements, s1 to s4, which nearly determine each other."""


@dataclass(frozen=True)
class Regression:
    r"""All that data say of the coefficients, where the noise is known.

    With :math:`X = Q R`, :math:`y = Q u` up to residuals that no coefficient changes, so that
    :math:`u \sim N(R \beta, \sigma^2 I)` has the likelihood of :math:`y`, up to a constant.

    Args:
        names: of the features.
        r: ``(features, features)``.
        u: ``(features,)``.
        sigma: of the noise, as least squares estimate it.
        num_examples: the rows of X.
    """

    names: tuple[str, ...]
    r: Tensor
    u: Tensor
    sigma: Tensor
    num_examples: int


def diabetes() -> Regression:
    """The diabetes set of scikit-learn: 442 patients and ten features, all standardised."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    x, y = torch.tensor(data.data), torch.tensor(data.target)
    x, y = ((v - v.mean(0)) / v.std(0, correction=0) for v in (x, y))
    q, r = torch.linalg.qr(x)
    u = y @ q
    sigma = ((y - q @ u).square().sum() / (len(y) - x.shape[1] - 1)).sqrt()
    return Regression(tuple(data.feature_names), r, u, sigma, len(y))


def subsets(count: int) -> Tensor:
    """All vectors of zeros and ones, shape ``(2 ** count, count)``."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)), dtype=torch.double)


@dataclass(frozen=True)
class Posterior:
    """Of subsets, shape ``(subsets,)``, and of each feature: its inclusion and its coefficient."""

    log_evidence: float
    log_probs: Tensor
    inclusion: Tensor
    mean: Tensor
    sd: Tensor


def evidence(data: Regression, z: Tensor) -> dist.TorchDistribution:
    """The law of the data given which features are in, their coefficients integrated out."""
    factor = SLAB * data.r * z.unsqueeze(-2)
    return dist.LowRankMultivariateNormal(
        torch.zeros_like(data.u), factor, data.sigma.square().expand_as(data.u)
    )


def exact(data: Regression) -> Posterior:
    """The posterior by a sum over all subsets; a coefficient that is out follows its prior."""
    z = subsets(len(data.names))
    joint = evidence(data, z).log_prob(data.u) - len(data.names) * torch.tensor(2.0).log()
    log_evidence = joint.logsumexp(0)
    probs = (joint - log_evidence).exp()
    r = data.r * z.unsqueeze(-2) / data.sigma
    precision = r.mT @ r + torch.eye(len(data.names)) / SLAB**2
    covariance = torch.linalg.inv(precision)
    means = (covariance @ (r.mT @ (data.u / data.sigma)).unsqueeze(-1)).squeeze(-1)
    mean = probs @ means
    second = probs @ (covariance.diagonal(dim1=-2, dim2=-1) + means.square())
    sd = (second - mean.square()).sqrt()
    return Posterior(log_evidence.item(), joint - log_evidence, probs @ z, mean, sd)


class Independent:
    """Which features are in: one site, the features independent of each other in the guide."""

    def __init__(self, data: Regression) -> None:
        self.count = len(data.names)

    def model(self) -> Tensor:
        return pyro.sample("z", dist.Bernoulli(torch.full((self.count,), 0.5)).to_event(1)).double()

    def guide(self) -> Tensor:
        logits = pyro.param("logits", torch.zeros(self.count, dtype=torch.double))
        return pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))

    def sites(self, z: Tensor) -> dict[str, Tensor]:
        """The values of the sites for given features."""
        return {"z": z}


class Dependent(Independent):
    """The same, but one of sixteen subsets of the serum measurements, each with a logit of its own."""

    def model(self) -> Tensor:
        others = pyro.sample("others", dist.Bernoulli(torch.full((self.count - 4,), 0.5)).to_event(1))
        return self.joined(others.double(), pyro.sample("serum", dist.Categorical(torch.ones(16))))

    def guide(self) -> Tensor:
        logits = pyro.param("logits", torch.zeros(self.count - 4, dtype=torch.double))
        others = pyro.sample("others", dist.Bernoulli(logits=logits).to_event(1))
        serum = pyro.param("serum_logits", torch.zeros(16, dtype=torch.double))
        return self.joined(others, pyro.sample("serum", dist.Categorical(logits=serum)))

    def joined(self, others: Tensor, serum: Tensor) -> Tensor:
        block = subsets(4)[serum]
        shape = torch.broadcast_shapes(others.shape[:-1], block.shape[:-1])
        others, block = others.expand(*shape, -1), block.expand(*shape, -1)
        return torch.cat([others[..., : SERUM.start], block, others[..., SERUM.start :]], -1)

    def sites(self, z: Tensor) -> dict[str, Tensor]:
        place = 2 ** torch.arange(3, -1, -1, dtype=torch.double)
        others = torch.cat([z[..., : SERUM.start], z[..., SERUM.stop :]], -1)
        return {"others": others, "serum": (z[..., SERUM] @ place).long()}


class Integrated:
    """Coefficients integrated out: the guide is one of subsets alone."""

    def __init__(self, data: Regression, features: Independent) -> None:
        self.data, self.features = data, features

    def model(self) -> None:
        pyro.sample("u", evidence(self.data, self.features.model()), obs=self.data.u)

    def guide(self) -> None:
        self.features.guide()


class Kept(Integrated):
    """Coefficients kept, in the guide independent of each other given which are in."""

    def model(self) -> None:
        z = self.features.model()
        slab = dist.Normal(torch.zeros_like(self.data.u), SLAB).to_event(1)
        beta = pyro.sample("beta", slab)
        loc = (self.data.r @ (z * beta).unsqueeze(-1)).squeeze(-1)
        pyro.sample("u", dist.Normal(loc, self.data.sigma).to_event(1), obs=self.data.u)

    def guide(self) -> None:
        z = self.features.guide()
        loc = pyro.param("loc", torch.zeros_like(self.data.u))
        scale = pyro.param(
            "scale", torch.full_like(self.data.u, 0.1), constraint=dist.constraints.positive
        )
        pyro.sample("beta", dist.Normal(z * loc, torch.where(z == 1, scale, SLAB)).to_event(1))


class KeptJointly(Kept):
    r"""Coefficients kept, jointly normal given which are in, by a precision that all subsets share.

    .. math:: \Lambda_z = I / s^2 + \mathrm{diag}(z)\, L L^\top \mathrm{diag}(z), \quad
              \mu_z = \Lambda_z^{-1} \mathrm{diag}(z)\, b,

    which is the posterior where :math:`L L^\top = X^\top X / \sigma^2` and
    :math:`b = X^\top y / \sigma^2`.
    """

    def guide(self) -> None:
        z, unit = self.features.guide(), self.data.num_examples**0.5 / self.data.sigma
        eye = torch.eye(len(self.data.u), dtype=torch.double)
        factor = unit * pyro.param("factor", eye.clone()).tril() * z.unsqueeze(-1)
        loc = unit**2 * pyro.param("weights", torch.zeros_like(self.data.u)) * z
        precision = factor @ factor.mT + eye / SLAB**2
        loc = torch.linalg.solve(precision, loc.unsqueeze(-1)).squeeze(-1)
        pyro.sample("beta", dist.MultivariateNormal(loc, precision_matrix=precision))


def log_probs(program: Integrated) -> Tensor:
    """What a guide gives all subsets, exactly."""
    z = subsets(len(program.data.names))
    sites = program.features.sites(z)
    trace = poutine.trace(poutine.condition(program.features.guide, sites)).get_trace()
    return sum(trace.nodes[name]["fn"].log_prob(value).detach() for name, value in sites.items())


def set_to_best(program: Integrated, posterior: Posterior) -> None:
    """Sets the features' parameters to those of the posterior, as near as the family comes.

    Independent features by coordinate ascent from uniform ones, dependent ones by their marginals.
    """
    z = subsets(len(program.data.names))
    pyro.clear_param_store()
    if isinstance(program.features, Dependent):
        probs, blocks = posterior.log_probs.exp(), program.features.sites(z)["serum"]
        serum = torch.zeros(16, dtype=torch.double).index_add(0, blocks, probs)
        others = torch.cat([posterior.inclusion[: SERUM.start], posterior.inclusion[SERUM.stop :]])
        pyro.param("logits", others.logit())
        pyro.param("serum_logits", serum.log())
        return
    probs = torch.full_like(posterior.inclusion, 0.5)
    for _ in range(200):
        for j in range(len(probs)):
            each = torch.where(z == 1, probs, 1 - probs)
            each[:, j] = 2 * z[:, j] - 1
            probs[j] = (each.prod(-1) @ posterior.log_probs).sigmoid()
    pyro.param("logits", probs.logit())

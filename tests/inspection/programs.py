"""Small programs as users of Pyro write them, in which nothing is wrong."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import autoguide
from pyro.ops.indexing import Vindex
from torch import nn
from torch.distributions import constraints

import pyro_reparam_ext as pre

X = torch.linspace(-1.0, 1.0, 12).reshape(6, 2)
Y = torch.tensor([0.3, -0.2, 1.1, 0.4, -0.9, 0.6])
COUNTS = torch.tensor([0.0, 2.0, 1.0, 4.0, 3.0, 0.0])
LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])


def positive(name, value):
    return pyro.param(name, torch.as_tensor(value), constraint=constraints.positive)


def linear(weights, bias):
    return bias + (X * weights).sum(-1)


def regression():
    weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    bias = pyro.sample("bias", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Normal(linear(weights, bias), sigma), obs=Y)


def vae():
    decode, encode = nn.Linear(2, 3), nn.Linear(3, 4)
    images = torch.ones(5, 3)

    def model(x):
        pyro.module("decoder", decode)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encode)
        with pyro.plate("images", len(x)):
            loc, scale = encode(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return model, guide, (images,)


def mixture():
    def model():
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("rows", 6):
            z = pyro.sample("z", dist.Categorical(weights))
            pyro.sample("y", dist.Normal(Vindex(locs)[..., z], scale), obs=Y)

    def guide():
        pyro.sample("weights", dist.Dirichlet(positive("shares", [2.0, 3.0])))
        with pyro.plate("components", 2):
            loc = pyro.param("loc", torch.tensor([0.0, 1.0]))
            pyro.sample("locs", dist.Normal(loc, positive("width", 0.1)))
        pyro.sample("scale", dist.LogNormal(pyro.param("log_scale", torch.tensor(0.0)), 0.1))
        probs = pyro.param("probs", torch.ones(6, 2) / 2, constraint=constraints.simplex)
        with pyro.plate("rows", 6):
            pyro.sample("z", dist.Categorical(probs), infer={"enumerate": "parallel"})

    return model, guide, ()


def markov_chain():
    transition = torch.tensor([[0.8, 0.2], [0.3, 0.7]])

    def model():
        z = pyro.sample("z_0", dist.Categorical(torch.ones(2)))
        for t in pyro.markov(range(1, 4)):
            z = pyro.sample(f"z_{t}", dist.Categorical(Vindex(transition)[..., z, :]))
            pyro.sample(f"y_{t}", dist.Normal(2.0 * z, 1.0), obs=Y[t])

    def guide():
        logits = pyro.param("logits", torch.zeros(4, 2))
        for t in range(4):
            infer = {"estimator": pre.Enumeration()}
            pyro.sample(f"z_{t}", dist.Categorical(logits=logits[t]), infer=infer)

    return model, guide, ()


def eight_schools():
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 6):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, 10.0), obs=10 * Y)


def poisson_regression():
    weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    bias = pyro.sample("bias", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Poisson(linear(weights, bias).exp()), obs=COUNTS)


def stick_breaking():
    def shares(sticks):
        left = (1 - sticks).cumprod(-1)
        one = torch.ones_like(left[..., :1])
        return torch.cat([sticks, one], -1) * torch.cat([one, left], -1)

    def model():
        with pyro.plate("sticks", 3):
            sticks = pyro.sample("stick", dist.Beta(1.0, 0.9))
        with pyro.plate("components", 4):
            locs = pyro.sample("loc", dist.Normal(0.0, 3.0))
        with pyro.plate("rows", 6):
            components = dist.Normal(locs.unsqueeze(-2), 1.0)
            weights = dist.Categorical(shares(sticks).unsqueeze(-2))
            pyro.sample("y", dist.MixtureSameFamily(weights, components), obs=Y)

    def guide():
        with pyro.plate("sticks", 3):
            pyro.sample("stick", dist.Beta(1.0, positive("kappa", [1.0, 2.0, 0.3])))
        with pyro.plate("components", 4):
            pyro.sample("loc", dist.Normal(pyro.param("at", torch.zeros(4)), 1.0))

    return model, guide, ()


def topics():
    words = torch.tensor([[0, 1, 1], [2, 2, 0]]).T

    def model():
        with pyro.plate("topics", 2):
            topic = pyro.sample("topic", dist.Dirichlet(torch.ones(3) / 3))
        with pyro.plate("documents", 2):
            share = pyro.sample("share", dist.Dirichlet(torch.ones(2) / 8))
            with pyro.plate("words", 3):
                z = pyro.sample("z", dist.Categorical(share))
                pyro.sample("word", dist.Categorical(Vindex(topic.unsqueeze(-3))[..., z, :]), obs=words)

    def guide():
        with pyro.plate("topics", 2):
            pyro.sample("topic", dist.Dirichlet(positive("of_topics", torch.ones(2, 3))))
        with pyro.plate("documents", 2):
            pyro.sample("share", dist.Dirichlet(positive("of_documents", torch.ones(2, 2) / 8)))
            with pyro.plate("words", 3):
                logits = pyro.param("assigned", torch.zeros(3, 2, 2))
                pyro.sample("z", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})

    return model, guide, ()


def survival():
    censored = LABELS.bool()

    def model():
        shape = pyro.sample("shape", dist.Gamma(2.0, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("patients", 6):
            law = dist.Weibull(scale, shape)
            with poutine.mask(mask=~censored):
                pyro.sample("died", law, obs=1 + COUNTS)
            with poutine.mask(mask=censored):
                pyro.factor("alive", -(((1 + COUNTS) / scale) ** shape))

    def guide():
        pyro.sample("shape", dist.Gamma(positive("a", 4.0), positive("b", 3.0)))
        pyro.sample("scale", dist.LogNormal(pyro.param("mean", torch.tensor(0.5)), 0.3))

    return model, guide, ()


def gaussian_process():
    inputs = X[:, 0]
    kernel = (-((inputs[:, None] - inputs) ** 2)).exp() + 0.1 * torch.eye(6)

    def model():
        f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(6), kernel))
        pyro.sample("y", dist.Normal(f, 0.2).to_event(1), obs=Y)

    def guide():
        loc = pyro.param("loc", torch.zeros(6))
        tril = pyro.param("tril", torch.eye(6), constraint=constraints.lower_cholesky)
        pyro.sample("f", dist.MultivariateNormal(loc, scale_tril=tril))

    return model, guide, ()


def forecasting():
    def model():
        scale = pyro.sample("scale", dist.LogNormal(-2.0, 1.0))
        level = pyro.sample("level", dist.StudentT(4.0, 0.0, 1.0))
        with pyro.plate("steps", 6, dim=-1):
            drift = pyro.sample("drift", dist.Normal(0.0, scale))
        walk = level.unsqueeze(-1) + drift.cumsum(-1)
        with pyro.plate("times", 6, dim=-1):
            pyro.sample("y", dist.StudentT(3.0, walk.reshape(drift.shape), 0.5), obs=Y)

    return model, autoguide.AutoNormal(model), ()


def coin():
    def model():
        fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
        with pyro.plate("tosses", 6):
            pyro.sample("toss", dist.Bernoulli(fairness), obs=LABELS)

    def guide():
        pyro.sample("fairness", dist.Beta(positive("alpha", 15.0), positive("beta", 15.0)))

    return model, guide, ()


def logistic():
    def model():
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("rows", 6, subsample_size=3) as rows:
            logits = (X[rows] * weights).sum(-1)
            pyro.sample("y", dist.Bernoulli(logits=logits), obs=LABELS[rows])

    def guide():
        loc = pyro.param("loc", torch.zeros(2))
        pyro.sample("weights", dist.Normal(loc, positive("scale", torch.ones(2))).to_event(1))

    return model, guide, ()


def auto(model, kind):
    return lambda: (model, kind(model), ())


PROGRAMS = {
    "Bayesian regression": auto(regression, autoguide.AutoNormal),
    "regression, correlated": auto(regression, autoguide.AutoMultivariateNormal),
    "variational autoencoder": vae,
    "Gaussian mixture": mixture,
    "hidden Markov model": markov_chain,
    "eight schools": auto(eight_schools, autoguide.AutoNormal),
    "Poisson regression": auto(poisson_regression, autoguide.AutoDiagonalNormal),
    "Dirichlet process": stick_breaking,
    "topics": topics,
    "survival": survival,
    "Gaussian process": gaussian_process,
    "forecasting": forecasting,
    "coin": coin,
    "logistic regression, subsampled": logistic,
}
"""By name: a function that returns model, guide and arguments."""

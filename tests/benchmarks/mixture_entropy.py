"""The entropy of a mixture guide by a draw of each component, beside pathwise gradients of one draw.

Beside them ``Stratified``, which takes both at a draw of each component: K evaluations of the model.

The guide's own term E[log q] needs no evaluation of the model: it can be the sum over the components of
their weights times log q at a draw of each, with the guide's parameters held or free. Log p is taken
at one pathwise draw. The variance of the gradient in all parameters of a mixture of K normals in D
dims, for posteriors that are the guide itself, mixtures near to it and far away, and a single normal::

    python -m tests.benchmarks.mixture_entropy
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pandas as pd
import pyro.distributions as dist
import torch
from torch import Tensor

import pyro_reparam_ext as pre

STRATIFIED = "Stratified, per evaluation"
Parameters = tuple[Tensor, Tensor, Tensor]
LogDensity = Callable[[Tensor], Tensor]


def mixture(parameters: Parameters) -> pre.distributions.MixtureSameFamily:
    logits, loc, log_scale = parameters
    component = dist.Normal(loc, log_scale.exp()).to_event(1)
    return pre.distributions.MixtureSameFamily(dist.Categorical(logits=logits), component)


def held(parameters: Parameters) -> Parameters:
    logits, loc, log_scale = (x.detach() for x in parameters)
    return logits, loc, log_scale


def by_components(parameters: Parameters, f: LogDensity) -> Tensor:
    """E[f] by one draw of each component."""
    logits, loc, log_scale = parameters
    z = loc + log_scale.exp() * torch.randn_like(loc)
    return (logits.softmax(-1) * f(z)).sum(-1)


def losses(parameters: Parameters, log_p: LogDensity) -> dict[str, Tensor]:
    q = mixture(parameters)
    z = q.rsample()
    fixed = mixture(held(parameters))
    return {
        "Pathwise": q.log_prob(z) - log_p(z),
        "StickingTheLanding": fixed.log_prob(z) - log_p(z),
        "entropy by components": by_components(parameters, q.log_prob) - log_p(z),
        "the same, held": by_components(parameters, fixed.log_prob) - log_p(z),
        STRATIFIED: by_components(parameters, lambda z: fixed.log_prob(z) - log_p(z)),
    }


def variances(parameters: Parameters, log_p: LogDensity, draws: int) -> pd.Series:
    """And how far the means are apart, in standard errors."""
    rows: dict[str, list[Tensor]] = {}
    for _ in range(draws):
        for name, loss in losses(parameters, log_p).items():
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
            rows.setdefault(name, []).append(torch.cat([x.flatten() for x in gradients]))
    samples = {name: torch.stack(x) for name, x in rows.items()}
    for name, x in samples.items():
        apart = x - samples["Pathwise"]
        z = apart.mean(0).abs() / (apart.std(0) / draws**0.5 + 1e-12)
        assert z.max() < 6, (name, z)
    variance = pd.Series({name: float(x.var(0).sum()) for name, x in samples.items()})
    variance[STRATIFIED] *= len(parameters[0])  # as much as that many particles of the others
    return variance["Pathwise"] / variance


def near(parameters: Parameters, way: float) -> LogDensity:
    """Of the same mixture, each of its parameters moved by random numbers of that size."""
    logits, loc, log_scale = (x.detach() + way * torch.randn_like(x) for x in parameters)
    return mixture((logits, loc, log_scale)).log_prob


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for components in (2, 5, 10):
        for dims in (1, 3, 10):
            shape = components, dims
            start = (torch.zeros(components), 2 * torch.randn(shape), torch.zeros(shape))
            logits, loc, log_scale = (x.double().requires_grad_() for x in start)
            parameters = (logits, loc, log_scale)
            wide = dist.Normal(torch.zeros(dims).double(), 3.0).to_event(1)
            posteriors = {
                "itself": near(parameters, 0.0),
                "near": near(parameters, 0.1),
                "half-way": near(parameters, 0.5),
                "far": near(parameters, 2.0),
                "one normal": wide.log_prob,
            }
            for name, log_p in posteriors.items():
                found = variances(parameters, log_p, args.draws)
                rows.append({"K": components, "D": dims, "posterior": name, **found})
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    main(parser.parse_args())

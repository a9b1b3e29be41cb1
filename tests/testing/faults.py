"""Two small estimators that are right, and each of the mistakes that are made in writing one."""

from dataclasses import dataclass

import torch

from pyro_reparam_ext.estimators import (
    Branch,
    Draw,
    Estimator,
    coordinates,
    num_coordinate_dims,
    num_coordinates,
    sum_rightmost,
)


@dataclass(frozen=True, eq=False)
class Twin(Estimator):
    """An antithetic pair of Bernoulli values, as ARM."""

    unbiased = True
    supported = (torch.distributions.Bernoulli,)

    def evaluations(self, fn):
        return 2

    @torch.no_grad()
    def draw(self, fn, source):
        probs = coordinates(fn).probs
        noise = source.uniform(probs.shape, probs)
        return Draw((noise < probs).to(probs.dtype), noise=noise)

    @torch.no_grad()
    def alternatives(self, site):
        twin = site.noise > 1 - site.base.probs
        return (Branch.of(twin.to(site.value.dtype)[None], weights=0.5),)

    def surrogate(self, evaluations):
        site, costs = evaluations.site, evaluations.costs
        weight = (site.noise - 0.5) * site.base.logits
        return (costs[1] - costs[0]) * sum_rightmost(weight, num_coordinate_dims(site.fn))


@dataclass(frozen=True, eq=False)
class Flip(Estimator):
    """The difference that each Bernoulli coordinate makes."""

    unbiased = True
    supported = (torch.distributions.Bernoulli,)
    coordinatewise = True

    def evaluations(self, fn):
        return 1 + num_coordinates(fn)

    def alternatives(self, site):
        return (Branch.of(self.flipped(site)),)

    def flipped(self, site):
        count, batch = num_coordinates(site.fn), len(site.fn.batch_shape)
        one = torch.eye(count, dtype=site.value.dtype)
        return (site.value - one.reshape((count,) + (1,) * batch + site.fn.event_shape)).abs()

    def surrogate(self, evaluations):
        site = evaluations.site
        gain = (1 - 2 * site.value) * site.base.probs
        gain = gain.movedim(-1, 0) if site.fn.event_shape else gain[None]
        return (gain * (evaluations.costs[1:] - evaluations.cost)).sum(0)


class Sign(Twin):
    def surrogate(self, evaluations):
        return -super().surrogate(evaluations)


class Factor(Twin):
    def surrogate(self, evaluations):
        return 0.5 * super().surrogate(evaluations)


class Detach(Twin):
    def surrogate(self, evaluations):
        site, costs = evaluations.site, evaluations.costs
        logits = site.base.logits
        # What DisARM multiplies by the probability of the larger value, which is to be a constant.
        twin = evaluations.branches[0].values(0, 1)[0]
        weight = 0.5 * (site.value - twin) * logits.abs().sigmoid() * logits
        return (costs[0] - costs[1]) * sum_rightmost(weight, num_coordinate_dims(site.fn))


class Weights(Flip):
    def alternatives(self, site):
        values = self.flipped(site)
        return (Branch.of(values, weights=1 / (1 + len(values))),)


class Count(Flip):
    def evaluations(self, fn):
        return num_coordinates(fn)


class LeadingDim(Twin):
    def alternatives(self, site):
        (twin,) = super().alternatives(site)
        return (Branch(1, lambda start, stop: twin.values(0, 1)[0], weights=0.5),)


class Booleans(Twin):
    def alternatives(self, site):
        return (Branch.of(super().alternatives(site)[0].values(0, 1) > 0.5, weights=0.5),)


class Constant(Twin):
    def surrogate(self, evaluations):
        return super().surrogate(evaluations).detach()


class Unsaid(Estimator):
    supported = (torch.distributions.Bernoulli,)


class Options(Twin):
    pairs: int = 1


class Everywhere(Flip):
    coordinatewise = False


class Scored(Twin):
    """A bias that a few draws don't show."""

    def log_prob(self, fn, draw):
        return 1.1 * super().log_prob(fn, draw)


class Branching(Twin):
    def surrogate(self, evaluations):
        return super().surrogate(evaluations) * (2 if evaluations.cost.sum() > 1e9 else 1)


class Item(Twin):
    def alternatives(self, site):
        return super().alternatives(site) if site.value.sum().item() < 1e9 else ()


class Counting(Twin):
    def draw(self, fn, source):
        draw = super().draw(fn, source)
        object.__setattr__(self, "kept", getattr(self, "kept", 0) + 1)
        return draw

    def surrogate(self, evaluations):
        return super().surrogate(evaluations) * (1 + 0.1 * (self.kept % 3 - 1))


class DefaultDtype(Twin):
    def alternatives(self, site):
        torch.set_default_dtype(torch.float64)
        return super().alternatives(site)


class Refused(Flip):
    """Says that it changes one coordinate at a time, and has no alternatives."""

    def evaluations(self, fn):
        return 1

    def alternatives(self, site):
        return ()

    def surrogate(self, evaluations):
        return evaluations.site.log_prob * evaluations.cost


class Doubles(Twin):
    def surrogate(self, evaluations):
        return super().surrogate(evaluations).double()


class Whole(Twin):
    def surrogate(self, evaluations):
        return super().surrogate(evaluations).sum()


class Unsummed(Twin):
    def surrogate(self, evaluations):
        site, costs = evaluations.site, evaluations.costs
        return (costs[1] - costs[0]) * (site.noise - 0.5) * site.base.logits


class Given(Twin):
    """Counts on noise that a value from elsewhere does not have."""

    def alternatives(self, site):
        twin = site.draw.noise > 1 - site.base.probs
        return (Branch.of(twin.to(site.value.dtype)[None], weights=0.5),)


class Changeable(Estimator):
    unbiased = True
    supported = (torch.distributions.Bernoulli,)


FAULTS = {
    Sign: "the gradient of the guide is biased.*wrong sign",
    Factor: "the gradient of the guide is biased.*0.50 times.*factor",
    Detach: "the gradient of the guide is biased.*detach",
    Weights: "the gradient of the model is biased.*weights",
    Count: r"evaluations is 2, but 3 are run",
    LeadingDim: r"Stack them on dim 0",
    Booleans: r"dtype torch.bool.*to\(site.value.dtype\)",
    Constant: "surrogate of Constant has no gradient",
    Unsaid: "unbiased = True or unbiased = False",
    Options: r"options \(pairs\).*@dataclass",
    Everywhere: "outside the plate.*coordinatewise = True",
    Scored: "is biased",
    Branching: r"Python number.*at .*faults.py:\d+.*torch.where",
    Item: r"Python number.*at .*faults.py:\d+.*torch.where",
    Counting: "as a graph.*another graph each time",
    DefaultDtype: "the default dtype is torch.float64 after a step",
    Refused: "outside the plate: nothing was raised.*coordinatewise",
    Doubles: "in single precision.*torch.float64",
    Whole: r"the surrogate of Whole has shape .*dims of site.log_prob",
    Unsummed: r"the surrogate of Unsummed has shape .*Sum coordinates by sum_rightmost",
    Given: "at given values",
    Changeable: "expected a frozen dataclass.*@dataclass",
}
"""Mistakes, and what is said of them: those that are made most first."""

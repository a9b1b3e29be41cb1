"""Relaxed and straight-through values as functions of Gumbel noise."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import transform_to

from ..distributions.mixins.straight_through import StraightThrough
from ..distributions.relaxed_bernoulli import RelaxedBernoulli
from ..distributions.relaxed_one_hot_categorical import RelaxedOneHotCategorical
from ..distributions.rules.discrete_noise import is_binary
from ..distributions.rules.logits import exact_logits
from ..distributions.rules.pathwise import pathwise_at
from ..distributions.rules.temperatures import batch_temperature
from ..distributions.rules.wrappers import innermost
from ..distributions.straight_through_bernoulli import StraightThroughBernoulli
from ..distributions.straight_through_one_hot_categorical import StraightThroughOneHotCategorical
from ..errors import EstimatorError
from ..numerics.relaxation import far, hard_bernoulli, hard_one_hot, within
from ..numerics.sigmoid import sigmoid
from ..numerics.straight_through import straight_through
from .keys import Gumbel, Logistic, gumbel_medians, logistic_median, most_likely_shift
from .noncentered import NoncenteredReparam
from .watch import watch


class GumbelSoftmaxReparam(NoncenteredReparam):
    r"""A relaxed site as a function of parameter-free Gumbel noise.

    .. math::
        y = \mathrm{softmax}\big((l + g) / T\big),\ g_k \sim \mathrm{Gumbel}(0, 1)
        \qquad\text{or}\qquad y = \sigma\big((l + g) / T\big),\ g \sim \mathrm{Logistic}(0, 1)

    Serves RelaxedBernoulli and RelaxedOneHotCategorical and the straight-through classes, those of this
    package and of Pyro. The value of a straight-through site stays hard, with the relaxed gradient. The
    noise is the site ``f"{name}_noise"``, real and without bounds, so that nothing saturates.

    The inverse is exact. The constant that a softmax forgets is chosen such that the noise is most
    likely:

    .. math::
        g_k = a_k + \log \frac{1}{K} \sum_j e^{-a_j}, \qquad a_k = T \log y_k - l_k.

    A hard value of a straight-through site is given noise at the median of its conditional law, the
    largest first, which leads to that value strictly.

    - On a model, the noise is latent and the value deterministic: HMC and autoguides see a smooth
      posterior instead of one in the corners of a simplex.
    - On a guide, the noise is auxiliary and the value has the density :math:`\log q(y)`, of a
      straight-through site the discrete log probability. Pyro's straight-through classes don't score
      hard values: use this package's in the model then.

    See also:
        :class:`RelaxReparam`, which makes a discrete site a relaxed one;
        :class:`pyro.infer.reparam.GumbelSoftmaxReparam`, which has uniform noise.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2016,
        https://arxiv.org/abs/1611.01144. Maddison, Mnih, Teh, *The Concrete Distribution*, 2016,
        https://arxiv.org/abs/1611.00712. Gorinova, Moore, Hoffman, *Automatic Reparameterisation of
        Probabilistic Programs*, 2019, https://arxiv.org/abs/1906.03028.

    Args:
        guide: whether the site is one of a guide.

    Raises:
        EstimatorError: the site is observed, or neither relaxed nor straight-through; or the program
            makes a number of the value while an ELBO of Pyro's trains by it, see :class:`RelaxReparam`.

    Warns:
        UserWarning: a cost depends on the value without a gradient.

    Example:
        >>> import pyro, torch
        >>> import pyro_reparam_ext as pre
        >>> @pyro.poutine.reparam(config={"z": pre.reparam.GumbelSoftmaxReparam()})
        ... def model():
        ...     logits = torch.tensor([0.0, 2.0])
        ...     return pyro.sample("z", pre.distributions.RelaxedOneHotCategorical(0.5, logits=logits))
        >>> noise = torch.tensor([1.0, -1.0])
        >>> pyro.poutine.condition(model, data={"z_noise": noise})()
        tensor([0.5000, 0.5000])
    """

    suffix = "noise"

    def check(self, name: str, fn: TorchDistribution) -> None:
        if not isinstance(fn, (StraightThrough, *_RELAXED)):
            raise EstimatorError(
                f"site '{name}': GumbelSoftmaxReparam was given {type(fn).__name__}; expected "
                f"RelaxedBernoulli, RelaxedOneHotCategorical, or a straight-through one. "
                f"{'RelaxReparam relaxes it.' if _is_discrete(fn) else f'Leave {name!r} out.'}"
            )
        if isinstance(fn, StraightThrough) and fn.gradient is not None:
            raise EstimatorError(
                f"site '{name}': GumbelSoftmaxReparam was given {type(fn).__name__} with "
                f"gradient={fn.gradient!r}, which is one in the logits: the noise has none by it. Give "
                f"{type(fn).__name__} a temperature in place of gradient=, or leave {name!r} out."
            )

    def apply(self, msg: dict[str, Any]) -> dict[str, Any]:
        new = super().apply(msg)
        if isinstance(innermost(msg["fn"]), (StraightThrough, *_RELAXED)):
            watch("GumbelSoftmaxReparam")
        return new

    def noise(self, fn: TorchDistribution) -> TorchDistribution:
        zero = torch.zeros_like(_twin(fn).logits)
        return Logistic(zero) if is_binary(fn) else Gumbel(zero).to_event(1)

    def forward(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        twin = _twin(fn)
        keys = _finite_logits(twin) + noise
        x = keys / _temperature(twin)
        if isinstance(twin, StraightThrough):
            if is_binary(fn):
                return straight_through(hard_bernoulli(keys), sigmoid(x))
            return straight_through(hard_one_hot(keys), x.softmax(-1))
        if not is_binary(fn):
            x = torch.where(twin.impossible, -far(x.dtype), x)
        value = transform_to(twin.support)(x)
        # Of the value's density a sample has to move where it is held off the boundary, too.
        return pathwise_at(twin, value.detach()) if self.guide else value

    def inverse(self, fn: TorchDistribution, value: Tensor) -> Tensor:
        twin = _twin(fn)
        if isinstance(twin, StraightThrough):
            # Pyro's may be given a relaxed value to start from.
            if is_binary(fn):
                median = logistic_median(exact_logits(twin), (value > 0.5).to(value.dtype))
            else:
                median = gumbel_medians(exact_logits(twin), hard_one_hot(value))
            # Where the logit is infinite, all noise leads to the value.
            return torch.where(exact_logits(twin).isinf(), 0.0, median - _finite_logits(twin))
        noise = _temperature(twin) * transform_to(twin.support).inv(value) - twin.logits
        if is_binary(fn):
            return noise
        # That of impossible classes is free: the most likely one.
        possible = ~twin.impossible
        kept = torch.where(possible, noise, math.inf)
        count = possible.sum(-1, keepdim=True).to(noise.dtype)
        shift = most_likely_shift(kept, dims=1) + (noise.shape[-1] / count).log()
        return torch.where(possible, noise + shift, 0.0)

    def log_abs_det(self, fn: TorchDistribution, noise: Tensor) -> Tensor:
        # The value has a dim less than the noise, or is discrete: the density of the one less that of
        # the other leaves the density of the value.
        twin = _twin(fn)
        if isinstance(twin, StraightThrough):
            # As at any hard value the score, held at zero, has mean zero.
            logits = exact_logits(twin).detach()
            twin = type(twin)(twin.temperature, logits=logits, validate_args=False)
        return self.noise(fn).log_prob(noise) - twin.log_prob(self.forward(fn, noise))

    def _is_biased(self, fn: TorchDistribution) -> bool:
        return super()._is_biased(_twin(fn))


_PYRO_HARD = (dist.RelaxedBernoulliStraightThrough, dist.RelaxedOneHotCategoricalStraightThrough)
_RELAXED = (
    RelaxedBernoulli,
    torch.distributions.RelaxedBernoulli,
    RelaxedOneHotCategorical,
    torch.distributions.RelaxedOneHotCategorical,
)


def _is_discrete(fn: TorchDistribution) -> bool:
    return isinstance(fn, (torch.distributions.Bernoulli, torch.distributions.OneHotCategorical))


def _twin(fn: Any) -> Any:
    """The distribution of this package."""
    if isinstance(fn, (StraightThrough, RelaxedBernoulli, RelaxedOneHotCategorical)):
        return fn
    hard = isinstance(fn, _PYRO_HARD)
    if is_binary(fn):
        cls: Any = StraightThroughBernoulli if hard else RelaxedBernoulli
    else:
        cls = StraightThroughOneHotCategorical if hard else RelaxedOneHotCategorical
    return cls(batch_temperature(fn), logits=fn.logits, validate_args=False)


def _finite_logits(twin: Any) -> Tensor:
    return within(exact_logits(twin))


def _temperature(twin: Any) -> Tensor:
    """In a shape that broadcasts with the logits."""
    return twin.temperature if is_binary(twin) else twin.temperature.unsqueeze(-1)

r"""A variable as a function of noise: :math:`x = T_\theta(\epsilon)`, and back.

What is common to coupling, to pathwise derivatives in closed form and to noncentered
reparameterisation. The maps of families whose quantiles are found numerically lie in
``gamma_noise.py``, ``quantile.py`` and ``count_noise.py``, those of this package's distributions with
these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch import distributions as td

from ...noise import standard_exponential
from .dispatch import Rules
from .standard import standard
from .wrappers import innermost


class NoiseMap(NamedTuple):
    r"""The noise behind the values of some distributions.

    - ``law(fn)``: the law of the noise, of the batch shape of ``fn``. It does not depend on the values
      of the parameters;
    - ``forward(fn, noise)``: the value, differentiable in the parameters, and by a map in closed form
      in the noise;
    - ``inverse(fn, value)``: the noise. Where several lead to the value, one of them is drawn, so that
      a draw of ``fn`` has noise that follows the law exactly;
    - ``serves(fn)``: whether this distribution has the map: that may depend on what it is made of.
    """

    law: Callable[[Any], TorchDistribution]
    forward: Callable[[Any, Tensor], Tensor]
    inverse: Callable[[Any, Tensor], Tensor]
    serves: Callable[[Any], bool] = lambda fn: True


_MAPS: Rules[NoiseMap | None] = Rules()
register_noise_map = _MAPS.register
"""A decorator: :func:`noise_map` for some classes, and for what derives from them."""


def noise_map(fn: td.Distribution) -> NoiseMap | None:
    """The map of the nearest class; None if there is none.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyro_reparam_ext.distributions.rules.noise_map import noise_map
        >>> fn = dist.LogNormal(1.0, 2.0)
        >>> noise = noise_map(fn).inverse(fn, torch.tensor(5.0))
        >>> print(f"{noise:.4f} {noise_map(fn).forward(fn, noise):.4f}")
        0.3047 5.0000
    """
    found = _MAPS.of(type(fn))
    return found if found is not None and found.serves(fn) else None


def transport(value: Tensor, old: td.Distribution, new: td.Distribution) -> Tensor | None:
    """The value of ``new`` at the noise of ``value``, a draw of ``old``; None without a common map."""
    there = noise_map(new)
    if there is None or _classes(old) != _classes(new):
        return None
    return there.forward(new, there.inverse(old, value).detach())


def _classes(fn: Any) -> list[type]:
    """The classes of a distribution and of what it is a transform of."""
    fn = innermost(fn)
    inner = _classes(fn.base_dist) if isinstance(fn, td.TransformedDistribution) else []
    return [type(fn), *inner]


def normals(like: Tensor, *event_shape: int) -> TorchDistribution:
    """Standard normals for each element, in vectors of this shape."""
    zeros = torch.zeros_like(like.detach()).reshape(like.shape + (1,) * len(event_shape))
    return dist.Normal(zeros.expand(like.shape + event_shape), 1.0).to_event(len(event_shape))


def _scaled(fn: Any, noise: Tensor) -> Tensor:
    shift, scale, _ = standard(fn)
    return shift + scale * noise


def _unscaled(fn: Any, value: Tensor) -> Tensor:
    shift, scale, _ = standard(fn)
    return (value - shift) / scale


STANDARD = NoiseMap(lambda fn: standard(fn).noise, _scaled, _unscaled)
"""Of location-scale families that have no other parameter."""
register_noise_map(
    td.Laplace,
    td.Cauchy,
    td.Gumbel,
    dist.Logistic,
    td.Uniform,
    td.Exponential,
    td.HalfNormal,
    td.HalfCauchy,
)(STANDARD)


register_noise_map(td.Normal)(
    NoiseMap(
        STANDARD.law,
        lambda fn, noise: fn.loc + fn.scale * noise,
        lambda fn, value: (value - fn.loc) / fn.scale,
    )
)


def tril_of(fn: Any) -> Tensor:
    """The Cholesky factor of an elliptical vector, without the batch dims that it doesn't need."""
    return (
        fn.scale_tril if isinstance(fn, td.LowRankMultivariateNormal) else fn._unbroadcasted_scale_tril
    )


def _white(fn: Any) -> TorchDistribution:
    zeros = torch.zeros_like(fn.loc).expand(fn.shape())
    return dist.Normal(zeros, 1.0, validate_args=fn._validate_args).to_event(1)


def _coloured(fn: Any, noise: Tensor) -> Tensor:
    return fn.loc + (tril_of(fn) @ noise.unsqueeze(-1)).squeeze(-1)


def _whitened(fn: Any, value: Tensor) -> Tensor:
    centred = (value - fn.loc).unsqueeze(-1)
    return torch.linalg.solve_triangular(tril_of(fn), centred, upper=False).squeeze(-1)


ELLIPTICAL = NoiseMap(_white, _coloured, _whitened)
register_noise_map(td.MultivariateNormal, td.LowRankMultivariateNormal)(ELLIPTICAL)


def _of_base(fn: Any) -> NoiseMap:
    found = noise_map(fn.base_dist)
    assert found is not None
    return found


def _has_base(fn: Any) -> bool:
    return noise_map(fn.base_dist) is not None


def _transformed(fn: Any, noise: Tensor) -> Tensor:
    value = _of_base(fn).forward(fn.base_dist, noise)
    for transform in fn.transforms:
        value = transform(value)
    return value


def _untransformed(fn: Any, value: Tensor) -> Tensor:
    for transform in reversed(fn.transforms):
        value = transform.inv(value)
    return _of_base(fn).inverse(fn.base_dist, value)


register_noise_map(td.TransformedDistribution)(
    NoiseMap(
        lambda fn: _of_base(fn).law(fn.base_dist),
        _transformed,
        _untransformed,
        lambda fn: _has_base(fn) and all(t.bijective for t in fn.transforms),
    )
)


def _wrapped_law(fn: Any) -> TorchDistribution:
    law = _of_base(fn).law(fn.base_dist)
    if isinstance(fn, td.Independent):
        return law.to_event(fn.reinterpreted_batch_ndims)
    return law.expand(fn.batch_shape)


register_noise_map(td.Independent, MaskedDistribution, ExpandedDistribution)(
    NoiseMap(
        _wrapped_law,
        lambda fn, noise: _of_base(fn).forward(fn.base_dist, noise),
        lambda fn, value: _of_base(fn).inverse(fn.base_dist, value),
        _has_base,
    )
)


def _two_exponentials(fn: Any, noise: Tensor) -> Tensor:
    below, above = noise.unbind(-1)
    return fn.loc - fn.left_scale * below + fn.right_scale * above


def _of_two_exponentials(fn: Any, value: Tensor) -> Tensor:
    # The value is the difference of two lengths: what they have in common is exponential too.
    excess = value - fn.loc
    rate = 1 / fn.left_scale + 1 / fn.right_scale
    common = standard_exponential(excess.shape, excess) / rate
    below, above = (common + (sign * excess).clamp(min=0) for sign in (-1, 1))
    return torch.stack([below / fn.left_scale, above / fn.right_scale], -1)


def _exponentials(fn: Any) -> TorchDistribution:
    return dist.Exponential(torch.ones_like(fn.loc).unsqueeze(-1).expand(*fn.shape(), 2)).to_event(1)


register_noise_map(dist.AsymmetricLaplace)(
    NoiseMap(_exponentials, _two_exponentials, _of_two_exponentials)
)

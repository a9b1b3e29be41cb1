"""The invertible Gaussian reparameterisation: normals that are sent to the simplex."""

from __future__ import annotations

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import register_kl

from ..numerics.relaxation import hard_one_hot
from .mixins.parametric import Parametric, as_tensors, same_event_shape
from .rules.noise_map import NoiseMap, normals, register_noise_map
from .rules.on_support import log_prob_on_support
from .rules.pathwise import by_noise_map, register_pathwise
from .rules.temperatures import in_batch
from .supports.compressed_simplex import CompressedSoftmax, compressed_simplex, expanded_log


class InvertibleGaussian(Parametric):
    r"""A point of the simplex that stands for a one-hot vector: normals through a softmax.

    .. math::
        x_k = \frac{\mu_k + \sigma_k \epsilon_k}{T}, \quad \epsilon_k \sim \mathcal N(0, 1), \qquad
        y_k = \frac{e^{x_k}}{\delta + \sum_{j<K} e^{x_j}}, \quad
        y_K = \frac{\delta}{\delta + \sum_{j<K} e^{x_j}}

    The map from :math:`x \in \mathbb{R}^{K-1}` is a bijection, so that the density is closed,

    .. math::
        \log f(y) = \sum_{k<K} \log \mathcal N\Big(x_k; \frac{\mu_k}{T}, \frac{\sigma_k}{T}\Big)
            - \sum_{k=1}^K \log y_k, \qquad x_k = \log y_k - \log y_K + \log \delta,

    and a KL divergence is that of the normals, whatever the temperatures and :math:`\delta` are. It is
    not known to a discrete distribution, whose law has no density.

    In floating point a component below 1e-19 (float32; 1e-154 in float64) holds its logarithm
    compressed, in what is left of the range of floats; sums and products don't notice. ``log_prob``
    reads it back, and is the density above at the true y, for :math:`T |\log y_k|` to some 1e-6 of its
    size. So its own samples are scored, and its gradients are right, at low temperatures too, until a
    logarithm falls short of -4e5 (float32). ``log_prob`` differs from the density of the compressed
    value by a function of the value alone, which cancels between guide and model if both are of this
    class; another law on the simplex reads a component as it stands.

    ``mode`` is the one-hot vector of the largest component at :math:`\epsilon = 0`. The mean is not
    known.

    See also:
        :class:`RelaxedOneHotCategorical`, whose largest component has known probabilities.

    References:
        Potapczynski, Loaiza-Ganem, Cunningham, *Invertible Gaussian Reparameterization: Revisiting the
        Gumbel-Softmax*, 2020, https://arxiv.org/abs/1912.09588.

    Args:
        temperature: :math:`T > 0`, without unit, of a shape that broadcasts with the batch shape.
        loc: :math:`\mu`, of shape (..., K - 1), K >= 2.
        scale: :math:`\sigma > 0`, of shape (..., K - 1), or a number.
        delta: :math:`\delta > 0`, the weight of the last component, of a shape that broadcasts with the
            batch shape.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: less than two classes; or a parameter is outside its domain, with validation on.
        NotImplementedError: the mean, the variance, the entropy, or a KL divergence to a discrete
            distribution.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> loc = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> fn = pre.distributions.InvertibleGaussian(0.5, loc, torch.ones(2))
        >>> fn.rsample((10_000,))[:, 0].mean().backward()
        >>> print([f"{x:.1f}" for x in loc.grad], fn.mode)
        ['0.3', '-0.1'] tensor([1., 0., 0.])
        >>> prior = pre.distributions.InvertibleGaussian(0.5, torch.zeros(2), torch.ones(2))
        >>> print(torch.distributions.kl_divergence(fn, prior).item())
        0.5
    """

    arg_constraints = {
        "temperature": constraints.positive,
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
        "delta": constraints.positive,
    }
    support = compressed_simplex
    has_rsample = True
    temperature: Tensor
    loc: Tensor
    scale: Tensor
    delta: Tensor

    def __init__(
        self,
        temperature: Tensor | float,
        loc: Tensor,
        scale: Tensor | float,
        *,
        delta: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        loc, scale = torch.broadcast_tensors(*as_tensors({"loc": loc, "scale": scale}).values())
        if not loc.dim() or not loc.shape[-1]:
            raise ValueError(
                "InvertibleGaussian: expected loc of shape (..., K - 1), for K >= 2 classes, was given "
                f"{tuple(loc.shape)}."
            )
        temperature = in_batch("InvertibleGaussian", temperature, loc.shape, 1)
        parameters = {"temperature": temperature, "loc": loc, "scale": scale, "delta": delta}
        super().__init__(parameters, (loc.shape[-1] + 1,), validate_args)

    def _normal(self) -> tuple[Tensor, Tensor]:
        r"""Location and scale of :math:`x - \log \delta = \log (y_k / y_K)`."""
        temperature = self.temperature.unsqueeze(-1)
        shift = self.delta.log().unsqueeze(-1)
        return self.loc / temperature - shift, self.scale / temperature

    def rsample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        batch_shape = self._extended_shape(torch.Size(sample_shape))[:-1]
        shape = (*batch_shape, self.loc.shape[-1])
        return _forward(self, torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    @property
    def _interior(self) -> float:
        return 1 / self.event_shape[0]

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        location, scale = self._normal()
        log_y = expanded_log(value)
        noise = (log_y[..., :-1] - log_y[..., -1:] - location) / scale
        normal = -0.5 * noise.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return normal.sum(-1) - log_y.sum(-1)

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError("InvertibleGaussian: the mean is not known. Average samples.")

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError(
            "InvertibleGaussian: the variance is not known. Take that of samples."
        )

    def entropy(self) -> Tensor:
        raise NotImplementedError(
            "InvertibleGaussian: the entropy is not known. Average -log_prob over samples."
        )

    @property
    def mode(self) -> Tensor:
        """The one-hot vector of the largest component where the noise is zero."""
        location, _ = self._normal()
        return hard_one_hot(torch.cat([location, torch.zeros_like(location[..., :1])], -1))


@register_kl(InvertibleGaussian, InvertibleGaussian)
def _kl(p: InvertibleGaussian, q: InvertibleGaussian) -> Tensor:
    same_event_shape(p, q)
    (p_loc, p_scale), (q_loc, q_scale) = p._normal(), q._normal()
    log_ratio = p_scale.log() - q_scale.log()
    spread = torch.expm1(2 * log_ratio) - 2 * log_ratio
    return 0.5 * (((p_loc - q_loc) / q_scale).square() + spread).sum(-1)


@register_kl(InvertibleGaussian, torch.distributions.OneHotCategorical)
@register_kl(InvertibleGaussian, torch.distributions.Categorical)
def _kl_to_discrete(p: InvertibleGaussian, q: torch.distributions.Distribution) -> Tensor:
    raise NotImplementedError(
        f"KL divergence from InvertibleGaussian to {type(q).__name__}: a relaxed value has a density,"
        " and a discrete law has none. Give the model an InvertibleGaussian too."
    )


def _forward(fn: InvertibleGaussian, noise: Tensor) -> Tensor:
    location, scale = fn._normal()
    return CompressedSoftmax()(location + scale * noise)


def _inverse(fn: InvertibleGaussian, value: Tensor) -> Tensor:
    location, scale = fn._normal()
    return (CompressedSoftmax().inv(value) - location) / scale


register_noise_map(InvertibleGaussian)(
    NoiseMap(lambda fn: normals(fn.loc).to_event(1), _forward, _inverse)
)
register_pathwise(InvertibleGaussian)(by_noise_map)

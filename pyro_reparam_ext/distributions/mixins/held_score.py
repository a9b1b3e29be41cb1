"""Scoring a value that carries a gradient by a discrete law, with the parameters held in the guide."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from pyro.distributions.score_parts import ScoreParts
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from ...numerics.relaxation import floating
from ..rules.known_defects import register_scored_otherwise
from ..rules.logits import exact_logits
from ..rules.on_support import on_support


class HeldScore(TorchDistributionMixin):
    r"""A mixin, left of a distribution whose values carry a gradient and are scored by a discrete law.

    In a guide the gradient of :math:`\log q` in the parameters, at a fixed value, is the score, of
    large variance. :meth:`score_parts` leaves it out of the entropy term. Its mean is zero at hard
    values. At relaxed ones it is not: the gradient in the guide is then not that of the printed loss,
    but near that of the hard law. A subclass gives the log probability (:meth:`_linear`).
    """

    holds_score = True
    """Whether it does: then the gradient of the ELBO in the guide is biased."""

    def _linear(self, logits: Tensor, value: Tensor) -> Tensor:
        """The discrete log probability at these ``logits``, extended to relaxed values."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        value = floating(value, self.logits)
        if self._validate_args:
            self._validate_sample(value)
        return on_support(self, value, lambda fn, x: fn._linear(exact_logits(fn), x))

    def score_parts(self, value: Tensor) -> ScoreParts:
        """The entropy term holds the parameters fixed.

        A value without a gradient, such as an enumerated one, is served as any discrete
        distribution's. Where nothing has a gradient, one of the site's own shape is taken for a sample.
        """
        if not self.holds_score:
            return super().score_parts(value)
        value = floating(value, self.logits)
        log_prob = self.log_prob(value)
        sampled = value.shape == self.shape() and not log_prob.requires_grad
        if value.requires_grad or sampled:
            return ScoreParts(log_prob, 0, self._linear(exact_logits(self).detach(), value))
        return ScoreParts(log_prob, log_prob, 0)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Any:
        dims = len(self.batch_shape) if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        return _Independent(self, dims) if dims > 0 else super().to_event(dims)

    def mask(self, mask: Tensor | bool) -> Any:
        return self if mask is True else super().mask(mask)


class _Independent(dist.Independent):
    """``Independent`` that passes :meth:`HeldScore.score_parts` on, as Pyro's own doesn't."""

    def score_parts(self, value: Tensor) -> ScoreParts:
        def total(x: Tensor | float) -> Tensor | float:
            return x.flatten(-dims).sum(-1) if isinstance(x, Tensor) else x

        dims = self.reinterpreted_batch_ndims
        return ScoreParts(*map(total, self.base_dist.score_parts(value)))

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Any:
        dims = len(self.batch_shape) if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        return self.base_dist.to_event(self.reinterpreted_batch_ndims + dims)

    def mask(self, mask: Tensor | bool) -> Any:
        return self if mask is True else super().mask(mask)


register_scored_otherwise(HeldScore)(lambda fn: fn.holds_score)

"""Matrix normal weights."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions.transforms import ReshapeTransform

from ...distributions.matrix_normal import MatrixNormal
from .auto_weights import AutoWeights


class AutoMatrixNormal(AutoWeights):
    r"""A guide in which every weight matrix is matrix normal, with correlated rows and columns.

    .. math::
        W = M + A E B^\top, \quad E_{ij} \sim \mathrm{Normal}(0, 1), \qquad
        A = \mathrm{diag}(a) L_A, \quad B = \mathrm{diag}(b) L_B

    with unit lower triangular :math:`L_A` and :math:`L_B`. The rows have the covariance
    :math:`A A^\top`, the columns :math:`B B^\top`, up to a constant that only their product has. This
    is the exact posterior of a Bayesian linear regression in which all outputs share their inputs and
    the prior's covariance of outputs is that of the noise, as where noise and prior are the same for
    each output.

    A matrix of m by n has about :math:`(m^2 + n^2) / 2` parameters beside its location; a draw and its
    density cost :math:`O(m n (m + n))`. Of a site with more than two event dims (a convolution) the
    first are the rows, all others the columns. Sites with fewer (biases) are mean-field.
    :func:`local_reparameterization` takes independent weights only, and refuses these with an error.

    See also:
        :class:`~pyro_reparam_ext.distributions.MatrixNormal`, the law of
        ``f"{name}_unconstrained"``; :class:`AutoKTiedNormal`, with fewer parameters than a
        mean-field guide.

    References:
        Louizos, Welling, *Structured and Efficient Variational Deep Learning with Matrix Gaussian
        Posteriors*, 2016, https://arxiv.org/abs/1603.04733.

    Args:
        model: a Pyro model of continuous sites.
        init_loc_fn: where the locations start, as of any autoguide.
        init_scale: the scales of all elements at the start, where nothing is correlated.
        create_plates: makes plates that sub-sample otherwise than the model's.

    Raises:
        ValueError: ``init_scale`` is not a positive float.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     pyro.sample("weight", dist.Normal(torch.zeros(3, 4), 1.0).to_event(2))
        >>> guide = pre.nn.AutoMatrixNormal(model)
        >>> pyro.poutine.trace(guide).get_trace().nodes["weight_unconstrained"]["fn"]
        MatrixNormal(loc: torch.Size([3, 4]), row_tril: ..., column_tril: ...)
        >>> guide.quantiles([0.1, 0.9])["weight"].shape
        torch.Size([2, 3, 4])
    """

    scale_tril_constraint = constraints.unit_lower_cholesky

    def _setup_matrix(self, name: str, shape: torch.Size, loc: Tensor) -> None:
        for side, size in (("row", shape[-2]), ("column", shape[-1])):
            scale = loc.new_full((*shape[:-2], size), self._init_scale**0.5)
            eye = torch.eye(size, dtype=loc.dtype, device=loc.device)
            tril = eye.expand(*shape[:-2], size, size).contiguous()
            self._set(f"{side}_scales.{name}", scale, self.scale_constraint, 1)
            self._set(f"{side}_trils.{name}", tril, self.scale_tril_constraint, 2)

    def _factor(self, side: str, name: str) -> Tensor:
        scale = self._parameter(f"{side}_scales", name)
        return scale[..., None] * self._parameter(f"{side}_trils", name)

    def _law(self, name: str) -> TorchDistribution:
        if not self._is_matrix(name):
            return super()._law(name)
        loc = self._parameter("locs", name)
        matrix = self._as_matrix(name, loc)
        law = MatrixNormal(matrix, self._factor("row", name), self._factor("column", name))
        event_dim = self._event_dims[name]
        if event_dim == 2:
            return law
        shapes = matrix.shape[-2:], loc.shape[loc.dim() - event_dim :]
        return dist.TransformedDistribution(law, [ReshapeTransform(*shapes)])

    def _get_loc_and_scale(self, name: str) -> tuple[Tensor, Tensor]:
        if not self._is_matrix(name):
            return super()._get_loc_and_scale(name)
        # The marginal laws, of which median and quantiles are.
        rows, columns = (self._factor(side, name).norm(dim=-1) for side in ("row", "column"))
        loc = self._parameter("locs", name)
        return loc, (rows[..., None] * columns[..., None, :]).reshape(loc.shape)

"""Knowledge of the costs of all data, at one value of a site."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn

from ..errors import EstimatorError
from ..numerics.graph_ends import graph_ends
from .fitted import FittedCoefficients
from .gaussian_factor import factor_of
from .joint import Joint
from .protocol import Evaluations, Site

TOGETHER = 64
"""Products with the Hessian that are made at once."""


class Snapshot(nn.Module):
    """The gradient and the Hessian of the costs of all data, at a value of a site; and coefficients.

    ``taken`` is 1 once there are any; ``point`` is the value, ``slope`` the gradient, and ``hessian``
    the part of the Hessian that the factor of the site has a use for. They have no dim of particles,
    and are written in place, so that a captured graph goes on with the next snapshot.
    """

    taken: Tensor
    point: Tensor
    slope: Tensor
    hessian: Tensor

    def __init__(self, site: Site) -> None:
        super().__init__()
        like, events = site.value.detach(), len(site.fn.event_shape)
        if site.particle_dim is not None:  # all particles have the same
            like = like[(0,) * max(like.dim() - events + site.particle_dim + 1, 0)]
        while like.dim() > events and len(like) == 1:
            like = like[0]
        square = like.shape + like.shape[-1:] * factor_of(site.base).event_dims
        self.register_buffer("taken", like.new_zeros(()))
        self.register_buffer("point", torch.zeros_like(like))
        self.register_buffer("slope", torch.zeros_like(like))
        self.register_buffer("hessian", like.new_zeros(square))
        self.of_loc, self.of_factor = FittedCoefficients(2, like), FittedCoefficients(2, like)
        self.sites: frozenset[str] | None = None
        self.notes: Notes | None = None

    # -- what a step reads --------------------------------------------------------------------------

    def point_or(self, loc: Tensor) -> Tensor:
        """Where the costs are expanded: at the snapshot, or at the mean before there is one."""
        return loc if self.is_open else torch.where(self.taken > 0, self.point, loc)

    def if_taken(self, x: Tensor) -> Tensor:
        """A control variate whose mean is zero by a snapshot; 0 without one."""
        return torch.where(self.taken > 0, x, 0.0)

    def check(self, name: str, joint: Joint) -> None:
        """Raises where other sites share the evaluation than those of the snapshot."""
        found = frozenset(joint.parts)
        if self.sites is not None and self.sites != found:
            raise EstimatorError(
                f"site '{name}': its snapshot is of the sites {sorted(self.sites)} together, was given "
                f"an evaluation of {sorted(found)}; expected the same. Take the snapshot of the model "
                f"and the guide that are trained, run in the same way (vectorize_particles)."
            )

    # -- taking it ----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether evaluations are noted down for the next snapshot."""
        return self.notes is not None

    def open(self) -> Notes:
        """Begins the next snapshot; the last one is used until it is closed."""
        self.notes = Notes()
        return self.notes

    def note(self, evaluations: Evaluations) -> None:
        """Notes down one of the parts of the data.

        Raises:
            EstimatorError: the costs depend on parameters that are learned, or are not finite.
        """
        site, joint = evaluations.site, evaluations.joint
        assert joint is not None and self.notes is not None
        _check_parameters(site.name, joint)
        gradient, tensor = joint.parts[site.name].gradient, joint.parts[site.name].tensor
        hessian = factor_of(site.base).own_block(_rows(gradient, tensor)[:, 0])
        if not (gradient.isfinite().all() and hessian.isfinite().all()):
            raise EstimatorError(
                f"site '{site.name}': the costs of a batch have a gradient or a Hessian that is "
                f"not finite at the snapshot, expected numbers. Take it at other parameters, or look "
                f"for what overflows in the model at the mean of the site."
            )
        here = site.base.loc.detach(), factor_of(site.base).parameter.detach()
        before = self.notes.law
        if before is not None and not all([torch.equal(*x) for x in zip(before, here, strict=True)]):
            raise EstimatorError(
                f"site '{site.name}': take_snapshot was given a guide whose distribution there differs "
                f"from batch to batch; expected one that all data share, as the noise of a batch moves "
                f"it else. Use TaylorControlVariate, which leaves the noise of the sub-sample."
            )
        self.notes.point, self.notes.sites = tensor.detach()[0], frozenset(joint.parts)
        self.notes.law = here
        self.notes.add(gradient.detach()[0], hessian)

    @torch.no_grad()
    def close(self, *, keep: bool = True) -> None:
        """Makes the weighted mean over the parts the snapshot, unless it is not to be kept."""
        notes, self.notes = self.notes, None
        if not keep or notes is None:
            return
        buffers = self.point, self.slope, self.hessian
        for buffer, found in zip(buffers, (notes.point, *notes.mean()), strict=True):
            buffer.copy_(found.reshape(buffer.shape))
        self.sites = notes.sites
        self.taken.fill_(1.0)


class Notes:
    """The notes of one site for a snapshot.

    Attributes:
        weight: of the next part of the data in the mean over all; 0 to look at it alone.
        last: the gradient and the Hessian of the last part.
        point: the value of the site.
        law: the mean and the factor of its distribution; None before the first part.
        sites: those that shared the evaluation.
    """

    point: Tensor
    sites: frozenset[str]
    last: tuple[Tensor, Tensor]
    law: tuple[Tensor, Tensor] | None = None

    def __init__(self) -> None:
        self.weight, self._total = 1.0, 0.0
        self._sums: tuple[Tensor, Tensor] | None = None

    def add(self, gradient: Tensor, hessian: Tensor) -> None:
        """Adds a part of the data."""
        self.last = gradient, hessian
        if self.weight:
            weighted = self.weight * gradient, self.weight * hessian
            sums = self._sums
            self._sums = weighted if sums is None else (sums[0] + weighted[0], sums[1] + weighted[1])
            self._total += self.weight

    def mean(self) -> tuple[Tensor, Tensor]:
        """The weighted mean of gradient and Hessian."""
        assert self._sums is not None
        return self._sums[0] / self._total, self._sums[1] / self._total


def _rows(gradient: Tensor, tensor: Tensor) -> Tensor:
    """The rows of the Hessian of a site, shape ``(numbers, *tensor.shape)``."""
    numbers = tensor.numel()
    if not gradient.requires_grad:  # the costs are linear
        return tensor.new_zeros(numbers, *tensor.shape)
    identity = torch.eye(numbers, dtype=tensor.dtype, device=tensor.device)
    rows = [
        torch.autograd.grad(
            gradient,
            tensor,
            vectors.reshape(-1, *tensor.shape),
            retain_graph=True,
            materialize_grads=True,
            is_grads_batched=True,
        )[0]
        for vectors in identity.split(TOGETHER)
    ]
    return torch.cat(rows).detach()


def _check_parameters(name: str, joint: Joint) -> None:
    """Raises if the gradient at the snapshot moves with parameters."""
    parts = list(joint.parts.values())
    points = {x.tensor.grad_fn for x in parts}
    for end in graph_ends([x.gradient for x in parts], points):
        if end in points:
            continue
        parameter = end.variable
        store = pyro.get_param_store()
        known = next((key for key, x in store._params.items() if x is parameter), None)
        raise EstimatorError(
            f"site '{name}': JointControlVariate was given costs that depend on "
            f"{f'the parameter {known!r}' if known else 'a parameter'} of shape "
            f"{tuple(parameter.shape)} that is learned, so that a snapshot of them is wrong one step "
            f"later; expected costs that depend on the sites of the guide alone. Give it a prior and a "
            f"site in the guide, or use TaylorControlVariate."
        )

"""Any univariate density or CDF, with a pathwise gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from ..numerics.density_search import locate
from ..numerics.implicit import implicit_joint
from ..numerics.panels import WEIGHTS, Series, nodes, series
from ..numerics.real_line_map import real_line_map_of
from ..numerics.shapes import broadcast_shapes
from .mixins.parametric import Parametric
from .rules.half_precision import drawn_in_single, single
from .rules.known_defects import register_differentiable_once
from .rules.on_support import cdf_on_support, log_prob_on_support
from .rules.pathwise import cdf_pull_back
from .rules.quantile import implicit_quantile, register_quantile
from .supports.real import line

Function = Callable[..., Tensor]


class ImplicitUnivariate(Parametric):
    r"""A real variable with the density or the CDF that you give.

    .. math::
        f_\theta(x) = \frac{g_\theta(x)}{\int g_\theta}, \qquad
        F_\theta(x) = \int_{-\infty}^x f_\theta, \qquad
        \frac{dx}{d\theta} = -\frac{\partial_\theta F_\theta(x)}{f_\theta(x)}

    Where the mass lies is searched for on a grid over all magnitudes; there the density becomes a
    Legendre series on each of 64 panels, whose integral is inverted by Newton's steps of fixed number.
    The functions are evaluated some 4000 times in the batch shape of the parameters, and once for each
    draw's gradient. The density of a CDF is its derivative, by automatic differentiation.

    What it can take: a density that is smooth inside its support (a kink or a step costs digits), with

    - one peak, of any width down to 1e-12 of its distance from 0 (float32: 1e-4), within 1e30
      (float32: 1e17) of it; the log density has to fall towards far points, not be flat there. By a CDF
      there is no such need;
    - or several peaks, each at least 1e-3 as wide as they are far apart; narrower ones may be missed;
    - tails of any kind, but for the mass beyond 1e30 (float32: 1e17);
    - integrable singularities at a finite end of the support, as far as floats resolve them: at an end
      other than 0, what is nearer to it than the spacing of floats is lost.

    Then CDF, quantiles, normaliser and gradient are right to 1e-9 (float32: 1e-5) or to what the
    rounding of the functions allows, whichever is worse: a log density of size 1e7 is known to 1 in
    float32. Mass that the search has missed can't be noticed: compare ``mean`` and ``variance`` with
    what you expect. These, and ``entropy``, are by quadrature: a number also where they do not exist.

    The gradient of a sample can be differentiated no second time, and raises if it is. Only the
    parameters have a gradient, not what the functions refer to besides.

    See also:
        :func:`pathwise_at`, for a distribution that has a ``cdf``.

    References:
        Figurnov, Mohamed, Mnih, *Implicit Reparameterization Gradients*, 2018,
        https://arxiv.org/abs/1805.08498. Devroye, *Non-Uniform Random Variate Generation*, 1986,
        chapter II.2 (numerical inversion), http://luc.devroye.org/rnbookindex.html. Derflinger,
        Hoermann, Leydold, *Random Variate Generation by Numerical Inversion When Only the Density Is
        Known*, 2010, https://doi.org/10.1145/1842722.1842723.

    Args:
        parameters: tensors or numbers by name, broadcast to the batch shape.
        log_density: ``log_density(x, **parameters)``, elementwise, broadcasting, differentiable; up to
            a constant that may depend on the parameters unless ``cdf`` is given as well. Functions of a
            module, if the distribution is to be pickled.
        cdf: ``cdf(x, **parameters)``, the same; taken as normalised.
        support: ``constraints.real``, ``positive``, ``greater_than``, ``less_than`` or ``interval``,
            ends being numbers.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: neither function is given; a parameter is NaN or named like an attribute of the
            class; the support is of another kind.

    Example:
        >>> import pyro_reparam_ext as pre, torch
        >>> def wells(x, tilt):
        ...     return -(x**4) / 4 + 2 * x**2 + tilt * x
        >>> tilt = torch.tensor(0.1, requires_grad=True)
        >>> fn = pre.distributions.ImplicitUnivariate({"tilt": tilt}, log_density=wells)
        >>> fn.rsample((20_000,)).mean().backward()  # d E[x] / d tilt = Var[x]
        >>> print(f"{fn.variance.item():.1f}, {tilt.grad.item():.1f}")
        3.5, 3.5
    """

    support: Any = constraints.real
    arg_constraints: dict[str, Any] = {}
    has_rsample = True

    def __init__(
        self,
        parameters: dict[str, Tensor | float],
        *,
        log_density: Function | None = None,
        cdf: Function | None = None,
        support: Any = constraints.real,
        validate_args: bool | None = None,
    ) -> None:
        if log_density is None and cdf is None:
            raise ValueError(
                "ImplicitUnivariate needs log_density(x, **parameters), which need not be normalised,"
                " or cdf(x, **parameters), or both."
            )
        if not parameters:
            raise ValueError("ImplicitUnivariate needs at least one parameter.")
        for name in parameters:
            if hasattr(type(self), name):
                raise ValueError(f"The parameter {name!r} has the name of an attribute: rename it.")
        # What the parameters are to the law is not known, whatever they are called.
        self.support = line if support is constraints.real else support
        self.arg_constraints = dict.fromkeys(parameters, constraints.real)
        self._log_density_fn, self._cdf_fn = log_density, cdf
        self._line_map = real_line_map_of(support)
        super().__init__(parameters, validate_args=validate_args)
        # What depends on the parameters alone keeps this shape when the batch is expanded.
        self._own = {name: single(getattr(self, name)) for name in parameters}
        with torch.no_grad():
            like = next(iter(self._own.values()))[..., None]
            self._located = locate(
                self._own_log_density, None if cdf is None else self._own_cdf, self._line_map, like
            )

    def _expand_into(self, new: Any, batch_shape: Size) -> None:
        for name in ("arg_constraints", "support", "_log_density_fn", "_cdf_fn"):
            setattr(new, name, getattr(self, name))
        new._line_map, new._own, new._located = self._line_map, self._own, self._located
        super()._expand_into(new, batch_shape)

    @drawn_in_single
    def sample(self, sample_shape: Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self._draw(self._extended_shape(torch.Size(sample_shape)))

    def _draw(self, shape: Size) -> Tensor:
        like = self._located.edges
        normal = torch.randn(shape, dtype=like.dtype, device=like.device)
        return self._quantile(torch.special.ndtr(-normal.abs()), normal < 0)

    def _at(self, value: Tensor) -> Tensor:
        panels = self._panels()
        cdf = self._cdf(value, panels)
        with torch.no_grad():
            density = self._log_prob(value, panels).exp()
        return implicit_joint(value.expand(cdf.shape), cdf_pull_back, cdf, density)

    @property
    def _interior(self) -> Tensor:
        """The highest point of the density."""
        _, centre, width = self._located
        return self._line_map.to_value(torch.zeros_like(centre), centre, width)[0][..., 0]

    @log_prob_on_support
    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_prob(value, None if self._cdf_fn else self._panels())

    @cdf_on_support
    def cdf(self, value: Tensor) -> Tensor:
        return self._cdf(value, None if self._cdf_fn else self._panels()).clamp(0.0, 1.0)

    def icdf(self, value: Tensor) -> Tensor:
        u = value.expand(broadcast_shapes(value.shape, self.batch_shape))
        with torch.no_grad():
            below = u < 0.5
            x = self._quantile(torch.where(below, u, 1 - u), below)
            density = self._log_prob(x, self._panels()).exp()
        return self._at(x) + (u - u.detach()) / density

    @property
    def mean(self) -> Tensor:
        x, weights, _ = self._quadrature()
        centre = self._located.centre
        return ((x - centre) * weights).sum(-1).add(centre[..., 0]).expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        x, weights, _ = self._quadrature()
        mean = (x * weights).sum(-1, keepdim=True)
        return ((x - mean).square() * weights).sum(-1).expand(self.batch_shape)

    def entropy(self) -> Tensor:
        _, weights, log_prob = self._quadrature()
        return -(log_prob * weights).sum(-1).expand(self.batch_shape)

    # The functions as given

    def _own_log_density(self, x: Tensor) -> Tensor:
        return self._log_density(x, {name: p[..., None] for name, p in self._own.items()})

    def _own_cdf(self, x: Tensor) -> Tensor:
        assert self._cdf_fn is not None
        return self._cdf_fn(x, **{name: p[..., None] for name, p in self._own.items()})

    def _log_density(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        if self._log_density_fn is not None:
            return self._log_density_fn(x, **parameters)
        cdf = self._cdf_fn
        assert cdf is not None
        x = x.expand(broadcast_shapes(x.shape, *(p.shape for p in parameters.values())))
        values, pull = torch.func.vjp(lambda x: cdf(x, **parameters), x)[:2]
        (density,) = pull(torch.ones_like(values))
        return density.clamp(min=torch.finfo(x.dtype).tiny).log()

    # On panels

    def _panels(self) -> tuple[Series, Tensor]:
        """The density on panels, over its highest value there, and the logarithm of that."""
        edges, centre, width = self._located
        t = nodes(edges)
        x, slope = self._line_map.to_value(t.flatten(-2), centre, width)
        log_density = self._own_log_density(x) + slope
        peak = log_density.detach().amax(-1, keepdim=True)
        return series(edges, (log_density - peak).exp().reshape(t.shape)), peak[..., 0]

    def _log_prob(self, value: Tensor, panels: tuple[Series, Tensor] | None) -> Tensor:
        log_density = self._log_density(value, {name: getattr(self, name) for name in self._own})
        if self._cdf_fn is not None:
            return log_density
        assert panels is not None
        density, peak = panels
        return log_density - (density.total.log() + peak)

    def _cdf(self, value: Tensor, panels: tuple[Series, Tensor] | None) -> Tensor:
        if self._cdf_fn is not None:
            return self._cdf_fn(value, **{name: getattr(self, name) for name in self._own})
        assert panels is not None
        rows, back = self._rows(value)
        t = self._line_map.from_value(rows, self._located.centre, self._located.width)
        return back(panels[0].cdf(t))

    def _quantile(self, tail: Tensor, below: Tensor) -> Tensor:
        rows, back = self._rows(tail)
        t = self._panels()[0].inverse(rows, self._rows(below)[0])
        return back(self._line_map.to_value(t, self._located.centre, self._located.width)[0])

    def _rows(self, value: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Draws on the last dim, after the batch dims of the panels; and the way back."""
        value = value.expand(broadcast_shapes(value.shape, self.batch_shape))
        lead = value.dim() - (self._located.edges.dim() - 1)
        shape = value.shape
        rows = value.reshape((math.prod(shape[:lead]),) + shape[lead:]).movedim(0, -1)
        return rows, lambda x: x.movedim(-1, 0).reshape(shape)

    def _quadrature(self) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes, their probabilities and the log density there, shape (batch, nodes)."""
        edges, centre, width = self._located
        t = nodes(edges)
        x, slope = self._line_map.to_value(t.flatten(-2), centre, width)
        log_density = self._own_log_density(x)
        share = t.new_tensor(WEIGHTS) * edges.diff(dim=-1)[..., None]
        log_mass = log_density + slope + share.flatten(-2).log()
        total = log_mass.logsumexp(-1, keepdim=True)
        return x, (log_mass - total).exp(), log_density - (0 if self._cdf_fn else total)


register_quantile(ImplicitUnivariate)(implicit_quantile)
register_differentiable_once(ImplicitUnivariate)(False)

"""Sites whose guide and model terms are one, the divergence between their distributions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import kl_divergence

from ..distributions.rules.copies import rows
from ..distributions.rules.wrappers import innermost
from ..errors import EstimatorError
from ..estimators.protocol import Site
from ..numerics.shapes import cat_rows
from .guide_run import GuideRun
from .program import Program
from .terms import Term, ancestors


def divergence(program: Program, run: GuideRun, site: Site, prior: TorchDistribution) -> Tensor:
    """The divergence of a guide site from its distribution in the model, in the evaluations of a pass.

    ``run``: the guide in that pass.
    """
    guide = run.laws.get(site.name, site.fn)
    dims = program.batch_dims
    if not (run.has_ordinary and len(guide.batch_shape) > dims):
        return _kl(site.name, guide, prior)
    # The guide was run without the ordinary evaluation, and the model with it in front.
    first, rest = prior, prior
    if len(prior.batch_shape) > dims and prior.batch_shape[0] > 1:
        first, rest = rows(prior, 0, 1), rows(prior, 1, prior.batch_shape[0])
    ordinary = _kl(site.name, program.ordinary.nodes[site.name]["fn"], first)
    ordinary = ordinary if ordinary.dim() > dims else ordinary[None]
    return cat_rows([ordinary, _kl(site.name, guide, rest)])


def _kl(name: str, guide: TorchDistribution, prior: TorchDistribution) -> Tensor:
    try:
        return kl_divergence(guide, prior)
    except NotImplementedError:
        raise EstimatorError(
            f"site '{name}': AnalyticKL was given {_named(guide)} in the guide and {_named(prior)} in "
            f"the model, whose divergence is not known; expected a pair that is registered with "
            f"torch.distributions.kl. Use Pathwise or StickingTheLanding."
        ) from None


def _named(fn: TorchDistribution) -> str:
    dims = len(fn.event_shape)
    return type(innermost(fn)).__name__ + (f" with {dims} event dims" if dims else "")


def check_divergence(
    program: Program, site: Site, node: Mapping[str, Any], upstream: Collection[str]
) -> None:
    """Raises where guide and model have no common term at a site.

    Args:
        program: whose guide has been run.
        site: whose terms are a divergence.
        node: of the model.
        upstream: the sites that its distribution in the model depends on.
    """
    _check_separable(site, upstream, program.ordinary.terms)
    for part in ("scale", "mask"):
        _check_same(site, program.ordinary.nodes[site.name][part], node[part])


def _check_separable(site: Site, upstream: Collection[str], guide_terms: Iterable[Term]) -> None:
    """Raises where the model's distribution of a site depends on what the guide draws by its value."""
    above = ancestors(guide_terms)
    behind = sorted(x for x in upstream if x == site.name or site.name in above.get(x, ()))
    if behind:
        raise EstimatorError(
            f"site '{site.name}': AnalyticKL takes the mean over its value with all else held, but in "
            f"the model its distribution depends on '{behind[0]}', which the guide draws by that "
            f"value; expected one that doesn't. Use Pathwise or StickingTheLanding."
        )


def check_in_model(sites: Iterable[Site], names: Collection[str]) -> None:
    """Raises for a site that is to have a divergence from a site of the model, which has none."""
    for site in sites:
        if site.estimator.analytic and not site.observed and site.name not in names:
            raise EstimatorError(
                f"site '{site.name}': AnalyticKL was given a site that the model does not have; "
                f"expected one of both. (Autoguides sample auxiliary ones, of which those of the model "
                f"are functions.) Use Pathwise or StickingTheLanding."
            )


def _check_same(site: Site, of_guide: Any, of_model: Any) -> None:
    """Raises where guide and model scale or mask a site in other ways: one term can't be both."""
    if isinstance(of_guide, Tensor) and isinstance(of_model, Tensor):
        same = of_guide.shape == of_model.shape and torch.equal(of_guide, of_model)
    else:
        same = of_guide is of_model or (type(of_guide) is type(of_model) and of_guide == of_model)
    if not same:
        raise EstimatorError(
            f"site '{site.name}': AnalyticKL has one term for guide and model, which scale or mask it "
            f"each in their own way; expected the same. Put poutine.scale or mask around both, or use "
            f"Pathwise."
        )

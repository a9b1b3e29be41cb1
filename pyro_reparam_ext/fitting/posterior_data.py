"""The draws of a guide, and what the model makes of them, as datasets with named dims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_factor, site_is_subsample
from tqdm.auto import tqdm

from ..diagnostics.guide_draws import check_whole
from ..errors import EstimatorError
from ..evaluation.first_run import plain_traces
from ..evaluation.invisible import invisible
from ..evaluation.terms import is_computed
from ..schedule import measuring
from ..study.datasets import inferencedata

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import Dataset, DataTree

GROUPS = ("posterior", "posterior_predictive", "log_likelihood", "observed_data")


def posterior_datasets(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    num_samples: int = 500,
    seed: int = 0,
    progress: bool = True,
    **kwargs: Any,
) -> dict[str, Dataset]:
    """The groups of ArviZ for a guide that was trained by SVI: by their names, a dataset for each.

    - ``posterior``: the latent sites of the model, under their names there, at draws of the guide, and
      deterministic and reparameterised ones; what the guide does not draw, at draws of the prior;
    - ``posterior_predictive``: the observed sites, drawn anew at each of these;
    - ``log_likelihood``: of the observed data at each, one value for each datum;
    - ``observed_data``. What is masked is missing: NaN here and in the log likelihood.

    Dims are ``(chain, draw)``, one chain, then the plates of the site by their names, then one dim for
    each of its event dims. Parameters, parameter store and random state are what they were.

    Args:
        model: a Pyro model.
        guide: its guide, trained.
        *args: arguments of model and guide.
        num_samples: draws, made one after the other, so that any program is served.
        seed: of the random state.
        progress: whether to show a bar; never if stderr is no terminal.
        **kwargs: keyword arguments of model and guide.

    Raises:
        EstimatorError: a site is of another shape, or missing, in some of the draws; a plate takes a
            part of the data only; or a site is enumerated in training, and not drawn by the guide.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model(x):
        ...     loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(loc, 1.0), obs=x)
        >>> def guide(x):
        ...     pyro.sample("loc", dist.Normal(0.3, 0.5))
        >>> found = pre.posterior_datasets(model, guide, torch.ones(5), num_samples=100)
        >>> found["log_likelihood"]["x"].dims
        ('chain', 'draw', 'data')
    """
    import xarray as xr

    if num_samples < 1:
        raise EstimatorError(f"num_samples: expected at least 1, was given {num_samples}.")
    kept: dict[str, dict[str, _Kept]] = {group: {} for group in GROUPS}
    with invisible(model, guide), measuring(), torch.no_grad():
        torch.manual_seed(seed)
        numbers = range(num_samples)
        with tqdm(numbers, desc="draws", unit="draw", disable=None if progress else True) as bar:
            for _ in bar:
                drawn, trace = plain_traces(model, guide, args, kwargs)
                check_whole(drawn, trace)
                _check_drawn(trace, drawn)
                for group, name, value, dims in _values(trace):
                    kept[group].setdefault(name, _Kept(dims)).rows.append(value)
    found = {}
    for group, sites in kept.items():
        arrays = {
            name: site.array(name, num_samples, one=group == "observed_data")
            for name, site in sites.items()
        }
        if arrays:
            found[group] = xr.Dataset(arrays)
    return found


def to_datatree(
    model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **options: Any
) -> DataTree:
    """The groups of :func:`posterior_datasets` as an ``xarray.DataTree``, as ArviZ 1 takes it.

    Args:
        model: a Pyro model.
        guide: its guide, trained.
        *args: arguments of model and guide.
        **options: ``num_samples``, ``seed`` and ``progress``; and keyword arguments of both.
    """
    from xarray import DataTree

    return DataTree.from_dict(dict(posterior_datasets(model, guide, *args, **options)))


def to_inferencedata(
    model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **options: Any
) -> InferenceData:
    """The groups of :func:`posterior_datasets` as an ``arviz.InferenceData``, for ArviZ below 1.

    Args:
        model: a Pyro model.
        guide: its guide, trained.
        *args: arguments of model and guide.
        **options: ``num_samples``, ``seed`` and ``progress``; and keyword arguments of both.

    Raises:
        EstimatorError: ArviZ has none any more.
    """
    return inferencedata(posterior_datasets(model, guide, *args, **options))


@dataclass
class _Kept:
    """The values of one site in one group, draw by draw, with the names of their dims."""

    dims: tuple[str, ...]
    rows: list[np.ndarray] = field(default_factory=list)

    def array(self, name: str, num_samples: int, one: bool) -> tuple[tuple[str, ...], np.ndarray]:
        shapes = {row.shape for row in self.rows}
        if len(shapes) > 1 or len(self.rows) != num_samples:
            raise EstimatorError(
                f"site '{name}': it occurs in {len(self.rows)} of {num_samples} draws, with the shapes "
                f"{', '.join(map(str, sorted(shapes)))}; expected one shape in every draw. Pad it, or "
                f"hide it by poutine.block(model, hide=[{name!r}])."
            )
        if one:
            return self.dims, self.rows[0]
        return ("chain", "draw", *self.dims), np.stack(self.rows)[None]


def _values(trace: Trace) -> Iterator[tuple[str, str, np.ndarray, tuple[str, ...]]]:
    """Group, site, value and dims of all that one draw has of the model."""
    for name, node in trace.nodes.items():
        if node["type"] != "sample" or site_is_subsample(node) or site_is_factor(node):
            continue
        fn, value, mask = node["fn"], node["value"], node["mask"]
        batch = len(fn.batch_shape)
        plates = {-frame.dim: frame.name for frame in node["cond_indep_stack"] if frame.vectorized}
        outer = tuple(plates.get(place, f"{name}_dim_{place}") for place in range(batch, 0, -1))
        inner = tuple(f"{name}_event_{place}" for place in range(fn.event_dim))
        if not node["is_observed"] or is_computed(node):
            yield "posterior", name, _numpy(value.expand(fn.shape())), (*outer, *inner)
            continue
        log_prob, seen = fn.log_prob(value).expand(fn.batch_shape), value.expand(fn.shape())
        if mask is not None:  # what is missing was not observed
            kept = torch.as_tensor(mask).expand(fn.batch_shape)
            log_prob = torch.where(kept, log_prob, torch.nan)
            if seen.is_floating_point():
                kept = kept.reshape(kept.shape + (1,) * fn.event_dim)
                seen = torch.where(kept, seen, torch.nan)
        yield "observed_data", name, _numpy(seen), (*outer, *inner)
        yield "posterior_predictive", name, _numpy(fn.sample()), (*outer, *inner)
        yield "log_likelihood", name, _numpy(log_prob), outer


def _check_drawn(trace: Trace, drawn: Trace) -> None:
    """Raises for a site of the model that is summed over in training: its draw is of the prior."""
    for name, node in trace.nodes.items():
        if node["type"] != "sample" or node["is_observed"] or name in drawn:
            continue
        if node["infer"].get("enumerate"):
            raise EstimatorError(
                f"site '{name}': it is enumerated in training, and the guide does not draw it; "
                f"expected a draw of its posterior. Infer it given the others by "
                f"pyro.infer.infer_discrete, or hide it by poutine.block(model, hide=[{name!r}])."
            )


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()

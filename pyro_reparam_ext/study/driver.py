"""``gradient_study``: the draws of every label, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from pyro.infer import ELBO
from torch.nn.parameter import is_lazy
from tqdm.auto import tqdm

from ..errors import EstimatorError
from ..evaluation.invisible import modules_of, parameter_restorer, same_random_state
from ..schedule import measuring
from .again import Again
from .measured import Job, Measured, direction_of, kept_draws, measure, needed
from .moments import Moments
from .names import Names, select, shared
from .references import exact_call, score_function_call
from .result import GradientStudy
from .sampler import Sampler, discrete_sites
from .variant import call_of
from .verdict import judged, trusted_reference

BASELINE_STEPS = 50
"""Steps in which the baseline of the score function that checks a reference learns."""
PILOT = 100
"""Draws by which the gradient's direction is found first; a tenth of the study's if that is more."""


def gradient_study(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    estimators: Mapping[str, Any],
    num_draws: int = 1000,
    reference: str | ELBO | None = None,
    params: Names = None,
    seed: int = 0,
    warmup: int = 0,
    progress: bool = True,
    executor: Executor | None = None,
    **kwargs: Any,
) -> GradientStudy:
    r"""Measures variance and bias of the ELBO gradient by several estimators.

    Draws ``num_draws`` gradients by each, at the parameters as they are, many at once where the
    program can be batched (``torch.func.vmap``) and else one after another. Afterwards parameters,
    parameter store and global random state are what they were before.

    Some estimators are unbiased on a condition that only a measurement can tell: ``Pathwise``,
    ``REBAR`` and ``RELAX`` if the cost is continuous in the (relaxed) value of the site. Where the
    reference is made of such estimators alone (``"exact"`` with continuous sites among them), it is
    compared with the score function at the same sites, with as many draws as the study has: the time of
    one label more. If they differ (``bias_z`` beyond 4), a warning names the sites and the score
    function becomes the reference; a label that fails is not called unbiased. What stays unseen: a jump
    that is small against the variance of the score function; one in a value that no site samples (a
    parameter itself, or a ``Delta`` made of one); one at a site whose support moves with its
    parameters, where the score function would be wrong; and all of them in a program that the score
    function can't serve.

    Args:
        model: a Pyro model.
        guide: its guide.
        *args: arguments of model and guide.
        estimators: label -> an estimator (for all sites that it supports), a mapping from site names
            to estimators, a callable ``site -> Estimator | None``, any ``pyro.infer.ELBO``, or a
            :class:`~pyro_reparam_ext.Variant`. ``LeaveOneOut`` by itself gets two particles; for more
            give an ELBO.
        num_draws: gradients per label.
        reference: the gradient taken as true: ``"exact"`` (all discrete sites enumerated jointly,
            whatever estimators the guide has; their joint support per plate element has at most 4,096
            values; continuous sites are averaged over, pathwise where they can be), an ELBO, or the
            label of an unbiased estimator in the study. ``None``: the pooled mean of the unbiased ones
            (for each of these, of the others).
        params: names of parameters, or a predicate of them, to restrict the study to.
        seed: of the random state of each label.
        warmup: steps in which baselines and control variates learn first, model and guide frozen.
        progress: a progress bar (only in a terminal).
        executor: makes the draws in other processes: a ``concurrent.futures.ProcessPoolExecutor``, or
            one of dask or mpi4py. The draws of a seed are the same, whoever makes them. Model, guide
            and arguments are sent by cloudpickle.
        **kwargs: keyword arguments of model and guide.

    Raises:
        EstimatorError: a label is not what it should be, the labels share no parameter, the reference
            is unknown, an estimator can't serve its site, or ``"exact"`` can't enumerate one.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> def model():
        ...     z = pyro.sample("z", dist.Bernoulli(0.3))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))
        >>> def guide():
        ...     pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.0))))
        >>> study = pre.gradient_study(
        ...     model, guide, reference="exact", num_draws=200,
        ...     estimators={"score": pre.ScoreFunction(), "DisARM": pre.DisARM()},
        ... )
        >>> study.summary()[["unbiased", "evaluations"]]
                   unbiased  evaluations
        estimator
        score          True            1
        DisARM         True            2
    """
    if not isinstance(estimators, Mapping) or not estimators:
        raise EstimatorError(
            f"estimators: expected a non-empty mapping from labels to estimators, was given "
            f"{estimators!r}."
        )
    if num_draws < 2:
        raise EstimatorError(f"num_draws: expected at least 2, was given {num_draws}.")
    with restored(model, guide), measuring():
        samplers = {}
        for label, value in estimators.items():
            samplers[label] = Sampler(call_of(label, value, model, guide, args, kwargs))
            if _relaxes(samplers[label], guide):
                samplers[label].unbiased = False
        label_of_reference, of_reference = None, None
        if reference == "exact":
            of_reference = Sampler(exact_call(model, guide, args, kwargs))
        elif isinstance(reference, str):
            label_of_reference = _check_label(reference, samplers)
        elif reference is not None:
            of_reference = Sampler(call_of("reference", reference, model, guide, args, kwargs))
        everything = [*samplers.values(), *([of_reference] if of_reference else [])]
        names = select(shared(everything), params)
        keep = kept_draws(everything[0], names, num_draws, len(samplers))
        jobs = [Job(label, sampler, num_draws, warmup, keep) for label, sampler in samplers.items()]
        taken = of_reference or samplers.get(label_of_reference or "")
        unbiased = [sampler for sampler in samplers.values() if sampler.unbiased]
        candidates = [taken] if taken else unbiased
        compares = taken is not None or len(samplers) > 1
        if of_reference:
            jobs.append(Job("reference", of_reference, needed(of_reference, num_draws), warmup))
        witness = None
        if compares and candidates and all(sampler.conditions for sampler in candidates):
            doubtful = {site for sampler in candidates for site in sampler.conditions.estimators}
            witness = _witness(names, doubtful, model, guide, args, kwargs)
        if witness:
            jobs.append(Job("score function", witness, num_draws, max(warmup, BASELINE_STEPS)))
        pilot = (candidates or everything)[0]
        pilot_draws = min(num_draws, max(PILOT, num_draws // 10))
        pilot_seed = seed + 1_000_003 * len(jobs)
        direction = direction_of(pilot, names, pilot_draws, pilot_seed) if compares else {}
        measured = {}
        total = sum(job.draws + job.warmup for job in jobs)
        with tqdm(total=total, desc="gradients", disable=None if progress else True) as bar:
            for number, job in enumerate(jobs):
                bar.set_postfix_str(job.label)
                measured[job.sampler] = measure(job, names, direction, (seed, number), executor, bar)
        again = Again(estimators, {job.label: job for job in jobs[: len(samplers)]}, seed)
    results = {label: measured[sampler] for label, sampler in samplers.items()}
    moments = measured[taken].moments if taken else None
    checked = measured[witness].moments if witness else None
    if moments and checked and taken and witness:
        conditions = taken.conditions.without(witness.conditions)
        described = f"reference={reference!r}"
        moments = trusted_reference(moments, conditions, checked, names, described)
        label_of_reference = None if moments is checked else label_of_reference
    trusted = [m for m in (moments or checked,) if m] or _unconditional(results)
    if compares and trusted:
        results = judged(results, trusted, names)
    if moments is None and checked and not any(result.unbiased for result in results.values()):
        moments = checked
    settings = {"num_draws": num_draws, "seed": seed, "warmup": warmup, "draws_kept": keep}
    return GradientStudy(results, names, moments, label_of_reference, settings, again)


def _unconditional(results: dict[str, Measured]) -> list[Moments]:
    return [r.moments for r in results.values() if r.unbiased and not r.conditions]


def _witness(
    names: list[str],
    doubtful: set[str],
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple,
    kwargs: dict,
) -> Sampler | None:
    """Score functions of the study's own program, if they can serve any of its doubtful sites."""
    for enumerate_discrete in (True, False):
        call = score_function_call(model, guide, args, kwargs, enumerate_discrete)
        try:
            sampler = Sampler(call)
        except (EstimatorError, RuntimeError, NotImplementedError, ValueError, TypeError):
            continue
        serves = doubtful - set(sampler.conditions.estimators)
        if serves and all(name in sampler.parameters for name in names):
            return sampler
    return None


def _relaxes(sampler: Sampler, guide: Callable[..., Any]) -> bool:
    """Whether a site whose values are discrete in the study's own guide has others here."""
    call = sampler.call
    if call.guide is guide:
        return False
    own = discrete_sites(call, guide)
    with call.context():
        here = discrete_sites(call, call.guide)
    return any(own[name] and not here[name] for name in own.keys() & here)


def _check_label(reference: str, samplers: dict[str, Sampler]) -> str:
    if reference not in samplers:
        raise EstimatorError(
            f"reference: expected 'exact', an ELBO, None or one of the labels "
            f"{', '.join(map(repr, samplers))}, was given {reference!r}."
        )
    if not samplers[reference].unbiased:
        raise EstimatorError(
            f"reference: {reference!r} is a biased estimator, expected an unbiased one. Use 'exact', "
            f"an ELBO, or None for the pooled mean of the unbiased ones."
        )
    return reference


@contextmanager
def restored(*programs: Any) -> Iterator[None]:
    """Puts back the random state, the parameter store and the buffers of modules."""
    restore = parameter_restorer()
    own = [b for x in modules_of(*programs) for b in x.buffers(recurse=False) if not is_lazy(b)]
    buffers = [(b, b.clone()) for b in own]
    try:
        with same_random_state():
            yield
    finally:
        restore()
        for buffer, value in buffers:
            buffer.data.copy_(value)

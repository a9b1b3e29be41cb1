"""Relaxed and straight-through distributions in place of discrete ones."""

from __future__ import annotations

from typing import Any, Literal

import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.infer.reparam.reparam import Reparam

from ..distributions.mixins.straight_through import StraightThrough, check_keeps_law
from ..distributions.relaxed_bernoulli import RelaxedBernoulli
from ..distributions.relaxed_one_hot_categorical import RelaxedOneHotCategorical
from ..distributions.rules.discrete_noise import is_binary
from ..distributions.rules.logits import exact_logits, parameter_of
from ..distributions.rules.wrappers import coordinates, innermost
from ..distributions.straight_through_bernoulli import StraightThroughBernoulli
from ..distributions.straight_through_one_hot_categorical import StraightThroughOneHotCategorical
from ..errors import EstimatorError
from ..estimators.hard_forward import HardForward
from ..estimators.relaxed import Tempered
from ..temperature import Temperature, as_option, check_temperature, current_value, fault_of, state_of
from .noncentered import rewrapped
from .plates import has_value_of_one, in_plates
from .watch import watch


class RelaxReparam(Reparam):
    r"""A Bernoulli or one-hot site that carries a pathwise gradient: relaxed, or straight-through.

    .. math::
        y = \mathrm{softmax}\big((l + G) / T\big),\ G_k \sim \mathrm{Gumbel}
        \qquad\text{or}\qquad y = \sigma\big((l + L) / T\big),\ L \sim \mathrm{Logistic}

    The site keeps its name, its parameters, ``to_event``, ``expand`` and ``mask``. Put the same on
    guide and model. Observed sites are left as they are: what is observed is discrete.
    Thus condition a model first, and relax it then: ``poutine.condition`` of the relaxed one would
    score a hard value by the relaxed density.

    - ``score="relaxed"``: both score :math:`y` by the relaxed density at :math:`T`. The ELBO is a lower
      bound of the evidence of the model that is relaxed so.
    - ``score="discrete"``: by the discrete log probability, extended linearly. No bound, but as
      :math:`T` falls it tends to the ELBO of the discrete model.
    - ``straight_through=True``: values are hard and have the discrete law, so the ELBO is that of the
      discrete model; the gradient is that of :math:`y`, and biased. MCMC, which sees a discrete law,
      sums over these sites as over any discrete ones.
    - ``straight_through=ReinMax()``, or another straight-through estimator: the same with its gradient.

    A relaxed guide needs a relaxed model. With validation on, a discrete one refuses relaxed values.
    With validation off it scores them in its own way: ``Bernoulli.log_prob`` is linear in the value, so
    the loss is no bound; ``OneHotCategorical.log_prob`` takes an argmax, and the gradient is lost in
    silence. :class:`AutoRelax` on both is the remedy.

    Values, hard ones too, are for programs that compute with them differentiably. The first time that
    an ELBO of Pyro's trains by a program, what becomes of the value is watched: reading it as a number
    (``if z > 0.5``, ``z.item()``) raises, and costs that depend on it without a gradient
    (``table[z.long()]``) are warned of. Such a program needs an estimator that evaluates it at other
    values of a discrete site: DisARM, LocalExpectation, LeaveOneOut, with ``vectorize_particles=False``
    where it branches. A model without this is not watched, whatever its guide has.

    Autoguides and MCMC ask for an initial value before this is applied, of the discrete site. Give them
    ``init_to_value`` or ``init_to_sample``, or use :class:`AutoRelax`, which is asked first.

    See also:
        :class:`AutoRelax` for every site that can be relaxed;
        :class:`~pyro_reparam_ext.GumbelSoftmax`, an estimator for the guide alone.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2016,
        https://arxiv.org/abs/1611.01144. Maddison, Mnih, Teh, *The Concrete Distribution*, 2016,
        https://arxiv.org/abs/1611.00712.

    Args:
        temperature: :math:`T > 0`: a float, a tensor that broadcasts to the site's batch shape, an
            ``nn.Parameter``, an :class:`~pyro_reparam_ext.ExponentialDecay`, or a function that returns
            a tensor, such as one that calls ``pyro.param``. Read at every run. A parameter is in the
            parameter store as ``f"temperature/{name}$$$temperature"``, so that ``SVI`` trains it; what
            is in the store under this name already takes the place of the value of a new one. Not with
            an estimator, which has its own.
        straight_through: whether values are hard; what is done with them is to be differentiable still.
            Or the estimator whose gradient hard values take, in place of that at a temperature:
            :class:`~pyro_reparam_ext.StraightThrough`, :class:`~pyro_reparam_ext.ReinMax`,
            :class:`~pyro_reparam_ext.GumbelRao`, :class:`~pyro_reparam_ext.GappedStraightThrough`, or
            :class:`~pyro_reparam_ext.DecoupledStraightThrough` with a forward temperature of 1.
        score: ``"relaxed"`` (the default) or ``"discrete"``, how relaxed values are scored. Not for
            straight-through ones, whose score is the discrete one.

    Raises:
        EstimatorError: an option is out of range, ``score`` is given with ``straight_through``, a
            temperature with an estimator, the site is neither Bernoulli nor OneHotCategorical, or the
            program that an ELBO trains by makes a number of the value.

    Warns:
        UserWarning: a cost depends on the value without a gradient.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_reparam_ext as pre
        >>> @pyro.poutine.reparam(config={"z": pre.reparam.RelaxReparam(0.5)})
        ... def guide(logits):
        ...     return pyro.sample("z", dist.OneHotCategorical(logits=logits))
        >>> z = guide(torch.zeros(3, requires_grad=True))
        >>> z.requires_grad, bool(((z > 0) & (z < 1)).all())
        (True, True)
    """

    def __init__(
        self,
        temperature: Temperature | None = None,
        *,
        straight_through: bool | HardForward = False,
        score: Literal["relaxed", "discrete"] | None = None,
    ) -> None:
        self.gradient = None if isinstance(straight_through, bool) else straight_through
        self.temperature = _temperature(temperature, self.gradient)
        if score not in (None, "relaxed", "discrete"):
            raise EstimatorError(
                f"RelaxReparam: score must be 'relaxed' or 'discrete', was given {score!r}."
            )
        if straight_through and score is not None:
            raise EstimatorError(
                f"RelaxReparam: was given score={score!r} with straight_through, whose hard "
                f"values have the discrete score. Give one of the two."
            )
        self.straight_through = bool(straight_through)
        self.score = score or "relaxed"

    def relaxed(self, name: str, wrapped: TorchDistribution) -> TorchDistribution:
        """The distribution that takes the place of ``wrapped`` at site ``name``."""
        if not is_relaxable(wrapped):
            raise EstimatorError(
                f"site '{name}': RelaxReparam was given {type(innermost(wrapped)).__name__}; expected "
                f"Bernoulli or OneHotCategorical. {_remedy(name, wrapped)}"
            )
        learned = state_of(self.temperature)
        if learned is not None and not pyro.settings.get("module_local_params"):
            pyro.module(f"temperature/{name}", learned, update_module_params=True)
        wrapped = in_plates(name, wrapped)
        base = coordinates(wrapped)
        try:
            new = self._twin(base)
        except (ValueError, RuntimeError):
            fault = fault_of(self.temperature, base.batch_shape)
            if fault is None:
                raise
            raise EstimatorError(f"site '{name}': RelaxReparam: {fault}") from None
        if new.batch_shape != base.batch_shape:
            raise EstimatorError(
                f"site '{name}': RelaxReparam has a temperature that does not broadcast to the site's "
                f"shape; expected one of {tuple(base.batch_shape)} or less, the result is "
                f"{tuple(new.batch_shape)}."
            )
        return rewrapped(wrapped, new)

    def _twin(self, base: Any) -> TorchDistribution:
        binary = is_binary(base)
        given = parameter_of(base)
        if "logits" in given:
            given = {"logits": exact_logits(base)}
        parameters = {**given, "validate_args": base._validate_args}
        if self.straight_through:
            hard = StraightThroughBernoulli if binary else StraightThroughOneHotCategorical
            temperature = None if self.gradient else current_value(self.temperature)
            return hard(temperature, **parameters, gradient=self.gradient)
        soft = RelaxedBernoulli if binary else RelaxedOneHotCategorical
        return soft(current_value(self.temperature), **parameters, score=self.score)

    def apply(self, msg: dict[str, Any]) -> dict[str, Any]:
        if msg["is_observed"]:
            return msg
        value, fn = msg["value"], self.relaxed(msg["name"], msg["fn"])
        if value is not None:
            is_default = not getattr(value, "_pyro_custom_init", True)
            if is_default or has_value_of_one(value, fn):
                # Made for the discrete site, or one element: further out the relaxed site gets its own.
                value = None
        watch("RelaxReparam")
        return {"fn": fn, "value": value, "is_observed": False}


def _temperature(given: Temperature | None, gradient: HardForward | None) -> Temperature:
    """The temperature that is given, or that of the gradient; raises if there is not one of them."""
    if gradient is None:
        check_temperature("RelaxReparam", given)
        assert given is not None  # or the check has raised
        return as_option(given)
    if not isinstance(gradient, HardForward):
        raise EstimatorError(
            f"RelaxReparam: straight_through must be a bool or a straight-through estimator, was given "
            f"{gradient!r}; expected StraightThrough(), ReinMax(), GumbelRao(0.5, 10), "
            f"GappedStraightThrough(0.5) or the like."
        )
    if given is not None:
        raise EstimatorError(
            f"RelaxReparam: was given temperature={given!r} and straight_through={gradient!r}, whose "
            f"gradient has its own temperature where it needs one. Give one of the two."
        )
    check_keeps_law("RelaxReparam", gradient)
    return gradient.temperature if isinstance(gradient, Tempered) else 1.0


def is_relaxable(fn: TorchDistribution) -> bool:
    """Whether it is Bernoulli or one-hot, and not relaxed already."""
    base = innermost(fn)
    discrete = (torch.distributions.Bernoulli, torch.distributions.OneHotCategorical)
    return isinstance(base, discrete) and not isinstance(base, StraightThrough)


def _remedy(name: str, wrapped: TorchDistribution) -> str:
    base = innermost(wrapped)
    if isinstance(base, torch.distributions.Categorical):
        return "There is nothing between integers: use OneHotCategorical in guide and model."
    if isinstance(base, torch.distributions.Binomial):
        return "A sum of Bernoulli variables has the same law, and they can be relaxed."
    return f"Leave '{name}' out of the configuration, or use AutoRelax, which does."

"""One run of a model within a context: what its weights do as torch's functions are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from ...errors import EstimatorError
from .affine import affine
from .arithmetic import ARITHMETIC, VALUES, VIEWS, is_template, law_through, targets
from .linear_map import LinearMap, UnsupportedLayer
from .registry import LAYERS
from .weight import RandomWeight, leaves, plain, random_weight, random_weights

if TYPE_CHECKING:
    from .weight_noise_context import WeightNoiseContext

PER_ARGUMENT = (torch.broadcast_tensors, torch.functional.broadcast_tensors)
"""Functions whose results are their arguments, one by one."""


class Run:
    """The state of a context along one run of a model, which ends as ``frame`` is left."""

    def __init__(self, context: WeightNoiseContext, frame: Messenger) -> None:
        self.context = context
        self.frame = frame
        self.sites: set[str] = set()
        self._side_by_side: set[str] = set()
        self._partners: dict[tuple[str, ...], tuple[str, ...] | None] = {}
        self._views: dict[str, list[list[str]]] = {}
        self._outlines: dict[tuple[str, ...], tuple] = {}
        self._served: set[str] = set()
        self._plain: dict[str, str] = {}
        self._steps = 0
        self.memory: dict[Any, Any] = {}
        """What later calls with the same weight need; the context's own."""

    def check_one_call(self, sites: set[str]) -> None:
        """Raises at the second call of a network whose particles run side by side, in a run each."""
        twice = self._side_by_side & sites
        if twice:
            raise EstimatorError(
                f"site '{min(twice)}': the network is called twice in one run with its particles "
                f"side by side, and {self.context.name} would draw the noise of the calls "
                f"independently; expected one call. Take vectorize_particles=False."
            )
        self._side_by_side |= sites

    def new_step(self) -> int:
        """A number for what was done to a weight, unlike that of anything else."""
        self._steps += 1
        return self._steps

    def is_alive(self) -> bool:
        return any(handler is self.frame for handler in _PYRO_STACK)

    def call(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """A function of torch, some of whose arguments are random weights."""
        if not self.is_alive():
            self.memory.clear()
            return func(*plain(args), **plain(kwargs))
        written = targets(func, args, kwargs)
        if written:
            return self._change(written, func, args, kwargs)
        try:
            if func in LAYERS:
                return LAYERS[func](self, *args, **kwargs)
            return self.elsewhere(func, args, kwargs)
        except UnsupportedLayer as reason:
            self._refuse(func, args, kwargs, reason)
            return func(*plain(args), **plain(kwargs))

    def estimate(self, call: LinearMap) -> Tensor:
        """The output of a layer at least one of whose weight and bias is random."""
        if not isinstance(call.weight, RandomWeight):
            return self._random_bias(call)
        weights = [x for x in (call.weight, call.bias) if isinstance(x, RandomWeight)]
        for weight in weights:
            if isinstance(weight.law, str):
                raise UnsupportedLayer(weight.law)
            self._check_views(weight)
            if weight.draw.requires_grad and not torch.is_grad_enabled():
                raise UnsupportedLayer(
                    "gradients are off here, as in an autograd.Function or in torch.no_grad, so that "
                    "the backward pass would not be this output's"
                )
        self._check_bias(call)
        self._check_outline(call)
        self.context.check_program()
        for weight in weights:
            self._served.add(weight.key[0])
            self._check_draw(weight.key[0])
        return self.context.estimate(call, self.memory)

    def _random_bias(self, call: LinearMap) -> Tensor:
        if not isinstance(call.bias, RandomWeight):
            return call.apply(*call.inputs, call.weight, call.bias)
        output = call.apply(*call.inputs, call.weight, None)
        return affine(self, output, None, call.bias, call.rows[-1], call.bias_dims)

    def give_away(self, weight: RandomWeight, where: str) -> None:
        """Something sees the draw of a weight as it is."""
        self._plain.setdefault(weight.key[0], where)
        self._check_draw(weight.key[0])

    def _check_draw(self, site: str) -> None:
        if site in self._served and site in self._plain:
            raise EstimatorError(
                f"site '{site}': {self.context.name} draws the noise of a layer with this weight "
                f"anew, and {self._plain[site]} sees the draw that all examples share; together they "
                f"would be biased. Leave the context out, or this use of the weight."
            )

    def _change(
        self, written: list[RandomWeight], func: Callable, args: tuple, kwargs: dict
    ) -> RandomWeight | None:
        """Runs a function that writes into a weight, which takes the weight's law away."""
        func(*plain(args), **plain(kwargs))
        for weight in written:
            weight.law = f"it was changed in place by {name_of(func)}"
        return None if func is Tensor.__setitem__ else written[0]

    def _check_outline(self, call: LinearMap) -> None:
        """Calls with one weight have outputs whose joint law is known, or other examples."""
        outline = call.outline(positions=not self.context.draws_weights)
        if self._outlines.setdefault(call.key, outline) != outline:
            raise UnsupportedLayer(
                f"'{call.key[0]}' is used by another kind of layer as well, or at inputs of another "
                f"form"
            )

    def _check_bias(self, call: LinearMap) -> None:
        """Calls with one weight share the noise of their bias, and no others."""
        for key, partner in ((call.key, None), (call.bias_key, call.key)):
            if key is not None and self._partners.setdefault(key, partner) != partner:
                raise UnsupportedLayer(f"'{key[0]}' is used by other layers as well, as weight or bias")

    def _check_views(self, weight: RandomWeight) -> None:
        """The draws of two different views of one weight would have to agree."""
        site, *view = weight.key
        views = self._views.setdefault(site, [])
        if view not in views:
            views.append(view)
            if not all(_disjoint(view, other) for other in views[:-1]):
                raise UnsupportedLayer(
                    f"'{site}' is used in two different views (tied weights), whose outputs are not "
                    f"independent"
                )

    def elsewhere(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """No layer: views and scalings keep their law, other functions of weights lose it."""
        if is_template(func, args):
            return func(*plain(args), **plain(kwargs))
        weights = random_weights((args, kwargs))
        if func in VALUES:
            self.give_away(weights[0], name_of(func))
        others = [x for x in leaves((args, kwargs)) if type(x) in (Tensor, nn.Parameter) and x.dim()]
        unknown = UnsupportedLayer(f"{name_of(func)} is not a layer that the context knows")
        if others and not (func in ARITHMETIC or func in VIEWS or func in PER_ARGUMENT):
            raise unknown
        result = func(*plain(args), **plain(kwargs))
        if func in PER_ARGUMENT:
            given = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
            pairs = zip(given, result, strict=True)
            return type(result)(
                [self._as(y, x) if isinstance(x, RandomWeight) else y for x, y in pairs]
            )
        if not any(isinstance(x, Tensor) for x in leaves((result,))):
            return result
        if others and func in ARITHMETIC and result.numel() > max(w.numel() for w in weights):
            raise unknown
        return law_through(func, args, kwargs, result, weights)

    def _as(self, result: Tensor, weight: RandomWeight) -> RandomWeight:
        """A weight that was given to a distribution."""
        return random_weight(result, "it is the parameter of a distribution", weight.key, self)

    def _refuse(self, func: Callable, args: tuple, kwargs: dict, reason: UnsupportedLayer) -> None:
        weights = random_weights((args, kwargs))
        sites = " and ".join(dict.fromkeys(f"'{weight.key[0]}'" for weight in weights))
        name, context = name_of(func), self.context.name
        if self.context.strict:
            raise EstimatorError(
                f"site {sites}: {context} can't serve {name}: {reason}. It serves layers that are "
                f"linear in a weight of independent normals, as AutoNormal's; "
                f"pre.nn.{context}(strict=False) leaves the noise of other ones shared by all examples."
            )
        self.context.unsupported.setdefault(f"{name} at {sites}", str(reason))
        for weight in weights:
            self.give_away(weight, name)


def name_of(func: Callable) -> str:
    name = getattr(func, "__name__", repr(func))
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    return name


def _disjoint(view: list[str], other: list[str]) -> bool:
    """Whether two views are different parts of one partition."""
    for step, step_of_other in zip(view, other, strict=False):
        if step != step_of_other:
            return step.split("#")[0] == step_of_other.split("#")[0] and "#" in step
    return False

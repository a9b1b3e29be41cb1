"""Any network as a Bayesian one: its parameters are sample sites."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pyro
from pyro.nn import PyroModule
from pyro.params.param_store import param_with_module_name
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from ..errors import EstimatorError
from ..numerics.shapes import broadcast_shapes
from .at_weights import call_at
from .hyperprior import Hyperprior
from .layers.weight import plain
from .layers.weight_noise_context import PARTICLE_PLATES
from .names import check_parameters, check_sites, is_training, one_network_a_name
from .prior import Prior, Rule, hyperprior_of, prior_of, rules_for
from .side_by_side import side_by_side


def to_bayesian(
    module: nn.Module,
    prior: Prior,
    *,
    name: str = "",
    input_dims: int | None = None,
    event_dim: int | None = None,
) -> BayesianModule:
    """Makes a network Bayesian: its parameters become sample sites, drawn from priors at every call.

    The network is any ``torch.nn.Module``, and isn't changed: a copy of it becomes part of the module
    returned, a ``PyroModule`` whose sites are named like the parameters (``"0.weight"``). Tied
    parameters are one site. Particles, as of ``Trace_ELBO(vectorize_particles=True)`` or
    ``Predictive(parallel=True)``, run side by side by ``torch.vmap``, or one by one where it does not
    take the module. Their dim lands where the particles' plate is: the leading dims that an output
    shares with an input are rows, each along a plate, so that ``(N,)`` becomes ``(particles, N)``, and
    ``(N, F)`` becomes ``(particles, N, F)``. (A module that runs again in the backward pass, by
    ``torch.utils.checkpoint``, would not see its weights there.)

    A network that is called several times in one run has one draw of its weights for all calls if it
    is an attribute of a ``PyroModule`` whose ``forward`` calls it. In a plain function call it once, on
    the inputs of all calls, ``network(torch.cat([x1, x2]))``.

    See also:
        :class:`local_reparameterization` and :class:`flipout`, which draw the noise of the examples
        independently.

    Args:
        module: the network.
        prior: of each parameter. A distribution, which is expanded to the parameter's shape (and takes
            its dtype and device); or a function of a parameter's name and value that returns a
            distribution, or None for a parameter without a prior, which is learned as it is (it is
            called at every call of the module, and may itself sample, as a scale, at a site named after
            the parameter, ``f"{name}_scale"``); or a mapping to these from
            names of parameters or of submodules (``"0"``), patterns (``"*.bias"``) and types of
            modules (``nn.BatchNorm1d``), of which the first that matches holds. A parameter that none
            matches has no prior.
        name: prefix of the sites and parameters, to be given where several networks stand in one model
            function. A network that is an attribute of a ``PyroModule`` has the attribute's name.
        input_dims: how many dims an input has without those of particles. To be given where inputs
            are drawn in the same program, such as the latent variables that a decoder is called with,
            so that each particle's weights see its own inputs.
        event_dim: how many of an output's last dims hold features, as of ``to_event``; the others lie
            along plates. To be given where it can't be told from the shapes of inputs and output, which
            is an error: with nested plates, or at the input of a single example, without a dim of rows.

    Raises:
        EstimatorError: no parameter has a prior, an entry of the mapping matches nothing, a prior is no
            distribution or of another shape, its function raises, or two parameters' functions sample
            sites of one name. When it is called: two networks share names, a network is called twice
            in a plain function, or dims of particles can't be told from others.

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> import pyro_reparam_ext as pre
        >>> from pyro.infer.autoguide import AutoNormal, init_to_value
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.BatchNorm1d(50), nn.Linear(50, 1))
        >>> prior = {nn.BatchNorm1d: None, "*.bias": dist.Normal(0.0, 1.0), "*": dist.Normal(0.0, 0.3)}
        >>> bnn = pre.nn.to_bayesian(network, prior)
        >>> bnn(torch.randn(16, 8)).shape
        torch.Size([16, 1])
        >>> list(bnn.initial_values())
        ['0.weight', '0.bias', '3.weight', '3.bias']

        A guide that starts at the weights that the network had, pretrained ones for instance:

        >>> start = init_to_value(values=bnn.initial_values())
        >>> guide = AutoNormal(bnn, init_loc_fn=start, init_scale=0.01)
    """
    return BayesianModule(module, prior, name=name, input_dims=input_dims, event_dim=event_dim)


class BayesianModule(PyroModule):
    """A module whose parameters are drawn from their priors at every call; see :func:`to_bayesian`."""

    def __init__(
        self,
        module: nn.Module,
        prior: Prior,
        *,
        name: str = "",
        input_dims: int | None = None,
        event_dim: int | None = None,
    ) -> None:
        super().__init__(name)
        self.input_dims, self.event_dim = input_dims, event_dim
        module = deepcopy(module)
        names: dict[Tensor, list[str]] = {}
        for parameter, tensor in module.named_parameters(remove_duplicate=False):
            names.setdefault(tensor, []).append(parameter)
        aliases = {of_one[0]: of_one for of_one in names.values()}
        if not aliases:
            raise EstimatorError(
                f"to_bayesian: {type(module).__name__} has no parameters; expected a network that has."
            )
        rules = rules_for(module, aliases, prior)
        self._rules: dict[str, Rule] = {}
        self._hyperpriors: dict[str, Hyperprior] = {}
        for parameter in aliases:
            value = module.get_parameter(parameter).detach()
            hyperprior = hyperprior_of(parameter, value, rules.get(parameter))
            if hyperprior is not None:
                self._rules[parameter] = rules[parameter]
                self._hyperpriors[parameter] = hyperprior
        check_sites(self._hyperpriors)
        if not self._rules:
            raise EstimatorError(
                f"to_bayesian: no parameter has a prior; expected at least one of {', '.join(aliases)}."
            )
        _as_buffers(module, set(self._rules))
        self.module = module

    @property
    def sites(self) -> list[str]:
        """The names of the sites that it samples: its parameters', and those of their priors."""
        return [
            *map(self._site, self._rules),
            *(x for h in self._hyperpriors.values() for x in h.sites),
        ]

    def initial_values(self) -> dict[str, Tensor]:
        """Site -> the value that the parameter had, for ``init_to_value``."""
        return {self._site(name): self.module.get_buffer(name).clone() for name in self._rules}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        module = self._learned()
        weights, shapes = {}, []
        for name, rule in self._rules.items():
            value = module.get_buffer(name)
            weights[name] = self._draw(name, value, rule)
            shape = plain(weights[name]).shape
            shapes.append(shape[: len(shape) - value.dim()])
        batch = broadcast_shapes(*shapes)
        if batch.numel() > 1:
            _check_plates(self._site(name))
            return side_by_side(module, weights, batch, self.input_dims, self.event_dim, args, kwargs)
        for name, weight in weights.items():
            shape = module.get_buffer(name).shape
            if plain(weight).shape != shape:
                weights[name] = weight.reshape(shape)
        return call_at(module, weights, args, kwargs)

    def _site(self, name: str) -> str:
        return f"{self._pyro_name}.{name}" if self._pyro_name else name

    def _learned(self) -> nn.Module:
        """The module, whose parameters without a prior are met as parameters of Pyro."""
        if not is_training():
            return self.module
        prefix = f"{self._pyro_name}.module" if self._pyro_name else "module"
        own = self._modules["module"].named_parameters()
        with check_parameters({param_with_module_name(prefix, name): x for name, x in own}):
            return self.module

    def _draw(self, name: str, value: Tensor, rule: Rule) -> Tensor:
        """The value of a site, the same throughout one call of the outermost module."""
        site = self._site(name)
        weight = self._pyro_context.get(site)
        if weight is None:
            with one_network_a_name():
                prior: Any = prior_of(name, value, rule, self._hyperpriors[name])
                weight = pyro.sample(site, prior)
            self._pyro_context.set(site, weight)
        return weight


def _as_buffers(module: nn.Module, names: set[str]) -> None:
    """Makes buffers of parameters, of tied ones in all the modules that share them."""
    chosen = {module.get_parameter(name): None for name in names}
    buffers = {parameter: parameter.detach().clone() for parameter in chosen}
    for owner in module.modules():
        for name, parameter in list(owner._parameters.items()):
            if parameter in buffers:
                del owner._parameters[name]
                owner.register_buffer(name, buffers[parameter])


def _check_plates(site: str) -> None:
    for handler in _PYRO_STACK:
        if (
            isinstance(handler, IndepMessenger)
            and handler.dim == -1
            and handler.name not in PARTICLE_PLATES
        ):
            raise EstimatorError(
                f"site '{site}': the network is called inside plate '{handler.name}', which "
                f"would draw weights for each of its elements; expected one draw. Call it before the "
                f"plate is entered."
            )

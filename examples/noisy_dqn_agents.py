"""Q networks that learn by temporal differences, and explore by chance or by noise on their weights.

Agents of one kind act and learn side by side, each for itself: parameters, noise and transitions have
them on the leftmost dim, and ``torch.vmap`` runs the loss that is written for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import pyro
import pyro.distributions as dist
import torch
from noisy_dqn_memory import COORDINATES, Batch
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import pyro_reparam_ext as pre
from pyro_reparam_ext.nn import NoisyLinear, to_bayesian

HIDDEN, ACTIONS, MAX_NORM = 64, 2, 10.0
LAYERS = (0, 2, 4)
"""Which modules of the network have weights."""
State = dict[str, Tensor]


def q_network(layer: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """The values of both actions at states (..., 4)."""
    first, second = layer(COORDINATES, HIDDEN), layer(HIDDEN, HIDDEN)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), layer(HIDDEN, ACTIONS))


class Normal(dist.Normal):
    """Normal, with noise that ``torch.vmap`` can draw for each agent: Pyro's is drawn in place."""

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.loc + self.scale * torch.randn_like(self.loc.expand(shape))


class Agents:
    """DQN that explores by random actions; subclasses by noise, of which they have a loss."""

    explores_at_random = True

    def __init__(self, count: int, svi: type[SVI] = SVI) -> None:
        networks = [self.make_network() for _ in range(count)]
        self.network = networks[0]
        parameters, _ = stack_module_state(networks)
        self.parameters = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        self.optim = pyro.optim.Adam({})
        self.svi = svi(self.loss, self.stored, self.optim, self.summed_loss)
        self.synchronise()

    def make_network(self) -> nn.Sequential:
        return q_network(nn.Linear)

    def loss(self, parameters: State, batch: Batch, targets: Tensor) -> Tensor:
        """Of one agent: half the mean squared error of its values."""
        return td_loss(functional_call(self.network, parameters, (batch.states,)), batch, targets)

    def mean_weights(self, parameters: State) -> State:
        """What weights and biases are without noise."""
        return parameters

    def acting_weights(self) -> State:
        """What they are in training."""
        return self.parameters

    def reset_noise(self, who: Tensor) -> None:
        """Draws new noise to act with, for the agents for which ``who`` is true."""

    def synchronise(self) -> None:
        """The target network becomes a copy of the network."""
        self.target = {name: value.detach().clone() for name, value in self.parameters.items()}

    def actions(self, states: Tensor, epsilon: float) -> Tensor:
        """What each does in training at its state."""
        best = q_values(self.acting_weights(), states[:, None])[:, 0].argmax(-1)
        if not self.explores_at_random:
            return best
        return torch.where(torch.rand(best.shape) < epsilon, torch.randint_like(best, ACTIONS), best)

    def greedy(self, states: Tensor) -> Tensor:
        """The best actions by the mean weights."""
        return q_values(self.mean_weights(self.parameters), states).argmax(-1)

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Rewards and discounted values of what comes next, by the target network at its means."""
        values = q_values(self.mean_weights(self.target), batch.next_states)
        return batch.rewards + batch.discounts * values.amax(-1)

    def update(self, batches: Iterable[Batch], count: int, learning_rate: float) -> None:
        """So many steps of each on its own returns."""
        self.optim.pt_optim_args["lr"] = learning_rate  # of those that the first step makes
        for optimizer in self.optim.optim_objs.values():
            optimizer.param_groups[0]["lr"] = learning_rate
        columns = ((*batch, self.targets(batch)) for batch in batches)
        with pyro.validation_enabled(False):
            pre.run_svi(self.svi, count, batches=columns, progress=False)

    def stored(self) -> State:
        """The parameters by way of Pyro's store, where SVI finds them."""
        return {name: pyro.param(name, value) for name, value in self.parameters.items()}

    def summed_loss(
        self, loss: Callable[..., Tensor], stored: Callable[[], State], *columns: Tensor
    ) -> Tensor:
        """What SVI takes steps on: of all agents, each of whose gradients is cut to ``MAX_NORM``."""
        names, values = zip(*stored().items(), strict=True)
        parameters = dict(zip(names, Clipped.apply(*values), strict=True))

        def of_one(parameters: State, *columns: Tensor) -> Tensor:
            return loss(parameters, Batch(*columns[:-1]), columns[-1])

        return vmap(of_one, randomness="different")(parameters, *columns).sum()


class Noisy(Agents):
    """Explore by noise on their weights; in the loss, one draw of it serves a whole batch."""

    factorised, initial_scale = True, None
    explores_at_random = False

    def __init__(self, count: int, svi: type[SVI] = SVI) -> None:
        super().__init__(count, svi)
        means = self.mean_weights(self.parameters)
        self.noise = {name: torch.zeros_like(mu) for name, mu in means.items()}
        self.reset_noise(torch.ones(count, dtype=torch.bool))

    def make_network(self) -> nn.Sequential:
        options = {"factorised": self.factorised, "initial_scale": self.initial_scale}
        return q_network(lambda *sizes: NoisyLinear(*sizes, **options))

    def loss(self, parameters: State, batch: Batch, targets: Tensor) -> Tensor:
        return td_loss(self.noisy_values(parameters, batch.states), batch, targets)

    def noisy_values(self, parameters: State, states: Tensor) -> Tensor:
        """Of one agent, with new noise."""
        noise = {name: torch.randn_like(noise) for name, noise in self.network.named_buffers()}
        return functional_call(self.network, {**parameters, **noise}, (states,))

    def mean_weights(self, parameters: State) -> State:
        return {name[:-3]: value for name, value in parameters.items() if name.endswith("_mu")}

    def acting_weights(self) -> State:
        return {
            name: torch.addcmul(mu, self.parameters[f"{name}_sigma"], self.noise[name])
            for name, mu in self.mean_weights(self.parameters).items()
        }

    def reset_noise(self, who: Tensor) -> None:
        new = {name: torch.randn_like(noise) for name, noise in self.noise.items()}
        if self.factorised:
            for i in LAYERS:
                weight, bias = self.noise[f"{i}.weight"], self.noise[f"{i}.bias"]
                of_inputs, of_outputs = (signed_root(torch.randn_like(x)) for x in (weight[:, 0], bias))
                new[f"{i}.weight"] = of_outputs[:, :, None] * of_inputs[:, None]
                new[f"{i}.bias"] = of_outputs
        for name, noise in self.noise.items():
            self.noise[name] = torch.where(_column(who, noise), new[name], noise)


class Variational(Noisy):
    """Their loss is an ELBO, in which mu and sigma of the noise are those of a guide of the weights."""

    factorised = False

    def __init__(
        self,
        count: int,
        svi: type[SVI] = SVI,
        context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        super().__init__(count, svi)
        self.bayesian = to_bayesian(q_network(nn.Linear), dist.Normal(0.0, 1.0))
        self.context = context
        self.elbo = pre.TraceEstimator_ELBO()

    def model(self, parameters: State, batch: Batch, targets: Tensor) -> None:
        with poutine.mask(mask=False):  # no prior: a noisy network has no KL term
            values = self.bayesian(batch.states)
        td_likelihood(values, batch, targets)

    def guide(self, parameters: State, batch: Batch, targets: Tensor) -> None:
        with poutine.mask(mask=False):
            for layer in LAYERS:
                for name, dims in ("weight", 2), ("bias", 1):
                    mu, sigma = (parameters[f"{layer}.{name}_{part}"] for part in ("mu", "sigma"))
                    pyro.sample(f"{layer}.{name}", Normal(mu, sigma.abs()).to_event(dims))

    def loss(self, parameters: State, batch: Batch, targets: Tensor) -> Tensor:
        with self.context():
            return self.elbo.differentiable_loss(self.model, self.guide, parameters, batch, targets)


class Clipped(torch.autograd.Function):
    """Tensors of several agents as they are, and their gradients shortened, each agent's for itself."""

    @staticmethod
    def forward(ctx, *values: Tensor) -> tuple[Tensor, ...]:
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, ...]:
        norms = sum(gradient.flatten(1).square().sum(1) for gradient in gradients).sqrt()
        factor = (MAX_NORM / norms).clamp(max=1.0)
        return tuple(gradient * _column(factor, gradient) for gradient in gradients)


def chosen(values: Tensor, actions: Tensor) -> Tensor:
    """The values (..., 2) of these actions (...)."""
    return values.gather(-1, actions[..., None])[..., 0]


def td_loss(values: Tensor, batch: Batch, targets: Tensor) -> Tensor:
    """Half the mean squared error of the values of the actions that were taken."""
    return 0.5 * (chosen(values, batch.actions) - targets).square().mean()


def td_likelihood(values: Tensor, batch: Batch, targets: Tensor) -> None:
    """The same as an observed site, up to a constant."""
    with poutine.scale(scale=1 / len(targets)), pyro.plate("batch", len(targets)):
        pyro.sample("target", dist.Normal(chosen(values, batch.actions), 1.0), obs=targets)


def q_values(weights: State, states: Tensor) -> Tensor:
    """Of all agents, each at its states (rows, 4)."""
    for i in LAYERS:
        bias = weights[f"{i}.bias"][:, None]
        states = torch.baddbmm(bias, states, weights[f"{i}.weight"].mT)
        states = states if i == LAYERS[-1] else states.relu()
    return states


def signed_root(x: Tensor) -> Tensor:
    return x.sign() * x.abs().sqrt()


def _column(x: Tensor, like: Tensor) -> Tensor:
    """One number of each agent, to be multiplied with tensors that have further dims."""
    return x.view(-1, *(1,) * (like.dim() - 1))

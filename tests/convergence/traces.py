"""Synthetic iterates, of which it is known when they are where they go to."""

import torch


def stationary(rows, coordinates, memory, generator):
    """An autoregression of standard deviation one, whose neighbours are correlated by ``memory``."""
    noise = torch.randn(rows, coordinates, generator=generator)
    found, size = [noise[0]], (1 - memory**2) ** 0.5
    for row in noise[1:]:
        found.append(memory * found[-1] + size * row)
    return torch.stack(found)


def falling(rows, coordinates, memory, generator, height, time):
    """The same around a mean that falls as ``height * exp(-row / time)``, and that mean."""
    mean = height * torch.exp(-torch.arange(rows) / time)[:, None]
    return mean + stationary(rows, coordinates, memory, generator), mean


def walk(rows, coordinates, drift, generator):
    """A random walk with a drift in each step."""
    return (torch.randn(rows, coordinates, generator=generator) + drift).cumsum(0)


def stopped(rule, iterates, losses):
    """The step at which a rule stops, or None, and its verdict."""
    step = rule.next_look(0)
    while step <= 10 * len(iterates):
        step += -step % 100
        verdict = rule.observe(losses[:step], iterates[: step // 10])
        if verdict:
            return step, verdict
        step = rule.next_look(step)
    return None, None

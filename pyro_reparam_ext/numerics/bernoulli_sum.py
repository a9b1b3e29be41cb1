r"""The number of ones among independent bits, and each bit given how many ones there are.

Bits are given by the logarithms of their probabilities to be 1 and to be 0; one that is impossible has
:data:`IMPOSSIBLE` in the place of minus infinity, so that no gradient is NaN. Every sum is of positive
terms: no cancellation, at any logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad, softplus

from ..noise import logistic_like
from .other_sequences import Others, other_sequences

IMPOSSIBLE = -1e30
"""The log probability of what can't be: far below any other, and finite also as a sum of many."""


def log_probs_of_bits(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The log probabilities of 1 and of 0, also at infinite logits."""
    return logsigmoid(logits).clamp(min=IMPOSSIBLE), logsigmoid(-logits).clamp(min=IMPOSSIBLE)


def log_counts(log_one: Tensor, log_zero: Tensor, k: int) -> Tensor:
    """The log probability of j ones among the first i of n bits, shape (..., n + 1, k + 1).

    n steps on k + 1 numbers: with the odds as weights, elementary symmetric polynomials.
    """
    none = torch.arange(k + 1, device=log_one.device) == 0
    row = torch.where(none, 0.0, IMPOSSIBLE).to(log_one.dtype).expand(log_one.shape[:-1] + (k + 1,))
    rows = [row]
    for i in range(log_one.shape[-1]):
        one, zero = log_one[..., i : i + 1], log_zero[..., i : i + 1]
        # Not logaddexp, whose second derivative is NaN at what is impossible.
        row = torch.stack([row + zero, _one_more(row) + one]).logsumexp(0)
        rows.append(row)
    return torch.stack(rows, -2)


def inclusion_logits(log_one: Tensor, log_zero: Tensor, k: int) -> Tensor:
    """The logit of each bit given that k of all are ones: in time n k, precise at both ends."""
    before = log_counts(log_one, log_zero, k)[..., :-1, :]
    after = log_counts(log_one.flip(-1), log_zero.flip(-1), k)[..., :-1, :].flip(-2)
    rest = after.flip(-1)  # k - j ones, where there are j before
    included = (_one_more(before) + rest).logsumexp(-1) + log_one
    excluded = (before + rest).logsumexp(-1) + log_zero
    return included - excluded


def bits_given_sum(log_one: Tensor, log_zero: Tensor, k: int, noise: Tensor) -> Tensor:
    """A draw of all bits given that k are ones, from logistic noise of shape (..., n)."""
    return _bits_by(_odds(log_one, log_zero, k).expand(noise.shape + (k + 1,)), noise)


def _bits_by(odds: Tensor, noise: Tensor) -> Tensor:
    """All bits, the last one first; infinite noise decides one."""
    left = torch.full_like(noise[..., :1], odds.shape[-1] - 1, dtype=torch.long)
    bits = []
    for i in reversed(range(noise.shape[-1])):
        bit = odds[..., i, :].gather(-1, left) + noise[..., i : i + 1] > 0
        left = left - bit.long()
        bits.append(bit)
    return torch.cat(bits[::-1], -1).to(noise.dtype)


def noise_of_bits(log_one: Tensor, log_zero: Tensor, k: int, bits: Tensor, noise: Tensor) -> Tensor:
    """Logistic noise that leads to the bits, drawn by fresh noise; all of shape (..., n)."""
    logit = _logits_at(_odds(log_one, log_zero, k).expand(bits.shape + (k + 1,)), bits)
    sign = 2 * bits - 1
    moved = sign * softplus(noise + softplus(sign * logit)) - logit
    return torch.where(logit.abs() > -IMPOSSIBLE / 2, noise, moved)  # any, of what is certain


def other_bits(log_one: Tensor, log_zero: Tensor, k: int, bits: Tensor, count: int) -> Others:
    """Other bits of which k are ones, without replacement: as sequences that begin with the last."""
    odds = _odds(log_one, log_zero, k).expand(bits.shape + (k + 1,))

    def leaving(sequence: Tensor) -> Tensor:
        bits = sequence.flip(-1)
        logit = ((2 * bits - 1) * _logits_at(odds, bits)).flip(-1)
        kept = logsigmoid(logit)
        left = kept.cumsum(-1) - kept + logsigmoid(-logit)
        left = left.masked_fill(left <= IMPOSSIBLE / 2, -torch.inf).unsqueeze(-1)
        own = sequence.unsqueeze(-1) == torch.arange(2, device=bits.device)
        return left.masked_fill(own, -torch.inf)

    def complete(sequence: Tensor) -> Tensor:
        noise = torch.where(sequence == 1, torch.inf, logistic_like(odds[..., 0]))
        noise = torch.where(sequence == 0, -torch.inf, noise)
        return _bits_by(odds, noise.flip(-1)).flip(-1).long()

    others = other_sequences(bits.flip(-1).long(), leaving, complete, count)
    return others._replace(values=others.values.flip(-1).to(bits.dtype))


def _logits_at(odds: Tensor, bits: Tensor) -> Tensor:
    """The logit of each of some bits, given those after it."""
    left = odds.shape[-1] - 1 - (bits.flip(-1).cumsum(-1).flip(-1) - bits)  # ones yet to come
    return odds.gather(-1, left.long().unsqueeze(-1)).squeeze(-1)


def _odds(log_one: Tensor, log_zero: Tensor, k: int) -> Tensor:
    """The logit of each bit given how many of it and those before are ones, shape (..., n, k + 1)."""
    counts = log_counts(log_one, log_zero, k)[..., :-1, :]
    return log_one.unsqueeze(-1) + _one_more(counts) - log_zero.unsqueeze(-1) - counts


def _one_more(row: Tensor) -> Tensor:
    """From the log probabilities of j to those of j - 1 ones."""
    return pad(row[..., :-1], (1, 0), value=IMPOSSIBLE)
